"""Occlusion (Zeiler & Fergus 2014, arXiv:1311.2901, section 4.2).

Own code: captum's takes a window at a time through masks of the whole image, 1.7 times the seconds of its passes.
Windows and their average are captum's, which is the oracle of the tests.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from harness.config import setting
from harness.explainers.masked import baseline_of, outputs, parts
from harness.explainers.target import at_least, check, output_of
from harness.plugins import explainer
from harness.types import Explanation

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


@explainer("occlusion", source="Zeiler & Fergus 2014, arXiv:1311.2901, 4.2", version=1, needs_exact_cam=False,
           reference=False)  # fmt: skip
@dataclass(frozen=True, kw_only=True)
class Occlusion:
    """How much the output falls behind a window that slides over the image, at the input's resolution.

    Each pixel has the mean over the windows that cover it. The paper gives no size of its grey square.
    """

    cells: int = setting(
        7, unit="windows per side", source="ours", help="as would tile the image; rounded up to pixels"
    )
    shifts: int = setting(2, unit="positions per window", source="ours: windows overlap by half")
    baseline: Literal["mean", "black", "blurred"] = setting("mean", source="Zeiler & Fergus 2014, 4.2: a grey square")
    output: Literal["logit", "probability"] = setting("probability", source="Zeiler & Fergus 2014, 4.2")
    batch: int = setting(32, unit="images", help="per pass; memory and speed")

    def __post_init__(self) -> None:
        at_least(1, cells=self.cells, shifts=self.shifts, batch=self.batch)

    @torch.no_grad()
    def __call__(self, model: Classifier, x: Tensor, target: Tensor, *, seeds: Tensor) -> Explanation:
        """Return heat (B,H,W) for images x (B,C,H,W) and classes `target` (B,)."""
        check(model, x, target)
        hidden = baseline_of(model, x, self.baseline)
        rows, columns = (self._windows(side).to(x.device) for side in x.shape[-2:])  # (R,H), (S,W)
        count = len(rows) * len(columns)
        found = []
        for part in parts(count, len(x), self.batch):
            window = torch.arange(part.start, part.stop, device=x.device)
            covered = rows[window // len(columns), :, None] & columns[window % len(columns), None, :]  # (K,H,W)
            found.append(outputs(model, x, hidden, ~covered[None], target, self.output))
        falls = output_of(model, x, target, self.output)[:, None] - torch.cat(found, 1)  # (B,R*S)
        falls = falls.view(len(x), len(rows), len(columns))
        heat = torch.einsum("brs,rh,sw->bhw", falls, rows.to(falls), columns.to(falls))
        return Explanation((heat / (rows.sum(0)[:, None] * columns.sum(0))).float(), forwards=count + 1.0)

    def _windows(self, side: int) -> Tensor:
        """Return which of the pixels 0..side-1 each window covers, (R,side) bool; the last may stick out."""
        window = -(-side // self.cells)
        stride = max(1, window // self.shifts)
        starts = stride * torch.arange(-(-(side - window) // stride) + 1)[:, None]
        pixels = torch.arange(side)
        return (pixels >= starts) & (pixels < starts + window)
