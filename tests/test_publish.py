"""`harness publish`: what it refuses, and what a record keeps that the run at hand has not measured."""

import json
import shutil

import pandas as pd
import pytest
from support import REPOSITORY

from harness.publish import LARGEST
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


def rewrite(run, change):
    """Change the rows of the classification."""
    path = stage(run, "classification") / "rows.json"
    rows = json.loads(path.read_text())
    change(rows)
    path.write_text(json.dumps(rows))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[0].update(value="0.5"), "rows.json, row 1: a row's field 'value' holds '0.5'"),
        (lambda rows: rows[0].pop("n"), "row 1: a row has no field 'n'"),
        (lambda rows: rows[3].update(seed=7), "row 4: seed is 7, expected 0"),
        (lambda rows: rows[3].update(run_id="another"), "row 4: run_id is 'another'"),
        (lambda rows: rows[3].update(evaluation_key="old"), "row 4: evaluation_key is 'old'"),
        (lambda rows: rows[3].update(protocol_version=0), "row 4: protocol_version is 0, expected 1"),
        (lambda rows: rows.append(rows[0]), "is there twice"),
        (lambda rows: rows[0].update(value=None, reason=""), "has neither a value nor a reason"),
        (lambda rows: rows[0].update(flags=["random output"]), "it is flagged 'random output'"),
        (lambda rows: rows[0].update(flags=["partial"]), "only a part of the samples was scored"),
    ],
)
def test_rows_that_no_reader_could_trust_are_not_published(publish, run, tmp_path, change, message):
    rewrite(run, change)
    code, _, err = publish()
    assert code == 2
    assert message in err
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "results").exists()


def test_samples_that_no_metric_can_read_are_not_published(publish, run, tmp_path):
    path = stage(run, "classification") / "samples.parquet"
    frame = pd.read_parquet(path)
    frame.drop(columns="patient").to_parquet(path, index=False)
    code, _, err = publish()
    assert code == 2
    assert "patient" in err
    path.write_bytes(path.read_bytes()[:200])
    code, _, err = publish()
    assert code == 2
    assert "samples.parquet: cannot be read" in err
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("name", ["spec", "classes", "fit", "provenance", "dataset"])
def test_a_run_json_without_what_readers_need_is_not_published(publish, run, tmp_path, name):
    info = RunFolder(run).info
    del info[name]
    (run / "run.json").write_text(json.dumps(info))
    code, _, err = publish()
    assert code == 2
    assert f"run.json: expected {name}" in err
    assert not (tmp_path / "results").exists()


def test_a_folder_with_the_run_json_of_another_run_is_not_published(publish, run, tmp_path):
    RunFolder(run).update(run_id="../../escaped")
    code, _, err = publish()
    assert code == 2
    assert "its run.json is that of '../../escaped'" in err
    assert not list(tmp_path.glob("**/escaped*"))


def test_a_record_stays_under_its_limit(publish, run, tmp_path, monkeypatch):
    monkeypatch.setattr("harness.publish.LARGEST", 100_000)
    code, _, err = publish()
    assert code == 2
    assert "expected less than 0 MB (localisation-" in err, "the largest stage is named first"
    assert "Remove the folder of the largest" in err
    assert not (tmp_path / "results").exists()


def test_the_records_of_the_checkout_are_under_the_limit():
    for path in (REPOSITORY / "results").glob("*.json"):
        assert path.stat().st_size + path.with_suffix(".parquet").stat().st_size < LARGEST, path.name


def test_the_same_run_is_the_same_bytes_whatever_the_order_of_its_history(publish, run, tmp_path):
    assert publish()[0] == 0
    path = tmp_path / "results" / f"{run.name}.json"
    before = path.read_bytes(), path.with_suffix(".parquet").read_bytes()
    info = RunFolder(run).info
    (run / "run.json").write_text(json.dumps(dict(reversed(info.items()))))
    assert publish()[0] == 0
    assert (path.read_bytes(), path.with_suffix(".parquet").read_bytes()) == before
