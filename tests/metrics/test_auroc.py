"""AUROC and average precision against scikit-learn, with ties and weights."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from harness import stats
from harness.metrics.auroc import BLOCK, auroc
from harness.metrics.average_precision import average_precision
from harness.metrics.cells import reasons
from harness.metrics.classification_table import ClassificationTable


def make(label, probability, task="multilabel", clusters=None):
    ids = np.array([f"i{i}" for i in range(len(label))])
    classes = tuple("abcdefgh"[: label.shape[1]])
    return ClassificationTable(ids, ids if clusters is None else clusters, classes, task, label, probability)


def random_table(seed, n=300, v=4, levels=None):
    """`levels` rounds the scores, so that positives and negatives tie among and with each other."""
    rng = np.random.default_rng(seed)
    label = (rng.random((n, v)) < np.linspace(0.1, 0.6, v)).astype(np.uint8)
    probability = 1 / (1 + np.exp(-rng.normal(size=(n, v)) - label))
    if levels:
        probability = np.round(probability * levels) / levels
    return make(label, probability)


def random_weights(seed, n, replicates=BLOCK + 3):
    """Whole weights as the bootstrap gives them, and fractions; many are zero."""
    rng = np.random.default_rng(seed)
    whole = rng.poisson(1.0, (replicates, n)).astype(float)
    whole[::3] *= rng.random((len(whole[::3]), n))
    whole[0] = 1.0
    return whole


@pytest.mark.parametrize("levels", [None, 5, 1])
@pytest.mark.parametrize(
    ("metric", "reference"), [(auroc, roc_auc_score), (average_precision, average_precision_score)]
)
def test_equals_scikit_learn_with_weights(metric, reference, levels):
    table = random_table(1, levels=levels)
    weights = random_weights(2, len(table.ids))
    found = metric(table, weights)
    for r, w in enumerate(weights):
        one = [reference(table.label[:, c], table.probability[:, c], sample_weight=w) for c in range(4)]
        np.testing.assert_allclose(found[r], [*one, np.mean(one)], rtol=0, atol=1e-12)


def test_multiclass_is_one_against_the_rest():
    rng = np.random.default_rng(3)
    y = rng.integers(3, size=200)
    probability = rng.dirichlet((1, 1, 1), 200)
    table = make(np.eye(3, dtype=np.uint8)[y], probability, "multiclass")
    expected = roc_auc_score(y, probability, multi_class="ovr", average="macro")
    assert auroc(table, np.ones((1, 200)))[0, -1] == pytest.approx(expected, abs=1e-12)


def test_the_order_of_the_samples_changes_no_bit():
    table = random_table(4, levels=20)
    patients = np.array([f"p{i % 70}" for i in range(len(table.ids))])
    table = make(table.label, table.probability, clusters=patients)
    order = np.random.default_rng(5).permutation(len(table.ids))
    shuffled = make(table.label[order], table.probability[order], clusters=patients[order])
    a, b = (stats.estimate(auroc, t, t.clusters, resamples=100) for t in (table, shuffled))
    assert all((getattr(a, f) == getattr(b, f)).all() for f in ("value", "low", "high", "standard_error"))


@pytest.mark.parametrize(("positives", "reason"), [(19, "19 positives, fewer than 20"), (20, "")])
def test_a_class_needs_twenty_positives_and_the_macro_mean_says_what_it_leaves_out(positives, reason):
    table = random_table(6)
    label = table.label.copy()
    label[:, 1] = np.arange(len(label)) < positives
    table = make(label, table.probability)
    values = auroc(table, np.ones((2, len(label))))
    why = reasons(table, auroc)
    assert why[1] == reason
    assert np.isnan(values[:, 1]).all() == bool(reason)
    kept = [c for c in range(4) if not why[c]]
    np.testing.assert_allclose(values[:, 4], values[:, kept].mean(1))
    assert why[4] == ("mean of 3 of 4 classes, without b" if reason else "")


def test_without_negatives_or_with_a_probability_that_is_not_a_number_there_is_no_value():
    table = random_table(7)
    label, probability = table.label.copy(), table.probability.copy()
    label[:, 0] = 1
    probability[5, 2] = np.nan
    table = make(label, probability)
    assert reasons(table, auroc)[:4] == ["no negatives", "", "not a number in 1 of 300 samples", ""]
    assert np.isnan(auroc(table, np.ones((1, len(label))))).tolist() == [[True, False, True, False, False]]


def test_no_class_can_be_scored():
    table = make(np.zeros((30, 2), np.uint8), np.full((30, 2), 0.5))
    found = auroc(table, np.ones((3, 30)))
    assert found.shape == (3, 3)
    assert np.isnan(found).all()


def test_a_class_undefined_in_a_replicate_makes_that_replicates_macro_mean_undefined():
    table = random_table(8)
    weights = np.ones((2, len(table.ids)))
    weights[1, table.label[:, 0] == 1] = 0
    found = auroc(table, weights)
    assert np.isnan(found).tolist() == [[False] * 5, [True, False, False, False, True]]
