"""Input gradients (Simonyan, Vedaldi & Zisserman 2014, arXiv:1312.6034, section 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from harness.explainers.target import check
from harness.plugins import explainer
from harness.types import Explanation

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


@explainer(
    "saliency", source="Simonyan 2014, arXiv:1312.6034; Khakzar 2019, 2.4", needs_exact_cam=False, reference=False
)
@dataclass(frozen=True, kw_only=True)
class Saliency:
    """Maximum over channels of |d logit / dx|, at the input's resolution.

    Khakzar 2019 clips at three standard deviations and scales to [0,1]: for pictures only, scores use raw values.
    """

    def __call__(self, model: Classifier, x: Tensor, target: Tensor, *, seeds: Tensor) -> Explanation:
        """Return heat (B,H,W) for images x (B,C,H,W) and classes `target` (B,)."""
        check(model, x, target)
        with torch.enable_grad():
            leaf = x.detach().requires_grad_(True)
            # In eval mode an image's logits depend on no other image, so one pass over the sum serves them all.
            chosen = model(leaf).gather(1, target[:, None]).sum()
            (gradient,) = torch.autograd.grad(chosen, leaf)  # (B,C,H,W)
        return Explanation(gradient.abs().amax(1).float(), backwards=1.0)
