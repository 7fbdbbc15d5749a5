"""What evaluations of the attacks found share: which images, what each attack has to reach, and what it found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.attacks.goals import Adversarial, Flip, Goal
from harness.attacks.minimal import Found
from harness.errors import UsageError
from harness.evaluations.parts import in_parts
from harness.evaluations.subject import Subject, fixed_order
from harness.tasks import Task
from harness.types import Batch

IMAGES = {"quick": 16, "paper": 1000}  # protocol.md, 7


def sampled(subject: Subject, images: int | None) -> NDArray[np.int64]:
    """Return the positions of the first `images` of the split's fixed order, in table order, (n,).

    None: as many as the profile says. A split with fewer gives them all; `limit` may leave fewer still. Raises
    `UsageError` for fewer than one.
    """
    return subject.prepared.index.scored()[0][np.sort(_first(subject, images))]


def sampled_in_order(subject: Subject, images: int | None) -> NDArray[np.int64]:
    """Return the same positions in the fixed order itself, (n,): more images leave the batches of fewer as they are."""
    return subject.prepared.index.scored()[0][_first(subject, images)]


def _first(subject: Subject, images: int | None) -> NDArray[np.int64]:
    if images is not None and images < 1:
        raise UsageError(f"images: expected at least 1, got {images}.")
    count = IMAGES[subject.profile] if images is None else images
    count = count if subject.limit is None else min(count, subject.limit)
    return fixed_order(len(subject.prepared.index.scored()[0]))[:count]


def goal_of(task: Task, logits: torch.Tensor, y: torch.Tensor) -> Goal:
    """Return what the attack on each image has to reach, from clean logits (B,V) and targets.

    One class per image: that another than the true one is more probable; an image that is classified wrong reaches it
    as it is. Several findings: that the decision at probability 1/2 which the model takes, right or wrong, changes
    sides, for the most probable of the true findings, or of all where none is true (no paper covers it: ours).
    """
    true = task.true(y, logits.shape[1])
    target = logits.where(true | ~true.any(1, keepdim=True), -torch.inf).argmax(1)
    if task.exclusive:
        return Adversarial(target)
    chosen = logits.gather(1, target[:, None])[:, 0]
    return Flip(target, sign=torch.where(chosen > 0, 1.0, -1.0).to(logits.dtype), point=torch.zeros_like(chosen))


@dataclass(frozen=True)
class Part:
    """A batch, what the model says to it as it is, (B,V), and what was attacked and found."""

    batch: Batch
    logits: torch.Tensor
    goal: Goal
    found: Found


def measured(
    subject: Subject,
    positions: NDArray[np.int64],
    name: str,
    size: int,
    measure: Callable[[Part], Mapping[str, Tensor]],
) -> tuple[dict[str, NDArray[np.float64]], dict[str, Any], float]:
    """Return what `measure` says of the images at `positions`, attacked by `name` in batches of `size`, (n,) each.

    Beside it what became of them, for the reader of a table, and the passes that the attack took, their mean.
    """

    def make(batch: Batch, _: NDArray[np.int64]) -> dict[str, Tensor]:
        logits = subject.logits(batch)
        goal = goal_of(subject.task, logits, batch.y)
        found = attacked(subject, name, batch, goal)
        own = {f"attack_{column}": getattr(found, column) for column in ("passes", "first", "rmse")}
        return {**own, **measure(Part(batch, logits, goal, found))}

    columns = {n: values[:, 0] for n, values in in_parts(subject, positions, size, make).items()}
    passes, first, rmse = (columns.pop(f"attack_{column}") for column in ("passes", "first", "rmse"))
    return columns, facts(first, rmse), float(passes.mean())


def attacked(subject: Subject, name: str, batch: Batch, goal: Goal) -> Found:
    """Return what the attack `name` finds on each image of a batch, by the model that did not see the image."""
    x = batch.x
    found = Found(
        delta=torch.zeros_like(x),
        rmse=x.new_full((len(x),), torch.inf),
        passes=torch.zeros(len(x), dtype=torch.long, device=x.device),
        first=torch.full((len(x),), -1, dtype=torch.long, device=x.device),
        late=torch.ones(len(x), dtype=torch.bool, device=x.device),
    )
    for model, chosen in subject.shares(batch.index.numpy()):
        rows = torch.from_numpy(chosen).to(x.device)
        with subject.room:
            part: Found = subject.attacks[name](model, x[rows], goal[rows])
            found.delta[rows], found.rmse[rows] = part.delta, part.rmse
            found.passes[rows], found.first[rows], found.late[rows] = part.passes, part.first, part.late
    return found


def fooled(found: Found) -> torch.Tensor:
    """Return which images have a perturbation that reached the goal, (B,) bool: those that needed one and had one."""
    return found.rmse.isfinite() & (found.rmse > 0)


def facts(first: NDArray[np.float64], rmse: NDArray[np.float64]) -> dict[str, Any]:
    """Return how many images were attacked and what became of them, from the step (n,) and RMSE (n,) of `Found`."""
    count = int((np.isfinite(rmse) & (rmse > 0)).sum())
    at_start = int((first == 0).sum())
    return {
        "images": len(first),
        "fooled": count,
        "goal held at the start": at_start,
        "not fooled": len(first) - count - at_start,
    }
