"""How far two heat maps agree: ranks of their cells (Adebayo 2018, arXiv:1810.03292), and which are the highest."""

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from harness.plugins import score
from harness.scores.alignment import centred_ranks, rank_correlation
from harness.scores.threshold_iou import finite


@score("rank_agreement", unit="", higher_is_better=True, source="Spearman 1904; Adebayo 2018, arXiv:1810.03292, 3")
def rank_agreement(a: Tensor, b: Tensor) -> Tensor:
    """Return Spearman's correlation of two maps over their cells, (B,) float64 in [-1,1]; `a` and `b` (B,h,w).

    Tied cells have their mean rank. NaN where a map is constant, which has no order, or holds NaN or infinity.
    """
    return rank_correlation(cell_ranks(a), cell_ranks(b))


def cell_ranks(heat: Tensor) -> Tensor:
    """Return the centred ranks of a map's cells, (B,h,w) to (B,P) float64; 0 for a map with NaN or infinity.

    `rank_agreement` is their `rank_correlation`: a map that is held against several others is ranked once.
    """
    return centred_ranks(heat.where(finite(heat)[:, None, None], 0.0).flatten(1))


@score("top_overlap", unit="share of the cells", higher_is_better=True, source="ours: protocol.md, 5")
def top_overlap(a: Tensor, b: Tensor, *, top: float) -> Tensor:
    """Return the share of the `top` highest cells of one map that are among those of the other, (B,) float64.

    `a` and `b` (B,h,w). Cells that tie for the last places hold these places in equal shares. Two maps that know
    nothing of each other share `top`. NaN for a map with NaN or infinity.
    """
    count = max(1, round(top * a[0].numel()))
    usable = finite(a) & finite(b)
    shared = (_places(a, count) * _places(b, count)).sum(1) / count
    return shared.where(usable, torch.nan)


def _places(heat: Tensor, count: int) -> Tensor:
    """Return which share of one of the `count` first places each cell holds, (B,h,w) to (B,P) float64."""
    flat = heat.flatten(1)
    last = flat.topk(count, dim=1).values[:, -1:]
    above, tied = flat > last, flat == last
    free = count - above.sum(1, keepdim=True)
    return above.double() + tied.double() * free / tied.sum(1, keepdim=True)


def resized(heat: Tensor, height: int, width: int) -> Tensor:
    """Return maps (B,h,w) at another resolution: the area mean where it is coarser, bilinear where it is finer."""
    if heat.shape[-2:] == (height, width):
        return heat
    if height <= heat.shape[-2] and width <= heat.shape[-1]:
        return interpolate(heat[:, None], size=(height, width), mode="area")[:, 0]
    return interpolate(heat[:, None], size=(height, width), mode="bilinear", align_corners=False)[:, 0]
