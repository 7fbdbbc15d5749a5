"""The store: complete or absent, locked, and clear about disks."""

import errno
import os
import subprocess
import sys
import time

import pandas as pd
import pytest

from harness import store
from harness.errors import UsageError
from harness.rows import Row
from harness.shards import Shard, Shards
from harness.store import RunFolder, find_run, key_of, read_json, runs, write_bytes, write_json, write_stage

ROW = Row(
    run_id="a", evaluation="classification", evaluation_key="k", metric="auroc", dataset="phantom", split="test",
    size=64, profile="quick", method="baseline", model="resnet44", seed=0, value=1 / 3, n=3, higher_is_better=True,
)  # fmt: skip


def stage(run: RunFolder, name: str = "classification", key: str = "k1") -> None:
    with run.new_stage(name, key) as place:
        write_stage(place, {"evaluation": name, "explainer": ""}, [ROW], pd.DataFrame({"id": ["x"], "p": [1 / 3]}))


def test_key_follows_content_not_order():
    assert key_of({"a": 1, "b": [1, 2]}) == key_of({"b": [1, 2], "a": 1})
    assert key_of({"a": 1}) != key_of({"a": 2})


def test_full_precision_round_trip(tmp_path):
    run = RunFolder(tmp_path / "a")
    run.update(status="complete")
    stage(run)
    (found,) = run.stages()
    assert found.rows()[0].value == 1 / 3
    assert found.samples()["p"].iloc[0] == 1 / 3


def test_a_stage_is_complete_or_absent(tmp_path):
    run = RunFolder(tmp_path / "a")

    def stop_in_the_middle():
        with run.new_stage("classification", "k1") as place:
            write_json(place / "rows.json", [])
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        stop_in_the_middle()
    assert run.stages() == []
    assert not list((run.folder / "evaluations").iterdir())
    stage(run)
    assert len(run.stages()) == 1


def test_leftovers_of_a_killed_process_are_removed(tmp_path):
    run = RunFolder(tmp_path / "a")
    left = run.folder / "evaluations" / ".classification-k1.partial"
    left.mkdir(parents=True)
    (left / "rows.json").write_text("half")
    stage(run)
    assert [p.name for p in (run.folder / "evaluations").iterdir()] == ["classification-k1"]


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store.os, "fsync", full)
    with pytest.raises(UsageError, match="disk is full"):
        write_json(path, {"a": 2})
    assert read_json(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_nan_is_refused(tmp_path):
    with pytest.raises(ValueError, match="Out of range float"):
        write_json(tmp_path / "x.json", {"a": float("nan")})


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
def test_read_only_folder(tmp_path, monkeypatch, code):
    def refuse(*_, **__):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(store.tempfile, "mkstemp", refuse)
    with pytest.raises(UsageError, match=r"cannot be written.*--runs-dir"):
        write_bytes(tmp_path / "x", b"")


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(UsageError, match="a file is in the way"), RunFolder(tmp_path / "runs" / "a").lock():
        pass


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOTSUP])
@pytest.mark.parametrize("part", [False, True])
def test_a_file_system_without_locks(tmp_path, monkeypatch, code, part):
    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("fcntl.flock", refuse)
    folder = RunFolder(tmp_path / "a")
    shard = Shard("0", 1, lambda: pytest.fail("made without a claim"))
    take = (lambda: Shards(folder, "robustness", "abc").make(shard)) if part else folder.lock().__enter__
    with pytest.raises(UsageError, match=r"expected a file system with locks.*--runs-dir") as raised:
        take()
    assert str(tmp_path / "a") in str(raised.value)
    assert os.strerror(code) in str(raised.value)


HOLD = """
import sys, time
from functools import partial
from pathlib import Path
from harness.store import RunFolder
with RunFolder(Path(sys.argv[1])).lock():
    print('held', flush=True)
    time.sleep(60)
"""


def test_two_processes_on_one_run(tmp_path):
    folder = tmp_path / "a"
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(UsageError, match="another process is working on run a"), RunFolder(folder).lock():
            pass
    finally:
        other.kill()
        other.communicate()
    for _ in range(50):  # the system frees the lock of a killed process
        try:
            with RunFolder(folder).lock():
                return
        except UsageError:
            time.sleep(0.1)
    pytest.fail("the lock of a killed process was never freed")


def test_find_run(tmp_path):
    for name in ("baseline-phantom-s0-aa", "baseline-phantom-s1-bb", "robust-phantom-s0-cc"):
        RunFolder(tmp_path / name).update(status="complete")
    assert [r.run_id for r in runs(tmp_path)] == sorted(r.run_id for r in runs(tmp_path))
    assert find_run(tmp_path, "robust").run_id == "robust-phantom-s0-cc"
    assert find_run(tmp_path, str(tmp_path / "robust-phantom-s0-cc")).run_id == "robust-phantom-s0-cc"
    with pytest.raises(UsageError, match="not unique"):
        find_run(tmp_path, "baseline")
    with pytest.raises(UsageError, match=r"no run 'robst-phantom-s0-cc'.*Did you mean 'robust-phantom-s0-cc'"):
        find_run(tmp_path, "robst-phantom-s0-cc")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_damaged_json(tmp_path, content):
    path = tmp_path / "run.json"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="cannot be read"):
        read_json(path)
