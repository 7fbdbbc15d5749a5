"""The training loop: it learns, resumes to the bit, and stops where it must."""

import dataclasses
import io
import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from harness.data.batches import feed
from harness.data.cache import Prepared
from harness.data.index import Index
from harness.device import resolve
from harness.errors import HarnessError, UsageError
from harness.fit import loop
from harness.fit.loop import learning_rate, train, validation_loss
from harness.recipe import Supervised
from harness.tasks import MultiLabel

TASK = MultiLabel()


@pytest.fixture
def data() -> Prepared:
    """Images whose left (right) half is bright where class a (b) is present."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (96, 2)).astype(np.uint8)
    images = rng.integers(0, 100, (96, 1, 8, 8)).astype(np.uint8)
    images[..., :4] += (120 * labels[:, 0])[:, None, None, None].astype(np.uint8)
    images[..., 4:] += (120 * labels[:, 1])[:, None, None, None].astype(np.uint8)
    names = [f"s{i}" for i in range(96)]
    split = ["train"] * 64 + ["validation"] * 32
    samples = pd.DataFrame({"id": names, "patient": names, "split": split})
    return Prepared(None, Index(samples, labels, ("a", "b")), images, "f")  # pyright: ignore


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.1),
                         nn.Linear(256, 2))  # fmt: skip


def fit(data, folder, method=None, model=None, report=lambda _: None):
    compute = resolve("cpu")
    parts = {s: feed(data, data.index.of_split(s), TASK, compute) for s in ("train", "validation")}
    model = model or network()
    method = method or Supervised(max_epochs=4, batch_size=10, augment="flip")
    ids = data.index.samples["id"]
    result = train(method, model, TASK, parts["train"], parts["validation"], compute=compute, seed=3, folder=folder,
                   names=lambda i: [ids[j] for j in i.tolist()], report=report)  # fmt: skip
    return model, result


def test_it_learns_and_keeps_the_lowest_validation_loss(data, tmp_path):
    method = Supervised(max_epochs=12, batch_size=16, learning_rate=0.02)
    model, result = fit(data, tmp_path, method)
    losses = [h["validation_loss"] for h in result.history]
    assert losses[-1] < 0.5 * losses[0]
    assert result.best_validation_loss == min(losses)
    assert result.best_epoch == 1 + int(np.argmin(losses))
    compute = resolve("cpu")
    held_out = feed(data, data.index.of_split("validation"), TASK, compute)
    again = validation_loss(method, model, TASK, held_out, compute, 7)
    assert again == pytest.approx(result.best_validation_loss, rel=1e-5)
    written = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert [w["epoch"] for w in written] == list(range(1, 13))


def saved(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: whole[: len(whole) // 2],
        lambda whole: b"hello, this is no state",
        lambda whole: bytes(len(whole)),
        lambda whole: saved([1, 2]),
        lambda whole: saved({"model": {}}),
        lambda whole: saved({**torch.load(io.BytesIO(whole)), "model": {"other": torch.zeros(2)}}),
        lambda whole: saved({**torch.load(io.BytesIO(whole)), "position": {"epochs": 1}}),
    ],
    ids=["empty", "cut", "text", "zeros", "list", "no weights", "other weights", "other position"],
)
def test_a_damaged_resume_state_is_one_error_that_names_it(data, tmp_path, damage):
    method = Supervised(max_epochs=4, batch_size=10, augment="flip")

    def report(progress):
        if progress.epoch > 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(data, tmp_path, method, report=report)
    path = tmp_path / "resume.pt"
    path.write_bytes(damage(path.read_bytes()))
    left = path.read_bytes()
    with pytest.raises(UsageError, match="delete it: the training then begins at its start") as raised:
        fit(data, tmp_path, method)
    assert str(path) in str(raised.value)
    assert path.read_bytes() == left


@pytest.mark.parametrize("kill_at", [(1, 3), (2, 7), (3, 1)])
def test_resume_gives_the_same_weights_bit_for_bit(data, tmp_path, monkeypatch, kill_at):
    monkeypatch.setattr(loop, "SAVE_EVERY", -1.0)  # a state after every step
    undisturbed, _ = fit(data, tmp_path / "a")

    def kill(progress):
        if (progress.epoch, progress.step) == kill_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(data, tmp_path / "b", report=kill)
    torch.manual_seed(99)  # whatever state the new process is in
    resumed, result = fit(data, tmp_path / "b")
    assert result.epochs == 4
    for (name, a), b in zip(undisturbed.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_what_a_method_remembers_survives_a_kill(data, tmp_path, monkeypatch):
    """A learning rate that follows from a count of the steps: a lost count would give other weights."""

    class Counting(Supervised):
        def memory(self):
            return {"steps": torch.zeros(())}

        def step(self, model, batch, task, rng, memory):
            memory["steps"] = memory["steps"] + 1
            return self.loss(model, batch, task) / memory["steps"]

    monkeypatch.setattr(loop, "SAVE_EVERY", -1.0)
    method = Counting(max_epochs=3, batch_size=16)
    undisturbed, _ = fit(data, tmp_path / "a", method)

    def kill(progress):
        if (progress.epoch, progress.step) == (2, 2):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(data, tmp_path / "b", method, report=kill)
    resumed, _ = fit(data, tmp_path / "b", method)
    for (name, a), b in zip(undisturbed.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_it_stops_when_the_validation_loss_diverges(data, tmp_path, monkeypatch):
    scripted = iter([3.0, 2.0, 2.5, 2.4, 2.3, 1.0, 1.0])
    monkeypatch.setattr(loop, "validation_loss", lambda *_, **__: next(scripted))
    _, result = fit(data, tmp_path, Supervised(max_epochs=50, batch_size=32, patience=3))
    assert (result.epochs, result.best_epoch, result.best_validation_loss) == (5, 2, 2.0)
    assert result.stopped == "validation loss diverged"


def test_a_loss_that_is_not_finite_names_step_and_samples(data, tmp_path):
    class Bad(Supervised):
        def loss(self, model, batch, task):
            value = super().loss(model, batch, task)
            return value * math.nan if 5 in batch.index.tolist() else value

    with pytest.raises(HarnessError, match=r"loss became nan in epoch 1, step \d of 4.*s5\b.*lower learning rate"):
        fit(data, tmp_path, Bad(max_epochs=1, batch_size=16))


def test_out_of_memory_names_a_batch_size(data, tmp_path):
    class Big(Supervised):
        def loss(self, model, batch, task):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")

    with pytest.raises(HarnessError, match="Try --set batch_size=8"):
        fit(data, tmp_path, Big(max_epochs=1, batch_size=16))


def test_schedules():
    plain = Supervised(learning_rate=0.1, decay_at=(170, 195))
    assert [learning_rate(plain, e) for e in (0, 169.9, 170, 195)] == pytest.approx([0.1, 0.1, 0.01, 0.001])
    cycle = Supervised(learning_rate=0.1, one_cycle=True, max_epochs=10)
    assert learning_rate(cycle, 3) == pytest.approx(0.1)
    assert learning_rate(cycle, 0) < 0.01
    assert learning_rate(cycle, 9.999) < 1e-5


def test_hooks_of_a_method_are_used(data, tmp_path):
    calls = []

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Method(Supervised):
        def perturb(self, model, batch, task, rng):
            calls.append("perturb")
            return batch

        def penalty(self, model, batch, task, rng):
            calls.append("penalty")
            return 0.0

    fit(data, tmp_path, Method(max_epochs=1, batch_size=32))
    assert calls == ["perturb", "penalty"] * 2
