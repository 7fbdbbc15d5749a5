"""A suite on a real Ray of several processes: the rows of the local executor, and a worker that is killed in the middle."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from support import REPOSITORY

pytest.importorskip("ray")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds Ray's workers in /proc, which is Linux's"),
]

SUITE = """
[all]
dataset = "phantom"
explainers = ["cam"]
evaluations = ["classification"]
[all.set]
baseline.max_epochs = 1
classification.resamples = 20
phantom = { size = 32, n_train = 48, n_validation = 16, n_test = 60 }
[[runs]]
method = "baseline"
seeds = [0, 1]
[[runs]]
method = "robust_fgsm"
set = { max_epochs = 40, patience = 40 }
"""


def started(folder, runs, *options):
    file = folder / "s.toml"
    file.write_text(SUITE)
    command = ["python", "-m", "harness", "suite", "run", str(file), "--runs-dir", str(runs), "--device", "cpu",
               "--json", *options]  # fmt: skip
    return subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env={**os.environ, "OMP_NUM_THREADS": "1"})  # fmt: skip


def working():
    """Return the processes of Ray that carry a run out at the moment."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if b"ray::attempt" in (place / "cmdline").read_bytes():
                found.append(int(place.name))
        except OSError:
            continue  # it has ended
    return found


def rows_of(runs):
    found = {}
    for path in sorted(runs.glob("*/evaluations/*/rows.json")):
        found[path.relative_to(runs).as_posix()] = json.loads(path.read_text())
    return found


def test_a_worker_that_is_killed_is_replaced_and_the_rows_are_the_same(tmp_path):
    process = started(tmp_path, tmp_path / "ray", "--executor", "ray", "--jobs", "2")
    began, killed = time.monotonic(), False
    while not killed and process.poll() is None and time.monotonic() - began < 400:
        if list((tmp_path / "ray").glob("robust_fgsm-*/fit/resume.pt")):
            for worker in working():
                os.kill(worker, signal.SIGKILL)
                killed = True
        time.sleep(0.1)
    out, err = process.communicate(timeout=400)
    assert process.returncode == 0, out + err
    assert killed, "the worker was killed while it trained"
    assert all(r["complete"] for r in json.loads(out)["runs"])
    process = started(tmp_path, tmp_path / "local")
    _, err = process.communicate(timeout=400)
    assert process.returncode == 0, err
    assert rows_of(tmp_path / "ray") == rows_of(tmp_path / "local") != {}
