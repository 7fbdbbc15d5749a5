"""`harness check` from the command line: exit statuses, files, updates."""

import json
import shutil
from pathlib import Path
from xml.etree import ElementTree as xml

import pytest

from harness.gate.spread import ENTRY, measured
from harness.plugins import load_file
from harness.record import from_record, from_run
from harness.store import RunFolder

synthetic = load_file(Path(__file__).parent / "gate" / "synthetic.py")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a folder of runs/ with five seeds and results/ with the record of the first, which knows their spread."""
    base = tmp_path_factory.mktemp("check")
    runs = [synthetic.run(base / "runs", s) for s in range(5)]
    results = [from_run(r) for r in runs]
    synthetic.record(base / "results", runs[0], **{ENTRY: measured(results[0], list(enumerate(results)))})
    return base


@pytest.fixture
def folders(made, tmp_path):
    """Return a copy of both folders that a test may change."""
    return tuple(shutil.copytree(made / name, tmp_path / name) for name in ("runs", "results"))


@pytest.fixture
def check(harness, folders):
    return lambda *more: harness("check", "--runs-dir", folders[0], "--baseline", folders[1], *more)


def make_worse(folders, **options):
    synthetic.run(folders[0], 0, skill=0.2, **{"weights": f"{0:064d}"} | options)


def test_an_open_gate(check, tmp_path):
    code, out, _ = check("--junit", tmp_path / "deep" / "junit.xml")
    assert code == 0
    assert "The gate is open." in out
    assert xml.parse(tmp_path / "deep" / "junit.xml").getroot()[0].get("failures") == "0"


def test_a_regression_is_status_1_with_the_number_and_an_annotation(check, folders, monkeypatch, tmp_path):
    make_worse(folders)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    code, out, _ = check("--junit", tmp_path / "junit.xml")
    assert code == 1
    assert "worse" in out
    assert "::error title=baseline on chestxray14%2C seed 0::auroc (macro)" in out
    assert int(xml.parse(tmp_path / "junit.xml").getroot()[0].get("failures")) > 0
    monkeypatch.delenv("GITHUB_ACTIONS")
    assert "::error" not in check()[1]


def test_json_alone_is_on_stdout(check, folders, monkeypatch):
    make_worse(folders)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    code, out, err = check("--json")
    assert code == 1
    assert json.loads(out)["open"] is False
    assert "::error" in err


def test_what_cannot_be_compared_is_status_4(check, folders):
    run = synthetic.run(folders[0], 0)
    run.update(dataset={**run.info["dataset"], "fingerprint": "0" * 64})
    code, out, _ = check()
    assert code == 4
    assert "other data" in out


def test_a_record_without_a_run_is_no_pass(check, folders, harness):
    other = synthetic.fixtures.write_run(folders[0], 1, pictures=False, run_id="r-1")
    synthetic.record(folders[1], other)
    assert check()[0] == 0
    shutil.rmtree(folders[0] / "r-1")
    code, out, _ = check()
    assert code == 4
    assert "no finished run of it: robust_fgsm" in out
    assert check("--method", "baseline")[0] == 0


def test_nothing_to_compare_is_status_3(check, folders, harness, tmp_path):
    code, _, err = harness("check", "--runs-dir", tmp_path / "none", "--baseline", folders[1])
    assert code == 3
    assert "Make the runs first" in err
    (tmp_path / "empty").mkdir()
    code, _, err = harness("check", "--runs-dir", folders[0], "--baseline", tmp_path / "empty")
    assert code == 3
    assert "no records" in err


def test_bad_input_is_status_2(check, folders, harness, tmp_path):
    assert "nothing is there" in harness("check", "--baseline", tmp_path / "nowhere")[2]
    assert check("--method", "baselin")[0] == 2
    assert "Did you mean 'baseline'" in check("--method", "baselin")[2]
    assert check("--reason", "because")[0] == 2
    assert check("--update")[0] == 2
    assert check("--tolerance", tmp_path / "none.toml")[0] == 2
    damaged = next(folders[1].glob("*.json"))
    damaged.write_text(damaged.read_text()[:-30])
    code, _, err = check()
    assert code == 2
    assert damaged.name in err


def test_a_rule_that_fits_nothing_is_said(check, tmp_path):
    (tmp_path / "t.toml").write_text('[[tolerance]]\ndataset = "cifar10"\nabsolute = 1\n')
    code, out, _ = check("--tolerance", tmp_path / "t.toml")
    assert code == 0
    assert "tolerance rule 1 (dataset = 'cifar10') fits no number that was compared" in out


def test_an_update_stores_its_reason_and_opens_the_gate(check, folders):
    make_worse(folders, weights="a" * 64, run_id="other-id")
    shutil.rmtree(folders[0] / "b-s0")
    old = next(folders[1].glob("*.json"))
    code, out, _ = check("--update", "--reason", "the loss was changed on purpose")
    assert code == 0
    assert "replaced: " in out
    assert not old.exists()
    record = from_record(folders[1] / "other-id.json")
    (why,) = record.info["updates"]
    assert why["reason"] == "the loss was changed on purpose"
    assert why["replaced"]["run_id"] == "b-s0"
    assert record.info[ENTRY]["seeds"] == [0, 1, 2, 3, 4]
    assert len(record.stages[0].read_samples())
    assert check()[0] == 0
    check("--update", "--reason", "again")
    assert [w["reason"] for w in from_record(folders[1] / "other-id.json").info["updates"]] == [why["reason"], "again"]


def test_an_update_that_cannot_be_published_replaces_nothing(check, folders):
    make_worse(folders, weights="a" * 64)
    run = RunFolder(folders[0] / "b-s0")
    run.update(provenance={**run.info["provenance"], "git": {"sha": "0" * 40, "dirty": True}})
    before = {p.name: p.read_bytes() for p in folders[1].iterdir()}
    code, _, err = check("--update", "--reason", "x")
    assert code == 2
    assert "uncommitted changes" in err
    assert {p.name: p.read_bytes() for p in folders[1].iterdir()} == before


def test_publish_with_spread_needs_five_seeds(harness, folders, tmp_path):
    args = ("publish", "b-s0", "--runs-dir", folders[0], "--to", tmp_path / "new", "--spread", "--allow-dirty")
    code, _, err = harness(*args)
    assert code == 0, err
    assert from_record(tmp_path / "new" / "b-s0.json").info[ENTRY]["seeds"] == [0, 1, 2, 3, 4]
    shutil.rmtree(folders[0] / "b-s4")
    code, _, err = harness(*args)
    assert code == 2
    assert "expected 5 or more seeds" in err
