"""The mask of Fong & Vedaldi 2017 (ICCV, arXiv:1704.03296, eq. 5): what to blur so that the class is no longer seen."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from harness.config import setting
from harness.errors import UsageError
from harness.explainers import target as targets
from harness.explainers.mask_noise import Noise, generator
from harness.explainers.mask_objective import Objective, Term
from harness.explainers.mask_smoothness import Cost
from harness.explainers.masks import grid, heat_of
from harness.masking import blurred
from harness.plugins import explainer
from harness.types import Explanation

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


@explainer("mask", source="Fong & Vedaldi 2017, arXiv:1704.03296, eq. 5", needs_exact_cam=False, reference=False)
@dataclass(frozen=True, kw_only=True)
class Mask:
    """Smallest smooth mask under which the class is no longer seen, by Adam with a jittered image; heat = 1 - mask.

    Differs from the paper: the mask starts at ones, not at the smallest disc that hides the class; it is upsampled
    bilinearly without a further blur; a jittered image comes in again on the other side; area and variation are means
    over the cells, their weights those of sums times the number of cells of 28 x 28. The paper's text was not at hand:
    the settings are as they are commonly quoted.
    """

    cells: int | None = setting(None, unit="cells of the shorter side", source="Fong 2017: 28",
                                help="not given: a quarter of the side, from 8 to 28")  # fmt: skip
    iterations: int = setting(300, unit="passes", source="Fong 2017")
    rate: float = setting(0.1, source="Fong 2017", help="Adam's learning rate")
    l1: float = setting(0.0784, source="Fong 2017: 1e-4 of a sum over 28 x 28", help="weight of the area")
    l2: float = setting(7.84, source="Fong 2017: 1e-2 of a sum over 28 x 28", help="weight of the variation")
    beta: float = setting(3.0, source="Fong 2017", help="power of a difference in the variation")
    jitter: float = setting(4 / 224, unit="of the side", source="Fong 2017: up to 4 of 224 px", help="0: none")

    def __call__(self, model: Classifier, x: Tensor, target: Tensor, *, seeds: Tensor) -> Explanation:
        """Return heat (B,h,w) for images x (B,C,H,W) and classes `target` (B,). Raises `UsageError`."""
        for name, least in (("iterations", 1), ("rate", 0), ("l1", 0), ("l2", 0), ("beta", 1), ("jitter", 0)):
            if not getattr(self, name) >= least:
                raise UsageError(f"{name}: expected at least {least}, got {getattr(self, name)}.")
        targets.check(model, x, target)
        baseline, cost = blurred(x), Cost(self.l1, self.l2, beta=self.beta)
        objective = Objective(model, x, baseline, target, (Term((0,), inserts=False),), 1, cost, Noise(seeds.cpu(), 0))
        masks = x.new_ones(len(x), 1, *grid(x, self.cells))
        adam, value = torch.optim.Adam([masks], lr=self.rate), x.new_zeros(len(x))
        shifts = self._shifts(x, seeds)
        for iteration in range(self.iterations):
            here = objective
            if self.jitter:
                here = replace(
                    objective, x=shifted(x, shifts[iteration]), baseline=shifted(baseline, shifts[iteration])
                )
            value, masks.grad = here.slopes(masks, iteration)
            adam.step()
            masks.clamp_(0, 1)
        return Explanation(heat_of(masks[:, 0], value), backwards=float(self.iterations))

    def _shifts(self, x: Tensor, seeds: Tensor) -> Tensor:
        """Return how far each image is shifted in each iteration, (iterations,B,2) pixels down and right."""
        sides = torch.tensor(x.shape[-2:])
        drawn = torch.stack([torch.rand(self.iterations, 2, generator=generator(s)) for s in seeds.cpu()], 1)
        return (drawn * (self.jitter * sides)).round().long().to(x.device)


def shifted(x: Tensor, by: Tensor) -> Tensor:
    """Return images x (B,C,H,W) shifted down and right by `by` (B,2) pixels; what leaves comes in on the other side."""
    height, width = x.shape[-2:]
    row = (torch.arange(height, device=x.device) - by[:, :1]) % height  # (B,H)
    column = (torch.arange(width, device=x.device) - by[:, 1:]) % width  # (B,W)
    each = torch.arange(len(x), device=x.device)
    return x[each[:, None, None], :, row[:, :, None], column[:, None, :]].permute(0, 3, 1, 2)
