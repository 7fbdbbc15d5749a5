"""`harness publish`: what it refuses, and what a record keeps that the run at hand has not measured."""

import json
import shutil

import pytest

from harness.record import from_record, load_all
from harness.store import RunFolder


@pytest.fixture
def run(tiny_runs, tmp_path):
    """Return a copy of a finished run, as if made by committed code."""
    _, (baseline, _) = tiny_runs
    copy = tmp_path / "runs" / baseline.run_id
    shutil.copytree(baseline.source, copy)
    made_by(copy, {"sha": "x", "dirty": False})
    return copy


def made_by(run, git):
    RunFolder(run).update(provenance={**RunFolder(run).info["provenance"], "git": git})
    for path in run.glob("evaluations/*/stage.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "git": git}))


def stage(run, evaluation):
    (found,) = run.glob(f"evaluations/{evaluation}-*")
    return found


@pytest.fixture
def publish(harness, run, tmp_path):
    def call(*options):
        return harness("publish", run.name, "--runs-dir", run.parent, "--to", tmp_path / "results", *options)

    return call


@pytest.mark.parametrize(
    ("status", "git", "message"),
    [
        ("running", {"sha": "x", "dirty": False}, "its status is 'running'"),
        ("complete", {"sha": "x", "dirty": True}, "uncommitted changes"),
        ("complete", {"sha": None, "dirty": None}, "no known version"),
    ],
)
def test_it_refuses(publish, run, tmp_path, status, git, message):
    made_by(run, git)
    RunFolder(run).update(status=status)
    code, _, err = publish()
    assert code == 2
    assert message in err
    assert not (tmp_path / "results").exists()


def test_a_record_keeps_what_was_measured_of_the_same_weights_elsewhere(publish, run, tmp_path):
    assert publish()[0] == 0
    path = tmp_path / "results" / f"{run.name}.json"
    before = from_record(path)
    gone = stage(run, "localisation-cam")
    expected = next(s for s in before.stages if s.name == gone.name)
    expected = expected.read_samples()
    shutil.rmtree(gone)
    RunFolder(run).update(missing_evaluations={"localisation": "not asked for", "robustness": "not asked for"})

    (together,) = load_all(run.parent, path.parent)[0]  # the report sees both as one run
    assert not together.published
    assert {s.name for s in together.stages} == {s.name for s in before.stages}

    code, _, err = publish()
    assert code == 0, err
    after = from_record(path)
    assert {s.name for s in after.stages} == {s.name for s in before.stages}
    assert sorted(map(str, after.rows)) == sorted(map(str, before.rows))
    again = next(s for s in after.stages if s.name == gone.name).read_samples()
    assert again.equals(expected)
    assert "localisation" not in after.info["missing_evaluations"]


def test_measurements_of_other_weights_are_neither_mixed_nor_lost(publish, run, tmp_path):
    assert publish()[0] == 0
    path = tmp_path / "results" / f"{run.name}.json"
    before = path.read_bytes()
    RunFolder(run).update(fit={**RunFolder(run).info["fit"], "weights_sha256": "0" * 64})
    assert publish()[0] == 0, "every stage was measured anew: nothing is lost"
    path.write_bytes(before)
    gone = stage(run, "localisation-cam").name
    shutil.rmtree(run / "evaluations" / gone)

    code, _, err = publish()
    assert code == 2
    assert "is of other weights" in err
    assert gone in err
    assert path.read_bytes() == before
    (alone,) = load_all(run.parent, path.parent)[0]
    assert gone not in {s.name for s in alone.stages}

    assert publish("--overwrite")[0] == 0
    assert gone not in {s.name for s in from_record(path).stages}
