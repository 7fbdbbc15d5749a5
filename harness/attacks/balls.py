"""The balls in which a bounded attack looks, Linf and L2: how long a change is, back into the ball, a random start.

A radius is in [0,1] pixels: of Linf the largest change of a pixel, of L2 the RMSE, L2 / sqrt(C*H*W).
"""

from __future__ import annotations

import hashlib
import math
from typing import Literal

import torch
from torch import Tensor

from harness.attacks.adversaries import unit
from harness.attacks.minimal import rmse
from harness.errors import UsageError
from harness.rng import seed_for

Norm = Literal["linf", "l2"]
NORMS: tuple[Norm, ...] = ("linf", "l2")


def check_ball(norm: str, radius: float) -> None:
    """Raise `UsageError` for an unknown norm and for a radius that is not a finite length above 0."""
    if norm not in NORMS:
        raise UsageError(f"norm: expected {' or '.join(NORMS)}, got {norm!r}.")
    if not (math.isfinite(radius) and radius > 0):
        raise UsageError(f"{norm} radius: expected a length above 0, in [0,1] pixels, got {radius}.")


def length(delta: Tensor, norm: Norm) -> Tensor:
    """Return the length of each change, (B,C,H,W) to (B,): its largest element, or its RMSE."""
    return delta.abs().flatten(1).amax(1) if norm == "linf" else rmse(delta)


def into_ball(moved: Tensor, x: Tensor, norm: Norm, radius: float) -> Tensor:
    """Return the moved images (B,C,H,W) brought back into the ball around x and into [0,1]."""
    if norm == "linf":
        return torch.minimum(torch.maximum(moved, x - radius), x + radius).clamp(0, 1)
    delta = moved - x
    excess = (rmse(delta) / radius).clamp(min=1).view(-1, 1, 1, 1)
    return (x + delta / excess).clamp(0, 1)


def seeds_of(x: Tensor) -> list[int]:
    """Return a seed per image of (B,C,H,W), made of its 8-bit pixels: the same in every batch and on any device."""
    pixels = (x.detach() * 255).round().to(torch.uint8).cpu().numpy()
    return [seed_for(0, "attack", hashlib.sha256(image.tobytes()).hexdigest()) for image in pixels]


def random_start(x: Tensor, norm: Norm, radius: float) -> Tensor:
    """Return a point of the ball around each image, drawn uniformly from the image's own seed, clipped to [0,1]."""
    drawn = []
    for seed in seeds_of(x):
        rng = torch.Generator().manual_seed(seed)
        if norm == "linf":
            drawn.append(2 * torch.rand(x.shape[1:], generator=rng) - 1)
        else:
            direction = unit(torch.randn(x.shape[1:], generator=rng)[None])[0]
            drawn.append(direction * torch.rand((), generator=rng) ** (1 / direction.numel()))
    return (x + radius * torch.stack(drawn).to(x.device, x.dtype)).clamp(0, 1)
