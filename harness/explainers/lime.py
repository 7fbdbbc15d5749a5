"""LIME for images (Ribeiro, Singh & Guestrin 2016, arXiv:1602.04938), on a grid of cells.

Differs from the authors' code: cells instead of superpixels (quickshift would need a library of its own, and X-rays
have hardly a superpixel); hidden cells show the baseline, as in the paper's pictures, not their own mean colour; the
probability of one class is explained at a time. Own code: captum's takes one image at a time, draws from the global
generator, and needs scikit-learn; it is the oracle of the tests.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from harness.config import setting
from harness.errors import UsageError
from harness.explainers.masked import baseline_of, outputs, parts
from harness.explainers.target import at_least, check
from harness.plugins import explainer
from harness.types import Explanation

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


@explainer("lime", source="Ribeiro 2016, arXiv:1602.04938, eqs 1 and 2; authors' code", version=1,
           needs_exact_cam=False, reference=False)  # fmt: skip
@dataclass(frozen=True, kw_only=True)
class LIME:
    """Weights of a linear model of which cells are shown, fitted to the outputs around the image, per cell."""

    cells: int = setting(7, unit="per side", source="ours: as many as quickshift's", help="at most one per pixel")
    samples: int = setting(1000, unit="passes", source="authors' code", help="the first is the whole image")
    kernel_width: float = setting(0.25, unit="cosine distance", source="authors' code")
    ridge: float = setting(1.0, source="authors' code", help="penalty on the squared weights, above 0")
    baseline: Literal["mean", "black", "blurred"] = setting("mean", source="Ribeiro 2016, Fig. 4: grey")
    output: Literal["logit", "probability"] = setting("probability", source="Ribeiro 2016, 3.2")
    batch: int = setting(32, unit="images", help="per pass; memory and speed")

    def __post_init__(self) -> None:
        at_least(1, cells=self.cells, samples=self.samples, batch=self.batch)
        if not self.ridge > 0 or not self.kernel_width > 0:
            raise UsageError(
                f"ridge and kernel_width: expected numbers above 0, got {self.ridge}, {self.kernel_width}."
            )

    @torch.no_grad()
    def __call__(self, model: Classifier, x: Tensor, target: Tensor, *, seeds: Tensor) -> Explanation:
        """Return heat (B,cells,cells), fewer where it has fewer pixels; each image draws from its own seed alone."""
        check(model, x, target)
        height, width = x.shape[-2:]
        grid = min(self.cells, height), min(self.cells, width)
        row, column = (torch.arange(n, device=x.device) * g // n for n, g in zip((height, width), grid, strict=True))
        shown = torch.stack([self._draw(int(s), grid[0] * grid[1]) for s in seeds]).to(x.device)  # (B,N,M) bool
        hidden = baseline_of(model, x, self.baseline)
        found = []
        for part in parts(self.samples, len(x), self.batch):
            cells = shown[:, part].unflatten(2, grid)  # (B,K,h,w)
            masks = cells[:, :, row[:, None], column]  # (B,K,H,W): no cell is blurred into the next
            found.append(outputs(model, x, hidden, masks, target, self.output))
        weights = ridge_regression(shown.double(), torch.cat(found, 1).double(), self._similarity(shown), self.ridge)
        return Explanation(weights.unflatten(1, grid).float(), forwards=float(self.samples))

    def _draw(self, seed: int, cells: int) -> Tensor:
        """Return which cells each sample shows, (N,cells) bool: half of them by chance, all in the first."""
        shown = torch.rand(self.samples, cells, generator=torch.Generator().manual_seed(seed)) < 0.5
        shown[0] = True
        return shown

    def _similarity(self, shown: Tensor) -> Tensor:
        """Return the weight of each sample, (B,N): sqrt(exp(-d^2/width^2)), d the cosine distance to the image."""
        distance = 1 - shown.double().mean(2).sqrt()
        return (-(distance**2) / (2 * self.kernel_width**2)).exp()


def ridge_regression(z: Tensor, y: Tensor, weight: Tensor, ridge: float) -> Tensor:
    """Return the coefficients (B,M) that minimise sum_n weight_n (y_n - c - z_n a)^2 + ridge |a|^2.

    z (B,N,M), y and weight (B,N); the constant c is not penalised: z is centred, so it drops out. NaN where y has one.
    """
    share = (weight / weight.sum(1, keepdim=True))[:, :, None]
    z = z - (share * z).sum(1, keepdim=True)
    weighted = (weight[:, :, None] * z).transpose(1, 2)  # (B,M,N)
    eye = torch.eye(z.shape[2], dtype=z.dtype, device=z.device)
    return torch.linalg.solve(weighted @ z + ridge * eye, weighted @ y[:, :, None])[:, :, 0]
