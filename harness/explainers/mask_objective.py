"""What I-GOS and iGOS++ minimise, and its integrated gradient (Qi 2020; Khorram 2021, eqs 1-3).

A mask (B,1,h,w) is 1 where the image is kept. The terms are deletion, f(image under the mask), which is to fall, and
insertion, -f(image under 1 - mask). Each is averaged over the points s/S, s = 1..S, by which the mask is scaled: the
slope of that average is the integrated gradient.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from harness.device import sent
from harness.explainers.mask_noise import Noise
from harness.explainers.mask_smoothness import Cost
from harness.masking import blend, probability, upsampled
from harness.memory import at_once

if TYPE_CHECKING:
    from harness.models.classifier import Classifier

ROWS = 64  # images in one pass of the network: enough to fill it, in a common batch's memory


def _product(masks: Tensor, which: tuple[int, ...]) -> Tensor:
    """Return the product of some of the masks (B,J,h,w), (B,1,h,w): not by a list, for which a GPU is waited."""
    return torch.stack([masks[:, j] for j in which], 1).prod(1, keepdim=True)


@dataclass(frozen=True)
class Term:
    """One term: deletion or insertion, by which mask; several are multiplied."""

    masks: tuple[int, ...]
    inserts: bool


@dataclass(frozen=True)
class Objective:
    """The terms' sum on B images x (B,C,H,W), plus the cost of the product of all masks (B,J,h,w).

    `aligned` upsamples with aligned corners, and multiplies masks after that instead of before, as the authors' program
    does. `slope` scales the network's part of the gradient, which that program halves for iGOS++.
    """

    model: Classifier
    x: Tensor
    baseline: Tensor  # (B,C,H,W)
    target: Tensor  # (B,)
    terms: tuple[Term, ...]
    points: int
    cost: Cost
    noise: Noise
    aligned: bool = False
    slope: float = 1.0

    def __getitem__(self, rows: Tensor) -> Objective:
        """Return the objective of some of the images."""
        parts = {name: getattr(self, name)[rows] for name in ("x", "baseline", "target", "cost", "noise")}
        return replace(self, **parts)

    @property
    def passes(self) -> int:
        """Return how often the network looks at each image for one value."""
        return self.points * len(self.terms)

    def value(self, masks: Tensor, draw: int) -> Tensor:
        """Return the objective (B,) with the noise of one draw: `passes` forward passes per image."""
        with torch.no_grad():
            shown = self._at_image_size(masks)
            total = self.cost(masks)
            for rows, (images, _, sign) in self._shown(shown, draw):
                seen = probability(self.model, images.flatten(0, 1), self.target.repeat(len(rows)))
                total = total + (sign * seen.view(len(rows), -1)).sum(0) / self.points
        return total

    def slopes(self, masks: Tensor, draw: int) -> tuple[Tensor, Tensor]:
        """Return the objective (B,) and its gradient (B,J,h,w): `passes` forward and backward passes per image."""
        with torch.enable_grad():
            leaf = masks.detach().requires_grad_(True)
            cost, shown = self.cost(leaf), self._at_image_size(leaf)
            seen, slope = self._network(shown.detach(), draw)
            total = cost.sum() + self.slope * (slope * shown).sum()
            (gradient,) = torch.autograd.grad(total, leaf)
        return cost.detach() + seen, gradient

    def _network(self, shown: Tensor, draw: int) -> tuple[Tensor, Tensor]:
        """Return the network's part (B,), and its gradient by the masks at the image's size (Q,B,1,H,W)."""
        total, slope = self.x.new_zeros(len(self.x)), torch.zeros_like(shown)
        evidence = self.x - self.baseline
        for rows, (images, scale, sign) in self._shown(shown, draw):
            leaf = images.flatten(0, 1).requires_grad_(True)
            seen = probability(self.model, leaf, self.target.repeat(len(rows)))
            (gradient,) = torch.autograd.grad(seen.sum(), leaf)
            total = total + (sign * seen.detach().view(len(rows), -1)).sum(0) / self.points
            # Insertion falls with 1 - mask and is subtracted: both terms have the same sign here.
            part = (gradient.view_as(images) * evidence).sum(2, keepdim=True)  # (c,B,1,H,W)
            # Not index_add, whose sums have another order each time on a GPU.
            belongs = (torch.arange(len(shown), device=rows.device)[:, None] == rows).to(part)  # (Q,c)
            slope += torch.tensordot(belongs, scale * part / self.points, 1)
        return total, slope

    def _sources(self) -> list[tuple[int, ...]]:
        return list(dict.fromkeys(term.masks for term in self.terms))

    def _at_image_size(self, masks: Tensor) -> Tensor:
        """Return the masks that the terms use, (Q,B,1,H,W)."""
        size = self.x.shape[-2:]

        def large(mask: Tensor) -> Tensor:
            if self.aligned:
                return interpolate(mask, size=size, mode="bilinear", align_corners=True)
            return upsampled(mask, *size)

        if self.aligned:
            every = large(masks)
            return torch.stack([_product(every, s) for s in self._sources()])
        return torch.stack([large(_product(masks, s)) for s in self._sources()])

    def _shown(self, shown: Tensor, draw: int) -> Iterator[tuple[Tensor, tuple[Tensor, Tensor, Tensor]]]:
        """Yield chunks of c points of terms: rows of `shown` (c,), images (c,B,C,H,W), scales, and signs (c,1)."""
        sources, device = self._sources(), self.x.device
        looks = [(k, s) for s in range(1, self.points + 1) for k in range(len(self.terms))]
        size = max(1, at_once(max(ROWS, len(self.x))) // len(self.x))
        for start in range(0, len(looks), size):
            some = looks[start : start + size]
            rows = sent(torch.tensor([sources.index(self.terms[k].masks) for k, _ in some]), device)
            inserts = sent(torch.tensor([self.terms[k].inserts for k, _ in some]), device).view(-1, 1, 1, 1, 1)
            scale = sent(torch.tensor([s / self.points for _, s in some]), device).view(-1, 1, 1, 1, 1)
            kept = scale * shown[rows]
            images = blend(self.x, self.baseline, torch.where(inserts, 1 - kept, kept))
            images = self.noise.added(images, some, draw)
            yield rows, (images, scale, torch.where(inserts, -1.0, 1.0).view(-1, 1))
