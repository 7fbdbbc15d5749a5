"""A suite on a real Ray of several processes: the rows of the local executor, workers that are killed in the middle."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from logged import LOGGED, Log
from support import REPOSITORY

from harness import device as devices

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


ONE = """
[all]
dataset = "phantom"
explainers = ["logged"]
evaluations = ["localisation"]
[all.set]
baseline.max_epochs = 1
localisation = { resamples = 20, batch = 2 }
phantom = { size = 32, n_train = 48, n_validation = 16, n_test = 60 }
[[runs]]
method = "baseline"
"""


def started(folder, runs, *options, text=SUITE, environment=os.environ):
    file = folder / "s.toml"
    file.write_text(text)
    command = ["python", "-m", "harness", "suite", "run", str(file), "--runs-dir", str(runs), "--device", "cpu",
               *options]  # fmt: skip
    return subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env={**environment, "OMP_NUM_THREADS": "1"})  # fmt: skip


def working(task=b"ray::attempt"):
    """Return the processes of Ray that carry a run out at the moment, or assist one."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if task in (place / "cmdline").read_bytes():
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
    process = started(tmp_path, tmp_path / "ray", "--executor", "ray", "--jobs", "2", "--json")
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


def test_a_worker_without_a_run_assists_and_costs_one_part_when_it_is_killed(tmp_path):
    log, runs = Log(tmp_path), tmp_path / "ray"
    (tmp_path / "logged.py").write_text(LOGGED)
    plugin = ("--plugin", str(tmp_path / "logged.py"))
    process = started(tmp_path, runs, "--executor", "ray", "--jobs", "2", *plugin, text=ONE,
                      environment=log.environment(0.3, wait=True))  # fmt: skip
    began, killed = time.monotonic(), 0
    while not killed and process.poll() is None and time.monotonic() - began < 400:
        for worker in working(b"ray::assistance"):
            if log.done_by(worker) and log.at(worker):
                os.kill(worker, signal.SIGKILL)
                killed = worker
        time.sleep(0.02)
    out, err = process.communicate(timeout=400)
    assert process.returncode == 0, out + err
    assert killed, err
    assert "goes on without its assistant, which was killed" in err
    assert len(log.done_by(killed)) >= 1
    done = Counter(log.named("done"))
    again = Counter(log.named("begun")) - done
    assert max(done.values()) == 1, "no part was made twice"
    assert again == Counter([log.at(killed)] if log.at(killed) else []), "but for the one that it was at"
    process = started(tmp_path, tmp_path / "local", *plugin, text=ONE, environment=log.environment(0))
    _, err = process.communicate(timeout=400)
    assert process.returncode == 0, err
    assert rows_of(runs) == rows_of(tmp_path / "local") != {}
    assert not list(runs.rglob("*.shards")) + list(runs.rglob(".shared.json"))


ASK = """
import sys
from pathlib import Path
from harness import device as devices
from harness.errors import UsageError
from harness.executors.cluster import as_workers
from harness.suite import read

def mine(*_):
    sys.exit("that is what this machine has")

if __name__ == "__main__":
    devices.resolve = mine
    machine = {"root": None, "runs_dir": Path("runs"), "plugins": (), "batch_size": None, "device": sys.argv[2]}
    try:
        for spec in as_workers(read(Path(sys.argv[1]), machine).specs, 1, print):
            print(spec.method, spec.device, spec.precision)
    except UsageError as wrong:
        print(wrong)
"""


def asked(folder, device):
    """Return what a worker of Ray says of a suite whose first run names its precision, another process asking."""
    (folder / "ask.py").write_text(ASK)
    (folder / "s.toml").write_text(
        SUITE.replace("[[runs]]", '[[runs]]\nprecision = "fp32"', 1).replace("[0, 1]", "[0]")
    )
    done = subprocess.run([sys.executable, folder / "ask.py", folder / "s.toml", device], cwd=REPOSITORY, text=True,
                          capture_output=True, timeout=100, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_what_auto_means_is_asked_of_a_worker(tmp_path):
    here = devices.resolve()
    assert asked(tmp_path, "auto") == [f"baseline {here.kind} fp32", f"robust_fgsm {here.kind} {here.precision}"]


def test_a_device_that_no_worker_has_is_said_before_anything_is_trained(tmp_path):
    (said,) = asked(tmp_path, "cuda:77")
    assert said.startswith("--executor ray: --device cuda:77: expected a CUDA device")
