"""Train a model by a method until its validation loss diverges, and keep the weights of the minimum.

Several processes (harness/together.py) each take every step; the network's passes are shared (harness/fit/shared.py).
"""

from __future__ import annotations

import io
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harness import together
from harness.data.batches import Feed, augment, epoch_order
from harness.device import Compute, memory_advice
from harness.errors import HarnessError
from harness.fit import state
from harness.fit.rehearsal import rehearse
from harness.fit.shared import shared
from harness.recipe import Supervised
from harness.rng import seed_for, torch_rng_for
from harness.store import write_bytes
from harness.tasks import Task
from harness.types import Batch

FIT_VERSION = 1
SAVE_EVERY = 60.0  # seconds between two resume states inside an epoch
LOOK_EVERY = 25  # steps between two looks at the loss on a GPU, where each look waits for the device


@dataclass(frozen=True)
class Progress:
    """What a training reports while it runs."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    images_per_second: float
    seconds_left: float  # to the end of max_epochs
    best_loss: float  # lowest validation loss so far; infinite before the first
    best_epoch: int


@dataclass(frozen=True)
class FitResult:
    """What is known of a finished training; the weights are in the model that was passed in."""

    epochs: int
    best_epoch: int
    best_validation_loss: float
    stopped: str  # why: "max_epochs" or "validation loss diverged"
    images_per_second: float
    seconds: float
    processes: int
    history: list[dict[str, float]]


def train(
    method: Supervised,
    model: nn.Module,
    task: Task,
    training: Feed,
    validation: Feed,
    *,
    compute: Compute,
    seed: int,
    folder: Path,
    names: Callable[[Tensor], list[str]],
    report: Callable[[Progress], None] = lambda _: None,
) -> FitResult:
    """Train `model` in place and leave it with the weights of the lowest validation loss.

    `names` turns a batch's index into sample ids, for errors. Progress and resume state go to `folder`; a call
    with the same folder goes on where the last one was killed. The weights that a method starts from are no
    candidate for the minimum: the method itself must have run for an epoch. Of several processes all call this, with
    the same arguments; what process 0 has is what all begin with, and it alone reads and writes `folder`.

    Raises `HarnessError` when the loss is not finite or the memory does not suffice.
    """
    model.to(device=compute.device, memory_format=compute.memory_format)  # pyright: ignore[reportCallIssue]
    optimiser = torch.optim.SGD(
        model.parameters(), lr=method.learning_rate, momentum=method.momentum, weight_decay=method.weight_decay
    )
    saved = folder / "resume.pt"
    memory = {name: value.to(compute.device) for name, value in method.memory().items()}
    at, best = state.Position(), {}
    world = together.world()
    if world.leads and saved.exists():
        at, best, memory = state.load(saved, model, optimiser, compute.device)
    if world.size > 1:
        content = together.handed_out(state.packed(model, best, optimiser, memory, at))
        at, best, memory = state.load(io.BytesIO(content), model, optimiser, compute.device)
    work = _Training(method, model, task, training, optimiser, compute, seed, saved, at, best, memory, names, report)
    stopped = "max_epochs"
    with memory_advice(method.batch_size, "--set batch_size="):
        rehearse(method, model, task, training, memory, compute, seed)
    with memory_advice(method.batch_size, "--set batch_size="), shared(model):
        while at.epoch < method.max_epochs:
            if at.epoch - at.best_epoch >= method.patience:
                stopped = "validation loss diverged"
                break
            work.epoch()
            loss = validation_loss(method, model, task, validation, compute, batch_size=2 * method.batch_size)
            work.close_epoch(together.agreed(loss))
    if not best:
        raise HarnessError(
            f"the validation loss was never finite in {at.epoch} epochs. Try a lower learning rate "
            f"(now {method.learning_rate:g})."
        )
    model.load_state_dict(best)
    model.eval()
    lines = "".join(json.dumps(entry) + "\n" for entry in at.history)
    if world.leads:
        write_bytes(folder / "history.jsonl", lines.encode())
    speed = at.epoch * len(training) / at.seconds if at.seconds else 0.0
    return FitResult(at.epoch, at.best_epoch, at.best_loss, stopped, speed, at.seconds, world.size, at.history)


def learning_rate(method: Supervised, progress: float) -> float:
    """Return the learning rate at `progress` (in epochs, fractional) of a training.

    Plain: divided by 10 at each of `decay_at`. one_cycle: linear warm-up over the first 30 %, then a cosine to 0.
    """
    if not method.one_cycle:
        return method.learning_rate * 0.1 ** sum(progress >= e for e in method.decay_at)
    share, warm = progress / method.max_epochs, 0.3
    if share < warm:
        return method.learning_rate * (0.04 + 0.96 * share / warm)
    return method.learning_rate * 0.5 * (1 + math.cos(math.pi * (share - warm) / (1 - warm)))


@dataclass
class _Training:
    """The state of one training, and its steps."""

    method: Supervised
    model: nn.Module
    task: Task
    feed: Feed
    optimiser: torch.optim.Optimizer
    compute: Compute
    seed: int
    saved: Path
    at: state.Position
    best: dict[str, Any]
    memory: dict[str, Tensor]  # what the method remembers from step to step
    names: Callable[[Tensor], list[str]]
    report: Callable[[Progress], None]
    pending: list[tuple[int, Tensor, Tensor]] = field(default_factory=list)  # step, loss, index: not looked at yet

    @property
    def steps(self) -> int:
        """Return the steps of an epoch; its last batch may be smaller."""
        return math.ceil(len(self.feed) / self.method.batch_size)

    def epoch(self) -> None:
        """Finish the current epoch, from wherever it stands."""
        self.model.train()
        at, order = self.at, epoch_order(len(self.feed), self.seed, self.at.epoch)
        look_every = 1 if self.compute.kind == "cpu" else LOOK_EVERY
        began = saved = time.monotonic()
        seen = 0
        size = self.method.batch_size
        batches = self.feed.stream([order[s * size : (s + 1) * size] for s in range(at.step, self.steps)])
        for step, batch in enumerate(batches, at.step):
            self.step(step, batch)
            seen += len(batch)
            at.step = step + 1
            if len(self.pending) >= look_every or at.step == self.steps:
                self.look()
                speed = seen / (time.monotonic() - began)
                left = (self.method.max_epochs - at.epoch - at.step / self.steps) * len(self.feed) / speed
                self.report(
                    Progress(
                        epoch=at.epoch + 1,
                        epochs=self.method.max_epochs,
                        step=at.step,
                        steps=self.steps,
                        loss=at.loss_sum / at.images,
                        images_per_second=speed,
                        seconds_left=left,
                        best_loss=at.best_loss,
                        best_epoch=at.best_epoch,
                    )
                )
            if time.monotonic() - saved > SAVE_EVERY and at.step < self.steps:
                self.look()
                at.seconds += time.monotonic() - began
                began, seen = time.monotonic(), 0
                self.save()
                saved = time.monotonic()
        at.seconds += time.monotonic() - began
        at.epoch += 1

    def step(self, step: int, batch: Batch) -> None:
        """Take one optimiser step; all its randomness follows from seed, epoch and step."""
        at, method = self.at, self.method
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(method, at.epoch + step / self.steps)
        rng = torch_rng_for(self.seed, "fit", at.epoch, step)
        torch.manual_seed(seed_for(self.seed, "layers", at.epoch, step))
        batch = replace(batch, x=augment(batch.x, method.augment, rng))
        self.optimiser.zero_grad(set_to_none=True)
        with self.compute.autocast():
            loss = method.step(self.model, batch, self.task, rng, self.memory)
        loss.backward()
        self.optimiser.step()
        self.pending.append((step, loss.detach(), batch.index))

    def look(self) -> None:
        """Read the losses of the last steps; raise `HarnessError` where one is not finite."""
        at = self.at
        for step, loss, index in self.pending:
            value = float(loss)
            if not math.isfinite(value):
                ids = self.names(index)
                raise HarnessError(
                    f"the loss became {value} in epoch {at.epoch + 1}, step {step + 1} of {self.steps}, on the samples "
                    f"{', '.join(ids[:32])}{' ...' if len(ids) > 32 else ''}. Try a lower learning rate "
                    f"(now {self.method.learning_rate:g}), --precision fp32, or look at those images."
                )
            at.loss_sum += value * len(index)
            at.images += len(index)
        self.pending.clear()

    def close_epoch(self, validation: float) -> None:
        """Write the epoch's line of history, keep the weights if they are the best, save the state."""
        at = self.at
        entry = {
            "epoch": at.epoch,
            "train_loss": at.loss_sum / max(at.images, 1),
            "validation_loss": validation,
            "learning_rate": self.optimiser.param_groups[0]["lr"],
            "seconds": round(at.seconds, 3),
        }
        at.history.append(entry)
        if validation < at.best_loss:
            at.best_loss, at.best_epoch = validation, at.epoch
            self.best.clear()
            self.best.update({k: v.detach().clone() for k, v in self.model.state_dict().items()})
        at.step, at.loss_sum, at.images = 0, 0.0, 0
        self.save()

    def save(self) -> None:
        """Write the resume state, as the process that leads."""
        if together.world().leads:
            state.save(self.saved, self.model, self.best, self.optimiser, self.memory, self.at)


@torch.no_grad()
def validation_loss(
    method: Supervised, model: nn.Module, task: Task, validation: Feed, compute: Compute, batch_size: int
) -> float:
    """Return the method's objective over the whole validation part as one batch: it does not depend on batches.

    The weight beta of eq. 1 is therefore the part's own ratio of negatives to positives.
    """
    model.eval()
    logits, targets = [], []
    for batch in validation.batches(batch_size):
        with compute.autocast():
            logits.append(model(batch.x).float())
        targets.append(batch.y)
    return float(method.objective(torch.cat(logits), torch.cat(targets), task))
