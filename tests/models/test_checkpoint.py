"""Weights from files: what is read, what is refused, and that nothing is executed."""

import hashlib
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from harness.errors import UsageError
from harness.models import checkpoint
from harness.models.checkpoint import digest, load_into, read_state, save, translate


def small(outputs=2):
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, outputs))


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s, "epoch": 3}, lambda s: {"model": s}])
@pytest.mark.parametrize("legacy", [False, True])
def test_torch_state_dicts(tmp_path, wrap, legacy):
    state = small().state_dict()
    torch.save(wrap(state), tmp_path / "w.pt", _use_new_zipfile_serialization=not legacy)
    assert same(read_state(tmp_path / "w.pt"), dict(state))


def test_module_prefix_is_stripped(tmp_path):
    state = small().state_dict()
    torch.save({f"module.{k}": v for k, v in state.items()}, tmp_path / "w.pt")
    assert same(read_state(tmp_path / "w.pt"), dict(state))


def test_save_and_read_back(tmp_path):
    model = small().to(memory_format=torch.channels_last)
    path = tmp_path / "fit" / "model.safetensors"
    save(model, path)
    assert same(read_state(path), dict(model.state_dict()))
    assert [p.name for p in path.parent.iterdir()] == ["model.safetensors"]
    assert digest(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    other = small()
    load_into(other, read_state(path), path)
    assert same(dict(other.state_dict()), dict(model.state_dict()))


def test_safetensors_by_content_not_by_name(tmp_path):
    state = {k: v.clone() for k, v in small().state_dict().items()}
    save_file(state, tmp_path / "weights.bin")
    assert same(read_state(tmp_path / "weights.bin"), state)


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    save(small(), path)
    before = digest(path)

    def half(state, temporary):
        Path(temporary).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(checkpoint, "save_file", half)
    with pytest.raises(OSError, match="disk full"):
        save(small(), path)
    assert digest(path) == before
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def some_preprocessing(x):
    return x


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_with_code_is_named_and_not_executed(tmp_path, legacy):
    path, trace = tmp_path / "evil.pt", tmp_path / "executed"
    options = {"_use_new_zipfile_serialization": not legacy}
    torch.save({"state_dict": small().state_dict(), "x": Evil(trace)}, path, **options)
    with pytest.raises(UsageError, match=r"asks for (posix|nt)\.mkdir; loading it would execute code"):
        read_state(path)
    assert not trace.exists()
    torch.save({"preprocess": nn.functional.gelu, "f": some_preprocessing}, path, **options)
    with pytest.raises(UsageError, match=r"expected tensors by name, got 'preprocess': function"):
        read_state(path)


@pytest.mark.parametrize("content", [b"<!DOCTYPE html><html>", b"\n  <html lang='en'>", b"<HTML>"])
def test_a_downloaded_page(tmp_path, content):
    (tmp_path / "w.pt").write_bytes(content)
    with pytest.raises(UsageError, match="downloaded page"):
        read_state(tmp_path / "w.pt")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_function_that_is_only_mentioned_is_never_looked_up(tmp_path, monkeypatch, zipped):
    state = small().state_dict()
    content = {"model_params": state, "options": {"arch": [32, some_preprocessing]}}
    torch.save(content, tmp_path / "w.pt", _use_new_zipfile_serialization=zipped)
    monkeypatch.delitem(globals(), "some_preprocessing")
    assert same(read_state(tmp_path / "w.pt"), dict(state))


class _Calls:
    def __reduce__(self):
        return some_preprocessing, (1,)


def test_one_that_is_to_be_called_is_refused(tmp_path):
    torch.save({"state_dict": small().state_dict(), "more": _Calls()}, tmp_path / "w.pt")
    with pytest.raises(UsageError, match=r"asks for .*some_preprocessing; loading it would execute"):
        read_state(tmp_path / "w.pt")


def test_one_by_one_convolutions_load_into_a_linear_head():
    model = nn.Linear(4, 3)
    weight = torch.randn(3, 4, 1, 1)
    load_into(model, {"weight": weight, "bias": torch.zeros(3)}, Path("w.pt"))
    assert torch.equal(model.weight.data, weight[:, :, 0, 0])


def test_missing_empty_folder_and_pointer(tmp_path):
    with pytest.raises(UsageError, match="found nothing"):
        read_state(tmp_path / "w.pt")
    with pytest.raises(UsageError, match="found a folder"):
        read_state(tmp_path)
    (tmp_path / "w.pt").touch()
    with pytest.raises(UsageError, match="the file is empty"):
        read_state(tmp_path / "w.pt")
    (tmp_path / "w.pt").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(UsageError, match="Git LFS pointer"):
        read_state(tmp_path / "w.pt")


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.99])
def test_truncated(tmp_path, kind, share):
    path = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pt")
    if kind == "safetensors":
        save(small(), path)
    else:
        torch.save(small().state_dict(), path, _use_new_zipfile_serialization=kind == "zip")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(UsageError, match=r"truncated or foreign"):
        read_state(path)


@pytest.mark.parametrize("content", [b"hello", bytes(300), bytes(range(256)), b"id,label\n1,2\n", b"\x80\x02}q\x00."])
def test_foreign_files(tmp_path, content):
    (tmp_path / "w.pt").write_bytes(content)
    with pytest.raises(UsageError, match=r"truncated or foreign"):
        read_state(tmp_path / "w.pt")


def test_not_a_state_dict(tmp_path):
    path = tmp_path / "w.pt"
    for content, message in (({}, "got dict"), ([1, 2], "got list"), ({"epoch": 3}, "'epoch': int")):
        torch.save(content, path)
        with pytest.raises(UsageError, match=message):
            read_state(path)


def test_another_architecture_names_what_disagrees():
    model, path = small(), Path("w.pt")
    before = {k: v.clone() for k, v in model.state_dict().items()}
    state = small(outputs=5).state_dict() | {"extra.weight": torch.zeros(1)}
    del state["0.bias"]
    with pytest.raises(UsageError) as caught:
        load_into(model, state, path)
    message = str(caught.value)
    for part in ("w.pt", "0.bias", "extra.weight", "3.weight (5, 12) instead of (2, 12)", "--model"):
        assert part in message
    assert same(dict(model.state_dict()), before)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(value):
    model = small()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    state["1.running_var"][1] = value
    with pytest.raises(UsageError, match=r"NaN or infinity in 1 tensors, the first is 1\.running_var"):
        load_into(model, state, Path("w.pt"))


def test_batch_counters_may_be_absent():
    model = small()
    state = {k: v + 1 for k, v in model.state_dict().items() if "num_batches" not in k}
    load_into(model, state, Path("w.pt"))
    assert torch.equal(model.state_dict()["0.bias"], state["0.bias"])


def test_translate():
    names = ((r"^fc\.", "head."), (r"^(layer\d)\.", r"features.\1."))
    state = dict.fromkeys(("fc.weight", "layer1.fc.bias", "other"), torch.zeros(1))
    assert list(translate(state, names)) == ["head.weight", "features.layer1.fc.bias", "other"]
