"""RISE (Petsiuk, Das & Saenko 2018, arXiv:1806.07421): the mean of random masks, weighted by the output behind them.

Differs from the paper: the side of a cell is rounded up, as in the authors' code; rounded down, a mask would not cover
every image. Each image has masks of its own, where the authors' code draws one set for all, so that a map follows
from the image's seed alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from harness import masking
from harness.config import setting
from harness.device import sent
from harness.errors import UsageError
from harness.explainers.masked import baseline_of, outputs, parts
from harness.explainers.target import at_least, check
from harness.plugins import explainer
from harness.types import Explanation

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


@explainer("rise", source="Petsiuk 2018, arXiv:1806.07421, eq. 6", version=1, needs_exact_cam=False, reference=False)
@dataclass(frozen=True, kw_only=True)
class RISE:
    """Mean output over the random masks that show a pixel, at the input's resolution.

    A mask is a grid of zeros and ones, upsampled bilinearly and shifted by less than a cell.
    """

    masks: int = setting(4000, unit="passes", source="Petsiuk 2018: VGG16; 8000 for ResNet50")
    cells: int = setting(7, unit="per side", source="Petsiuk 2018")
    share: float = setting(0.5, unit="of the cells", source="Petsiuk 2018", help="shown, on average; above 0")
    baseline: Literal["mean", "black", "blurred"] = setting(
        "mean", source="Petsiuk 2018: zero, behind the normalisation"
    )
    output: Literal["logit", "probability"] = setting("probability", source="Petsiuk 2018, 3")
    batch: int = setting(32, unit="images", help="per pass; memory and speed")

    def __post_init__(self) -> None:
        at_least(1, masks=self.masks, cells=self.cells, batch=self.batch)
        if not 0 < self.share <= 1:
            raise UsageError(f"share: expected a share of the cells above 0 and at most 1, got {self.share}.")

    @torch.no_grad()
    def __call__(self, model: Classifier, x: Tensor, target: Tensor, *, seeds: Tensor) -> Explanation:
        """Return heat (B,H,W) for images x (B,C,H,W) and classes `target` (B,); image i draws from seeds[i] alone."""
        check(model, x, target)
        height, width = x.shape[-2:]
        cell = -(-height // self.cells), -(-width // self.cells)
        drawn = [(sent(grids, x.device), shifts) for grids, shifts in (self._draw(int(s), *cell) for s in seeds)]
        hidden = baseline_of(model, x, self.baseline)
        total = x.new_zeros(len(x), height, width)
        for part in parts(self.masks, len(x), self.batch):
            masks = torch.stack(
                [masks_of(grids[part].to(x), shifts[part], cell, height, width) for grids, shifts in drawn]
            )  # (B,K,H,W)
            found = outputs(model, x, hidden, masks, target, self.output)
            total += torch.einsum("bk,bkhw->bhw", found, masks)
        return Explanation((total / (self.masks * self.share)).float(), forwards=float(self.masks))

    def _draw(self, seed: int, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Return grids (N,cells,cells) bool and shifts (N,2), below the cell's height and width."""
        rng = torch.Generator().manual_seed(seed)
        grids = torch.rand(self.masks, self.cells, self.cells, generator=rng) < self.share
        shifts = [torch.randint(side, (self.masks,), generator=rng) for side in (height, width)]
        return grids, torch.stack(shifts, 1)


def masks_of(grids: Tensor, shifts: Tensor, cell: tuple[int, int], height: int, width: int) -> Tensor:
    """Return grids (K,s,s) upsampled to one cell more than the image, and cut out at `shifts` (K,2), (K,H,W)."""
    cells = grids.shape[-1]
    large = masking.upsampled(grids[:, None], (cells + 1) * cell[0], (cells + 1) * cell[1])[:, 0]
    return torch.stack([one[i : i + height, j : j + width] for one, (i, j) in zip(large, shifts.tolist(), strict=True)])
