"""Accuracy, precision, recall and F1 of the most probable class (the first one among equals)."""

import numpy as np
from numpy.typing import NDArray

from harness.metrics.cells import Floats, ratio, scorable, with_macro
from harness.metrics.classification_table import ClassificationTable
from harness.plugins import metric


@metric("accuracy", evaluation="classification", tasks=("multiclass",), unit="", higher_is_better=True,
        source="share of samples whose most probable class is the true one", digits=3, per="all")  # fmt: skip
def accuracy(table: ClassificationTable, weights: Floats) -> Floats:
    """Share of the samples whose most probable class is the true one, (R,1), in [0, 1]."""
    if not scorable(table, accuracy).all():
        return np.full((len(weights), 1), np.nan)
    return ratio(weights @ table.right[:, None], weights.sum(1, keepdims=True))


def _counts(table: ClassificationTable, weights: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the weight of right predictions, of predictions and of true samples per class, (R,V) each."""
    true, chosen = table.true, table.predicted
    known = chosen >= 0

    def of(classes: NDArray[np.intp], rows: NDArray[np.bool_]) -> Floats:
        found = np.zeros((len(weights), len(table.classes)))
        for k, w in enumerate(weights):  # of a thousand classes there is no room for a product of matrices
            found[k] = np.bincount(classes[rows], w[rows], len(table.classes))
        return found

    return of(true, known & (true == chosen)), of(chosen, known), of(true, np.ones(len(true), dtype=bool))


@metric("precision", evaluation="classification", tasks=("multiclass",), unit="", higher_is_better=True,
        source="right predictions of a class / predictions of it", digits=3,
        needs=("positives", "predictions"))  # fmt: skip
def precision(table: ClassificationTable, weights: Floats) -> Floats:
    """Right predictions of a class over predictions of it, per class and macro, (R,V+1), in [0, 1].

    A class that is never predicted has no precision: NaN with that reason, and the macro mean is over the others
    and says so (scikit-learn's `zero_division=nan`).
    """
    right, predicted, _ = _counts(table, weights)
    return with_macro(ratio(right, predicted), scorable(table, precision))


@metric("recall", evaluation="classification", tasks=("multiclass",), unit="", higher_is_better=True,
        source="right predictions of a class / samples of it", digits=3, needs=("positives",))  # fmt: skip
def recall(table: ClassificationTable, weights: Floats) -> Floats:
    """Right predictions of a class over samples of it, per class and macro, (R,V+1), in [0, 1]."""
    right, _, true = _counts(table, weights)
    return with_macro(ratio(right, true), scorable(table, recall))


@metric("f1", evaluation="classification", tasks=("multiclass",), unit="", higher_is_better=True,
        source="2 right / (predictions + samples)", digits=3, needs=("positives",))  # fmt: skip
def f1(table: ClassificationTable, weights: Floats) -> Floats:
    """Twice the right predictions of a class over predictions plus samples, per class and macro, (R,V+1), in [0, 1].

    0 for a class with samples that is never predicted: that is its value, nothing is missing.
    """
    right, predicted, true = _counts(table, weights)
    return with_macro(ratio(2 * right, predicted + true), scorable(table, f1))
