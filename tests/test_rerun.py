"""`harness rerun`: which calls make a record again, and what is said of its numbers."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from support import REPOSITORY

from harness.plugins import catalogue
from harness.record import from_record
from harness.recorded import repeat
from harness.store import RunFolder
from harness.verdict import DIFFERENT, NOISE, ROUNDING, SAME, UNRECORDED, judge

RESULTS = REPOSITORY / "results"
RECORDS = sorted(RESULTS.glob("*.json"))


def record(start):
    (path,) = RESULTS.glob(f"{start}*.json")
    return from_record(path)


@pytest.fixture(scope="module")
def known():
    return catalogue()


# ---- the calls


@pytest.mark.parametrize("path", RECORDS, ids=lambda p: p.stem)
def test_every_stage_of_every_record_is_in_one_call(path, known):
    published = from_record(path)
    made = repeat(published, known)
    calls = (made.base, *made.others)
    assert sorted(name for c in calls for name in c.stages) == sorted(s.name for s in published.stages)
    assert made.left_out == {}
    for call in calls:
        infos = [s.info for s in published.stages if s.name in call.stages]
        assert {i["evaluation"] for i in infos} <= {call.evaluation}
        own = {i["explainer"] for i in infos if i["explainer"] and not i["reference"]}
        assert own <= set(call.explainers)
        for info in infos:
            user = {
                f"{s['component'].partition(' ')[2]}.{s['name']}" for s in info["settings"] if s["set_by"] == "--set"
            }
            assert user <= {s.partition("=")[0] for s in call.sets}


def test_the_same_explainer_with_other_settings_has_a_call_of_its_own(known):
    published = record("zoo-efficientnet")
    made = repeat(published, known)
    sets = [c.sets for c in made.others if "igos_pp" in c.explainers]
    assert len(sets) == sum(s.info["explainer"] == "igos_pp" for s in published.stages) > 1
    assert sum("igos_pp.variant=code" in s for s in sets) == 1
    assert sum("igos_pp.noise=0.0" in s for s in sets) == 1
    assert made.base.evaluation == "classification"
    assert made.base.sets == (), "what it set would be kept by the calls that come after it"


def test_two_settings_of_one_explainer_under_one_evaluation_are_two_calls(known):
    published = record("zoo-efficientnet")
    (stage,) = [s for s in published.stages if s.name == "insertion_deletion-igos-16c325435796"]
    others = [{**s, "value": 7} if s["name"] == "cells" else s for s in stage.info["settings"]]
    other = replace(stage, name="other", info={**stage.info, "settings": others})
    made = repeat(replace(published, stages=[stage, other]), known)
    assert [[s for s in c.sets if "cells" in s] for c in made.others] == [["igos.cells=28"], ["igos.cells=7"]]
    assert [c.stages for c in made.others] == [(stage.name,), ("other",)]


def test_the_settings_of_an_evaluation_and_of_its_attacks_are_restored(known):
    made = repeat(record("adversarial_training-cifar10-s0-5b01"), known)
    (strong,) = [c for c in made.others if "robustness.images=20" in c.sets]
    assert set(strong.sets) == {"robustness.attacks=strong", "robustness.images=20", "algorithm1.variant=code",
                                "algorithm1.clip=True"}  # fmt: skip


def test_what_a_parent_was_made_with_comes_from_its_record(known, tmp_path):
    child, parent = record("robust_fgsm-phantom"), record("baseline-phantom")
    setting = {"component": "method baseline", "name": "max_epochs", "value": 3, "set_by": "--set"}
    for one, more in ((child, []), (parent, [setting])):
        content = json.loads(one.source.read_text())
        content["run"]["settings"] += more
        (tmp_path / one.source.name).write_text(json.dumps(content))
    made = repeat(from_record(tmp_path / child.source.name), known)
    assert made.run["sets"] == ("baseline.max_epochs=3",)
    assert made.notes == ()
    (tmp_path / parent.source.name).unlink()
    made = repeat(from_record(tmp_path / child.source.name), known)
    assert made.run["sets"] == ()
    assert "made again with its default settings" in made.notes[0]


def test_the_runs_it_starts_from_are_scored_cheaply(known):
    made = repeat(record("robust_fgsm-phantom"), known, ["robustness"])
    assert (made.base.evaluation, made.base.stages) == ("classification", ())
    assert [c.evaluation for c in made.others] == ["robustness"]
    assert repeat(record("baseline-phantom"), known, ["robustness"]).base.evaluation == "robustness"


def test_what_this_version_does_not_know_is_said_and_the_rest_goes_on(known):
    published = record("robust_fgsm-phantom")
    stages = [replace(s, info={**s.info, "explainer": "of_a_plugin"}) if s.info["explainer"] == "cam" else s
              for s in published.stages]  # fmt: skip
    made = repeat(replace(published, stages=stages), known)
    assert set(made.left_out) == {s.name for s in published.stages if s.info["explainer"] == "cam"}
    assert all("no explainer 'of_a_plugin'" in reason for reason in made.left_out.values())
    assert {s for c in (made.base, *made.others) for s in c.stages} == {s.name for s in stages} - set(made.left_out)


# ---- the verdict


@pytest.fixture(scope="module")
def published():
    return record("baseline-phantom")


def changed(result, frame=None, rows=None, info=None, stage=None):
    """Return a result with the samples, rows or info of its classification, or the info of its run, replaced."""

    def one(s):
        if s.info["evaluation"] != "classification":
            return s
        read = (lambda: frame(s.read_samples())) if frame else s.read_samples
        return replace(s, read_samples=read, rows=[rows(r) for r in s.rows] if rows else s.rows,
                       info={**s.info, **(stage or {})})  # fmt: skip

    return replace(result, stages=[one(s) for s in result.stages], info={**result.info, **(info or {})})


def rescored(result, noise):
    """Return a result whose probabilities were moved, and the rows that follow from them."""
    from harness.metrics.classification_table import ClassificationTable
    from harness.metrics.summary import summarise

    def move(frame: pd.DataFrame) -> pd.DataFrame:
        rng, frame = np.random.default_rng(3), frame.copy()
        for name in frame.columns[frame.columns.str.startswith("probability:")]:
            frame[name] = noise(frame[name], frame[name.replace("probability:", "label:")], rng)
        return frame

    (stage,) = [s for s in result.stages if s.info["evaluation"] == "classification"]
    table = ClassificationTable.from_frame(move(stage.read_samples()))
    values = {(d["metric"], d["class_name"], d["variant"]): d for d in summarise(table, resamples=20)}
    lines = {k: {n: d[n] for n in ("value", "low", "high")} for k, d in values.items()}
    return changed(result, frame=move, rows=lambda r: replace(r, **lines[r.metric, r.class_name, r.variant]))


def words(verdict):
    return {w: verdict.count(w) for w in (SAME, NOISE, DIFFERENT)}


def test_a_perfect_repeat_is_the_same_everywhere(published):
    verdict = judge(published, published)
    assert words(verdict) == {SAME: len(verdict.findings), NOISE: 0, DIFFERENT: 0}
    assert len(verdict.findings) + verdict.empty == sum(len(s.rows) for s in published.stages)
    assert verdict.causes == {}
    assert verdict.exit_status == 0
    assert "the weights are the same" in verdict.text()


def test_a_trifle_is_the_same_and_more_is_not(published):
    for factor, word in ((1 + 1e-12, SAME), (1 + 1e-6, NOISE)):
        made = changed(published, rows=lambda r, f=factor: replace(r, value=r.value * f))
        verdict = judge(published, made, resamples=20)
        kinds = {f.word for f in verdict.findings if f.before.evaluation == "classification" and f.before.value}
        assert (kinds == {SAME}) is (word == SAME)


def test_noise_and_a_real_difference(published):
    trained = {"fit": {**published.info["fit"], "weights_sha256": "0" * 64}}
    noisy = rescored(published, lambda p, y, rng: (p + rng.normal(0, 0.02, len(p))).clip(0, 1))
    verdict = judge(published, replace(noisy, info={**noisy.info, **trained}), resamples=100)
    by = {f.before.metric: f.word for f in verdict.findings if f.before.class_name == "macro"}
    assert by["auroc"] == NOISE
    better = rescored(published, lambda p, y, rng: (p * 0.5 + y * 0.5).clip(0, 1))
    verdict = judge(published, replace(better, info={**better.info, **trained}), resamples=100)
    by = {f.before.metric: f.word for f in verdict.findings if f.before.class_name == "macro"}
    assert by["auroc"] == DIFFERENT
    assert verdict.exit_status == 1
    (causes,) = verdict.causes.values()
    assert causes[0].startswith("weights: trained again they are others; training is not bit-reproducible here")
    assert "the weights are others" in verdict.text()


def test_an_edited_value_is_different_however_small(published):
    edited = changed(published, rows=lambda r: replace(r, value=r.value + 0.001) if r.metric == "auroc" else r)
    verdict = judge(edited, published, resamples=20)
    assert {f.before.metric for f in verdict.findings if f.word == DIFFERENT} == {"auroc"}
    assert {c for found in verdict.causes.values() for c in found} == {
        "the record itself: a value that it stores does not follow from its own per-sample scores, as this version "
        "computes it"
    }


@pytest.mark.parametrize(
    ("run", "stage", "cause"),
    [
        ({}, {}, UNRECORDED),
        ({"dataset": {"fingerprint": "1" * 64}}, {}, "data: the fingerprint is 111111111111, the record has 7c20"),
        ({"packages": {"torch": "1.0"}}, {}, "version: the weights are the same, the code that scores them is not; torch"),
        ({}, {"git": {"sha": "a" * 40, "dirty": True}}, "version: the weights are the same, the code that scores them "
         "is not; harness commit"),
        ({}, {"device": "NVIDIA H200"}, "device: scored on NVIDIA H200, the record on cpu, "),
        ({}, {"precision": "bf16"}, "precision: scored in bf16, the record in fp32"),
        ({}, {"key": "0"}, "version: a component of the evaluation has another version"),
        ({"fit": {"weights_sha256": "0"}, "precision": "bf16"}, {},
         "weights: trained again they are others; precision fp32 -> bf16"),
        ({"fit": {"weights_sha256": "0"}, "packages": {"torch": "1.0"}}, {},
         "weights: trained again they are others; torch"),
        ({"fit": {"weights_sha256": "0", "device": "NVIDIA H200"}}, {},
         "weights: trained again they are others; device cpu, "),
        ({"fit": {"weights_sha256": "0", "loaded_sha256": "1"}}, {}, "weights: loaded from other files"),
    ],
)  # fmt: skip
def test_the_likely_cause(published, run, stage, cause):
    known = published.info["provenance"]
    packages = {**known["packages"], **run.get("packages", {})}
    provenance = {**known, "packages": packages, "precision": run.get("precision", known["precision"])}
    info = {"provenance": provenance, **{k: {**published.info[k], **run.get(k, {})} for k in ("dataset", "fit")}}
    made = rescored(published, lambda p, y, rng: (p * 0.5 + y * 0.5).clip(0, 1))
    made = changed(made, info=info, stage=stage)
    (causes,) = judge(published, made, resamples=20).causes.values()
    assert causes[0].startswith(cause)


def test_the_last_bits_are_put_down_to_rounding(published):
    made = rescored(published, lambda p, y, rng: (p + 1e-7 * rng.normal(size=len(p))).clip(0, 1))
    verdict = judge(published, made, resamples=20)
    (causes,) = verdict.causes.values()
    assert causes == [ROUNDING, UNRECORDED]
    assert words(verdict)[SAME] < len(verdict.findings)
    other = replace(made, info={**made.info, "fit": {**made.info["fit"], "weights_sha256": "0"}})
    (causes,) = judge(published, other, resamples=20).causes.values()
    assert causes[0].startswith("weights: ")


def test_a_stage_that_was_not_repeated_is_named(published):
    fewer = replace(published, stages=[s for s in published.stages if s.info["evaluation"] == "classification"])
    verdict = judge(published, fewer)
    assert set(verdict.failed) == {s.name for s in published.stages} - {s.name for s in fewer.stages}
    assert verdict.exit_status == 4
    assert judge(published, replace(published, stages=[])).exit_status == 3


@pytest.mark.parametrize(
    ("change", "lacking"),
    [
        (lambda rows: [r for r in rows if r.metric != "auroc"], {"auroc"}),
        (lambda rows: [replace(r, metric="area") if r.metric == "auroc" else r for r in rows], {"auroc"}),
        (lambda rows: [r for r in rows if r.class_name != rows[0].class_name], None),
        (lambda rows: [replace(r, flags=(*r.flags, "partial")) for r in rows], None),
    ],
    ids=["gone", "renamed", "class", "partial"],
)
def test_numbers_that_the_repeat_lacks_are_not_the_same(published, change, lacking):
    (one,) = [s for s in published.stages if s.info["evaluation"] == "classification"]
    kept = change(one.rows)
    stages = [replace(s, rows=kept) if s is one else s for s in published.stages]
    verdict = judge(published, replace(published, stages=stages))
    left = {(r.metric, r.class_name, r.variant) for r in kept if "partial" not in r.flags}
    gone = [r for r in one.rows if np.isfinite(r.value) and (r.metric, r.class_name, r.variant) not in left]
    assert verdict.exit_status == 4
    assert verdict.lacking == len(gone) > 0
    assert set(verdict.failed) == {one.name}
    assert f"{len(gone)} only in the record" in verdict.text()
    assert f"not repeated: {one.name}: the repeat lacks {len(gone)} of its numbers: " in verdict.text()
    assert json.loads(verdict.json())["only_in_the_record"] == len(gone)
    if lacking:
        assert {r.metric for r in gone} == lacking
        assert f"{len(gone)} of its numbers: auroc ({len(gone)})" in verdict.failed[one.name]
    edited = [replace(r, value=r.value + 0.5) for r in kept]
    others = [replace(s, rows=edited) if s is one else s for s in published.stages]
    if "partial" not in kept[0].flags:
        assert judge(published, replace(published, stages=others), resamples=20).exit_status == 1


def test_a_stage_without_rows_is_not_repeated(published):
    one, *rest = published.stages
    empty = replace(published, stages=[replace(one, rows=[]), *rest])
    verdict = judge(empty, published)
    assert verdict.failed == {one.name: "the record has no numbers of it"}
    assert verdict.exit_status == 4
    assert set(judge(published, empty).failed) == {one.name}


def test_a_default_given_by_hand_does_not_hide_the_match(published):
    made = changed(published, rows=lambda r: replace(r, evaluation_settings="resamples=1000"))
    assert words(judge(published, made)) == words(judge(published, published))


# ---- the command


@pytest.fixture(scope="module")
def results(tiny_runs, tmp_path_factory):
    """Return the records of two tiny runs, one of which starts from the other."""
    from harness.publish import publish

    folder = tmp_path_factory.mktemp("records")
    for result in tiny_runs[1]:
        publish(result.run_id, tiny_runs[0], folder, allow_dirty=True)
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("reruns")


@pytest.fixture
def rerun(harness, results, place):
    def call(name, *options, records=results):
        return harness("rerun", name, "--results", records, "--runs-dir", place, "--device", "cpu", *options)

    return call


def test_a_run_repeats_from_its_record_alone(rerun, results, place):
    code, out, err = rerun("robust_fgsm", "--evaluation", "classification", "--evaluation", "localisation")
    assert code == 0, out + err
    made = {RunFolder(p).run_id for p in place.iterdir()}
    assert made == {p.stem for p in results.glob("*.json")}, "the run it starts from is made again as well"
    assert " same, 0 within noise, 0 different" in out
    assert "the weights are the same" in out


def test_an_edited_record_is_found_out(rerun, results, tmp_path):
    for path in results.iterdir():
        shutil.copy(path, tmp_path)
    (path,) = tmp_path.glob("robust*.json")
    content = json.loads(path.read_text())
    stage = next(s for s in content["stages"] if s["info"]["evaluation"] == "classification")
    row = next(r for r in stage["rows"] if r["metric"] == "auroc" and r["class_name"] == "macro")
    row["value"] += 0.01
    path.write_text(json.dumps(content))
    code, out, _ = rerun("robust_fgsm", "--evaluation", "classification", "--json", records=tmp_path)
    assert code == 1
    found = json.loads(out)
    assert found["counts"]["different"] == 1
    assert [n["metric"] for n in found["numbers"] if n["word"] == "different"] == ["auroc"]
    assert next(iter(found["causes"].values()))[0].startswith("the record itself")


def test_a_dry_run_prints_the_commands(rerun, results):
    code, out, err = rerun("robust_fgsm", "--dry-run")
    assert code == 0, err
    lines = [line for line in out.splitlines() if line.startswith("harness ")]
    assert lines[0].startswith("harness run --method robust_fgsm --dataset phantom --seed 0")
    assert "--set baseline.max_epochs=1" in lines[0]
    assert "--set phantom.n_test=240" in lines[0]
    assert any(
        "harness evaluate robust_fgsm-phantom-s0-" in line and "localisation.resamples=50" in line for line in lines
    )
    assert "Nothing was done" in out


def test_bad_input_is_answered_in_one_sentence(rerun, tiny_runs, results, tmp_path):
    weights = tmp_path / "weights.pt"
    weights.write_bytes(b"no weights")
    record = next(results.glob("baseline*.json"))
    loaded, strange = (shutil.copytree(results, tmp_path / name) / record.name for name in ("loaded", "strange"))
    content = json.loads(record.read_text())
    content["run"]["spec"]["checkpoint"] = "mine.pt"
    content["run"]["fit"]["loaded_sha256"] = "5" * 64
    loaded.write_text(json.dumps(content))
    content["run"]["spec"] |= {"method": "of_a_plugin", "plugins": ["mine.py"], "checkpoint": None}
    strange.write_text(json.dumps(content))
    cases = [
        (("robust_fgsn",), "no record 'robust_fgsn'"),
        (("robust_fgsm", "--evaluation", "clasification"), "Did you mean 'classification' or"),
        (("robust_fgsm", "--checkpoint", weights), "loads no file of weights"),
        ((loaded,), "was loaded from mine.pt (sha256 555"),
        ((loaded, "--checkpoint", weights), "expected mine.pt with sha256 555"),
        ((loaded, "--checkpoint", tmp_path / "none.pt"), "nothing is there"),
        ((strange,), "The record was made with mine.py: give them by --plugin."),
        ((tiny_runs[0] / tiny_runs[1][0].run_id,), "expected a published record, got a run"),
    ]
    for arguments, message in cases:
        code, out, err = rerun(*arguments)
        assert code == 2, arguments
        assert message in err
        assert out == ""
