"""Area under the ROC curve: the chance that a positive scores higher than a negative."""

import numpy as np

from harness.metrics.cells import Floats, ratio, scorable, with_macro
from harness.metrics.classification_table import ClassificationTable
from harness.plugins import metric

BLOCK = 16  # replicates at once: the running sums of a block stay in the processor's cache


@metric("auroc", evaluation="classification", tasks=("multilabel", "multiclass"), unit="", higher_is_better=True,
        source="Hanley & McNeil 1982; ties count half", digits=3, needs=("positives", "negatives"))  # fmt: skip
def auroc(table: ClassificationTable, weights: Floats) -> Floats:
    """Area under the ROC curve per class (one against the rest) and macro, (R,V+1), in [0, 1].

    sum over pairs w_p * w_n * (1 if p scores higher than n, 1/2 if the same) / (sum w_p * sum w_n); the value of
    scikit-learn's `roc_auc_score` with `sample_weight`.
    """
    values = np.full((len(weights), len(table.classes)), np.nan)
    kept = scorable(table, auroc)
    for start in range(0, len(weights), BLOCK):
        block = np.ascontiguousarray(weights[start : start + BLOCK].T)  # (N, r)
        for c in np.flatnonzero(kept):
            ranking = table.rankings[c]
            own, _, negatives = ranking.summed(block)
            won = (own * (negatives[ranking.below] + negatives[ranking.upto])).sum(0) / 2
            values[start : start + BLOCK, c] = ratio(won, own.sum(0) * negatives[-1])
    return with_macro(values, kept)
