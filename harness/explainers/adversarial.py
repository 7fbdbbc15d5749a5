"""Adversarial explanations as heat maps (Woods et al. 2019, arXiv:1906.02494): where the image had to change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from torch import Tensor

from harness.attacks.explain import explain, of_class
from harness.config import setting
from harness.explainers.target import check
from harness.plugins import explainer
from harness.types import Explanation

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


@explainer("adversarial", source="Woods 2019, arXiv:1906.02494, eq. 2; protocol.md, 5", needs_exact_cam=False,
           reference=False)  # fmt: skip
@dataclass(frozen=True, kw_only=True)
class AdversarialExplanation:
    """Size of the change that makes the image more, or less, of the class, at the input's resolution.

    Channels are joined by their root mean square: rho bounds the root mean square over all of the image, so the
    squares of the map say how the perturbation was spent. `image` is the changed image.
    """

    direction: Literal["plus", "minus"] = setting("plus", source="Woods 2019, explain+ and explain-")
    rho: float = setting(0.1, unit="RMSE, [0,1] pixels", source="Woods 2019: authors' program; 0.075 in Fig. 5")
    variant: Literal["paper", "code"] = setting("paper", help="code: the authors' program, may leave [0,1] and rho")
    steps: int = setting(50, unit="passes", source="ours; authors' program: 35")

    def __call__(self, model: Classifier, x: Tensor, target: Tensor, *, seeds: Tensor) -> Explanation:
        """Return heat (B,H,W) for images x (B,C,H,W) and classes `target` (B,)."""
        check(model, x, target)
        goal = of_class(target, exclusive=model.exclusive)
        found = explain(model, x, goal, rho=self.rho, direction=self.direction, variant=self.variant, steps=self.steps)
        heat = found.delta.square().mean(1).sqrt().float()
        return Explanation(heat, backwards=float(found.passes), image=x + found.delta)
