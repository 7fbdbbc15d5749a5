"""Means of what adversarial explanations reach, by hand."""

import numpy as np
import pytest

from harness.metrics.explanations import ExplanationTable
from harness.metrics.summary import TABLES, summarise

CONDITIONS = [{"attack": "explain+", "radius": 0.1}, {"attack": "explain-", "radius": 0.1}]


def table() -> ExplanationTable:
    columns = {
        "true_before": [[0.2, 0.2], [0.4, 0.4], [np.nan, np.nan]],
        "true_after": [[0.8, 0.1], [0.9, 0.1], [np.nan, np.nan]],
        "true_rmse": [[0.1, 0.1], [0.08, 0.1], [np.nan, np.nan]],
        "other_before": [[0.3, 0.3], [np.nan, np.nan], [np.nan, np.nan]],
        "other_after": [[0.7, 0.2], [np.nan, np.nan], [np.nan, np.nan]],
        "other_rmse": [[0.1, 0.05], [np.nan, np.nan], [np.nan, np.nan]],
    }
    names = np.array(["a", "b", "c"])
    return ExplanationTable(names, names, {k: np.array(v) for k, v in columns.items()}, CONDITIONS, task="multilabel")


def test_each_number_by_hand_and_missing_images_counted():
    made = table()
    assert TABLES["adversarial_explanations"] is ExplanationTable
    rows = summarise(ExplanationTable.from_frame(made.to_frame()), resamples=20)
    assert all(r["class_name"] == "all" and r["radius"] == 0.1 for r in rows)
    found = {(r["metric"], r["attack"], r["variant"]): (r["value"], r["n"], r["n_missing"]) for r in rows}
    expected = {
        ("explained_probability", "explain+"): (0.3, 0.85, 0.55, 2),
        ("explained_probability", "explain-"): (0.3, 0.1, -0.2, 2),
        ("counterfactual_probability", "explain+"): (0.3, 0.7, 0.4, 1),
        ("counterfactual_probability", "explain-"): (0.3, 0.2, -0.1, 1),
    }
    for (metric, attack), (before, after, gain, n) in expected.items():
        for variant, value in (("before", before), ("after", after), ("gain", gain)):
            assert found.pop((metric, attack, variant)) == (pytest.approx(value), n, 3 - n)
    assert found == {
        ("explanation_rmse", "explain+", "reached"): (pytest.approx(0.09), 2, 1),
        ("explanation_rmse", "explain-", "reached"): (pytest.approx(0.1), 2, 1),
        ("counterfactual_rmse", "explain+", "reached"): (pytest.approx(0.1), 1, 2),
        ("counterfactual_rmse", "explain-", "reached"): (pytest.approx(0.05), 1, 2),
    }


def test_without_any_image_every_value_is_missing_with_a_reason():
    made = table()
    lost = {k: np.full_like(v, np.nan) for k, v in made.values.items()}
    rows = summarise(ExplanationTable(made.ids, made.clusters, lost, CONDITIONS), resamples=20)
    assert all(np.isnan(r["value"]) and r["reason"] for r in rows)
