"""Average precision: the area under the precision-recall curve as a step function."""

import numpy as np

from harness.metrics.auroc import BLOCK
from harness.metrics.cells import Floats, ratio, scorable, with_macro
from harness.metrics.classification_table import ClassificationTable
from harness.plugins import metric


@metric("average_precision", evaluation="classification", tasks=("multilabel",), unit="", higher_is_better=True,
        source="scikit-learn's average_precision_score; no interpolation", digits=3,
        needs=("positives", "negatives"))  # fmt: skip
def average_precision(table: ClassificationTable, weights: Floats) -> Floats:
    """Average precision per class and macro, (R,V+1), in [0, 1].

    The mean over the positives of the precision among the samples that score at least as high. Its level without
    skill is the share of positives, so it is not comparable between datasets.
    """
    values = np.full((len(weights), len(table.classes)), np.nan)
    kept = scorable(table, average_precision)
    for start in range(0, len(weights), BLOCK):
        block = np.ascontiguousarray(weights[start : start + BLOCK].T)  # (N, r)
        for c in np.flatnonzero(kept):
            ranking = table.rankings[c]
            own, positives, negatives = ranking.summed(block)
            true = positives[-1] - positives[ranking.positives_below]  # (n1, r) weight of the positives as high
            false = negatives[-1] - negatives[ranking.below]
            precision = ratio(true, true + false, undefined=0.0)  # 0/0 only where the positive weighs nothing
            values[start : start + BLOCK, c] = ratio((own * precision).sum(0), positives[-1])
    return with_macro(values, kept)
