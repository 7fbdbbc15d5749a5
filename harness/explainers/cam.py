"""Class activation maps (Zhou et al. 2016, arXiv:1512.04150; Khakzar 2019, 2.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from harness.errors import UsageError
from harness.explainers.target import check
from harness.plugins import explainer
from harness.types import Explanation

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


@explainer("cam", source="Zhou 2016, arXiv:1512.04150; Khakzar 2019, 2.3", needs_exact_cam=True, reference=False)
@dataclass(frozen=True, kw_only=True)
class CAM:
    """Feature maps weighted by the head's weights of the class, without ReLU, at the features' resolution.

    The mean of the map plus the head's bias is the logit.
    """

    def __call__(self, model: Classifier, x: Tensor, target: Tensor, *, seeds: Tensor) -> Explanation:
        """Return heat (B,h,w) for images x (B,C,H,W) and classes `target` (B,). Raises `UsageError`."""
        check(model, x, target)
        if not model.exact_cam:
            raise UsageError(
                f"cam: expected a model whose head is a global average and a linear layer, got "
                f"{type(model.head).__name__}. Use the explainer gradcam, or a model with exact CAM."
            )
        with torch.no_grad():
            features = model.features(model.normalise(x))  # (B,K,h,w)
            weight = model.head.get_parameter("weight")[target]  # (B,K)
            heat = torch.einsum("bkhw,bk->bhw", features.float(), weight.float())
        return Explanation(heat, forwards=1.0)
