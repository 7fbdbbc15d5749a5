"""Predictions and calibration against scikit-learn and torchmetrics."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import accuracy_score, brier_score_loss, f1_score, precision_score, recall_score

from harness.metrics.calibration import bins, brier, ece
from harness.metrics.cells import reasons
from harness.metrics.classification_table import ClassificationTable
from harness.metrics.predictions import accuracy, f1, precision, recall

N, V = 400, 4


def multiclass(seed=0, never=None):
    rng = np.random.default_rng(seed)
    y = rng.integers(V, size=N)
    logits = rng.normal(size=(N, V)) + 1.5 * np.eye(V)[y]
    if never is not None:
        logits[:, never] = -9.0
    probability = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    ids = np.array([f"i{i}" for i in range(N)])
    return ClassificationTable(ids, ids, tuple("abcd"), "multiclass", np.eye(V, dtype=np.uint8)[y], probability), y


def multilabel(seed=0):
    rng = np.random.default_rng(seed)
    label = (rng.random((N, V)) < 0.3).astype(np.uint8)
    ids = np.array([f"i{i}" for i in range(N)])
    return ClassificationTable(ids, ids, tuple("abcd"), "multilabel", label, rng.random((N, V)) ** 2)


def weights(seed=1):
    rng = np.random.default_rng(seed)
    drawn = rng.poisson(1.0, (5, N)).astype(float)
    drawn[3:] *= rng.random((2, N))
    drawn[0] = 1.0
    return drawn


@pytest.mark.parametrize(
    ("metric", "reference"), [(precision, precision_score), (recall, recall_score), (f1, f1_score)]
)
@pytest.mark.parametrize("never", [None, 2])
def test_per_class_scores_equal_scikit_learn(metric, reference, never):
    table, y = multiclass(never=never)
    guess = table.probability.argmax(1)
    found = metric(table, weights())
    for r, w in enumerate(weights()):
        expected = reference(y, guess, average=None, sample_weight=w, zero_division=np.nan)
        np.testing.assert_allclose(found[r, :V], expected, atol=1e-12)
        np.testing.assert_allclose(found[r, V], np.nanmean(expected), atol=1e-12)


def test_a_class_that_is_never_predicted_has_no_precision_but_recall_and_f1_of_zero():
    table, _ = multiclass(never=2)
    assert reasons(table, precision) == ["", "", "never predicted", "", "mean of 3 of 4 classes, without c"]
    ones = np.ones((1, N))
    assert np.isnan(precision(table, ones)[0, 2])
    assert recall(table, ones)[0, 2] == f1(table, ones)[0, 2] == 0
    assert reasons(table, f1) == [""] * 5


def test_a_replicate_without_a_prediction_of_a_class_has_no_precision_for_it():
    table, _ = multiclass()
    drawn = np.ones((2, N))
    drawn[1, table.probability.argmax(1) == 2] = 0
    assert np.isnan(precision(table, drawn)).tolist() == [[False] * 5, [False, False, True, False, True]]


def test_accuracy_equals_scikit_learn():
    table, y = multiclass()
    expected = [accuracy_score(y, table.probability.argmax(1), sample_weight=w) for w in weights()]
    np.testing.assert_allclose(accuracy(table, weights())[:, 0], expected, atol=1e-12)


def test_brier_of_multiclass_is_the_sum_over_classes_and_of_multilabel_one_class():
    table, y = multiclass()
    expected = [brier_score_loss(y, table.probability, sample_weight=w, scale_by_half=False) for w in weights()]
    np.testing.assert_allclose(brier(table, weights())[:, 0], expected, atol=1e-12)
    table = multilabel()
    found = brier(table, weights())
    for r, w in enumerate(weights()):
        one = [brier_score_loss(table.label[:, c], table.probability[:, c], sample_weight=w) for c in range(V)]
        np.testing.assert_allclose(found[r], [*one, np.mean(one)], atol=1e-12)


def test_calibration_error_equals_scikit_learns_calibration_curve():
    drawn = weights()[2].astype(int)
    again = np.repeat(np.arange(N), drawn)

    def reference(outcome, confidence):
        right, mean = calibration_curve(outcome[again], confidence[again], n_bins=15, strategy="uniform")
        count = np.histogram(confidence[again], np.linspace(0, 1, 16))[0]
        return (np.abs(right - mean) * count[count > 0]).sum() / len(again)

    table, y = multiclass()
    found = ece(table, drawn[None].astype(float))[0]
    expected = reference(y == table.probability.argmax(1), table.probability.max(1))
    np.testing.assert_allclose(found, [expected], atol=1e-12)
    table = multilabel()
    found = ece(table, drawn[None].astype(float))[0]
    one = [reference(table.label[:, c], table.probability[:, c]) for c in range(V)]
    np.testing.assert_allclose(found, [*one, np.mean(one)], atol=1e-12)


@pytest.mark.slow  # torchmetrics takes seconds to import
def test_calibration_error_equals_torchmetrics():
    import torch
    from torchmetrics.functional.classification import binary_calibration_error, multiclass_calibration_error

    table, y = multiclass()
    drawn = weights()[1].astype(int)
    again = np.repeat(np.arange(N), drawn)
    expected = multiclass_calibration_error(
        torch.tensor(table.probability[again]), torch.tensor(y[again]), num_classes=V, n_bins=15
    )
    assert ece(table, drawn[None].astype(float))[0, 0] == pytest.approx(float(expected), abs=1e-6)
    table = multilabel()
    found = ece(table, drawn[None].astype(float))[0]
    for c in range(V):
        p, t = torch.tensor(table.probability[again, c]), torch.tensor(table.label[again, c].astype(int))
        assert found[c] == pytest.approx(float(binary_calibration_error(p, t, n_bins=15)), abs=1e-6)
    assert found[V] == pytest.approx(found[:V].mean())


def test_bins_are_closed_above():
    assert bins(np.array([0.0, 1e-9, 1 / 15, 1 / 15 + 1e-9, 0.5, 1.0])).tolist() == [0, 0, 0, 1, 7, 14]


def test_ece_closed_form():
    """80 predictions of 0.9, of which 60 are right, and 20 of 0.5, of which 10 are: 0.8 * |0.75 - 0.9| + 0.2 * 0."""
    label = np.zeros((100, 1), np.uint8)
    label[:60] = label[90:] = 1
    probability = np.where(np.arange(100) < 80, 0.9, 0.5)[:, None]
    ids = np.array([f"i{i}" for i in range(100)])
    table = ClassificationTable(ids, ids, ("a",), "multilabel", label, probability)
    assert ece(table, np.ones((1, 100)))[0, 0] == pytest.approx(0.8 * 0.15)


@pytest.mark.parametrize("metric", [accuracy, precision, recall, f1, ece, brier])
def test_a_probability_that_is_not_a_number_leaves_no_multiclass_value(metric):
    table, _ = multiclass()
    probability = table.probability.copy()
    probability[3, 1] = np.nan
    broken = ClassificationTable(table.ids, table.clusters, table.classes, table.task, table.label, probability)
    assert np.isnan(metric(broken, np.ones((2, N)))).all()
    assert reasons(broken, metric)[0] == "not a number in 1 of 400 samples"
