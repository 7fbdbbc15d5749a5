"""SIGKILL at random moments, a few of those that benchmarks/kills.py carries out by hand."""

import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support import REPOSITORY

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")]


@pytest.fixture(scope="module")
def kills():
    spec = importlib.util.spec_from_file_location("benchmark_kills", REPOSITORY / "benchmarks" / "kills.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_a_killed_prepare_comes_to_the_same_bytes(kills, tmp_path):
    killed, wrong = kills.check(kills.pictures(tmp_path, 200, 512), tmp_path, 2, seed=4, most=2)
    assert len(killed) == 2
    assert wrong == []


def test_a_killed_training_comes_to_the_same_bytes(kills, tmp_path):
    killed, wrong = kills.check(kills.training(epochs=3), tmp_path, 1, seed=1, most=1)
    assert len(killed) == 1
    assert wrong == []


def test_what_differs_or_is_left_over_is_seen(kills, tmp_path):
    scenario = kills.Scenario("made up", lambda _: [], ("cache/*",))
    wanted = {"cache/a": b"1", "cache/b": b"2"}
    (tmp_path / "cache" / "x.partial").mkdir(parents=True)
    (tmp_path / "cache" / "a").write_bytes(b"1")
    (tmp_path / "cache" / "b").write_bytes(b"3")
    (tmp_path / "cache" / ".meta.json.abc.tmp").touch()
    found = kills.compare(scenario, wanted, tmp_path)
    assert sorted(found) == [
        "cache/.meta.json.abc.tmp differs", "cache/.meta.json.abc.tmp is left over", "cache/b differs",
        "cache/x.partial is left over",
    ]  # fmt: skip


def test_a_process_that_goes_on_is_seen(kills, monkeypatch):
    monkeypatch.setattr(kills, "GRACE", 0.5)
    code = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(20)']); time.sleep(20)"
    process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    while len(kills.living(process.pid)) < 2:
        pass
    left = kills.living(process.pid)
    assert kills.kill(process, group=False) == ["1 processes went on after their first one was killed"]
    (other,) = set(left) - {process.pid}
    os.kill(other, signal.SIGKILL)
