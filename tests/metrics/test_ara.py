"""ARA against plain loops and closed forms."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import stats
from harness.errors import UsageError
from harness.metrics.ara import (
    accuracy_at,
    area,
    attack_accuracy,
    attack_ara,
    balanced,
    flip_ara,
    histogram_area,
    robust_auroc,
)
from harness.metrics.cells import cells, registration
from harness.metrics.robustness import RobustnessTable
from harness.metrics.summary import summarise


def slow_area(distance, naive):
    """The integral by a fine midpoint rule over each step, in plain loops."""
    edges = sorted({0.0, *distance})
    total = 0.0
    for low, high in itertools.pairwise(edges):
        middle = (low + high) / 2
        total += max(0.0, sum(d > middle for d in distance) / len(distance) - naive) * (high - low)
    return total


def multiclass(distance, btr=None, naive=0.1, **more):
    n = len(distance)
    ids = np.array([f"i{k}" for k in range(n)])
    values = {"adv": np.asarray(distance, float), "btr": np.asarray(distance if btr is None else btr, float)}
    return RobustnessTable(
        ids=ids, clusters=ids, task="multiclass", class_names=np.array(["a", "b"])[np.arange(n) % 2],
        classes=("a", "b"), attack="fast", naive=naive, rmse=values, **more,
    )  # fmt: skip


def findings(n=24, seed=0, **more):
    rng = np.random.default_rng(seed)
    ids = np.array([f"i{k % 17}" for k in range(2 * n)])
    names = np.repeat(["x", "y"], n)
    positive = np.tile(np.arange(n) % 3 == 0, 2)
    moved = {r: np.clip(rng.random(2 * n) + shift * positive, 0, 1.5) / 1.5 for r, shift in
             (("0", 0.5), ("0.001", 0.3), ("0.005", 0.1))}  # fmt: skip
    return RobustnessTable(
        ids=np.array([f"{i}-{k}" for k, i in enumerate(ids)]), clusters=ids, task="multilabel", class_names=names,
        classes=("x", "y"), attack="fast", naive=0.5, rmse={"flip": rng.random(2 * n) * (rng.random(2 * n) > 0.2)},
        positive=positive, probability=moved, **more,
    )  # fmt: skip


@given(st.lists(st.floats(0, 3), min_size=1, max_size=30), st.floats(0, 1))
def test_area_is_the_integral_of_the_step_function(distance, naive):
    found = area(np.array(distance), np.ones((1, len(distance))), naive)
    assert found[0] == pytest.approx(slow_area(distance, naive), abs=1e-9)


@given(st.lists(st.integers(0, 4), min_size=2, max_size=12).filter(any))
def test_a_weight_is_that_many_copies(weights):
    distance = np.random.default_rng(len(weights)).random(len(weights))
    repeated = np.repeat(distance, weights)
    for rule in (area, histogram_area):
        weighted = rule(distance, np.array([weights], float), 0.2)
        assert weighted[0] == pytest.approx(rule(repeated, np.ones((1, len(repeated))), 0.2)[0], abs=1e-12)


def test_closed_forms():
    """All images at one distance d: (1 - naive) d. Evenly spread up to 1: (1 - naive)^2 / 2."""
    assert area(np.full(7, 0.3), np.ones((1, 7)), 0.1)[0] == pytest.approx(0.27)
    n = 100_000
    spread = area((np.arange(n) + 0.5) / n, np.ones((1, n)), 0.1)[0]
    assert spread == pytest.approx(0.9**2 / 2, abs=1e-5)
    assert area(np.zeros(5), np.ones((1, 5)), 0.0)[0] == 0


def test_the_histogram_is_low_by_up_to_one_bin():
    distance = np.random.default_rng(3).random(500) ** 2
    weights = np.ones((1, 500))
    exact, binned = area(distance, weights, 0.1)[0], histogram_area(distance, weights, 0.1)[0]
    assert 0 < exact - binned < distance.max() / 1000


def test_the_authors_figures_follow_from_their_distances(tmp_path):
    """golden/README: exact areas over the 100 images. Skips where the golden files are not at hand."""
    import os
    from pathlib import Path

    import pandas as pd

    path = Path(os.environ.get("HARNESS_DATA", "/nowhere")) / "golden" / "ara_woods_lossless.csv"
    if not path.exists():
        pytest.skip("HARNESS_DATA has no golden/: the authors' distances are not here")
    frame = pd.read_csv(path)
    published = {("standard", "attack"): 0.001162, ("standard", "btr"): 0.001356, ("all", "attack"): 0.016475,
                 ("all", "btr"): 0.039881}  # fmt: skip
    for (net, goal), value in published.items():
        mine = frame[(frame.net == f"resnet44-{net}") & (frame.goal == goal)].rmse.to_numpy()
        assert area(mine, np.ones((1, len(mine))), 0.1)[0] == pytest.approx(value, abs=5e-7)


def test_accuracy_is_the_share_above():
    shares = accuracy_at(
        np.array([0.0, 0.1, 0.2, 0.2]), np.array([[1.0, 1, 1, 1], [0, 2, 1, 1]]), np.array([0, 0.1, 0.2])
    )
    assert shares.tolist() == [[0.75, 0.5, 0.0], [1.0, 0.5, 0.0]]


def test_sides_weigh_half_each():
    weights = np.array([[1.0, 1, 1, 2], [0, 0, 1, 1]])
    found = balanced(np.array([True, True, False, False]), weights)
    assert found[0].tolist() == pytest.approx([0.25, 0.25, 1 / 6, 1 / 3])
    assert np.isnan(found[1]).all()


def test_flip_ara_of_each_finding_by_hand():
    table = findings()
    values = flip_ara(table, np.ones((1, len(table.ids))))[0]
    for c, name in enumerate(table.classes):
        rows = table.class_names == name
        d, positive = table.rmse["flip"][rows], table.positive[rows]
        edges = np.unique(np.concatenate([[0], d]))
        by_hand = 0.0
        for low, high in itertools.pairwise(edges):
            r = (low + high) / 2
            by_hand += max(0, ((d[positive] > r).mean() + (d[~positive] > r).mean()) / 2 - 0.5) * (high - low)
        assert values[c] == pytest.approx(by_hand)
    assert values[2] == pytest.approx(values[:2].mean())


def test_robust_auroc_is_scikit_learns():
    from sklearn.metrics import roc_auc_score

    table = findings()
    layout = cells(table, robust_auroc)
    weights = np.random.default_rng(1).integers(0, 4, (3, len(table.ids))).astype(float)
    values = robust_auroc(table, weights)
    for k, cell in enumerate(layout):
        if cell["class_name"] == "macro":
            continue
        rows = table.class_names == cell["class_name"]
        for r in range(3):
            expected = roc_auc_score(
                table.positive[rows], table.probability[f"{cell['radius']:g}"][rows], sample_weight=weights[r, rows]
            )
            assert values[r, k] == pytest.approx(expected, abs=1e-12)
    assert [c["radius"] for c in layout[::3]] == [0.0, 0.001, 0.005]
    assert {c["attack"] for c in layout} == {"pgd"}


def test_rows_carry_radius_attack_and_interval():
    table = multiclass(np.random.default_rng(5).random(60) / 10)
    rows = summarise(table, [attack_ara, attack_accuracy], resamples=100)
    assert [r["variant"] for r in rows[:2]] == ["", "histogram"]
    assert {r["attack"] for r in rows} == {"fast"}
    assert [r["radius"] for r in rows] == [None, None, *registration(attack_accuracy)["radii"]]
    assert all(r["low"] < r["value"] < r["high"] for r in rows[:2])
    assert all(r["n"] == 60 for r in rows)


def test_an_image_without_a_value_is_no_robust_image():
    table = multiclass([0.1, np.nan, 0.3])
    (row, _) = summarise(table, [attack_ara], resamples=10)
    assert np.isnan(row["value"])
    assert (row["n"], row["n_missing"]) == (2, 1)
    assert row["reason"] == "1 of 3 could not be scored: not a number, or never fooled"


def test_a_finding_that_cannot_be_scored_is_left_out_and_said():
    table = findings()
    rmse = table.rmse["flip"].copy()
    rmse[3] = np.nan
    lost = RobustnessTable(**{**table.__dict__, "rmse": {"flip": rmse}})
    x, y, macro = summarise(lost, [flip_ara], resamples=10)
    assert np.isnan(x["value"])
    assert macro["value"] == y["value"]
    assert macro["reason"] == "mean of 1 of 2 classes, without x"
    said = findings(reasons={"x": "no operating point"})
    assert summarise(said, [flip_ara], resamples=10)[0]["reason"] == "no operating point"


@pytest.mark.parametrize("table", [multiclass([0.0, 0.1]), findings(reasons={"x": "why"})], ids=["images", "findings"])
def test_frames_hold_the_whole_table(table, tmp_path):
    table.to_frame().to_parquet(tmp_path / "t.parquet")
    import pandas as pd

    again = RobustnessTable.from_frame(pd.read_parquet(tmp_path / "t.parquet"))
    assert json.dumps(summarise(table, resamples=20)) == json.dumps(summarise(again, resamples=20))


@pytest.mark.parametrize(
    ("change", "message"),
    [({"rmse": {"adv": np.array([-0.1, 0.2])}}, "finite RMSE of 0 or more"),
     ({"rmse": {"adv": np.array([np.inf, 0.2])}}, "finite RMSE of 0 or more"),
     ({"rmse": {"adv": np.zeros(3)}}, "of shape"), ({"task": "multilabel"}, "sign of each pair")],
)  # fmt: skip
def test_bad_tables(change, message):
    table = multiclass([0.0, 0.1])
    with pytest.raises(UsageError, match=message):
        RobustnessTable(**{**table.__dict__, **change})


def test_the_interval_covers():
    """100 tables of images spread evenly up to 1: the interval of the area holds 0.405 about 95 times."""
    hits = 0
    for seed in range(100):
        table = multiclass(np.random.default_rng(seed).random(80))
        found = stats.estimate(lambda t, w: attack_ara(t, w)[:, :1], table, table.clusters, resamples=200)
        hits += found.low[0] <= 0.405 <= found.high[0]
    assert 88 <= hits <= 100
