"""Scores of several models are never pooled: values are computed per fold and averaged (protocol.md, 1)."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from harness import stats
from harness.errors import UsageError
from harness.metrics.auroc import auroc
from harness.metrics.cells import MINIMUM_PER_MODEL, evaluated, reasons, registration
from harness.metrics.classification_table import ClassificationTable
from harness.metrics.summary import builtin, summarise

METRIC = {registration(m)["name"]: m for m in builtin()}


def table(seed: int = 0, n: int = 400, folds: int = 5) -> ClassificationTable:
    """Each fold's model is informative, on a scale of its own: pooling its scores with the others' would hide it."""
    rng = np.random.default_rng(seed)
    fold = rng.integers(folds, size=n).astype(np.int8)
    label = (rng.random((n, 3)) < 0.3).astype(np.uint8)
    score = np.clip(0.3 * rng.random((n, 3)) + 0.1 * label + 0.12 * fold[:, None], 0, 1)
    ids = np.array([f"i{i}" for i in range(n)])
    return ClassificationTable(ids, ids, ("a", "b", "c"), "multilabel", label, score, fold)


@pytest.mark.parametrize(
    ("name", "oracle"),
    [("auroc", roc_auc_score), ("average_precision", average_precision_score), ("brier", brier_score_loss)],
)
def test_a_value_is_the_mean_of_the_folds_own(name, oracle):
    t = table()
    found = evaluated(METRIC[name], t, np.ones((1, 400)))[0]
    own = [[oracle(t.label[t.fold == k, c], t.probability[t.fold == k, c]) for c in range(3)] for k in range(5)]
    assert found[:3] == pytest.approx(np.mean(own, axis=0), abs=1e-12)
    assert found[3] == pytest.approx(np.mean(own), abs=1e-12)


def test_pooling_would_have_hidden_it():
    t = table()
    pooled = ClassificationTable(t.ids, t.clusters, t.classes, t.task, t.label, t.probability)
    ones = np.ones((1, 400))
    assert evaluated(auroc, t, ones)[0, 3] > evaluated(auroc, pooled, ones)[0, 3] + 0.1


def test_weights_reach_their_own_samples():
    t = table()
    weights = np.random.default_rng(1).integers(0, 3, (4, 400)).astype(float)
    found = evaluated(auroc, t, weights)
    for r in range(4):
        own = [
            roc_auc_score(t.label[m, 1], t.probability[m, 1], sample_weight=weights[r, m])
            for m in (t.fold == k for k in range(5))
        ]
        assert found[r, 1] == pytest.approx(np.mean(own), abs=1e-12)


def test_a_class_that_one_model_has_too_few_of_has_no_value():
    t = table()
    label = t.label.copy()
    of_fold = np.flatnonzero((t.fold == 2) & (label[:, 0] == 1))
    label[of_fold[MINIMUM_PER_MODEL - 1 :], 0] = 0
    few = ClassificationTable(t.ids, t.clusters, t.classes, t.task, label, t.probability, t.fold)
    assert reasons(few, auroc)[0] == "4 positives in fold 2, fewer than 5"
    assert np.isnan(evaluated(auroc, few, np.ones((1, 400)))[0, 0])
    macro = next(r for r in summarise(few, [auroc], resamples=20) if r["class_name"] == "macro")
    assert macro["reason"] == "mean of 2 of 3 classes, without a"
    label[of_fold[MINIMUM_PER_MODEL - 1], 0] = 1
    enough = ClassificationTable(t.ids, t.clusters, t.classes, t.task, label, t.probability, t.fold)
    assert reasons(enough, auroc)[0] == ""


def test_five_in_each_fold_leave_the_interval_defined():
    """With the least that is scored, fewer than 5 % of the replicates lack the class in some fold."""
    t = table()
    label = t.label.copy()
    for k in range(5):
        label[np.flatnonzero((t.fold == k) & (label[:, 0] == 1))[MINIMUM_PER_MODEL:], 0] = 0
    least = ClassificationTable(t.ids, t.clusters, t.classes, t.task, label, t.probability, t.fold)
    found = stats.estimate(lambda s, w: evaluated(auroc, s, w), least, least.clusters)
    assert 0 < found.undefined[0] < stats.MAX_UNDEFINED
    assert np.isfinite(found.low[0])


def test_the_fold_survives_parquet_and_selection(tmp_path):
    import pandas as pd

    t = table()
    t.to_frame().to_parquet(tmp_path / "t.parquet")
    again = ClassificationTable.from_frame(pd.read_parquet(tmp_path / "t.parquet"))
    assert (again.fold == t.fold).all()
    some = t.select(t.ids[t.fold == 3])
    assert some.fold is None, "one model's scores can be pooled"
    assert "fold" not in some.to_frame()
    with pytest.raises(UsageError, match="expected 400 folds"):
        ClassificationTable(t.ids, t.clusters, t.classes, t.task, t.label, t.probability, t.fold[:3])
