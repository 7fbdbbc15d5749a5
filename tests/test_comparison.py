"""`harness compare`: the numbers, the samples that changed most, and what it answers to bad input."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from support import REPOSITORY

from harness import stats
from harness.changes import changes, pairs, scores
from harness.comparison import ALIKE, BETTER, LINES, UNPAIRED, WORSE, compare
from harness.conditions import conditions, differing
from harness.errors import NothingMeasured, UsageError
from harness.metrics.localisation import pair_iou
from harness.named import find_result
from harness.paired import differences
from harness.plugins import load_file
from harness.record import from_record, from_run
from harness.store import RunFolder

fixtures = load_file(REPOSITORY / "tests" / "report" / "fixtures.py")
RESAMPLES = 60
RECORDS = sorted((REPOSITORY / "results").glob("*.json"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    runs = tmp_path_factory.mktemp("compared") / "runs"
    for number, method in enumerate(("baseline", "robust_fgsm", "lipschitz")):
        fixtures.write_run(runs, number, method=method, seed=0, run_id=f"{method}-s0")
    return runs


@pytest.fixture(scope="module")
def two(folder):
    return from_run(RunFolder(folder / "baseline-s0")), from_run(RunFolder(folder / "robust_fgsm-s0"))


@pytest.fixture(scope="module")
def found(two):
    return compare(*two, resamples=RESAMPLES)


@pytest.fixture
def call(harness, folder, tmp_path):
    def run(*arguments, runs=folder, results=None):
        return harness("compare", *arguments, "--runs-dir", runs, "--results", results or tmp_path / "results")

    return run


def test_p_is_adjusted_over_the_lines_that_are_shown(two, found):
    assert len(found.lines) == LINES
    places = [(line.difference.board, line.difference.key) for line in found.lines]
    plain = {(d.board, d.key): d.p for d in differences(*two, resamples=RESAMPLES, places=places)}
    expected = stats.holm(np.array([plain[p] for p in places]))
    assert [line.adjusted for line in found.lines] == pytest.approx(expected.tolist(), nan_ok=True)


def test_a_word_follows_the_direction_of_the_metric(two, found):
    words = {line.difference.key.label(): line.word for line in found.lines}
    assert words["auroc (macro)"] == BETTER
    assert words["brier (macro)"] == BETTER, "brier is better when it is lower"
    backwards = compare(two[1], two[0], resamples=RESAMPLES)
    words = {line.difference.key.label(): line.word for line in backwards.lines}
    assert words["auroc (macro)"] == words["brier (macro)"] == WORSE
    assert ALIKE in words.values()


def test_sums_come_before_their_parts_and_before_classes(found):
    first = [line.difference.key for line in found.lines[:4]]
    assert {k.evaluation for k in first} == {"classification"}
    assert all(k.class_name == "macro" and not k.variant and k.threshold < 0 for k in first)


def test_what_is_left_out_is_counted(two, found):
    every = compare(*two, every=True, resamples=RESAMPLES)
    assert every.left_out == 0
    assert len(every.lines) == len(found.lines) + found.left_out
    one = compare(*two, metrics=["auroc"], resamples=RESAMPLES)
    assert {line.difference.key.metric for line in one.lines} == {"auroc"}
    assert {c.evaluation for c in one.changed} == {"classification"}
    assert len(one.lines) == 4, "three classes that can be scored and their mean"


def test_numbers_of_one_side_alone_are_counted(two):
    a, b = two
    without = replace(b, stages=[s for s in b.stages if s.info["explainer"] != "saliency"])
    gone = [r for s in b.stages if s.info["explainer"] == "saliency" for r in s.rows if np.isfinite(r.value)]
    assert compare(a, without, resamples=RESAMPLES).only == (len(gone), 0)
    assert compare(without, a, resamples=RESAMPLES).only == (0, len(gone))


def test_the_samples_that_changed_most_are_those_of_a_slow_twin(two):
    one, other = next(p for p in pairs(*two) if p[0].info["explainer"] == "cam")
    made = changes(one, other)
    tables = [fixtures.LocalisationTable.from_frame(s.read_samples()) for s in (one, other)]
    slow = {}
    for table, values in zip(tables, map(pair_iou, tables), strict=True):
        for i, c, v in zip(table.ids, table.class_names, values, strict=True):
            slow.setdefault((i, c), []).append(v)
    expected = sorted(slow, key=lambda k: -abs(slow[k][1] - slow[k][0]) if np.isfinite(slow[k]).all() else 0)
    first = made.samples[0]
    assert (first.sample, first.class_name) == expected[0]
    assert [first.before, first.after] == slow[expected[0]]
    assert len({s.sample for s in made.most(5)}) == 5


def test_a_multilabel_score_is_the_probability_of_what_is_true(two):
    table = fixtures.classification(0.4, 0)
    (made,) = scores(table).values()
    for i, image in enumerate(table.ids[:10]):
        for c, name in enumerate(table.classes):
            p = table.probability[i, c]
            assert made[image, name] == pytest.approx(p if table.label[i, c] else 1 - p)


def test_the_most_probable_class_right_or_wrong_is_noted():
    path = {p.stem.partition("-cifar10")[0]: p for p in RECORDS if "cifar10" in p.stem}
    one, other = from_record(path["lipschitz"]), from_record(path["zoo-pyautoattack-resnet18"])
    stage = {r.run_id: next(s for s in r.stages if s.info["evaluation"] == "classification") for r in (one, other)}
    made = changes(*stage.values())
    assert {s.note for s in made.samples} >= {"right, then wrong", "wrong, then right", "right in both"}
    assert all(s.after < s.before for s in made.samples if s.note == "right, then wrong" and s.before > 0.5)


@pytest.mark.parametrize("path", RECORDS, ids=lambda p: p.stem)
def test_every_evaluation_has_samples_to_compare(path):
    record = from_record(path)
    for stage, _ in pairs(record, record):
        made = changes(stage, stage)
        assert made.shared > 0, f"{made.label}: {made.reason}"
        assert made.samples == []
        assert made.reason == "no sample's score changed"


def test_damaged_samples_are_said_and_leave_the_stored_values(two, tmp_path):
    a, b = two

    def broken():
        raise OSError("cut off")

    damaged = replace(b, stages=[replace(s, read_samples=broken) for s in b.stages])
    found = compare(a, damaged, resamples=RESAMPLES)
    assert {line.word for line in found.lines} == {UNPAIRED}
    assert {c.reason for c in found.changed} == {"the per-sample scores cannot be read"}
    assert "cannot be read" in found.text()


def test_conditions_that_differ(two):
    a, b = two
    assert differing(conditions(a), conditions(b)) == []
    packages = {**b.info["provenance"]["packages"], "torch": "9.9"}
    other = replace(b, info={**b.info, "provenance": {**b.info["provenance"], "packages": packages, "python": "3.99"}})
    assert differing(conditions(a), conditions(other)) == [("python", "3.11.9", "3.99"), ("torch", "not known", "9.9")]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "other"}, "dataset chestxray14 and other"),
        ({"size": 64}, "image size 112 and 64"),
        ({"fingerprint": "9" * 64}, "data 3f3f"),
        ({"settings": "n_test=5"}, "settings of the dataset none and n_test=5"),
    ],
)
def test_other_data_cannot_be_compared(two, change, message):
    a, b = two
    other = replace(b, info={**b.info, "dataset": {**b.info["dataset"], **change}})
    with pytest.raises(UsageError, match=message):
        compare(a, other)


def test_other_protocols_cannot_be_compared(two):
    a, b = two
    stages = [replace(s, rows=[replace(r, protocol_version=99) for r in s.rows]) for s in b.stages]
    with pytest.raises(UsageError, match="protocol version 1 and 99"):
        compare(a, replace(b, stages=stages))


def test_nothing_in_common(two):
    a, b = two
    ones = [replace(r, stages=[s for s in r.stages if (s.info["evaluation"] == "classification") is want])
            for r, want in ((a, True), (b, False))]  # fmt: skip
    with pytest.raises(NothingMeasured, match=r"A has classification .quick.; B has localisation .quick."):
        compare(*ones)


# ---- the command


def test_the_command_prints_and_writes_json(call):
    code, out, err = call("baseline-s0", "rob")
    assert code == 0, err
    assert "A: baseline-s0" in out
    assert "B: robust_fgsm-s0" in out
    assert max(map(len, out.splitlines())) <= 170
    code, out, _ = call("baseline-s0", "rob", "--metric", "auroc", "--json")
    entry = json.loads(out)
    assert [d["metric"] for d in entry["differences"]] == ["auroc"] * 4
    assert entry["a"]["run_id"] == "baseline-s0"


def test_a_record_is_found_by_id_and_by_path(call, folder, tmp_path):
    fixtures.publish(RunFolder(folder / "robust_fgsm-s0"), tmp_path / "results")
    path = tmp_path / "results" / "robust_fgsm-s0.json"
    for name in (path, "robust_fgsm-s0"):
        code, _, err = call("baseline-s0", name, "--metric", "auroc")
        assert code == 0, err
    assert find_result("rob", folder, path.parent).published is False, "a run stands in place of its record"
    assert find_result("rob", None, path.parent).published
    assert find_result(str(folder / "robust_fgsm-s0"), None, path.parent).run_id == "robust_fgsm-s0"


def test_a_run_and_its_own_record_are_alike(call, folder, tmp_path):
    fixtures.publish(RunFolder(folder / "robust_fgsm-s0"), tmp_path / "results")
    code, out, _ = call("robust_fgsm-s0", tmp_path / "results" / "robust_fgsm-s0.json", "--json")
    assert code == 0
    assert {d["difference"] for d in json.loads(out)["differences"]} == {0}


def test_bad_input_is_answered_in_one_sentence(call, folder, tmp_path):
    cases = {
        ("baseline-s0", "robust_fgsn-s0"): "Did you mean 'robust_fgsm-s0'?",
        ("baseline-s0", "baseline-s0"): "baseline-s0 was given twice",
        ("baseline-s0", ""): "no run or record ''",
        ("baseline-s0", "rob", "--metric", "aurocc"): "unknown metric 'aurocc'. Did you mean 'auroc'?",
        ("baseline-s0", "rob", "--out", folder): "expected an empty folder",
    }
    for arguments, message in cases.items():
        code, out, err = call(*arguments)
        assert code == 2
        assert message in err
        assert out == ""
    fixtures.write_run(tmp_path / "more", 0, run_id="robust_fgsm-s1")
    shutil.copytree(folder / "robust_fgsm-s0", tmp_path / "more" / "robust_fgsm-s0")
    code, _, err = call("robust_fgsm-s1", "robust", runs=tmp_path / "more")
    assert code == 2
    assert "is not unique: robust_fgsm-s0, robust_fgsm-s1" in err


def test_a_damaged_record_is_named(call, folder, tmp_path):
    damaged = tmp_path / "record.json"
    for content, message in (("{", "cannot be read"), ('{"record_schema": 1}', "not a record of harness")):
        damaged.write_text(content)
        code, _, err = call("baseline-s0", damaged)
        assert code == 2
        assert message in err


def test_no_common_evaluation_leaves_with_3(call, folder, tmp_path):
    runs = tmp_path / "apart"
    for name, kept in (("baseline-s0", "classification"), ("robust_fgsm-s0", "localisation")):
        shutil.copytree(folder / name, runs / name)
        for stage in (runs / name / "evaluations").iterdir():
            if not stage.name.startswith(kept):
                shutil.rmtree(stage)
    code, _, err = call("baseline-s0", "robust_fgsm-s0", runs=runs)
    assert code == 3
    assert "no number in common" in err
