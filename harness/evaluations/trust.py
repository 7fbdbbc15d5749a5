"""What the evaluations of trust in explanations share (protocol.md, 5): images, the class that is explained, parts."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.data.cache import Prepared
from harness.errors import UsageError
from harness.evaluations.attacked import IMAGES
from harness.evaluations.explained_maps import explain as explain
from harness.evaluations.parts import in_parts as in_parts
from harness.evaluations.subject import Subject
from harness.evaluations.subject import labelled as with_labels
from harness.metrics.scored import ScoreTable
from harness.tasks import Task
from harness.types import Batch

NOBODY = "no image of the test split has a label"
PASSES = ("forward", "backward")

T = TypeVar("T", bound=ScoreTable)


def unlabelled(prepared: Prepared) -> str:
    """Return why no image can be explained, or the empty string."""
    return "" if len(with_labels(prepared, 1)) else NOBODY


def labelled(subject: Subject, images: int | None) -> NDArray[np.int64]:
    """Return the positions of the first `images` of the fixed order that have a label, in table order, (n,).

    None: as many as the profile says; a split with fewer gives them all. Raises `UsageError` for fewer than one.
    """
    if images is not None and images < 1:
        raise UsageError(f"images: expected at least 1, got {images}.")
    count = IMAGES[subject.profile] if images is None else images
    return with_labels(subject.prepared, min(count, subject.limit or count))


def explained_class(task: Task, logits: Tensor, y: Tensor) -> Tensor:
    """Return the class whose explanation is looked at, (B,), from clean logits (B,V) and targets (protocol.md, 4).

    One class per image: the most probable one. Several findings: the most probable of the true ones, or of all where
    none is true.
    """
    known = logits.nan_to_num(nan=-torch.inf)
    if task.exclusive:
        return known.argmax(1)
    true = task.true(y, logits.shape[1])
    return known.where(true | ~true.any(1, keepdim=True), -torch.inf).argmax(1)


def passes_of(found: dict[str, NDArray[np.float64]]) -> dict[str, float]:
    """Take the passes of each image out of what was found and return their means."""
    return {name: float(found.pop(name).mean()) for name in PASSES}


def spent(batch: Batch, forward: float, backward: float) -> dict[str, Tensor]:
    """Return the passes of each image of a batch as columns for `passes_of`."""
    return dict(zip(PASSES, torch.tensor([forward, backward]).repeat(len(batch), 1).T, strict=True))


def named(subject: Subject, batch: Batch) -> list[str]:
    """Return the names of a batch's images, from which what is drawn for them follows."""
    return subject.prepared.index.ids(batch.index.numpy()).tolist()


def plain_table(
    kind: type[T],
    subject: Subject,
    positions: NDArray[np.int64],
    values: dict[str, NDArray[np.float64]],
    **more: Any,
) -> T:
    """Return the table of scores (n,C) of the images at `positions`."""
    index = subject.prepared.index
    return kind(
        ids=index.ids(positions),
        clusters=index.patients(positions),
        values=values,
        task=subject.task.name,
        **more,
    )
