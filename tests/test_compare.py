"""Differences of runs: paired on the same samples, several seeds together."""

import dataclasses

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from harness import stats
from harness.compare import scores, stage_of
from harness.errors import UsageError
from harness.metrics.auroc import auroc
from harness.metrics.classification_table import ClassificationTable


def seeded(result, seed: int, flip: float = 0.0):
    """The run again under another seed, its probabilities moved by noise of that seed."""
    stage = stage_of(result, "classification")
    frame = stage.read_samples()
    rng = np.random.default_rng(seed)
    for c in [c for c in frame if str(c).startswith("probability:")]:
        frame[c] = np.clip(frame[c] + flip * rng.normal(size=len(frame)), 0, 1)
    others = [s for s in result.stages if s.name != stage.name]
    return dataclasses.replace(
        result,
        info={**result.info, "spec": {**result.info["spec"], "seed": seed}},
        stages=[*others, dataclasses.replace(stage, read_samples=lambda: frame)],
    )


def test_one_seed_gives_what_the_stored_rows_say(tiny_runs):
    _, (baseline, _) = tiny_runs
    found = scores([baseline], "classification", resamples=50)
    estimate = found.estimate()
    rows = {(r.metric, r.class_name): r for r in baseline.rows if r.evaluation == "classification"}
    for k, cell in enumerate(found.cells):
        row = rows[cell["metric"], cell["class_name"]]
        assert estimate.value[k] == pytest.approx(row.value, abs=1e-9, nan_ok=True)
        assert estimate.low[k] == pytest.approx(row.low, abs=1e-9, nan_ok=True)


def test_a_difference_is_that_of_stats_paired(tiny_runs):
    _, (a, b) = tiny_runs
    found, p = scores([b], "classification", metrics=["auroc"], resamples=60).minus(
        scores([a], "classification", metrics=["auroc"], resamples=60)
    )
    tables = [ClassificationTable.from_frame(stage_of(r, "classification").read_samples()) for r in (a, b)]
    expected, q = stats.paired(auroc, tables[1], tables[0], tables[0].clusters, resamples=60)
    assert np.allclose(found.value, expected.value, equal_nan=True)
    assert np.allclose(found.low, expected.low, equal_nan=True)
    assert np.allclose(p, q, equal_nan=True)


def test_the_value_over_seeds_is_their_mean(tiny_runs):
    _, (baseline, _) = tiny_runs
    runs = [seeded(baseline, s, 0.1) for s in (2, 0, 1)]
    found = scores(runs, "classification", metrics=["auroc"], resamples=30)
    assert found.seeds == (0, 1, 2)
    k = found.at("auroc", baseline.info["classes"][0])
    by_hand = []
    for run in runs:
        frame = stage_of(run, "classification").read_samples()
        name = baseline.info["classes"][0]
        by_hand.append(roc_auc_score(frame[f"label:{name}"], frame[f"probability:{name}"]))
    assert found.estimate().value[k] == pytest.approx(np.mean(by_hand), abs=1e-9)
    assert found.estimate().standard_error[k] > scores(runs[:1], "classification", metrics=["auroc"],
                                                        resamples=30).estimate().standard_error[k] * 0.5  # fmt: skip


def test_explainers_of_one_run_are_compared_on_the_same_pairs(tiny_runs):
    _, (baseline, _) = tiny_runs
    cam, centre = (scores([baseline], "localisation", e, resamples=20) for e in ("cam", "centre"))
    found, _ = cam.minus(centre)
    k = cam.at("pointing_game", "macro")
    assert found.value[k] == pytest.approx(cam.values[0, k] - centre.values[0, k], nan_ok=True)


def test_what_cannot_be_compared_is_said(tiny_runs):
    _, (baseline, _) = tiny_runs
    whole = scores([baseline], "classification", metrics=["auroc"], resamples=10)
    stage = stage_of(baseline, "classification")
    half = dataclasses.replace(stage, read_samples=lambda: stage.read_samples().iloc[:100])
    part = scores([dataclasses.replace(baseline, stages=[half])], "classification", metrics=["auroc"], resamples=10)
    with pytest.raises(UsageError, match="100 in common"):
        whole.minus(part)
    with pytest.raises(UsageError, match="scored by different metrics"):
        whole.minus(scores([baseline], "classification", metrics=["brier"], resamples=10))
    with pytest.raises(UsageError, match="no metric aurok"):
        scores([baseline], "classification", metrics=["aurok"])
    with pytest.raises(UsageError, match="no localisation of gradcam"):
        scores([baseline], "localisation", "gradcam")
    with pytest.raises(UsageError, match="at least one"):
        scores([], "classification")
    with pytest.raises(UsageError, match="no auroc of Nobody"):
        whole.at("auroc", "Nobody")
