"""The model's output on images of which a part is hidden: what occlusion, LIME and RISE look at."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from torch import Tensor

from harness import masking
from harness.explainers.target import Output, output_of
from harness.memory import at_once

if TYPE_CHECKING:
    from harness.models.classifier import Classifier

Baseline = Literal["mean", "black", "blurred"]


def baseline_of(model: Classifier, x: Tensor, baseline: Baseline) -> Tensor:
    """Return what images x (B,C,H,W) look like without their evidence, (B,C,H,W).

    mean: the pixel that the model normalises to 0, its training data's mean (of a network that normalises inside
    itself: black). blurred: `harness.masking.blurred`.
    """
    if baseline == "blurred":
        return masking.blurred(x)
    return (model.normalise.mean.to(x) if baseline == "mean" else x.new_zeros(())).expand_as(x)


def parts(total: int, images: int, batch: int) -> Iterator[slice]:
    """Yield slices of 0..total-1, so many at a time that `images` times their number is about `batch`, or fits."""
    size = max(1, at_once(max(batch, images)) // images)
    for start in range(0, total, size):
        yield slice(start, min(start + size, total))


def outputs(model: Classifier, x: Tensor, hidden: Tensor, masks: Tensor, target: Tensor, output: Output) -> Tensor:
    """Return the output for class `target` (B,) on each image behind each of its masks, (B,K).

    x is shown where a mask (B,K,H,W), or (1,K,H,W) for all images, is 1, and `hidden` where it is 0.
    """
    count = masks.shape[1]
    shown = masking.blend(x[:, None], hidden[:, None], masks[:, :, None].to(x.dtype))  # (B,K,C,H,W)
    return output_of(model, shown.flatten(0, 1), target.repeat_interleave(count), output).view(len(x), count)
