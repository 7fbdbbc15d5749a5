"""What explainers that look for a mask share: its grid, and the map that it is."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.errors import UsageError

COARSEST, FINEST = 8, 28  # cells per side of a mask of which nobody said (protocol.md, 4: 8 at 32 px, 28 at 224)


def grid(x: Tensor, cells: int | None) -> tuple[int, int]:
    """Return the mask's height and width for images x (B,C,H,W), `cells` along the shorter side. Raises `UsageError`.

    The longer side has as many more as it is longer, rounded; sides need not be multiples of anything.
    """
    height, width = x.shape[-2:]
    side = min(height, width)
    cells = min(side, max(COARSEST, min(FINEST, side // 4))) if cells is None else cells
    if not 1 <= cells <= side:
        raise UsageError(f"cells: expected 1 to {side}, the image's shorter side in pixels, got {cells}.")
    return round(cells * height / side), round(cells * width / side)


def heat_of(mask: Tensor, value: Tensor) -> Tensor:
    """Return heat (B,h,w) = 1 - mask, NaN where the objective's value (B,) is none: nothing was found there."""
    return torch.where(value.isfinite().view(-1, 1, 1), 1 - mask, torch.nan).float()
