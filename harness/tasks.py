"""Task objects: what the labels of a dataset mean. A task owns loss, probability and targets.

torch is imported in the functions that use it, so that dataset files can name a task without loading it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class MultiLabel:
    """Each image has any number of V findings; y (B,V) holds 0 or 1; a logit per finding, sigmoid probability."""

    name: str = "multilabel"
    version: int = 1
    exclusive: bool = False  # whether one class rules the others out, so that a margin is a difference of two logits

    def loss(self, logits: Tensor, y: Tensor, *, weighted: bool = True) -> Tensor:
        """Return the mean over images of the weighted binary cross-entropy summed over classes, a scalar.

        -sum_j [beta*y_j*log p_j + (1-y_j)*log(1-p_j)] with beta = negatives / positives of the batch (Khakzar
        2019, eq. 1). The paper does not say whether beta is per class: it is pooled over all labels of the batch,
        as in Wang 2017; a batch without positives has beta 1.
        """
        from torch.nn.functional import binary_cross_entropy_with_logits

        beta = None
        if weighted:
            positives = y.sum()
            negatives = y.numel() - positives
            beta = (negatives / positives.clamp(min=1)).where(positives > 0, positives.new_ones(()))
        per_label = binary_cross_entropy_with_logits(logits.float(), y.float(), pos_weight=beta, reduction="none")
        return per_label.sum(1).mean()

    def probability(self, logits: Tensor) -> Tensor:
        """Return sigmoid probabilities, (B,V)."""
        return logits.sigmoid()

    def encode(self, labels: Tensor) -> Tensor:
        """Return targets for `loss` from the index's 0/1 matrix, (B,V) uint8 -> (B,V) float."""
        return labels.float()

    def true(self, y: Tensor, classes: int) -> Tensor:
        """Return which classes are true, (B,V) bool."""
        return y > 0.5

    def correct(self, logits: Tensor, y: Tensor) -> Tensor:
        """Return which images have every label on its side of probability 1/2, (B,) bool."""
        return ((logits > 0) == (y > 0.5)).all(1)


@dataclass(frozen=True)
class MultiClass:
    """Each image has exactly one of V classes; y (B,) holds its number; softmax probability."""

    name: str = "multiclass"
    version: int = 1
    exclusive: bool = True

    def loss(self, logits: Tensor, y: Tensor, *, weighted: bool = True) -> Tensor:
        """Return the mean cross-entropy, a scalar. Classes are not weighted: one label per image balances itself."""
        from torch.nn.functional import cross_entropy

        return cross_entropy(logits.float(), y)

    def probability(self, logits: Tensor) -> Tensor:
        """Return softmax probabilities, (B,V)."""
        return logits.softmax(1)

    def encode(self, labels: Tensor) -> Tensor:
        """Return targets for `loss` from the index's 0/1 matrix, (B,V) uint8 -> (B,) long."""
        return labels.argmax(1)

    def true(self, y: Tensor, classes: int) -> Tensor:
        """Return which classes are true, (B,V) bool."""
        from torch.nn.functional import one_hot

        return one_hot(y, classes).bool()

    def correct(self, logits: Tensor, y: Tensor) -> Tensor:
        """Return which images have the true class as the most probable one, (B,) bool."""
        return logits.argmax(1) == y


Task = MultiLabel | MultiClass
