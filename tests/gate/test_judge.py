"""Verdicts: both rules of protocol.md, 6, and everything that must close the gate because it was not measured."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats as reference

from harness.errors import UsageError
from harness.gate.identity import alike, identity
from harness.gate.judge import judged
from harness.gate.spread import ENTRY, measured, stored
from harness.gate.tolerance import Rule, Tolerances
from harness.plugins import load_file
from harness.record import from_record, from_run

synthetic = load_file(__import__("pathlib").Path(__file__).with_name("synthetic.py"))
RESAMPLES = 60
LOOSE = Tolerances((Rule({}, {"absolute": 0.0, "relative": 0.0}),))


def verdicts(record, runs, tolerances=LOOSE):
    found = judged([(record, runs)], tolerances, resamples=RESAMPLES)
    shown = sorted((v for v in found if v.row is None or v.row.threshold is None), key=lambda v: v.state != "new")
    return {(v.row.metric, v.row.explainer) if v.row else "whole": v for v in shown}


def states(found):
    return {v.state for v in found.values()}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Return a runs folder with eight honest seeds, and the record of seed 0 with their spread."""
    base = tmp_path_factory.mktemp("gate")
    runs = [from_run(synthetic.run(base / "runs", s)) for s in range(8)]
    spread = measured(runs[0], list(enumerate(runs)))
    path = synthetic.record(base / "results", synthetic.run(base / "again", 0), **{ENTRY: spread})
    return base, runs, from_record(path)


def test_the_same_run_is_the_same(store):
    _, runs, record = store
    found = verdicts(record, runs)
    assert states(found) == {"same"}
    assert {v.mode for v in found.values()} == {"same weights"}


def rescored(store, name, **options):
    """Return a run of the record's weights whose scores are others."""
    base, _, record = store
    weights = record.info["fit"]["weights_sha256"]
    return from_run(synthetic.run(base / name, 0, weights=weights, **options))


def test_same_weights_worse_scores_close_it(store):
    found = verdicts(store[2], [rescored(store, "worse", skill=0.3)])
    assert found["auroc", ""].state == "worse"
    assert found["auroc", ""].loss > 0.1
    assert found["auroc", ""].mode == "same weights"
    assert found["pointing_game", "centre"].state == "same", "the reference row knows no model"


def test_same_weights_better_scores_open_it(store):
    assert verdicts(store[2], [rescored(store, "better", skill=3.0)])["auroc", ""].state == "better"


def test_a_loss_within_the_tolerance_passes(store):
    worse = rescored(store, "worse", skill=0.3)
    allowed = Tolerances((Rule({"metric": "auroc"}, {"absolute": 0.9}),))
    assert verdicts(store[2], [worse], allowed)["auroc", ""].state == "within"
    ignored = verdicts(store[2], [worse], Tolerances((Rule({}, {"ignore": "for a test"}),)))
    assert states(ignored) == {"ignored"}


def test_a_loss_that_chance_explains_passes(store):
    """The scores moved by noise: some number is below its record's, none by more than its paired interval."""
    found = verdicts(store[2], [rescored(store, "noise", skill=1.0, noise=3)])
    losses = [v for v in found.values() if v.loss > 0 and v.state == "within"]
    assert losses
    assert "worse" not in states(found)


def test_retrained_is_held_against_the_mean_of_the_seeds(store):
    base, runs, record = store
    other = from_run(synthetic.run(base / "other", 9, skill=0.8))
    v = verdicts(record, [other])["auroc", ""]
    values = np.array(
        [next(r.value for r in run.rows if (r.metric, r.class_name) == ("auroc", "macro")) for run in runs]
    )
    assert v.before == pytest.approx(values.mean())
    scatter = values.std(ddof=1) * math.sqrt(1 + 1 / 8)
    assert v.tolerance == pytest.approx(3 * scatter)
    t = (values.mean() - v.after) / scatter
    found = judged([(record, [other])], LOOSE, resamples=RESAMPLES)
    raw = reference.t.sf(t, 7)
    assert v.p >= raw, "Holm never makes a p-value smaller"
    assert v.p <= min(1.0, raw * len(found)) + 1e-12
    assert v.mode == "retrained"
    assert v.note == "1 run against 8 seeds"


def test_honest_retraining_passes_and_a_bad_one_does_not(store):
    base, _, record = store
    honest = [from_run(synthetic.run(base / "honest", s)) for s in (20, 21)]
    assert not states(verdicts(record, honest)) & {"worse", "failed"}
    bad = [from_run(synthetic.run(base / "bad", s, skill=0.2)) for s in (20, 21)]
    found = verdicts(record, bad)
    assert found["auroc", ""].state == "worse"
    assert found["auroc", ""].note == "2 runs against 8 seeds"


def test_retrained_without_a_spread_fails_unless_a_rule_says_how_much(store, tmp_path):
    base, _, _ = store
    record = from_record(synthetic.record(tmp_path, synthetic.run(base / "again", 0)))
    other = from_run(synthetic.run(base / "other2", 0, noise=9, weights="f" * 64))
    found = verdicts(record, [other])
    assert found["auroc", ""].state == "failed"
    assert "--spread" in found["auroc", ""].note
    allowed = Tolerances((Rule({}, {"retrained": 0.9}),))
    assert not states(verdicts(record, [other], allowed)) & {"worse", "failed"}


def changed(run, **info):
    return replace(run, info={**run.info, **info})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: changed(r, status="failed"), "its status is 'failed'"),
        (lambda r: changed(r, dataset={**r.info["dataset"], "fingerprint": "0" * 64}), "other data"),
        (lambda r: rows(r, lambda x: replace(x, flags=("random output",))), "flagged random output"),
    ],
)
def test_a_run_that_cannot_be_compared_fails_as_a_whole(store, change, message):
    found = verdicts(store[2], [change(store[1][0])])
    assert list(found) == ["whole"]
    assert found["whole"].state == "failed"
    assert message in found["whole"].note


def rows(run, change):
    return replace(run, stages=[replace(s, rows=[change(r) for r in s.rows]) for s in run.stages])


def auroc_only(change):
    return lambda row: change(row) if (row.metric, row.class_name) == ("auroc", "macro") else row


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: replace(x, value=math.nan, reason="NaN"), "no value now: NaN"),
        (lambda x: replace(x, n=x.n - 1), "rests on n"),
        (lambda x: replace(x, metric="accuracy"), "not measured"),
        (lambda x: replace(x, profile="paper"), "but under chestxray14 · test · 112 px · paper"),
        (lambda x: replace(x, protocol_version=2), "protocol 2"),
        (lambda x: replace(x, evaluation_settings="images=3"), "not measured"),
        (lambda x: replace(x, value=x.value + 0.1), "does not follow from its per-sample scores"),
    ],
)
def test_a_number_that_cannot_be_compared_fails(store, change, message):
    found = verdicts(store[2], [rows(store[1][0], auroc_only(change))])
    assert found["auroc", ""].state == "failed"
    assert message in found["auroc", ""].note
    assert found["average_precision", ""].state == "same"


def test_a_metric_that_computes_something_worse_from_the_same_samples_is_worse(store):
    found = verdicts(store[2], [rows(store[1][0], auroc_only(lambda x: replace(x, value=x.value - 0.1)))])
    assert found["auroc", ""].state == "worse"
    assert found["auroc", ""].loss == pytest.approx(0.1)


def test_no_run_fails(store):
    found = verdicts(store[2], [])
    assert found["whole"].state == "failed"
    assert "no finished run of it: baseline on chestxray14, seed 0" in found["whole"].note


def test_a_sampling_rule_that_follows_the_model_may_change_n(store):
    def until_right(stage):
        return replace(stage, info={**stage.info, "facts": {"sampling": "until_right"}},
                       rows=[auroc_only(lambda x: replace(x, n=x.n - 1))(r) for r in stage.rows])  # fmt: skip

    run = replace(store[1][0], stages=[until_right(s) for s in store[1][0].stages])
    assert verdicts(store[2], [run])["auroc", ""].state == "same"


def test_what_the_record_does_not_have_is_new_and_passes(store, tmp_path):
    _, runs, record = store
    without = replace(record, stages=[s for s in record.stages if s.info["explainer"] != "cam"])
    found = verdicts(without, [runs[0]])
    assert found["pointing_game", "cam"].state == "new"
    assert not states(found) & {"worse", "failed"}


def test_a_spread_is_what_the_seeds_say_and_five_are_needed(store):
    _, runs, record = store
    with pytest.raises(UsageError, match="expected 5 or more seeds"):
        measured(runs[0], list(enumerate(runs[:4])))
    found = stored(record)
    place = next(p for p in found if (p[1].metric, p[1].class_name) == ("auroc", "macro"))
    values = [next(r.value for r in run.rows if (r.metric, r.class_name) == ("auroc", "macro")) for run in runs]
    assert (found[place].mean, found[place].sd) == pytest.approx((np.mean(values), np.std(values, ddof=1)))
    assert found[place].seeds == 8


@pytest.mark.parametrize(
    "entry",
    [{"seeds": [0, 1], "stages": {}}, {"seeds": list(range(5))}, {"seeds": list(range(5)), "stages": {}}, [1], "x",
     {"seeds": list(range(5)), "stages": {"classification-000000000000": [["a", "b"]]}}],
)  # fmt: skip
def test_a_damaged_spread_is_one_error(store, entry):
    with pytest.raises(UsageError, match="spread cannot be read"):
        stored(replace(store[2], info={**store[2].info, ENTRY: entry}))


def test_seeds_of_one_thing_are_found_among_others(store):
    base, runs, record = store
    other = from_run(synthetic.fixtures.write_run(base / "else", 1, pictures=False))
    assert [r.run_id for r in alike([*runs[::-1], other], identity(record))] == [r.run_id for r in runs]
