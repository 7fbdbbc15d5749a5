"""The index of a folder's runs: the same listing as without it, and every change of a run is seen."""

import json
import os
import shutil
from pathlib import Path

import pytest

from harness import listing, run_index
from harness.plugins import load_file
from harness.store import RunFolder, write_json


@pytest.fixture
def runs_dir(tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(run_index, "SETTLED", -1.0)  # else what a test has just written is not kept
    made = load_file(Path(__file__).parent / "report" / "fixtures.py")
    for number in range(3):
        made.write_run(tmp_path / "runs", number, resamples=5, tables={"classification": made.classification(1.0)})
    return tmp_path / "runs"


@pytest.fixture
def read(monkeypatch):
    """Return the names of the runs that were read, in a list that grows."""
    names, entry = [], listing._entry
    monkeypatch.setattr(listing, "_entry", lambda folder: names.append(folder.name) or entry(folder))
    return names


def test_runs_that_are_as_they_were_are_not_read(runs_dir, read):
    first = listing.runs(runs_dir)
    names = [e["name"] for e in first]
    assert read == names == sorted(p.name for p in runs_dir.iterdir())
    assert first[0]["evaluations"].startswith("classification")
    assert listing.runs(runs_dir) == first
    assert read == names
    assert sorted(p.name for p in runs_dir.iterdir()) == names  # nothing is written beside the runs


def rewrite(run: Path) -> None:
    """Write other content of the same length over run.json in place, with its times put back."""
    path, before = run / "run.json", (run / "run.json").stat()
    with path.open("r+b") as file:
        file.write(path.read_bytes().replace(b'"complete"', b'"replaced"'))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def stage(run: Path) -> Path:
    return next(p for p in (run / "evaluations").iterdir() if p.name.startswith("classification"))


def another(run: Path) -> None:
    added = stage(run).with_name("trust-000000000000")
    shutil.copytree(stage(run), added)
    write_json(added / "stage.json", json.loads((added / "stage.json").read_text()) | {"evaluation": "trust"})


def bad_gallery(run: Path) -> None:
    """Put a stage in place whose gallery is damaged: as a restored backup would."""
    old = stage(run)
    shutil.copytree(old, old.with_name(".copy"))
    (old.with_name(".copy") / "gallery").mkdir()
    (old.with_name(".copy") / "gallery" / "gallery.json").write_text("{")
    shutil.rmtree(old)
    old.with_name(".copy").rename(old)


CHANGES = {
    "a new status": lambda run: RunFolder(run).update(status="failed", message="the disk is full"),
    "rewritten in place, same size and time": rewrite,
    "a stage is gone": lambda run: shutil.rmtree(stage(run)),
    "one more stage": another,
    "rows cut off": lambda run: cut(stage(run) / "rows.json"),
    "a stage's info is no object": lambda run: write_json(stage(run) / "stage.json", []),
    "a history that is no history": lambda run: (run / "fit" / "history.jsonl").write_text("{\n"),
    "a gallery that cannot be read": bad_gallery,
    "the run is gone": shutil.rmtree,
    "no run.json": lambda run: (run / "run.json").unlink(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_is_seen(runs_dir, read, change, monkeypatch):
    before = listing.runs(runs_dir)
    (runs_dir / "other").mkdir(exist_ok=True)
    read.clear()
    change(runs_dir / before[1]["name"])
    after = listing.runs(runs_dir)
    assert set(read) <= {before[1]["name"]}
    monkeypatch.setenv("HARNESS_CACHE", str(runs_dir.parent / "another cache"))
    fresh = listing.runs(runs_dir)
    assert after == fresh
    assert after != before
    assert after[0] == before[0]


def test_what_cannot_be_read_is_not_kept(runs_dir, read):
    name = listing.runs(runs_dir)[0]["name"]
    cut(stage(runs_dir / name) / "rows.json")
    for _ in range(2):
        read.clear()
        assert listing.runs(runs_dir)[0]["status"] == "unreadable"
        assert read == [name]


def test_what_was_just_written_is_not_kept(runs_dir, read, monkeypatch):
    monkeypatch.setattr(run_index, "SETTLED", 3600.0)
    assert listing.runs(runs_dir) == listing.runs(runs_dir)
    assert len(read) == 6


def wrong(runs: str) -> str:
    return json.dumps({"reader": run_index._reader(), "runs": json.loads(runs)})


BAD = {
    "empty": "",
    "cut off": '{"reader": "ab", "runs": {"a": ["b", [',
    "no object": "[]",
    "of other code": '{"reader": "ab", "runs": {}}',
    "runs are a list": lambda: wrong("[1, 2]"),
    "an entry too short": lambda: wrong('{"NAME": ["stamp"]}'),
    "stages are numbers": lambda: wrong('{"NAME": ["stamp", [1, 2], {}]}'),
    "an entry that is a text": lambda: wrong('{"NAME": ["stamp", [], "text"]}'),
    "deep": "[" * 100_000,
}


@pytest.mark.parametrize("content", BAD.values(), ids=BAD)
def test_a_bad_index_is_made_anew(runs_dir, read, content):
    before = listing.runs(runs_dir)
    path = run_index.path_of(runs_dir)
    good = path.read_bytes()
    text = content() if callable(content) else content
    path.write_text(text.replace("NAME", before[0]["name"]))
    assert listing.runs(runs_dir) == before
    assert len(read) == 6
    assert path.read_bytes() == good


def test_a_cache_that_cannot_be_written_costs_time_alone(runs_dir, read, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "file"))
    assert listing.runs(runs_dir) == listing.runs(runs_dir)
    assert len(read) == 6


def test_no_folder_and_no_index(tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    assert listing.runs(tmp_path / "nothing") == []
    assert not (tmp_path / "cache").exists()
