"""What a user will surely get wrong: one clear error, the right exit status, nothing lost.

Everything here goes through the command line, as a person would.
"""

import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import examples
import pytest
import torch
from support import TINY

from harness.store import RunFolder, runs

SETS = [part for s in TINY for part in ("--set", s)]
RUN = ("run", "--method", "baseline", "--dataset", "phantom", "--device", "cpu", *SETS)


def one_error(found: tuple[int, str, str], status: int = 2) -> str:
    code, out, err = found
    assert code == status, err
    assert out == ""
    errors = [line for line in err.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1, err
    assert "Traceback" not in err
    return err.partition("Error: ")[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "--method", "robust_fgms", "--dataset", "phantom"), "unknown method 'robust_fgms'. Did you mean 'robust_fgsm'"),
        (("run", "--method", "baseline", "--dataset", "chestxray"), "unknown dataset 'chestxray'. Did you mean 'chestxray14'"),
        ((*RUN, "--explainer", "camm"), "unknown explainer 'camm'. Did you mean 'cam'"),
        ((*RUN, "--evaluation", "localization"), "unknown evaluation 'localization'. Did you mean 'localisation'"),
        ((*RUN, "--model", "resnet101"), "unknown model 'resnet101'"),
        ((*RUN, "--set", "epsilom=1"), "no selected component has a setting 'epsilom'"),
        ((*RUN, "--set", "learning_rate=fast"), "method baseline: learning_rate: expected float, got 'fast'"),
        ((*RUN, "--set", "batch=3"), "Say which: classification.batch, localisation.batch"),
        ((*RUN, "--device", "gpu"), "expected auto, cpu, cuda or cuda:<number>"),
        ((*RUN, "--batch-size", "many"), "expected auto or a number"),
        ((*RUN, "--limit", "0"), "expected at least 1"),
        ((*RUN, "--plugin", "nowhere.py"), "nothing is there"),
        ((*RUN, "--config", "nowhere.toml"), "cannot be read"),
        ((*RUN, "--checkpoint", "nowhere.pt"), "nowhere.pt"),
        (("show", "methods", "baselin"), "Did you mean 'baseline'"),
        (("show", "thing", "baseline"), "unknown kind 'thing'"),
        (("evaluate", "nothing"), "no run 'nothing'"),
        (("publish", "nothing"), "no run 'nothing'"),
        (("rnu",), "unknown command 'rnu'. Did you mean 'run'"),
        (("data", "verify", "phanton"), "unknown dataset 'phanton'. Did you mean 'phantom'"),
    ],
    ids=lambda value: " ".join(value[-2:]) if isinstance(value, tuple) else "",
)  # fmt: skip
def test_names_and_settings(harness, arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    place = ("--runs-dir", tmp_path / "runs") if arguments[0] in ("run", "evaluate", "publish") else ()
    assert message in one_error(harness(*arguments, *place))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_cuda_without_a_gpu(harness, tmp_path):
    message = one_error(harness(*RUN, "--device", "cuda", "--runs-dir", tmp_path))
    assert "expected a CUDA device, found 0" in message
    assert not list(tmp_path.iterdir())


def test_a_missing_root_says_how_to_get_the_data(harness, tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path))
    message = one_error(
        harness("run", "--method", "baseline", "--dataset", "chestxray14", "--runs-dir", tmp_path / "r")
    )
    assert str(tmp_path) in message
    assert "nihcc.app.box.com" in message


@pytest.fixture
def chest(tmp_path) -> Path:
    return examples.chestxray14(tmp_path)


def edit(name: str, change):
    def apply(folder: Path) -> None:
        path = folder / name
        path.write_text(change(path.read_text()))

    return apply


def image(name: str, content: bytes | None):
    def apply(folder: Path) -> None:
        path = folder / "images" / name
        path.unlink() if content is None else path.write_bytes(content)

    return apply


FIRST, LAST = "00000001_000.png", "00000070_001.png"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "Data_Entry_2017_v2020.csv").unlink(), "has no Data_Entry_2017*.csv"),
        (lambda f: (f / "BBox_List_2017.csv").unlink(), "BBox_List_2017.csv is missing"),
        (lambda f: (f / "test_list.txt").unlink(), "test_list.txt is missing"),
        (edit("Data_Entry_2017_v2020.csv", lambda t: t[: len(t) // 2]), "truncated"),
        (edit("Data_Entry_2017_v2020.csv", lambda _: ""), "has the columns (none)"),
        (edit("Data_Entry_2017_v2020.csv", lambda t: t.replace("Image Index,Finding Labels", "Finding Labels,Image Index")),
         "has the columns Finding Labels, Image Index"),
        (edit("Data_Entry_2017_v2020.csv", lambda t: t.replace("Hernia", "Hernai")), "unknown label 'Hernai'"),
        (edit("BBox_List_2017.csv", lambda t: t + "99999999_000.png,Mass,1,2,3,4\n"), "unknown image '99999999_000.png'"),
        (edit("BBox_List_2017.csv", lambda t: t.replace("512.0,256.0", "5120.0,256.0", 1)), "boxes leave the image"),
        (edit("BBox_List_2017.csv", lambda t: t.replace("512.0", "wide", 1)), "not four numbers"),
        (edit("train_val_list.txt", lambda t: "\n".join(t.split()[:-5])), "lists are truncated"),
        (edit("train_val_list.txt", lambda t: t + "\n" + LAST), f"{LAST} is in both"),
        (edit("train_val_list.txt", lambda t: t + "\n00000070_000.png"), "is in both"),
        (image(FIRST, None), f"the first is {FIRST}"),
        (image(FIRST, b""), f"{FIRST}: expected an image, the file is empty"),
        (image(FIRST, b"\x89PNG\r\n\x1a\n junk"), f"{FIRST}: cannot be decoded"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_damaged_chestxray14(harness, chest, damage, message):
    damage(chest)
    assert message in one_error(
        harness("data", "prepare", "chestxray14", "--root", chest, "--size", 32, "--workers", 1)
    )


def test_a_patient_in_two_splits_is_refused(harness, chest):
    """Two images of one patient on either side of the official lists."""
    edit("test_list.txt", lambda t: t.replace("00000070_001.png\n", "").replace("\n00000070_001.png", ""))(chest)
    edit("train_val_list.txt", lambda t: t + "\n00000070_001.png")(chest)
    message = one_error(harness("data", "prepare", "chestxray14", "--root", chest, "--size", 32))
    assert "1 patients are in two splits, the first is '70'" in message


def test_an_empty_split_and_a_class_without_positives(harness, chest):
    edit("Data_Entry_2017_v2020.csv", lambda t: t.replace("Hernia", "No Finding"))(chest)
    message = one_error(harness("data", "prepare", "chestxray14", "--root", chest, "--size", 32))
    assert "class 'Hernia' has no positive image in the train split" in message
    everything = (chest / "train_val_list.txt").read_text().split() + (chest / "test_list.txt").read_text().split()
    (chest / "train_val_list.txt").write_text("\n".join(everything))
    (chest / "test_list.txt").write_text("")
    message = one_error(harness("data", "prepare", "chestxray14", "--root", chest, "--size", 32))
    assert "the test split is empty" in message


def test_skip_corrupt_goes_on_and_counts(harness, chest):
    image(FIRST, b"junk")(chest)
    code, out, _ = harness(
        "data", "prepare", "chestxray14", "--root", chest, "--size", 32, "--set", "skip_corrupt=true"
    )
    assert code == 0
    assert "left out as corrupt: 1" in out
    assert FIRST in out


def test_verify_finds_what_prepare_would_stumble_over(harness, chest):
    image(FIRST, b"junk")(chest)
    code, out, err = harness("data", "verify", "chestxray14", "--root", chest, "--set", "size=32")
    assert code == 2, err
    assert "1 images are missing or corrupt" in out
    assert "differs" in out, "the checksums of our example are not the official ones"


def test_cifar10_pickles_are_not_opened_unless_their_md5_is_right(harness, tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        (folder / name).write_bytes(pickle.dumps(_Bomb(tmp_path / "exploded")))
    message = one_error(harness("data", "prepare", "cifar10", "--root", folder))
    assert "does not have the published md5 sum" in message
    assert not (tmp_path / "exploded").exists()


def test_cifar10_truncated(harness, tmp_path):
    folder = examples.cifar10(tmp_path)
    path = folder / "data_batch_3.bin"
    path.write_bytes(path.read_bytes()[:-100])
    assert "data_batch_3.bin has" in one_error(harness("data", "prepare", "cifar10", "--root", folder))


class _Bomb:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p.write_bytes(b""), "empty"),
        (lambda p: p.write_text("<!DOCTYPE html><html><body>Sign in</body></html>"), "page"),
        (lambda p: torch.save({"conv.weight": torch.zeros(3, 3)}, p), "another architecture"),
        (lambda p: torch.save({"model": _Bomb(p.with_name("exploded"))}, p), "code"),
        (lambda p: p.write_bytes(b"\x80\x02junk"), "checkpoint.pt"),
    ],
    ids=["empty", "html", "architecture", "code", "junk"],
)
def test_checkpoints(harness, tmp_path, make, message):
    path = tmp_path / "checkpoint.pt"
    make(path)
    found = one_error(harness(*RUN, "--checkpoint", path, "--runs-dir", tmp_path / "runs"))
    assert message in found
    assert "checkpoint.pt" in found
    assert not (tmp_path / "exploded").exists()


def test_a_file_in_place_of_the_runs_folder(harness, tmp_path):
    (tmp_path / "runs").write_text("mine")
    assert "file is in the way" in one_error(harness(*RUN, "--runs-dir", tmp_path / "runs"))
    assert (tmp_path / "runs").read_text() == "mine"


@pytest.fixture
def small_disk(tmp_path):
    """A disk of two megabytes; only root can make one."""
    place = tmp_path / "disk"
    place.mkdir()
    made = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)], capture_output=True
    )
    if not made or made.returncode:
        pytest.skip("cannot mount a small disk here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_loses_nothing(harness, small_disk):
    message = one_error(harness(*RUN, "--runs-dir", small_disk))
    assert "disk is full" in message
    for run in runs(small_disk):
        assert run.info["run_id"] == run.run_id


def test_a_read_only_disk(harness, small_disk):
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert "cannot be written" in one_error(harness(*RUN, "--runs-dir", small_disk))


def test_sigterm_is_like_ctrl_c(harness, tmp_path, monkeypatch):
    from harness import trained

    monkeypatch.setattr(trained, "train", lambda *_, **__: signal.raise_signal(signal.SIGTERM))
    code, _, err = harness(*RUN, "--runs-dir", tmp_path)
    assert code == 130
    assert "the same command goes on" in err
    assert [r.info["status"] for r in runs(tmp_path)] == ["interrupted"]


HELD = '''
import os, time
from dataclasses import dataclass
from pathlib import Path
from harness.api import Supervised, method

@method("held", source="test")
@dataclass(frozen=True, kw_only=True)
class Held(Supervised):
    """Waits after its first epoch, where it is told to."""

    def loss(self, model, batch, task):
        while "HELD" in os.environ and next(Path(os.environ["HELD"]).glob("*/fit/resume.pt"), None):
            time.sleep(0.02)
        return super().loss(model, batch, task)
'''


@pytest.mark.slow
def test_ctrl_c_and_go_on(tmp_path):
    """A real process, a real signal: exit 130, resumable, and the weights are those of an undisturbed run."""
    (tmp_path / "held.py").write_text(HELD)
    sets = ["--set", "phantom.size=32", "--set", "n_train=160", "--set", "n_validation=40", "--set", "n_test=240",
            "--set", "max_epochs=4", "--set", "patience=4", "--evaluation", "classification", "--set", "resamples=50"]  # fmt: skip
    command = [sys.executable, "-m", "harness", "run", "--plugin", str(tmp_path / "held.py"), "--method", "held",
               "--dataset", "phantom", *sets]  # fmt: skip
    stopped = subprocess.Popen([*command, "--runs-dir", str(tmp_path / "a")], stderr=subprocess.PIPE, text=True,
                               env={**os.environ, "HELD": str(tmp_path / "a")})  # fmt: skip
    began = time.monotonic()
    while not next(iter((tmp_path / "a").glob("*/fit/resume.pt")), None):
        assert stopped.poll() is None, stopped.communicate()
        assert time.monotonic() - began < 300
        time.sleep(0.05)
    stopped.send_signal(signal.SIGINT)
    _, err = stopped.communicate(timeout=120)
    assert stopped.returncode == 130, err
    assert "the same command goes on" in err
    assert "Traceback" not in err
    (folder,) = runs(tmp_path / "a")
    assert folder.info["status"] == "interrupted"
    going_on, undisturbed = (
        subprocess.Popen([*command, "--runs-dir", str(tmp_path / place)], stderr=subprocess.PIPE, text=True)
        for place in ("a", "b")
    )
    for process in (going_on, undisturbed):
        _, err = process.communicate()
        assert process.returncode == 0, err
    (a,), (b,) = runs(tmp_path / "a"), runs(tmp_path / "b")
    assert a.info["fit"]["weights_sha256"] == b.info["fit"]["weights_sha256"]
    assert RunFolder(a.folder).info["status"] == "complete"
