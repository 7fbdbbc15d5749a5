"""Statistics of gradients and bounds against plain loops and the paper's arithmetic."""

import numpy as np
import pytest

from harness.metrics.gradient_bound import GradientBoundTable
from harness.metrics.summary import summarise


def table(**values) -> GradientBoundTable:
    n = len(next(iter(values.values())))
    ids = np.array([f"i{i}" for i in range(n)])
    columns = {s: np.asarray(values.get(s, np.ones(n)), float)[:, None] for s in GradientBoundTable.scores}
    return GradientBoundTable(ids, ids, columns, conditions=({"attack": "deepfool"},), task="multiclass")


def found(of: GradientBoundTable) -> dict[tuple[str, str], dict]:
    return {(r["metric"], r["variant"]): r for r in summarise(of, resamples=200)}


def test_the_arithmetic_of_the_paper():
    """Woods 2019, Methods: 150,528 inputs, mean |dy/dx| 0.051, |dx| 0.0033, two outputs: 50.7; observed 26.1."""
    rows = found(table(gradient_mean=[0.051] * 3, gradient_sum=[2 * 150_528 * 0.051] * 3, distance=[0.0033] * 3,
                       change=[20.0, 26.1, 32.2]))  # fmt: skip
    assert rows["linear_bound", "eq8"]["value"] == pytest.approx(50.7, abs=0.05)
    assert rows["logit_change", ""]["value"] == pytest.approx(26.1)
    assert rows["bound_ratio", "eq8"]["value"] == pytest.approx(26.1 / 50.7, abs=0.001)
    assert rows["gradient_mean", ""]["value"] == pytest.approx(0.051)


def test_twin():
    rng = np.random.default_rng(0)
    values = {s: rng.uniform(0.5, 2, 30) for s in GradientBoundTable.scores}
    for s in GradientBoundTable.scores[2:]:
        values[s][[3, 8]] = np.nan
    rows = found(table(**values))
    known = [i for i in range(30) if i not in (3, 8)]
    harmonic = len(known) / sum(1 / values["distance"][i] for i in known)
    eq_8 = harmonic * sum(values["gradient_sum"][i] for i in known) / len(known)
    change = sum(values["change"][i] for i in known) / len(known)
    expected = {
        ("gradient_mean", ""): sum(values["gradient_mean"]) / 30,
        ("gradient_max", ""): sum(values["gradient_max"]) / 30,
        ("attack_distance", ""): harmonic,
        ("logit_change", ""): change,
        ("linear_bound", ""): sum(values["bound"][i] for i in known) / len(known),
        ("linear_bound", "eq8"): eq_8,
        ("bound_ratio", ""): sum(values["change"][i] / values["bound"][i] for i in known) / len(known),
        ("bound_ratio", "eq8"): change / eq_8,
        ("within_bound", ""): sum(values["change"][i] <= values["bound"][i] for i in known) / len(known),
        ("within_bound", "eq8"): sum(
            values["change"][i] <= values["distance"][i] * values["gradient_sum"][i] for i in known
        ) / len(known),
    }  # fmt: skip
    assert set(rows) == set(expected)
    for name, value in expected.items():
        row = rows[name]
        assert row["value"] == pytest.approx(value, rel=1e-12), name
        assert row["low"] <= row["value"] <= row["high"]
        assert row["attack"] == "deepfool"
        assert row["n"] == (30 if name[0].startswith("gradient") else 28)
        assert row["n_missing"] == 30 - row["n"]


def test_weights_count_samples_as_often():
    from harness.metrics.gradient_bound import attack_distance, bound_ratio

    rng = np.random.default_rng(1)
    values = {s: rng.uniform(0.5, 2, 5) for s in GradientBoundTable.scores}
    weights = np.array([[2.0, 0, 1, 3, 1]])
    repeated = {s: np.repeat(v, weights[0].astype(int)) for s, v in values.items()}
    for metric in (attack_distance, bound_ratio):
        a, b = metric(table(**values), weights), metric(table(**repeated), np.ones((1, 7)))
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_no_attack_at_all_is_missing_with_a_reason():
    nothing = dict.fromkeys(GradientBoundTable.scores[2:], [np.nan] * 4)
    rows = found(table(**nothing))
    for (metric, _), row in rows.items():
        if metric.startswith("gradient"):
            assert row["value"] == 1
        else:
            assert np.isnan(row["value"])
            assert row["reason"] == "no samples that could be scored"
            assert (row["n"], row["n_missing"]) == (0, 4)


def test_round_trip():
    a = table(change=[1.0, np.nan], bound=[2.0, np.nan])
    b = GradientBoundTable.from_frame(a.to_frame())
    assert repr(found(a)) == repr(found(b))
