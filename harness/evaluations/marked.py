"""Images with a known shortcut: where it is, whose class it gives away, and the image without it or of it alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.data.cache import Prepared
from harness.errors import UsageError
from harness.evaluations.localisation import CORNERS
from harness.evaluations.subject import Subject, fixed_order
from harness.evaluations.trust import explained_class
from harness.masking import blend, blurred
from harness.scores.boxes import box_mask
from harness.types import Batch

NONE = "the dataset has no shortcuts"
NONE_IN_TEST = "the test split has no image with a shortcut"
UNTIED = -1  # in place of a class: the shortcut gives none away


@dataclass(frozen=True)
class Marked:
    """The M (image, tied class) pairs of a split that have a shortcut, in table order."""

    position: NDArray[np.int64]  # (M,) of the image in the dataset's table
    tied: NDArray[np.int64]  # (M,) number of the class, or UNTIED
    shortcuts: list[NDArray[np.float64]]  # M arrays (K,4), fractions of the image
    boxes: list[NDArray[np.float64]]  # M arrays (K,4) of the tied class, (0,4) where it is not there or has none

    def __len__(self) -> int:
        return len(self.position)


def why_none(prepared: Prepared) -> str:
    """Return why there is no shortcut to look at, or the empty string."""
    if not len(prepared.index.shortcuts):
        return NONE
    return "" if len(marked_of(prepared)) else NONE_IN_TEST


def marked_of(prepared: Prepared) -> Marked:
    """Return every test image that has a shortcut, once for each class that one of its shortcuts is tied to."""
    index = prepared.index
    place = {name: i for i, name in enumerate(index.samples["id"])}
    number = {name: i for i, name in enumerate(index.classes)} | {"": UNTIED}
    rank = {int(p): i for i, p in enumerate(index.scored()[0])}
    boxes = {key: rows[CORNERS].to_numpy(float) for key, rows in index.boxes.groupby(["id", "class_name"], sort=False)}
    found = []
    for (name, tied), rows in index.shortcuts.groupby(["id", "class_name"], sort=False):  # pyright: ignore
        if place[name] in rank:
            own = boxes.get((name, tied), np.zeros((0, 4)))
            found.append((place[name], number[tied], rows[CORNERS].to_numpy(float), own))
    found.sort(key=lambda f: (rank[f[0]], f[1]))
    places, classes = (np.array([f[k] for f in found], np.int64) for k in (0, 1))
    return Marked(places, classes, [f[2] for f in found], [f[3] for f in found])


def chosen(subject: Subject, marked: Marked, images: int | None) -> Marked:
    """Return the first `images` of the pairs in the fixed order, in table order; None: all of them.

    Raises `UsageError` for fewer than one.
    """
    if images is not None and images < 1:
        raise UsageError(f"images: expected at least 1, got {images}.")
    count = min(images or len(marked), subject.limit or len(marked))
    kept = np.sort(fixed_order(len(marked))[:count])
    shortcuts, boxes = ([boxes[i] for i in kept] for boxes in (marked.shortcuts, marked.boxes))
    return Marked(marked.position[kept], marked.tied[kept], shortcuts, boxes)


def masks(boxes: list[NDArray[np.float64]], size: int) -> Tensor:
    """Return the union of the boxes of each of B samples, (B,1,size,size) bool; nowhere where it has none."""
    return torch.stack([box_mask(b, size) for b in boxes])[:, None]


def audited_class(subject: Subject, batch: Batch, tied: NDArray[np.int64]) -> Tensor:
    """Return the class whose probability and map are looked at, (B,): the tied one, else that which is explained."""
    own = explained_class(subject.task, subject.logits(batch), batch.y)
    given = torch.from_numpy(tied).to(own.device)
    return own.where(given == UNTIED, given)


def versions(x: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """Return images (B,C,S,S) without what the masks (B,1,S,S) hold, with that alone, and without anything.

    What is not shown is the blurred image, as in insertion and deletion.
    """
    baseline, shown = blurred(x), mask.to(x.dtype)
    return {"erased": blend(x, baseline, 1 - shown), "revealed": blend(x, baseline, shown), "blurred": baseline}
