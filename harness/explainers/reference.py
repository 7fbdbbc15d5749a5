"""Maps that look at nothing: an explainer below the best of them is not worth reading (protocol.md, 2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from harness.config import setting
from harness.plugins import explainer
from harness.types import Explanation

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


@explainer("random_map", source="ours: reference", needs_exact_cam=False, reference=True)
@dataclass(frozen=True, kw_only=True)
class RandomMap:
    """Independent uniform noise on a grid of cells, from each sample's own seed.

    The grid is as fine as the class activation maps of the two-block DenseNet at 224 px: noise of another
    resolution would be upsampled into other shapes, and its score be another one.
    """

    cells: int = setting(28, unit="cells per side", source="ours: the CAM's resolution (Khakzar 2019, 3.2)")

    def __call__(self, model: Classifier, x: Tensor, target: Tensor, *, seeds: Tensor) -> Explanation:
        """Return heat (B,cells,cells); sample i depends on seeds[i] alone, on every device alike."""
        maps = [torch.rand(self.cells, self.cells, generator=torch.Generator().manual_seed(int(s))) for s in seeds]
        return Explanation(torch.stack(maps).to(x.device))


@explainer("centre", source="ours: reference", needs_exact_cam=False, reference=True)
@dataclass(frozen=True, kw_only=True)
class Centre:
    """A Gaussian at the image's centre, at the input's resolution: the bias of those who take pictures."""

    sigma: float = setting(0.25, unit="of the side", source="ours")

    def __call__(self, model: Classifier, x: Tensor, target: Tensor, *, seeds: Tensor) -> Explanation:
        """Return heat (B,H,W), the same for every image."""
        height, width = x.shape[-2:]
        y, x_ = (((torch.arange(n, device=x.device) + 0.5) / n - 0.5) / self.sigma for n in (height, width))
        heat = torch.exp(-0.5 * (y[:, None] ** 2 + x_[None, :] ** 2))
        return Explanation(heat.expand(len(x), height, width))


@explainer("whole_image", source="ours: reference", needs_exact_cam=False, reference=True)
@dataclass(frozen=True, kw_only=True)
class WholeImage:
    """A constant map: the whole image at threshold 0, nothing above; its IoU is the box's share of the image."""

    def __call__(self, model: Classifier, x: Tensor, target: Tensor, *, seeds: Tensor) -> Explanation:
        """Return heat (B,H,W) of zeros."""
        return Explanation(x.new_zeros(len(x), *x.shape[-2:]))
