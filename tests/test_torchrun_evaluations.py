"""Evaluations of a run that `torchrun -m harness run` shares: the bytes of one process, and one end of all."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import examples
import pytest
import several
import torch
from logged import LOGGED, Log
from support import REPOSITORY
from test_shared import trained_copy, written
from tiny_network import TINY_NETWORK

from harness import attend, together
from harness.console import Reporter
from harness.device import Compute
from harness.errors import HarnessError
from harness.plan import RunSpec, make
from harness.run import execute
from harness.shards import offer
from harness.stages import prepare_data
from harness.store import RunFolder
from harness.trained import Work

QUIET = Reporter(quiet=True)
ASSISTS = "1 other process assists with its evaluations"
SETS = ("chestxray14.size=32", "max_epochs=1", "classification.resamples=20", "localisation.resamples=20",
        "localisation.batch=1")  # fmt: skip
SHORT = '''
import torch

@explainer("short_of_memory", source="a test")
def short(model, x, target, *, seeds):
    """Run out of memory in the process that assists."""
    say("begun", seeds)
    if assistant():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")
    time.sleep(5)
    say("done", seeds)
    return Explanation(x.mean(1), 1.0, 0.0)
'''


class Place:
    """The data, the plug-in file, and how a command is given."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.root, self.plugin = folder, examples.chestxray14(folder), folder / "logged.py"
        self.plugin.write_text(TINY_NETWORK + LOGGED + SHORT)

    def spec(self, runs: Path, *sets: str, explainer: str = "logged", checkpoint: Path | None = None) -> RunSpec:
        """Return what the command asks for."""
        return RunSpec(method="baseline", dataset="chestxray14", model="tiny", root=self.root, device="cpu",
                       sets=(*SETS, *sets), explainers=(explainer,), evaluations=("classification", "localisation"),
                       plugins=(str(self.plugin),), runs_dir=runs, checkpoint=checkpoint)  # fmt: skip


def words(spec: RunSpec) -> list[str]:
    """Return the command of a spec."""
    found = ["run", "--method", spec.method, "--dataset", spec.dataset, "--model", str(spec.model)]
    found += [f"--{name}={getattr(spec, name.replace('-', '_'))}" for name in ("root", "device", "runs-dir")]
    found += [f"--checkpoint={spec.checkpoint}"] * bool(spec.checkpoint)
    for option, values in (("set", spec.sets), ("explainer", spec.explainers), ("evaluation", spec.evaluations),
                           ("plugin", spec.plugins)):  # fmt: skip
        found += [f"--{option}={value}" for value in values]
    return found


def torchrun(spec: RunSpec, environment: dict[str, str]) -> subprocess.Popen:
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "harness"]
    return subprocess.Popen([*launch, *words(spec)], stdout=-1, stderr=-1, text=True, cwd=REPOSITORY, env=environment)


def said(process: subprocess.Popen) -> tuple[int, str, str]:
    """Return exit status, stdout and stderr; nothing may go on for minutes."""
    try:
        out, err = process.communicate(timeout=240)
    finally:
        process.kill()
    return process.returncode, out, err


def ranks(log: Log) -> dict[int, int]:
    """Return the processes that have begun a part and are there, by their rank."""
    found = {}
    for pid in {pid for _, pid, _ in log.lines()}:
        try:
            told = dict(e.split("=", 1) for e in Path(f"/proc/{pid}/environ").read_text().split("\0") if "=" in e)
        except OSError:
            continue  # it has ended
        found[int(told.get("RANK", 0))] = pid
    return found


def amid(log: Log, process: subprocess.Popen) -> dict[int, int]:
    """Wait until both processes have made a part and the second one is at another; return them by rank."""
    began = time.monotonic()
    while not (len(both := ranks(log)) == 2 and all(map(log.done_by, both.values())) and log.at(both[1])):
        assert process.poll() is None, said(process)
        assert time.monotonic() - began < 200, log.lines()
        time.sleep(0.02)
    return both


def last(log: Log, pid: int) -> str:
    """Return the part that a process began last: it may have been made, and not stored, when that was killed."""
    return [name for word, own, name in log.lines() if word == "begun" and own == pid][-1]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return Place(tmp_path_factory.mktemp("ranks"))


@dataclasses.dataclass(frozen=True)
class Done:
    """A cross-fitted run, trained and scored by two processes, and what they said; the same one scored by one."""

    spec: RunSpec
    shared: RunFolder
    alone: RunFolder
    err: str
    out: str
    by: list[int]  # parts that each process has made
    parts: Counter  # made by both
    parts_alone: Counter


@pytest.fixture(scope="module")
def done(place, tmp_path_factory):
    folder = tmp_path_factory.mktemp("done")
    log = Log(folder)
    spec = place.spec(folder / "runs", "split=cross_fitted")
    status, out, err = said(torchrun(spec, log.environment(seconds=0.1, wait=True)))
    assert status == 0, err
    (run,) = (folder / "runs").iterdir()
    pids = sorted({pid for _, pid, _ in log.lines()})
    by, parts = [len(log.done_by(pid)) for pid in pids], Counter(log.named("done"))
    alone = trained_copy(RunFolder(run), folder / "alone")
    log.path.write_text("")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in log.environment(seconds=0).items():
            patch.setenv(name, value)
        execute(dataclasses.replace(spec, runs_dir=folder / "alone"), QUIET)
    return Done(spec, RunFolder(run), alone, err, out, by, parts, Counter(log.named("done")))


@pytest.mark.slow
def test_two_processes_train_and_then_share_the_evaluations_to_the_byte(done):
    assert written(done.shared) == written(done.alone) != {}
    one, two = ({s.info["key"]: (s.info["facts"], s.info["passes"]) for s in f.stages()}
                for f in (done.alone, done.shared))  # fmt: skip
    assert one == two
    assert len(done.shared.info["fit"]["folds"]) == 5
    assert {fold["processes"] for fold in done.shared.info["fit"]["folds"]} == {2}
    assert done.parts == done.parts_alone, "each part once"
    assert len(done.by) == 2
    assert min(done.by) >= 2, done.by
    assert not list(done.shared.folder.rglob("*.shards")) + list(done.shared.folder.rglob(".shared.json"))
    assert done.err.count(ASSISTS) == 1
    assert done.out.count("Next:") == 1


@pytest.mark.slow
def test_what_is_killed_or_stopped_amid_its_evaluations_goes_on_with_every_part(done, tmp_path, monkeypatch):
    """Trained already. Ctrl-C at torchrun, then SIGKILL of the process that assists, then one process alone."""
    run, log = trained_copy(done.shared, tmp_path / "runs"), Log(tmp_path)
    spec = dataclasses.replace(done.spec, runs_dir=tmp_path / "runs")
    environment, killed = log.environment(seconds=1.0, wait=True), []

    process = torchrun(spec, environment)
    amid(log, process)
    os.kill(process.pid, signal.SIGINT)
    began = time.monotonic()
    status, out, err = said(process)
    assert time.monotonic() - began < 30
    assert (status != 0, out, err.count("Interrupted. Finished work is kept")) == (True, "", 1), err
    assert run.info["status"] == "interrupted"
    assert ranks(log) == {}
    killed += [last(log, pid) for pid in {pid for _, pid, _ in log.lines()}]

    log.path.rename(tmp_path / "first")
    log.path.touch()
    process = torchrun(spec, environment)
    both = amid(log, process)
    os.kill(both[1], signal.SIGKILL)
    status, out, err = said(process)
    assert (status, out) == (1, "")
    assert err.count("another one was killed") == 1, err
    assert err.count("Finished work is kept: the same command goes on where it was.") == 1
    assert run.info["status"] == "failed"
    killed += [last(log, pid) for pid in both.values()]

    log.path.write_text((tmp_path / "first").read_text() + log.path.read_text())
    before = len(log.named("done"))
    for name, value in log.environment(seconds=0).items():
        monkeypatch.setenv(name, value)
    execute(spec, QUIET)
    assert written(run) == written(done.alone)
    assert 4 <= before < sum(done.parts.values())
    assert Counter(log.named("begun")) - done.parts <= Counter(killed), "each that was stopped costs a part at most"
    assert len(killed) == 4


def by_a_launcher(spec: RunSpec, environment: dict[str, str]) -> list[subprocess.Popen]:
    """Start two processes as a cluster's own launcher does, with nobody to watch over them."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        return several.start(2, ["-m", "harness", *words(spec)], stdout=-1, stderr=-1, text=True, cwd=REPOSITORY)


@pytest.mark.slow
def test_a_loaded_run_whose_assistant_is_killed_goes_on_alone_where_nobody_ends_it(done, place, tmp_path, monkeypatch):
    log = Log(tmp_path)
    weights = done.shared.fit / "fold-0" / "model.safetensors"
    spec = place.spec(tmp_path / "runs", checkpoint=weights)
    processes = by_a_launcher(spec, log.environment(seconds=0.4, wait=True))
    both = amid(log, processes[0])
    os.kill(both[1], signal.SIGKILL)
    (first, out, err), (second, _, _) = map(said, processes)
    assert (first, second) == (0, -signal.SIGKILL), err
    assert err.count(ASSISTS) == 1
    assert out.count("Next:") == 1
    begun, killed = Counter(log.named("begun")), last(log, both[1])
    log.path.write_text("")
    for name, value in log.environment(seconds=0).items():
        monkeypatch.setenv(name, value)
    (result,) = execute(dataclasses.replace(spec, runs_dir=tmp_path / "alone"), QUIET)
    assert begun - Counter(log.named("done")) <= Counter([killed])
    (run,) = (tmp_path / "runs").iterdir()
    assert written(RunFolder(run)) == written(RunFolder(tmp_path / "alone" / result.run_id)) != {}


@pytest.mark.slow
def test_an_error_of_the_one_that_assists_ends_all_with_its_status_and_one_message(done, place, tmp_path):
    """Nobody sends a signal here: process 0 finds it in the store, amid a part that takes seconds."""
    log = Log(tmp_path)
    spec = place.spec(tmp_path / "runs", explainer="short_of_memory",
                      checkpoint=done.shared.fit / "fold-0" / "model.safetensors")  # fmt: skip
    processes = by_a_launcher(spec, log.environment(seconds=0))
    (first, out, err), (second, silent, also) = map(said, processes)
    assert (first, second) == (4, 4), err
    assert (out, silent, also) == ("", "", "")
    assert err.count("Error: ") == 1
    assert "out of memory with" in err
    (run,) = (tmp_path / "runs").iterdir()
    assert RunFolder(run).info["status"] == "failed"
    assert len(log.named("begun")) - len(log.named("done")) <= 2


@pytest.fixture
def two(monkeypatch):
    """Two processes' ends of one store, in this process: the first leads."""
    store = torch.distributed.HashStore()
    ends = [together._Group(together.World(rank, 2, rank), together._Words(store)) for rank in range(2)]
    monkeypatch.setattr(together, "_groups", [])

    def be(rank: int) -> None:
        together._groups[:] = [ends[rank]]

    return be


def work_in(done: Done, folder: Path, compute: Compute, notes: list[str]) -> tuple[Work, RunSpec]:
    spec = dataclasses.replace(done.spec, runs_dir=folder)
    reporter = Reporter(quiet=True)
    reporter.note = notes.append
    plan = make(spec)
    return Work(plan, prepare_data(plan, QUIET), compute, trained_copy(done.shared, folder), "", reporter), spec


@pytest.mark.slow
def test_each_assists_on_its_own_device(done, two, tmp_path, monkeypatch):
    compute, notes, made = Compute(torch.device("cuda:5"), "fp32"), [], []
    work, _ = work_in(done, tmp_path, compute, notes)
    monkeypatch.setattr(attend, "make_parts", made.append)
    two(0)
    with attend.assisted(work, {"localisation": "abc"}, shared=True) as assistants:
        two(1)
        told = together.hear()
        assert told
        attend._assist(work.plan, work.prepared, compute, told["run"], told["mark"])
        two(0)
        assistants.look()
        assistants.look()
    assert [w.compute.device for w in made] == [torch.device("cuda:5")]
    assert notes == [f"{work.folder.run_id}: {ASSISTS}"]


@pytest.mark.slow
def test_a_process_that_does_not_find_the_folder_says_so_and_the_others_go_on(done, two, tmp_path, monkeypatch):
    """Its folder is called alike, and something is offered there: by an earlier command, on its own machine."""
    compute, notes = Compute(torch.device("cpu"), "fp32"), []
    work, _ = work_in(done, tmp_path / "first", compute, notes)
    elsewhere, _ = work_in(done, tmp_path / "second", compute, notes)
    offer(elsewhere.folder, {"localisation": "abc"})
    monkeypatch.setattr(attend, "NOT_SEEN", 0.0)
    monkeypatch.setattr(attend, "make_parts", lambda work: pytest.fail("it makes parts for nobody"))
    two(0)
    with attend.assisted(work, {"localisation": "abc"}, shared=True) as assistants:
        two(1)
        told = together.hear()
        assert told
        attend._assist(elsewhere.plan, elsewhere.prepared, compute, told["run"], told["mark"])
        two(0)
        assistants.look()
    assert notes[0] == f"{work.folder.run_id}: 0 of 1 other process assists with its evaluations"
    assert notes[1].startswith(f"process 1 of 2 does not assist: expected the run that process 0 makes in {tmp_path}")
    assert "Give all machines a --runs-dir on a common file system." in notes[1]
    monkeypatch.setattr(attend, "NOT_SEEN", 60.0)
    two(1)
    attend._assist(elsewhere.plan, elsewhere.prepared, compute, told["run"], told["mark"])  # over: it does not wait


@pytest.mark.slow
def test_evaluations_of_which_nobody_else_can_make_a_part_are_not_told(done, two, tmp_path):
    work, _ = work_in(done, tmp_path, Compute(torch.device("cpu"), "fp32"), [])
    two(0)
    with attend.assisted(work, {"own": "abc"}, shared=False) as assistants:
        assistants.look()
    two(1)
    assert not together.more()


@pytest.mark.parametrize(("looks", "seconds"), [(0, 0.5), (8, 1.6)])
def test_a_training_waits_for_those_that_assist_as_long_as_they_live(two, monkeypatch, looks, seconds):
    """One that shows no life (killed, say) is waited for no longer; the other one is back after some looks."""
    monkeypatch.setattr(together, "SILENCE", 0.5)
    monkeypatch.setattr(together, "LOOK_EVERY", 0.2)
    slept, left = together.time.sleep, looks

    def sleep(seconds: float) -> None:
        nonlocal left
        slept(seconds)
        if left:
            left -= 1
            together._groups[0].words.put("alive/1" if left else "heard/1/1", left // 2)  # not at each look

    monkeypatch.setattr(together.time, "sleep", sleep)
    two(0)
    began = time.monotonic()
    together.tell({"train": 0}, wait=True)
    assert seconds * 0.9 <= time.monotonic() - began < seconds + 2
    assert together._groups[0].words.has("heard/1/1") == bool(looks)


def test_an_error_of_one_that_assists_ends_the_wait_for_it(two):
    two(0)
    together._groups[0].words.put("ended", {"status": 4, "message": "the disk is full"})
    with pytest.raises(HarnessError, match="the disk is full"):
        together.tell({"train": 0}, wait=True)


def test_a_process_that_assists_shows_that_it_lives(two, monkeypatch):
    monkeypatch.setattr(together, "WATCH_EVERY", 0.02)
    two(1)
    with together.watched():
        while not together._groups[0].words.has("alive/1"):
            time.sleep(0.01)
        first = together._groups[0].words.get("alive/1")
        time.sleep(0.2)
    assert together._groups[0].words.get("alive/1") > first
