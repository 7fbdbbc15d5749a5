"""What a mask costs by itself: its area and its roughness (Khorram 2021, g; Fong & Vedaldi 2017, eq. 3).

Masks are (B,1,h,w), 1 where the image is kept. Every cost is (B,), one number per image.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from harness.masking import upsampled

Weights = tuple[Tensor, Tensor]  # of the differences along rows (B,1,H-1,W) and columns (B,1,H,W-1)


def rows(x: Tensor) -> Tensor:
    """Return the differences between neighbouring rows, (B,C,h-1,w)."""
    return x[..., 1:, :] - x[..., :-1, :]


def columns(x: Tensor) -> Tensor:
    """Return the differences between neighbouring columns, (B,C,h,w-1)."""
    return x[..., 1:] - x[..., :-1]


def _mean(x: Tensor) -> Tensor:
    """Return the mean of each image of (B,...), 0 where a mask of one row or column has no differences."""
    return x.sum((1, 2, 3)) / max(1, x[0].numel())


def area(mask: Tensor) -> Tensor:
    """Return the share of the image that is taken away: the mean of 1 - mask, which is |1 - mask| within [0,1].

    Its slope holds at 1 too: a cell that is worth less than it costs is not taken away in the first place.
    """
    return _mean(1 - mask)


def area_of_the_program(mask: Tensor) -> Tensor:
    """Return the same with the slope of |1 - mask| at 1 taken as 0, as the authors' program does."""
    return _mean((1 - mask).abs())


def total_variation(mask: Tensor, beta: float = 2.0) -> Tensor:
    """Return the mean of |difference|^beta along rows plus that along columns."""
    return _mean(rows(mask).abs() ** beta) + _mean(columns(mask).abs() ** beta)


def edge_weights(x: Tensor, sigma: float) -> Weights:
    """Return exp(-d^2 / sigma^2) of images x (B,C,H,W), d^2 the mean over channels, small across an edge of the image.

    The text has one gradient per pixel; here each direction has its own weight, as in the authors' program.
    """
    down, right = (torch.exp(-d.square().mean(1, keepdim=True) / sigma**2) for d in (rows(x), columns(x)))
    return down, right


def edge_weights_of_the_program(x: Tensor, sigma: float) -> Weights:
    """Return the weights as the authors' program has them, whose two directions differ.

    Along rows the channels' differences are averaged with their signs, then squared; along columns the exponentials
    are averaged.
    """
    down, right = rows(x), columns(x)
    first = torch.exp(-down.mean(1, keepdim=True).square() / sigma**2)
    return first, torch.exp(-right.square() / sigma**2).mean(1, keepdim=True)


def bilateral(mask: Tensor, weights: Weights) -> Tensor:
    """Return BTV: the sum over the image's pixels of weight * difference^2 of the upsampled mask, over its cells.

    Upsampling spreads a step between two cells over many pixels. The sum of squares stays about what it was on the
    cells, so with weights of 1 this is about `total_variation`; the mean over pixels would be smaller by the square of
    the factor, and the published weight of no effect.
    """
    down, right = weights
    large = upsampled(mask, right.shape[-2], down.shape[-1])
    total = (down * rows(large).square()).sum((1, 2, 3)) + (right * columns(large).square()).sum((1, 2, 3))
    return total / mask[0].numel()


def bilateral_of_the_program(mask: Tensor, weights: Weights) -> Tensor:
    """Return half of the plain variation of the cells, and half of the bilateral one, a mean over the pixels."""
    down, right = weights
    size = (right.shape[-2], down.shape[-1])
    large = interpolate(mask, size=size, mode="bilinear", align_corners=True)
    over_pixels = _mean(down * rows(large).square()) + _mean(right * columns(large).square())
    return 0.5 * (total_variation(mask) + over_pixels)


@dataclass(frozen=True)
class Cost:
    """l1 * area + l2 * variation of the product of masks (B,J,h,w), the variation bilateral where there are weights."""

    l1: float
    l2: float
    weights: Weights | None = None
    beta: float = 2.0  # power of a difference, of the variation that is not bilateral
    program: bool = False  # area and bilateral variation as in the authors' program

    def __getitem__(self, chosen: Tensor) -> Cost:
        """Return the cost of some of the images' masks."""
        return self if self.weights is None else replace(self, weights=tuple(w[chosen] for w in self.weights))

    def __call__(self, masks: Tensor) -> Tensor:
        """Return the cost (B,)."""
        together = masks.prod(1, keepdim=True)
        if self.weights is None:
            rough = total_variation(together, self.beta)
        else:
            rough = (bilateral_of_the_program if self.program else bilateral)(together, self.weights)
        return self.l1 * (area_of_the_program if self.program else area)(together) + self.l2 * rough
