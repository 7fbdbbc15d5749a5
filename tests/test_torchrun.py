"""`torchrun -m harness run`: the run of one process, one voice, and an end of all when one ends."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import several
import torch
from support import REPOSITORY
from tiny_network import TINY_NETWORK

from harness.models.checkpoint import read_state

pytestmark = pytest.mark.slow

TROUBLED = '''
import math, os, signal, time
from dataclasses import dataclass
import torch
from harness.api import HarnessError, Supervised, method, setting

@method("troubled", source="test")
@dataclass(frozen=True, kw_only=True)
class Troubled(Supervised):
    """Fails as told, in one process or in all."""
    how: str = setting("", source="test")
    who: int = setting(-1, source="test")

    def loss(self, model, batch, task):
        value = super().loss(model, batch, task)
        rank = int(os.environ.get("RANK", "0"))
        if len(batch) < self.batch_size or self.who not in (rank, -1):
            return value
        if self.how == "memory":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")
        if self.how == "bug":
            raise TypeError("a bug")
        if self.how == "error":
            raise HarnessError("the disk is full")
        if self.how == "interrupt":
            raise KeyboardInterrupt
        if self.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how == "slow":
            time.sleep(0.05)
        return value * math.nan if self.how == "nan" else value
'''
TINY = (
    "phantom.size=32", "n_train=44", "n_validation=10", "n_test=240", "classification.resamples=20", "batch_size=8",
)  # fmt: skip


@pytest.fixture(scope="module")
def plugins(tmp_path_factory) -> list[str]:
    place = tmp_path_factory.mktemp("plugins")
    (place / "tiny.py").write_text(TINY_NETWORK)
    (place / "troubled.py").write_text(TROUBLED)
    return [f"--plugin={place / name}" for name in ("tiny.py", "troubled.py")]


def words(plugins: list[str], runs: Path, method: str, *sets: str) -> list[str]:
    found = ["run", "--method", method, "--dataset", "phantom", "--device", "cpu", "--model", "tiny", *plugins]
    found += ["--evaluation", "classification", "--runs-dir", str(runs)]
    return [*found, *(f"--set={s}" for s in (*TINY, *sets))]


def torchrun(count: int, command: list[str], **more) -> subprocess.Popen:
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(count), "-m", "harness"]
    return subprocess.Popen([*launch, *command], stdout=-1, stderr=-1, text=True, cwd=REPOSITORY, **more)


def said(process: subprocess.Popen) -> tuple[int, str, str]:
    """Return exit status, stdout and stderr; nothing may go on for minutes."""
    try:
        out, err = process.communicate(timeout=240)
    finally:
        process.kill()
    return process.returncode, out, err


def alone(command: list[str]) -> tuple[int, str, str]:
    return said(subprocess.Popen([sys.executable, "-m", "harness", *command], stdout=-1, stderr=-1, text=True,
                                 cwd=REPOSITORY))  # fmt: skip


def run_of(runs: Path, method: str) -> Path:
    (found,) = runs.glob(f"{method}-*")
    return found


def info(runs: Path, method: str) -> dict:
    return json.loads((run_of(runs, method) / "run.json").read_text())


def apart(one: Path, other: Path, method: str) -> float:
    a, b = (read_state(run_of(p, method) / "fit" / "model.safetensors") for p in (one, other))
    floats = [k for k, v in a.items() if v.is_floating_point()]
    return max(float((a[k] - b[k]).abs().max()) for k in floats) / max(float(a[k].abs().max()) for k in floats)


@pytest.fixture(scope="module")
def reference(tmp_path_factory, plugins):
    runs = tmp_path_factory.mktemp("alone")
    status, _, err = alone(words(plugins, runs, "robust_fgsm", "max_epochs=3", "baseline.max_epochs=2"))
    assert status == 0, err
    return runs


def test_two_processes_make_the_run_of_one(reference, plugins, tmp_path):
    """The baseline that it starts from, too: under the same names, with rows, printed once, by one."""
    command = words(plugins, tmp_path, "robust_fgsm", "max_epochs=3", "baseline.max_epochs=2")
    status, out, err = said(torchrun(2, command))
    assert status == 0, err
    assert out.count("Next:") == 1
    assert len(re.findall("robust_fgsm-phantom.*: lowest", err)) == 1, "one note of the training"
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(p.name for p in reference.iterdir())
    for method, tolerance in (("baseline", 1e-5), ("robust_fgsm", 1e-2)):  # FGSM takes a sign, of nearly 0 as well:
        assert apart(reference, tmp_path, method) < tolerance  # one process with two threads is 0.0017 from itself
        one, two = info(reference, method), info(tmp_path, method)
        assert (one["fit"]["processes"], two["fit"]["processes"]) == (1, 2)
        assert two["status"] == "complete"
        assert one["fit"]["key"] == two["fit"]["key"]
        assert two["fit"]["best_validation_loss"] == pytest.approx(one["fit"]["best_validation_loss"], rel=tolerance)
        assert not list(run_of(tmp_path, method).glob("**/resume.pt"))
        assert len(list(run_of(tmp_path, method).glob("evaluations/*/rows.json"))) == 1
    status, out, err = said(torchrun(2, command))  # again: nothing to do
    assert status == 0, err
    assert "trained already, reused" in err


SLOW = ("max_epochs=4", "how=slow")


@pytest.fixture(scope="module")
def left(tmp_path_factory, plugins):
    """Return the runs folder of a training that was left alone."""
    runs = tmp_path_factory.mktemp("left")
    assert alone(words(plugins, runs, "troubled", *SLOW))[0] == 0
    return runs


@pytest.mark.parametrize(("first", "then"), [(2, 3), (2, 1), (1, 2)])
def test_a_killed_training_goes_on_with_another_number_of_processes(plugins, left, tmp_path, first, then):
    """Stopped after its second epoch and given again, it comes to the weights of one that was left alone."""
    command = words(plugins, tmp_path / "killed", "troubled", *SLOW)
    launched = torchrun(first, command, start_new_session=True) if first > 1 else subprocess.Popen(
        [sys.executable, "-m", "harness", *command], stdout=-1, stderr=-1, text=True, cwd=REPOSITORY,
        start_new_session=True,
    )  # fmt: skip
    began = time.monotonic()
    while not list(tmp_path.glob("killed/*/fit/resume.pt")):
        assert launched.poll() is None, said(launched)
        assert time.monotonic() - began < 200
        time.sleep(0.02)
    for process in [launched.pid, *workers(launched.pid)]:
        os.kill(process, signal.SIGKILL)
    launched.communicate()
    (state,) = tmp_path.glob("killed/*/fit/resume.pt")
    assert torch.load(state, weights_only=True)["position"]["epoch"] < 4, "it was killed in time"
    status, _, err = said(torchrun(then, command)) if then > 1 else alone(command)
    assert status == 0, err
    assert apart(left, tmp_path / "killed", "troubled") < 1e-5
    assert info(tmp_path / "killed", "troubled")["fit"]["processes"] == then


def workers(launcher: int) -> list[int]:
    """Return the processes that torchrun has started; each is a session of its own."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == launcher and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def alive(processes: list[int]) -> list[int]:
    return [
        p for p in processes if Path(f"/proc/{p}/stat").exists() and " Z " not in Path(f"/proc/{p}/stat").read_text()
    ]


def statuses(err: str) -> list[int]:
    """Return the exit statuses of the processes as torchrun reports them."""
    return [int(n) for n in re.findall(r"exitcode\s*: (-?\d+) \(pid", err)]


@pytest.mark.parametrize(
    ("how", "who", "expected", "message", "kept"),
    [
        ("nan", -1, {4}, "Error: the loss became nan in epoch 1, step 1 of 6", "failed"),
        ("memory", 1, {4}, "Error: out of memory with 8 images at once", "failed"),
        ("memory", 0, {4}, "Error: out of memory with 8 images at once", "failed"),
        ("error", 0, {4}, "Error: the disk is full", "failed"),
        ("bug", 1, {1}, "Error: process 1 of 2 failed: TypeError: a bug (troubled.py, line", "failed"),
        ("interrupt", 0, {130}, "Interrupted. Finished work is kept", "interrupted"),
        ("interrupt", 1, {130}, "Interrupted. Finished work is kept", "interrupted"),
        ("kill", 1, {-9, 4}, "another one was killed", "failed"),
        ("kill", 0, {-9, 4}, "another one was killed", "running"),
    ],
)
def test_an_error_of_one_ends_all_with_its_status_and_one_message(plugins, tmp_path, how, who, expected, message, kept):
    began = time.monotonic()
    process = torchrun(2, words(plugins, tmp_path, "troubled", "max_epochs=1", f"how={how}", f"who={who}"))
    status, out, err = said(process)
    assert time.monotonic() - began < 120
    assert status != 0
    assert out == ""
    assert set(statuses(err)) == expected, err
    assert len(statuses(err)) == 2
    assert len(re.findall(r"^(Error:|Interrupted)", err, re.M)) == 1, err
    assert message in err
    assert "harness/fit" not in err, "no traceback of ours"
    assert info(tmp_path, "troubled")["status"] == kept


def test_ctrl_c_ends_all(plugins, tmp_path):
    command = words(plugins, tmp_path, "troubled", "max_epochs=500", "patience=500", "how=slow")
    process = torchrun(2, command, start_new_session=True)
    began = time.monotonic()
    while not list(tmp_path.glob("*/fit/resume.pt")):
        assert process.poll() is None, said(process)
        assert time.monotonic() - began < 200
        time.sleep(0.02)
    ranks = workers(process.pid)
    os.kill(process.pid, signal.SIGINT)
    began = time.monotonic()
    _, out, err = said(process)
    assert time.monotonic() - began < 30
    assert out == ""
    assert err.count("Interrupted. Finished work is kept") == 1
    assert info(tmp_path, "troubled")["status"] == "interrupted"
    assert len(ranks) == 2
    assert alive(ranks) == []


def test_where_torchrun_itself_is_killed_its_processes_end(plugins, tmp_path):
    process = torchrun(2, words(plugins, tmp_path, "troubled", "max_epochs=500", "patience=500", "how=slow"))
    while not list(tmp_path.glob("*/fit/resume.pt")):
        assert process.poll() is None, said(process)
        time.sleep(0.02)
    ranks = workers(process.pid)
    assert len(ranks) == 2
    process.kill()
    began = time.monotonic()
    while alive(ranks):
        assert time.monotonic() - began < 20
        time.sleep(0.1)
    assert said(process)[2].count("torchrun itself was stopped") == 1


def test_an_unknown_name_is_said_once(plugins, tmp_path):
    _, _, err = said(torchrun(2, words(plugins, tmp_path, "basline")))
    assert err.count("unknown method 'basline'. Did you mean 'baseline'") == 1
    assert set(statuses(err)) <= {2, -15}


def test_a_process_that_dies_without_torchrun_ends_the_others_in_seconds(plugins, tmp_path):
    """Started as a cluster's own launcher does, with nobody to watch over them."""
    command = words(plugins, tmp_path, "troubled", "max_epochs=1", "how=kill", "who=1")
    processes = several.start(3, ["-m", "harness", *command], stdout=-1, stderr=-1, text=True, cwd=REPOSITORY)
    processes[1].wait(240)
    died = time.monotonic()
    said_by = [p.communicate(timeout=60) for p in processes]
    assert time.monotonic() - died < 30
    assert [p.returncode for p in processes] == [4, -9, 4]
    assert "is gone" in said_by[0][1]
    assert said_by[2][1] == ""
    assert info(tmp_path, "troubled")["status"] == "failed"
