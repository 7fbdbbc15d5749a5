"""Calibration: expected calibration error and Brier score."""

import numpy as np
from numpy.typing import NDArray

from harness.metrics.cells import Floats, is_per_class, ratio, scorable, with_macro
from harness.metrics.classification_table import ROWS, ClassificationTable
from harness.plugins import metric

BINS = 15


def bins(confidence: Floats) -> NDArray[np.intp]:
    """Return the number of the equal-width bin of each confidence in [0, 1]: ((b)/15, (b+1)/15], 0 in the first."""
    return np.clip(np.ceil(confidence * BINS).astype(np.intp) - 1, 0, BINS - 1)


def _calibration_error(confidence: Floats, outcome: NDArray[np.bool_], weights: Floats) -> Floats:
    """Return sum over bins |sum w (outcome - confidence)| / sum w, (R,), from (N,), (N,) and (R,N).

    The same as the bin's weight times |its accuracy - its mean confidence|, without the division.
    """
    gap = np.zeros((len(confidence), BINS))
    gap[np.arange(len(confidence)), bins(confidence)] = outcome - confidence
    return ratio(np.abs(weights @ gap).sum(1), weights.sum(1))


@metric("ece", evaluation="classification", tasks=("multilabel", "multiclass"), unit="", higher_is_better=False,
        source="Naeini 2015; Guo 2017 (arXiv:1706.04599, eq. 3), 15 equal-width bins", digits=3,
        per={"multilabel": "class", "multiclass": "all"}, needs=("positives",))  # fmt: skip
def ece(table: ClassificationTable, weights: Floats) -> Floats:
    """Expected calibration error in [0, 1]: of the top label (R,1), or multi-label per class and macro (R,V+1).

    Bins are open below and closed above, 0 belongs to the first (Guo 2017; torchmetrics closes them below).
    """
    kept = scorable(table, ece)
    if not is_per_class(table, ece):
        if not kept.all():
            return np.full((len(weights), 1), np.nan)
        return _calibration_error(table.probability.max(1, initial=0), table.right, weights)[:, None]
    values = np.full((len(weights), len(kept)), np.nan)
    for c in np.flatnonzero(kept):
        values[:, c] = _calibration_error(table.probability[:, c], table.label[:, c] == 1, weights)
    return with_macro(values, kept)


@metric("brier", evaluation="classification", tasks=("multilabel", "multiclass"), unit="", higher_is_better=False,
        source="Brier 1950", digits=3, per={"multilabel": "class", "multiclass": "all"},
        needs=("positives",))  # fmt: skip
def brier(table: ClassificationTable, weights: Floats) -> Floats:
    """Mean squared error of the probabilities: summed over classes (R,1), or multi-label per class and macro (R,V+1).

    MultiClass as Brier wrote it, the sum over the V classes, in [0, 2]; MultiLabel per class, in [0, 1].
    """
    kept = scorable(table, brier)
    total = weights.sum(1, keepdims=True)
    if not is_per_class(table, brier):
        if not kept.all():
            return np.full((len(weights), 1), np.nan)
        parts = (slice(start, start + ROWS) for start in range(0, len(table.ids), ROWS))
        squared = [((table.probability[rows] - table.label[rows]) ** 2).sum(1, keepdims=True) for rows in parts]
        return ratio(weights @ np.concatenate([*squared, np.zeros((0, 1))]), total)
    squared = (table.probability - table.label) ** 2  # (N,V)
    return with_macro(ratio(weights @ np.where(kept, squared, 0.0), total), kept)
