"""Overlap of {map >= t} with the box at all 256 thresholds, from one pass (Khakzar 2019, 3.3; protocol.md, 2).

The binary region itself is compared with the box's mask; no box is drawn around it. Per-image scaling, no clipping
of negative values, and what a constant map means are ours: the paper does not say.
"""

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from harness.errors import UsageError
from harness.plugins import score

LEVELS = 256
CHUNK = 2**17  # pixels counted at once on a CPU: with larger blocks page faults take most of the time


def finite(heat: Tensor) -> Tensor:
    """Return which maps hold neither NaN nor infinity, (B,h,w) to (B,) bool: only those can be scored."""
    return torch.isfinite(heat).flatten(1).all(1)


def upsample(heat: Tensor, size: int) -> Tensor:
    """Return maps bilinearly resized to the input's size (align_corners=False), (B,h,w) to (B,size,size)."""
    if heat.shape[-2:] == (size, size):
        return heat
    return interpolate(heat[:, None], size=(size, size), mode="bilinear", align_corners=False)[:, 0]


def to_levels(heat: Tensor, size: int) -> Tensor:
    """Return maps upsampled, scaled per image to [0,255] and floored, (B,h,w) float to (B,size,size) uint8.

    For whole t from 0 to 255, map >= t exactly where level >= t. The maximum has level 255; a constant map has
    level 0 everywhere, so it is the whole image at t=0 and empty above. Raises `UsageError` for maps with NaN or
    infinity: leave those out by `finite` and report them as missing.
    """
    if not bool(finite(heat).all()):
        bad = (~finite(heat)).nonzero().flatten().tolist()
        raise UsageError(
            f"heat maps: expected finite values, got NaN or infinity in {len(bad)} of {len(heat)} maps (the first is "
            f"number {bad[0]}). Score those where finite(heat) holds and report the rest as missing."
        )
    up = upsample(heat, size).double()  # float32 could overflow in the difference
    low, high = (f(up, dim=(1, 2), keepdim=True) for f in (torch.amin, torch.amax))
    share = (up - low) / (high - low).where(high > low, 1.0)  # divided first: the maximum is exactly 1
    return (share * (LEVELS - 1)).floor().to(torch.uint8)


def counts(levels: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return the pixels with level >= t inside the box and in all, for t = 0..255: two (B,256) int64.

    `levels` (B,H,W) uint8, `mask` (B,H,W) bool. One histogram inside the box and one outside, cumulated from the top.
    """
    if levels.shape != mask.shape or mask.dtype != torch.bool:
        raise UsageError(
            f"counts: expected levels and a bool mask of one shape (B,H,W), got {tuple(levels.shape)} and "
            f"{tuple(mask.shape)} {mask.dtype}. Make the mask with box_mask at the levels' size."
        )
    if not len(levels):
        none = torch.zeros(0, LEVELS, dtype=torch.int64, device=levels.device)
        return none, none.clone()
    parts = max(1, CHUNK // levels[0].numel()) if levels.device.type == "cpu" else len(levels)
    pairs = zip(levels.flatten(1).split(parts), mask.flatten(1).split(parts), strict=True)
    histogram = torch.cat([_histogram(a, b) for a, b in pairs])  # (B,2,256)
    outside, inside = histogram.flip(2).cumsum(2).flip(2).unbind(1)
    return inside, inside + outside


def _histogram(levels: Tensor, mask: Tensor) -> Tensor:
    """Return how many pixels have each level, outside (0) and inside (1) the box: (b,H*W) twice to (b,2,256)."""
    cell = levels.int() + mask.int().mul_(LEVELS)
    cell += torch.arange(len(levels), dtype=torch.int32, device=levels.device)[:, None] * (2 * LEVELS)
    return torch.bincount(cell.flatten(), minlength=len(levels) * 2 * LEVELS).view(-1, 2, LEVELS)


@score("threshold_iou", unit="IoU", higher_is_better=True, source="Khakzar 2019, 3.3")
def iou(inside: Tensor, region: Tensor, box: Tensor) -> Tensor:
    """Intersection over union of region and box at each threshold, (B,256) float64; `box` (B,) pixels of the box.

    NaN where the box has no pixel.
    """
    union = region + box[:, None] - inside
    return (inside.double() / union).where(box[:, None] > 0, torch.nan)


@score("iobb", unit="share of the region", higher_is_better=True, source="Wang 2017, arXiv:1705.02315, 4.2")
def iobb(inside: Tensor, region: Tensor) -> Tensor:
    """Share of the region that lies in the box, at each threshold, (B,256) float64; NaN where the region is empty.

    Wang's IoBB divides by the area of a box drawn around the region; here, as everywhere in this protocol, the
    region itself is meant. At t=0 it is the box's share of the image, which is the chance level at any t.
    """
    return (inside.double() / region).where(region > 0, torch.nan)
