"""SmoothGrad (Smilkov, Thorat, Kim, Viegas & Wattenberg 2017, arXiv:1706.03825).

captum has it as NoiseTunnel over Saliency, with noise from the global generator: an image's map would depend on its
batch. Here each image draws from its own seed; captum is the oracle of the tests.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from harness.config import setting
from harness.device import sent
from harness.explainers.masked import parts
from harness.explainers.target import at_least, check, output_of
from harness.plugins import explainer
from harness.types import Explanation

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


@explainer("smoothgrad", source="Smilkov 2017, arXiv:1706.03825", version=1, needs_exact_cam=False,
           reference=False)  # fmt: skip
@dataclass(frozen=True, kw_only=True)
class SmoothGrad:
    """Size of the mean gradient over noisy copies of the image, at the input's resolution.

    The noise is normal, in proportion to the image's own range of values, and not clipped to [0,1]; a constant image
    has none.
    """

    samples: int = setting(50, unit="passes", source="Smilkov 2017: little changes beyond 50")
    noise: float = setting(0.15, unit="of the image's range", source="authors' code; Smilkov 2017: 0.1 to 0.2")
    channels: Literal["sum", "max"] = setting("sum", source="authors' code", help="of sizes; max: as saliency")
    output: Literal["logit", "probability"] = setting("logit", source="Smilkov 2017: the class activation function")
    batch: int = setting(32, unit="images", help="per pass; memory and speed")

    def __post_init__(self) -> None:
        at_least(1, samples=self.samples, batch=self.batch)
        at_least(0, noise=self.noise)

    def __call__(self, model: Classifier, x: Tensor, target: Tensor, *, seeds: Tensor) -> Explanation:
        """Return heat (B,H,W) for images x (B,C,H,W) and classes `target` (B,); image i draws from seeds[i] alone."""
        check(model, x, target)
        x = x.detach()
        sigma = self.noise * (x.amax((1, 2, 3), keepdim=True) - x.amin((1, 2, 3), keepdim=True))
        generators = [torch.Generator().manual_seed(int(s)) for s in seeds]
        total = torch.zeros_like(x)
        for part in parts(self.samples, len(x), self.batch):
            count = part.stop - part.start
            drawn = [torch.stack([torch.randn(x.shape[1:], generator=g) for _ in range(count)]) for g in generators]
            # (B,K,C,H,W), drawn one by one: the same numbers whatever K is
            noise = sent(torch.stack(drawn), x.device).to(x)
            with torch.enable_grad():
                leaf = (x[:, None] + sigma[:, None] * noise).flatten(0, 1).requires_grad_(True)
                summed = output_of(model, leaf, target.repeat_interleave(count), self.output).sum()
                (gradient,) = torch.autograd.grad(summed, leaf)
            total += gradient.view(len(x), count, *x.shape[1:]).sum(1)
        size = (total / self.samples).abs()
        return Explanation(
            (size.sum(1) if self.channels == "sum" else size.amax(1)).float(), backwards=float(self.samples)
        )
