"""Integrated gradients (Sundararajan, Taly & Yan 2017, arXiv:1703.01365), captum's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from captum.attr import IntegratedGradients as Captum
from torch import Tensor

from harness.config import setting
from harness.explainers.masked import baseline_of
from harness.explainers.target import at_least, check, output_of
from harness.memory import at_once
from harness.plugins import explainer
from harness.types import Explanation

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


@explainer("integrated_gradients", source="Sundararajan 2017, arXiv:1703.01365, eq. 1; captum", version=1,
           needs_exact_cam=False, reference=False)  # fmt: skip
@dataclass(frozen=True, kw_only=True)
class IntegratedGradients:
    """Gradients along the line from a baseline to the image, times their difference, at the input's resolution.

    The attributions of an image sum to its output minus the baseline's, but for the error of the integral.
    """

    steps: int = setting(50, unit="passes", source="captum; Sundararajan 2017, 5: 20 to 300")
    baseline: Literal["mean", "black", "blurred"] = setting("black", source="Sundararajan 2017, 1: a black image")
    method: Literal["gausslegendre", "riemann_left", "riemann_right", "riemann_middle", "riemann_trapezoid"] = setting(
        "gausslegendre", source="captum; Sundararajan 2017, eq. 3: riemann_right"
    )
    output: Literal["logit", "probability"] = setting(
        "probability", source="Sundararajan 2017, Definition 1: a function to [0,1]"
    )
    signed: bool = setting(True, source="Sundararajan 2017: summed over channels", help="false: the size of the sum")
    batch: int = setting(32, unit="images", help="per pass; memory and speed")

    def __post_init__(self) -> None:
        at_least(1, batch=self.batch)
        at_least(2 if self.method == "riemann_trapezoid" else 1, steps=self.steps)

    def __call__(self, model: Classifier, x: Tensor, target: Tensor, *, seeds: Tensor) -> Explanation:
        """Return heat (B,H,W) for images x (B,C,H,W) and classes `target` (B,)."""
        check(model, x, target)
        with torch.enable_grad():
            found = Captum(lambda moved, of: output_of(model, moved, of, self.output)).attribute(
                x.detach(),
                baselines=baseline_of(model, x, self.baseline),
                additional_forward_args=(target,),  # captum repeats it along the path
                n_steps=self.steps,
                method=self.method,
                internal_batch_size=at_once(max(self.batch, len(x))),
            )
        heat = found.detach().sum(1).float()
        return Explanation(heat if self.signed else heat.abs(), backwards=float(self.steps))
