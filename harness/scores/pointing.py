"""The pointing game (Zhang et al. 2016, arXiv:1608.00507): does the maximum of the map lie in the box?"""

import torch
from torch import Tensor

from harness.plugins import score


@score("pointing", unit="share", higher_is_better=True, source="Zhang 2016, arXiv:1608.00507")
def pointing(heat: Tensor, mask: Tensor) -> Tensor:
    """Return 1 where the maximum is inside the box, else 0, (B,) float64; tied maxima count by their share inside.

    `heat` (B,H,W) at the mask's size, `mask` (B,H,W) bool. NaN for a map with NaN or infinity. Differs from the
    paper: no tolerance of 15 px around the box; ties (a constant map: all pixels) give the expected value.
    """
    flat, inside = heat.flatten(1), mask.flatten(1)
    tied = flat == flat.amax(1, keepdim=True)
    hit = (tied & inside).sum(1).double() / tied.sum(1)
    return hit.where(torch.isfinite(flat).all(1), torch.nan)


def chance(mask: Tensor) -> Tensor:
    """Return the box's share of the image, (B,H,W) to (B,) float64: what a map that knows nothing scores."""
    return mask.flatten(1).double().mean(1)
