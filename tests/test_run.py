"""A whole run on a tiny phantom: what it stores, what it reuses, what it refuses."""

import dataclasses
import json
import math

import pytest
from jsonschema import Draft202012Validator
from support import TINY

from harness import run as running
from harness import stages
from harness import trained as trained_models
from harness.console import Reporter
from harness.errors import HarnessError, UsageError
from harness.plan import RunSpec, make
from harness.record import from_record, from_run, write_record
from harness.rows import json_schema
from harness.run import execute
from harness.store import RunFolder

QUIET = Reporter(quiet=True)


def spec(runs_dir, **changes) -> RunSpec:
    sets = TINY
    if changes.get("evaluations") == ("classification",):
        sets = tuple(s for s in TINY if s.partition(".")[0] not in ("localisation", "insertion_deletion"))
    base = RunSpec(method="baseline", dataset="phantom", sets=sets, device="cpu", runs_dir=runs_dir)
    return dataclasses.replace(base, **changes)


def test_robust_fgsm_makes_the_baseline_first_as_a_full_run(tiny_runs):
    _, (baseline, robust) = tiny_runs
    assert baseline.run_id.startswith("baseline-phantom-s0-")
    assert robust.run_id.startswith("robust_fgsm-phantom-s0-")
    assert robust.info["start_from"] == baseline.run_id
    for result in (baseline, robust):
        assert result.info["status"] == "complete"
        stages = {(s.info["evaluation"], s.info["explainer"]) for s in result.stages}
        explainers = ("cam", "saliency", "random_map", "centre", "whole_image")
        mapped = {(v, e) for v in ("localisation", "insertion_deletion") for e in explainers}
        assert stages == {("classification", ""), *mapped}
        assert result.info["missing_evaluations"].keys() == {"robustness"}


def test_the_robust_model_starts_from_the_baseline_s_weights(tiny_runs, tmp_path, monkeypatch):
    """With a learning rate of zero nothing but BatchNorm's statistics may differ from the baseline."""
    from harness.models.checkpoint import read_state

    runs_dir, (baseline, _) = tiny_runs
    sets = (*TINY, "baseline.max_epochs=1", "learning_rate=0")
    _, still = execute(spec(runs_dir, method="robust_fgsm", sets=sets), QUIET)
    a, b = (read_state(r.source / "fit" / trained_models.WEIGHTS) for r in (baseline, still))
    differing = {k.rsplit(".", 1)[1] for k in a if not (a[k] == b[k]).all()}
    assert differing <= {"running_mean", "running_var", "num_batches_tracked"}


def test_rows_are_valid_and_carry_their_context(tiny_runs):
    _, results = tiny_runs
    validator = Draft202012Validator(json_schema())
    for result in results:
        for row in result.rows:
            validator.validate(row.to_json())
            assert (row.run_id, row.dataset, row.size, row.split) == (result.run_id, "phantom", 32, "test")
            assert math.isnan(row.low) == math.isnan(row.high)
            assert not math.isnan(row.value) or row.reason, row
    macro = [r for r in results[0].rows if (r.metric, r.class_name) == ("auroc", "macro")]
    assert len(macro) == 1
    assert macro[0].low < macro[0].value < macro[0].high


def test_the_same_command_twice_does_nothing_twice(tiny_runs, monkeypatch):
    runs_dir, results = tiny_runs
    monkeypatch.setattr(trained_models, "_train", lambda *_: pytest.fail("trained again"))
    monkeypatch.setattr(running, "write_stage", lambda *_: pytest.fail("scored again"))
    again = execute(spec(runs_dir, method="robust_fgsm", sets=(*TINY, "baseline.max_epochs=1")), QUIET)
    assert [r.run_id for r in again] == [r.run_id for r in results]


def test_evaluate_adds_an_explainer_without_training(tiny_runs, monkeypatch):
    runs_dir, (baseline, _) = tiny_runs
    monkeypatch.setattr(trained_models, "_train", lambda *_: pytest.fail("trained again"))
    before = {s.folder.name for s in RunFolder(baseline.source).stages()}  # other tests may have added some
    changes = {"explainers": ("gradcam",), "evaluations": ("localisation",)}
    after = running.evaluate(baseline.run_id, changes, runs_dir, QUIET)
    (new,) = {s.name for s in after.stages} - before
    assert new.startswith("localisation-gradcam-")


def test_a_setting_changes_the_key_of_its_stage_alone(tiny_runs):
    runs_dir, (baseline, _) = tiny_runs
    work = _work(spec(runs_dir))
    other = _work(spec(runs_dir, sets=(*TINY, "classification.batch=32")))
    slower = _work(spec(runs_dir, sets=(*TINY, "learning_rate=0.001")))
    assert work.fit_key == other.fit_key != slower.fit_key
    assert baseline.run_id.endswith(work.fit_key)
    keys = {n: [_key(w, n) for w in (work, other, slower)]
            for n in ("classification", "localisation")}  # fmt: skip
    assert len(set(keys["classification"])) == 3
    assert keys["localisation"][0] == keys["localisation"][1] != keys["localisation"][2]


def _key(work: running.Work, evaluation: str) -> str:
    step = stages.Step(work.plan.evaluations[evaluation], None)
    return stages.stage_key(work.plan, work.prepared, work.compute, work.fit_key, step)


def _work(found: RunSpec) -> running.Work:
    plan = make(found)
    prepared = running.prepare_data(plan, QUIET)
    compute = running.devices.resolve("cpu")
    key = running.fit_key(plan, prepared, compute, None)
    return running.Work(plan, prepared, compute, RunFolder(found.runs_dir / "x"), key, QUIET)


def test_seeds_are_runs_of_their_own(tiny_runs):
    runs_dir, (baseline, _) = tiny_runs
    (other,) = execute(spec(runs_dir, seed=1, evaluations=("classification",)), QUIET)
    assert other.run_id != baseline.run_id
    assert other.info["fit"]["weights_sha256"] != baseline.info["fit"]["weights_sha256"]


def test_training_repeats_bit_for_bit(tiny_runs, tmp_path):
    _, (baseline, _) = tiny_runs
    (again,) = execute(spec(tmp_path, evaluations=("classification",)), QUIET)
    assert again.info["fit"]["weights_sha256"] == baseline.info["fit"]["weights_sha256"]
    assert _numbers(again, "classification") == _numbers(baseline, "classification")


def _numbers(result, evaluation):
    return [(r.metric, r.class_name, repr(r.value), repr(r.low)) for r in result.rows if r.evaluation == evaluation]


def test_batch_size_changes_no_key_and_no_number_beyond_rounding(tiny_runs, tmp_path):
    _, (baseline, _) = tiny_runs
    weights = baseline.source / "fit" / trained_models.WEIGHTS
    loaded = dict(checkpoint=weights, evaluations=("classification",))
    (whole,) = execute(spec(tmp_path / "a", **loaded), QUIET)
    (split,) = execute(spec(tmp_path / "b", **loaded, batch_size=7), QUIET)
    assert whole.stages[0].name == split.stages[0].name
    a, b = (r.stages[0].read_samples().filter(like="probability:").to_numpy() for r in (whole, split))
    assert abs(a - b).max() < 1e-5
    assert all("loaded" in row.flags for row in whole.rows)
    assert all(row.settings.endswith("checkpoint=model.safetensors") for row in whole.rows)


def test_limit_marks_every_row_partial_and_scores_a_prefix(tiny_runs, tmp_path):
    _, (baseline, _) = tiny_runs
    weights = baseline.source / "fit" / trained_models.WEIGHTS
    runs = [
        execute(spec(tmp_path, checkpoint=weights, evaluations=("classification",), limit=n), QUIET)[0]
        for n in (20, 40)
    ]
    short, long = (
        next(set(s.read_samples()["id"]) for s in runs[-1].stages if len(s.read_samples()) == n) for n in (20, 40)
    )
    assert short < long
    partial = [r for s in runs[-1].stages for r in s.rows]
    assert all("partial" in row.flags for row in partial)


def test_interrupted_and_failed_runs_say_so_and_go_on(tmp_path, monkeypatch):
    real = trained_models.train

    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(trained_models, "train", stop)
    with pytest.raises(KeyboardInterrupt):
        execute(spec(tmp_path), QUIET)
    (folder,) = tmp_path.iterdir()
    assert RunFolder(folder).info["status"] == "interrupted"

    def fail(*_, **__):
        raise HarnessError("the loss became nan")

    monkeypatch.setattr(trained_models, "train", fail)
    with pytest.raises(HarnessError):
        execute(spec(tmp_path), QUIET)
    assert RunFolder(folder).info["status"] == "failed"
    assert "the loss became nan" in RunFolder(folder).info["message"]
    monkeypatch.setattr(trained_models, "train", real)
    (done,) = execute(spec(tmp_path, evaluations=("classification",)), QUIET)
    assert done.info["status"] == "complete"


def test_redo_trains_again(tiny_runs, tmp_path, monkeypatch):
    runs = spec(tmp_path, evaluations=("classification",))
    execute(runs, QUIET)
    trained = []
    real = trained_models._train
    monkeypatch.setattr(trained_models, "_train", lambda *a: (trained.append(1), real(*a))[1])
    execute(dataclasses.replace(runs, existing="redo"), QUIET)
    assert trained == [1]


def test_run_json_holds_no_place_of_this_machine(tiny_runs):
    runs_dir, results = tiny_runs
    for result in results:
        text = json.dumps([result.info, [s.info for s in result.stages]])
        assert str(runs_dir) not in text
        assert "/tmp" not in text


def test_records_hold_the_same_rows_and_samples(tiny_runs, tmp_path):
    _, (baseline, _) = tiny_runs
    record = from_record(write_record(baseline, tmp_path))
    assert [r.to_json() for r in record.rows] == [r.to_json() for r in baseline.rows]
    for ours, theirs in zip(baseline.stages, record.stages, strict=True):
        a, b = ours.read_samples(), theirs.read_samples()
        assert set(a.columns) == set(b.columns), ours.name
        assert a["id"].tolist() == b["id"].tolist()
    assert not list(tmp_path.glob("*.png"))


def test_a_model_without_exact_cam_says_so_and_scores_the_rest(tiny_runs, tmp_path):
    plugin = tmp_path / "plug.py"
    plugin.write_text(MODEL)
    runs = spec(tmp_path / "runs", model="flat", plugins=(str(plugin),))
    (result,) = execute(runs, QUIET)
    assert "no exact class activation map" in result.info["missing_evaluations"]["localisation-cam"]
    assert "saliency" in {s.info["explainer"] for s in result.stages}


MODEL = '''
from torch import nn
from harness.api import Classifier, model

@model("flat", source="test")
def flat(*, num_classes, channels, mean, std, weights: str | None = None):
    """A model whose head is not linear on averages."""
    from harness.api import Normalise
    features = nn.Sequential(nn.Conv2d(channels, 4, 3, stride=4), nn.BatchNorm2d(4), nn.ReLU())
    head = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, num_classes))
    return Classifier(Normalise(mean, std), features, head, num_classes=num_classes)
'''


METRIC = '''
import numpy as np
from harness.api import metric

@metric("prevalence", source="test", evaluation="classification", per="class", higher_is_better=True)
def prevalence(table, weights):
    """Share of the positives."""
    share = weights @ table.label / weights.sum(1, keepdims=True)
    return np.concatenate([share, share.mean(1, keepdims=True)], 1)
'''


def test_a_metric_of_a_plugin_has_rows_with_intervals(tiny_runs, tmp_path, monkeypatch):
    plugin = tmp_path / "prevalence.py"
    plugin.write_text(METRIC)
    runs_dir, (baseline, _) = tiny_runs
    monkeypatch.setattr(trained_models, "_train", lambda *_: pytest.fail("a metric never retrains"))
    changes = {"evaluations": ("classification",), "plugins": (str(plugin),)}
    result = running.evaluate(baseline.run_id, changes, runs_dir, QUIET)
    rows = {r.class_name: r for r in result.rows if r.metric == "prevalence"}
    assert set(rows) == {*result.info["classes"], "macro"}
    positives = result.info["dataset"]["positives"]["Mass"]["test"]
    assert rows["Mass"].value == pytest.approx(positives / result.info["dataset"]["counts"]["test"])
    assert rows["Mass"].low < rows["Mass"].value < rows["Mass"].high


def test_evaluating_on_other_data_is_refused(tiny_runs):
    runs_dir, (baseline, _) = tiny_runs
    with pytest.raises(UsageError, match="fingerprint"):
        running.evaluate(baseline.run_id, {"sets": (*TINY, "n_test=200")}, runs_dir, QUIET)


def test_records_and_runs_read_alike(tiny_runs):
    _, (baseline, _) = tiny_runs
    assert from_run(RunFolder(baseline.source)).run_id == baseline.run_id
