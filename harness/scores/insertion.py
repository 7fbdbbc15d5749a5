"""Insertion and deletion (Petsiuk 2018; Khorram 2021): is what the map calls important what the model looks at?

Cells of the image are uncovered or covered, the most important ones first, and the probability of the class is
followed (protocol.md, 4). Deletion goes from the image to the baseline, insertion from the baseline to the image.

Differs from the authors' program of Khorram 2021: the area is the trapezoid with both ends, in at most 50 equal steps.
`mode="igos_code"` gives their steps, their sum, and masks resized with aligned corners. `mode="rise"` deletes to
zeros, as Petsiuk 2018 does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from harness.errors import UsageError
from harness.masking import blend, probability, upsampled
from harness.plugins import score

if TYPE_CHECKING:
    from harness.models.classifier import Classifier

STEPS = 50  # at most


def resolutions_of(side: int) -> tuple[int, ...]:
    """Return the resolutions at which maps of images with `side` pixels are scored, coarsest first.

    The divisor nearest to 7 cells (the larger of two; one cell is no order), the one nearest to 28 whose cells are at
    least 4 px wide, and the pixels themselves.

    >>> [resolutions_of(side) for side in (224, 112, 96, 64, 32, 37)]
    [(7, 28, 224), (7, 28, 112), (8, 24, 96), (8, 16, 64), (8, 32), (37,)]
    """
    divisors = [d for d in range(1, side + 1) if side % d == 0 and (d > 1 or side == 1)]
    coarse = min(divisors, key=lambda d: (abs(d - 7), -d))
    middle = min((d for d in divisors if 4 * d <= side), key=lambda d: (abs(d - 28), d), default=coarse)
    return tuple(sorted({coarse, max(coarse, middle), side}))


def counts(cells: int, mode: str = "protocol") -> NDArray[np.int64]:
    """Return how many cells have changed at each step, from 0 to all `cells`, (S+1,).

    S = min(50, cells) equal steps, halves rounded to even. `igos_code`: as many steps of cells // 50 (at least one)
    as are needed, the last one shorter.
    """
    if mode == "igos_code":
        return np.append(np.arange(0, cells, max(1, cells // STEPS)), cells)
    steps = min(STEPS, cells)
    return np.rint(np.arange(steps + 1) * (cells / steps)).astype(np.int64)


def cell_means(heat: Tensor, resolution: int) -> Tensor:
    """Return the mean heat of each of resolution x resolution equal cells, (B,h,w) to (B,r,r) float32.

    A cell may cover parts of the map's own. Means are taken in double and kept in single precision, so that equal ones
    stay equal. Raises `UsageError` for a map with fewer cells: what lies within one of its cells is not known.
    """
    if min(heat.shape[-2:]) < resolution:
        raise UsageError(
            f"a map of {tuple(heat.shape[-2:])} cells: expected at least {resolution} per side. Score it coarser."
        )
    if heat.shape[-2:] == (resolution, resolution):
        return heat.float()
    rows, columns = (_overlap(side, resolution).to(heat.device) for side in heat.shape[-2:])
    return (rows @ heat.double() @ columns.T).float()


def _overlap(side: int, resolution: int) -> Tensor:
    """Return which share of each of `resolution` cells each of `side` finer ones covers, (resolution, side) float64."""
    edges = torch.arange(side + 1, dtype=torch.float64) / side * resolution
    start = torch.arange(resolution, dtype=torch.float64)[:, None]
    return (edges[1:].minimum(start + 1) - edges[:-1].maximum(start)).clamp(min=0)


def places(heat: Tensor, resolution: int, seeds: Tensor) -> Tensor:
    """Return the place of each cell in the order of importance, 0 the first, (B,h,w) to (B, r*r) long.

    Equal cells are in the order of a permutation that follows from seeds[i] alone: a constant map is in random order.
    The map must be finite.
    """
    means = cell_means(heat, resolution).flatten(1)
    count = means.shape[1]
    shuffled = torch.stack(
        [torch.randperm(count, generator=torch.Generator().manual_seed(int(s))) for s in seeds]
    ).to(means.device)  # fmt: skip
    order = shuffled.gather(1, means.gather(1, shuffled).argsort(dim=1, descending=True, stable=True))
    return torch.empty_like(order).scatter_(1, order, torch.arange(count, device=order.device).expand_as(order))


@torch.no_grad()
def curve(
    model: Classifier, before: Tensor, after: Tensor, target: Tensor, place: Tensor, count: NDArray[np.int64], *,
    at_once: int, mode: str = "protocol",
) -> Tensor:  # fmt: skip
    """Return the probability of class `target` (B,) while `before` turns into `after`, most important cells first.

    `before` and `after` (B,C,H,W), `place` (B, r*r) of each cell, `count` (S+1,) cells that have changed at each step.
    (B,S-1) float32: the ends are whole images, and both directions share them. The model sees `at_once` images at a
    time, whatever B and S are. `igos_code` resizes masks with aligned corners, as the authors' program does.
    """
    (images, cells), inner = place.shape, torch.from_numpy(count[1:-1]).to(place.device)
    side = round(cells**0.5)
    found = before.new_empty(images * len(inner), dtype=torch.float32)
    for part in torch.arange(len(found), device=place.device).split(at_once):
        image, step = part // len(inner), part % len(inner)
        changed = (place[image] < inner[step, None]).to(before.dtype).view(-1, 1, side, side)
        mask = _aligned(changed, before) if mode == "igos_code" else upsampled(changed, *before.shape[-2:])
        shown = blend(after[image], before[image], mask)
        found[part] = probability(model, shown, target[image]).float()
    return found.view(images, len(inner))


def _aligned(mask: Tensor, image: Tensor) -> Tensor:
    return interpolate(mask, size=image.shape[-2:], mode="bilinear", align_corners=True)


def area(levels: Tensor, count: NDArray[np.int64], mode: str = "protocol") -> Tensor:
    """Return the area under curves with both ends, (B,S+1) to (B,) float64: a mean probability.

    The trapezoid over the share of cells that have changed. `igos_code`: each step but the last counts with the
    probability after it, the last one as probability 1, as the authors' program does.
    """
    values, share = levels.double(), torch.from_numpy(np.diff(count) / count[-1]).to(levels.device)
    if mode == "igos_code":
        return values[:, 1:-1] @ share[:-1] + share[-1]
    return (values[:, 1:] + values[:, :-1]) / 2 @ share


@score(
    "insertion", unit="probability", higher_is_better=True, source="Khorram 2021, Table 1; Petsiuk 2018; protocol.md, 4"
)
def insertion(levels: Tensor, count: NDArray[np.int64], mode: str = "protocol") -> Tensor:
    """Return the area under p(class), (B,S+1) to (B,), from the baseline to the image, in [0, 1]."""
    return area(levels, count, mode)


@score(
    "deletion", unit="probability", higher_is_better=False, source="Khorram 2021, Table 1; Petsiuk 2018; protocol.md, 4"
)
def deletion(levels: Tensor, count: NDArray[np.int64], mode: str = "protocol") -> Tensor:
    """Return the area under p(class), (B,S+1) to (B,), from the image to the baseline, in [0, 1]."""
    return area(levels, count, mode)
