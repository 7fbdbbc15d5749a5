"""What a metric gives to rows: every value with its interval, its n, and why one is missing."""

import json
from dataclasses import replace

import numpy as np
import pytest

from harness.errors import UsageError
from harness.metrics import summary
from harness.metrics.cells import reasons, registration
from harness.metrics.classification_table import ClassificationTable
from harness.metrics.localisation_table import FOLDS, LEVELS, MISSING, LocalisationTable
from harness.plugins import metric
from harness.rows import Row, from_json

ROW = {"run_id": "r", "evaluation": "e", "evaluation_key": "k", "dataset": "d", "split": "test", "size": 64,
       "profile": "quick", "method": "m", "model": "n", "seed": 0}  # fmt: skip


def classification(task="multilabel", n=120):
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=n)
    label = np.eye(3, dtype=np.uint8)[y] if task == "multiclass" else (rng.random((n, 3)) < 0.4).astype(np.uint8)
    if task == "multilabel":
        label[:, 2] = np.arange(n) < 5
    probability = rng.dirichlet((1, 1, 1), n)
    ids = np.array([f"i{i}" for i in range(n)])
    patients = np.array([f"p{i // 2}" for i in range(n)])
    return ClassificationTable(ids, patients, ("a", "b", "c"), task, label, probability)


def localisation():
    rng = np.random.default_rng(1)
    p = 80
    iou = rng.integers(0, 65531, (p, LEVELS)).astype(np.uint16)
    iou[7] = MISSING
    floats = {c: rng.random(p) for c in LocalisationTable.FLOATS}
    ids = np.array([f"i{i}" for i in range(p)])
    return LocalisationTable(
        ids=ids, clusters=ids, class_names=np.array(["a"] * 40 + ["b"] * 30 + ["c"] * 10), classes=("a", "b", "c"),
        fold=(np.arange(p) % FOLDS).astype(np.int8), iou=iou, iobb=iou.copy(), **floats,
    )  # fmt: skip


TABLES = [classification(), classification("multiclass"), localisation()]


def key(line):
    return line["metric"], line["variant"], line["threshold"], line["class_name"]


@pytest.mark.parametrize("table", TABLES)
def test_every_line_makes_a_row_and_every_missing_value_has_a_reason(table):
    lines = summary.summarise(table, resamples=30)
    assert len({key(line) for line in lines}) == len(lines)
    for line in lines:
        row = Row(**ROW, **line)
        assert from_json(json.loads(json.dumps(row.to_json()))).n == line["n"]
        assert np.isfinite(line["value"]) or line["reason"]
        assert line["low"] <= line["high"] or line["reason"]
        assert type(line["n"]) is int
        assert type(line["value"]) is float


@pytest.mark.parametrize("table", TABLES)
def test_a_class_has_a_value_exactly_where_it_has_no_reason(table):
    """The reasons are derived from the registration, the values from the function: they must agree."""
    for function in summary.applicable(table, summary.builtin()):
        values = function(table, np.ones((1, len(table.ids))))[0]
        for cell, value, reason in zip(table.cells(function), values, reasons(table, function), strict=True):
            if cell["class_name"] != "macro" and "could not be scored" not in reason:
                assert np.isnan(value) == bool(reason), (function.__name__, cell, value, reason)


def test_which_metrics_a_task_has():
    found = {t.task: {registration(m)["name"] for m in summary.applicable(t, summary.builtin())} for t in TABLES}
    assert found["multilabel"] == {"auroc", "average_precision", "ece", "brier"}
    assert found["multiclass"] == {"auroc", "accuracy", "precision", "recall", "f1", "ece", "brier"}
    at_threshold = {"localisation_accuracy", "mean_localisation_accuracy", "iou", "iobb"}
    assert found[""] == at_threshold | {"pointing_game", "energy"}


def test_counts_of_classes_and_of_the_macro_mean():
    lines = {key(line): line for line in summary.summarise(classification(), resamples=5)}
    few, macro = lines["auroc", "", None, "c"], lines["auroc", "", None, "macro"]
    assert (few["n"], few["n_missing"], few["reason"]) == (120, 0, "5 positives, fewer than 20")
    assert (macro["n"], macro["n_missing"]) == (120, 1)
    assert macro["reason"] == "mean of 2 of 3 classes, without c"
    lines = {key(line): line for line in summary.summarise(localisation(), resamples=5)}
    a, macro = (lines["localisation_accuracy", "per_t", 0.3, c] for c in ("a", "macro"))
    assert (a["n"], a["n_missing"], a["reason"]) == (39, 1, "1 of 40 could not be scored")
    assert (macro["n"], macro["n_missing"]) == (69, 1)


def test_a_value_with_an_interval_that_is_mostly_undefined_says_so():
    table = classification()
    table = replace(table, clusters=np.where(table.label[:, 0] == 1, "one patient has all positives", table.ids))
    line = next(line for line in summary.summarise(table, resamples=200) if key(line)[::3] == ("auroc", "a"))
    assert np.isfinite(line["value"])
    assert np.isnan(line["low"])
    assert line["reason"].endswith("% of the replicates: no interval")


@metric("share", evaluation="classification", tasks=("multilabel",), higher_is_better=True, per="all", unit="%")
def share(table, weights):
    """A plug-in's metric."""
    return 100 * (weights @ table.label[:, :1]) / weights.sum(1, keepdims=True)


@metric("wrong_size", evaluation="classification", higher_is_better=True)
def wrong_size(table, weights):
    """A plug-in's metric that forgets the macro mean."""
    return np.ones((len(weights), len(table.classes)))


def test_metrics_of_plug_ins_are_added_or_replace_the_built_in_ones():
    table = classification()
    (line,) = summary.summarise(table, metrics=[share], resamples=20)
    assert key(line) == ("share", "", None, "all")
    assert line["value"] == pytest.approx(100 * table.label[:, 0].mean())
    assert line["unit"] == "%"
    assert summary.summarise(table, extra=[share], resamples=2)[-1]["metric"] == "share"
    assert summary.summarise(localisation(), metrics=[share]) == []


def test_a_metric_of_the_wrong_size_or_without_a_registration_is_refused():
    with pytest.raises(UsageError, match=r"'wrong_size' gave values of shape \(3,\), expected \(4,\)"):
        summary.summarise(classification(), metrics=[wrong_size], resamples=2)
    with pytest.raises(UsageError, match="registered by @metric"):
        summary.summarise(classification(), metrics=[np.mean])


def test_the_values_do_not_depend_on_the_order_of_the_samples():
    table = classification()
    order = np.random.default_rng(3).permutation(len(table.ids))
    a, b = (summary.summarise(t, resamples=20) for t in (table, table.select(table.ids[order])))
    for x, y in zip(a, b, strict=True):
        np.testing.assert_allclose([x["value"], x["low"], x["high"]], [y["value"], y["low"], y["high"]], atol=1e-12)


def test_of_a_thousand_classes_those_without_a_value_have_no_row():
    classes = tuple(f"c{i}" for i in range(101))
    number = np.repeat([3, 70, 5], [25, 25, 2])
    label = np.eye(101, dtype=np.uint8)[number]
    ids = np.array([f"i{i}" for i in range(52)])
    probability = np.random.default_rng(0).dirichlet(np.ones(101), 52)
    many = ClassificationTable(ids, ids, classes, "multiclass", label, probability)
    rows = [r for r in summary.summarise(many, resamples=20) if r["metric"] == "auroc"]
    assert [r["class_name"] for r in rows] == ["c3", "c70", "macro"]
    assert rows[-1]["n_missing"] == 99
    assert rows[-1]["reason"].startswith("mean of 2 of 101 classes, without c0, c1, c2, c4, c5")
    assert rows[-1]["reason"].endswith("c20 and 79 more")
    fewer = ClassificationTable(ids, ids, classes[:100], "multiclass", label[:, :100], probability[:, :100])
    assert len([r for r in summary.summarise(fewer, resamples=20) if r["metric"] == "auroc"]) == 101
