"""Robustness of several findings per image, from data to the store: decisions, areas, robust AUROC."""

import itertools

import numpy as np
import pytest

from harness.console import Reporter
from harness.metrics.ara import area
from harness.plan import RunSpec
from harness.run import evaluate, execute

QUIET = Reporter(quiet=True)
SETS = ("phantom.size=32", "n_train=64", "n_validation=240", "n_test=240", "max_epochs=1", "robustness.resamples=50",
        "robustness.pairs=4", "robustness.batch=8", "ddn.steps=10")  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    runs_dir = tmp_path_factory.mktemp("findings")
    spec = RunSpec(method="baseline", dataset="phantom", runs_dir=runs_dir, device="cpu", sets=SETS,
                   evaluations=("robustness",))  # fmt: skip
    (result,) = execute(spec, QUIET)
    return runs_dir, result


def test_two_findings_are_attacked_at_their_operating_points(made):
    _, result = made
    (stage,) = result.stages
    frame = stage.read_samples()
    assert frame.groupby("class_name")["positive"].agg(["sum", "size"]).to_numpy().tolist() == [[4, 8], [4, 8]]
    assert frame.groupby("class_name")["operating_point"].nunique().tolist() == [1, 1]
    rows = {(r.metric, r.class_name, r.radius): r for r in stage.rows if not r.variant}
    names = sorted(frame["class_name"].unique())
    assert {c for m, c, _ in rows if m == "flip_ara"} == {*names, "macro"}
    assert all(r.n in (8, 16) for r in rows.values())
    assert stage.info["facts"]["flip"]["images"] == 16
    for name in names:
        distance = frame.loc[frame["class_name"] == name, "rmse:flip"].to_numpy(np.float64)
        balanced = area(distance, np.ones((1, len(distance))), 0.5)[0]  # as many positives as negatives
        assert rows["flip_ara", name, None].value == pytest.approx(balanced, abs=1e-12)


def test_the_worst_image_in_a_ball_ranks_no_better(made):
    _, result = made
    frame = result.stages[0].read_samples()
    radii = sorted(float(c.partition(":")[2]) for c in frame.columns if str(c).startswith("probability:"))
    assert len(radii) > 2
    for small, large in itertools.pairwise(radii):
        change = frame[f"probability:{large:g}"] - frame[f"probability:{small:g}"]
        assert (change[frame["positive"]] <= 1e-6).all()
        assert (change[~frame["positive"]] >= -1e-6).all()
    found = [r.value for r in result.rows if r.metric == "robust_auroc" and r.class_name == "macro"]
    assert found == sorted(found, reverse=True)


def test_fewer_samples_are_marked(made):
    runs_dir, result = made
    changes = {"evaluations": ("robustness",), "sets": (*SETS[5:-1], "ddn.steps=9"), "limit": 2}
    limited = evaluate(result.run_id, changes, runs_dir, QUIET)
    last = next(s for s in limited.stages if "partial" in s.rows[0].flags)
    assert len(last.read_samples()) == 8
    assert all(r.flags for r in last.rows)
