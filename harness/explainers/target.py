"""What of a model is explained: the logit or the probability of each image's class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from torch import Tensor

from harness import masking
from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.models.classifier import Classifier

Output = Literal["logit", "probability"]


def check(model: Classifier, x: Tensor, target: Tensor) -> None:
    """Raise `UsageError` unless `target` (B,) names a class of the model for each of the images x (B,C,H,W).

    A negative number would count from the last class, and on a GPU one that is too large ends the process.
    """
    expected = f"explain: expected a class number from 0 to {model.num_classes - 1} for each of the images"
    if x.ndim != 4 or not len(x) or target.shape != x.shape[:1] or target.is_floating_point():
        raise UsageError(f"{expected} (B,C,H,W), got {target.dtype} {tuple(target.shape)} for {tuple(x.shape)}.")
    outside = target[(target < 0) | (target >= model.num_classes)]
    if len(outside):
        raise UsageError(f"{expected}, got {sorted(set(outside.tolist()))}. Name a class of the model's dataset.")


def output_of(model: Classifier, x: Tensor, target: Tensor, output: Output) -> Tensor:
    """Return the logit or the probability of class `target` (B,) on images x (B,C,H,W), (B,)."""
    if output == "probability":
        return masking.probability(model, x, target)
    return model(x).gather(1, target[:, None])[:, 0]


def at_least(least: float, **settings: float) -> None:
    """Raise `UsageError` where a setting is below what makes sense."""
    for name, value in settings.items():
        if not value >= least:
            raise UsageError(f"{name}: expected at least {least}, got {value}. Give a larger number.")
