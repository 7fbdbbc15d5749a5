"""Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391), captum's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from captum.attr import LayerGradCam
from torch import Tensor

from harness.config import setting
from harness.explainers.target import check
from harness.plugins import explainer
from harness.types import Explanation

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


@explainer("gradcam", source="Selvaraju 2017, arXiv:1610.02391; captum", needs_exact_cam=False, reference=False)
@dataclass(frozen=True, kw_only=True)
class GradCAM:
    """Feature maps weighted by the mean gradient of the class's logit, at the features' resolution.

    With an exact-CAM head and without ReLU this is CAM / (h*w), because the logit is linear in the features.
    """

    relu_attributions: bool = setting(True, source="Selvaraju 2017, eq. 2", help="negative values become 0")

    def __call__(self, model: Classifier, x: Tensor, target: Tensor, *, seeds: Tensor) -> Explanation:
        """Return heat (B,h,w) for images x (B,C,H,W) and classes `target` (B,)."""
        check(model, x, target)
        # captum removes its hooks itself, also after an exception (tested). It sets requires_grad on what it is
        # given: a detached view keeps the caller's tensor as it is.
        with torch.enable_grad():
            heat = LayerGradCam(model, model.features).attribute(
                x.detach().requires_grad_(True), target=target, relu_attributions=self.relu_attributions
            )
        assert isinstance(heat, Tensor)
        return Explanation(heat.detach().squeeze(1).float(), backwards=1.0)
