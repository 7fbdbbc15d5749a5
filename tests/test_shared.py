"""Evaluations of one run that several processes share: the rows of one process, whoever made the parts, and was killed."""

import dataclasses
import hashlib
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import examples
import pytest
from logged import LOGGED, Log
from support import REPOSITORY
from tiny_network import TINY_NETWORK

from harness import shards as sharing
from harness.assist import assist
from harness.console import Reporter
from harness.errors import UsageError
from harness.plan import RunSpec
from harness.plugins import catalogue
from harness.run import execute
from harness.shards import offer, offered
from harness.store import RunFolder

QUIET = Reporter(quiet=True)
SHARED = {c.name for c in catalogue().of("evaluation") if c.options.get("parts")}
MULTILABEL = {
    "classification": "batch=4",  # kept 16 batches at a time
    "localisation": "batch=9",
    "robustness": "pairs=10 batch=7 at_half=yes",
    "insertion_deletion": "images=10 batch=4 attack=deepfool",
    "randomisation": "images=5 batch=2 draws=2",
    "infidelity": "images=5 batch=2 draws=2",
    "sensitivity": "images=5 batch=2 draws=2",
    "agreement": "images=5 batch=2",
    "shortcut": "images=7 batch=3",
    "shortcut_maps": "images=7 batch=3",
    "adversarial_explanations": "images=5 batch=2",
    "gradient_bound": "images=5 batch=2",
    "alignment": "images=5 batch=3",
}
MULTICLASS = {
    "robustness": "images=10 batch=4 black_box=foolbox_boundary",
    "robust_accuracy": "images=10 batch=4",
    "autoattack": "images=6 batch=4 version=apgd",
}


def assignments(evaluations: dict[str, str]) -> tuple[str, ...]:
    given = [f"{name}.{word}" for name, words in evaluations.items() for word in f"{words} resamples=20".split()]
    return (*given, "max_epochs=1")


def spec_of(task: str, place: Path, plugin: Path, **more) -> RunSpec:
    if task == "multilabel":
        sets = (*assignments(MULTILABEL), "phantom_shortcut.size=32", "n_train=64", "n_validation=64", "n_test=160")
        data = {"dataset": "phantom_shortcut", "evaluations": tuple(MULTILABEL), "explainers": ("cam", "saliency")}
    else:
        sets = (*assignments(MULTICLASS), "n_validation=20", "foolbox_boundary.steps=20")
        data = {"dataset": "cifar10", "evaluations": tuple(MULTICLASS), "root": place / "cifar-10-batches-bin"}
    given = {"method": "baseline", "model": "tiny", "plugins": (str(plugin),), "device": "cpu", "sets": sets}
    return RunSpec(**{**given, **data, "runs_dir": place / "runs", **more})


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("shared")
    (place / "tiny.py").write_text(TINY_NETWORK)
    examples.cifar10(place)
    return place


def written(folder: RunFolder) -> dict[str, str]:
    """Return a digest of every file that evaluations have written, but for what is of this time and machine."""
    found = {}
    for path in sorted((folder.folder / "evaluations").rglob("*")):
        if path.is_file() and path.name != "stage.json":
            found[str(path.relative_to(folder.folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def trained_copy(folder: RunFolder, runs_dir: Path) -> RunFolder:
    """Return the same run in another store, without its evaluations."""
    shutil.copytree(folder.folder, runs_dir / folder.run_id, ignore=shutil.ignore_patterns("evaluations", ".lock"))
    return RunFolder(runs_dir / folder.run_id)


def keys_of(folder: RunFolder) -> dict[str, str]:
    return {s.folder.name.removesuffix("-" + s.info["key"]): s.info["key"] for s in folder.stages()}


def test_every_evaluation_of_the_project_is_shared():
    assert SHARED == MULTILABEL.keys() | MULTICLASS.keys() == {c.name for c in catalogue().of("evaluation")}


@pytest.mark.parametrize("task", ["multilabel", "multiclass"])
def test_parts_of_an_assistant_give_the_bytes_of_one_process(place, tmp_path, monkeypatch, task):
    spec = spec_of(task, place, place / "tiny.py")
    (result,) = execute(spec, QUIET)
    alone = RunFolder(spec.runs_dir / result.run_id)
    assert not list(alone.folder.rglob("*.shards")) + list(alone.folder.rglob(".shared.json"))
    shared = trained_copy(alone, tmp_path)
    keys = keys_of(alone)
    offer(shared, keys)
    made = assist(dataclasses.replace(spec, runs_dir=tmp_path), shared.run_id, QUIET)
    parts = list(shared.folder.rglob("*.parquet"))
    assert made == len(parts)
    assert {p.parent.name for p in parts} == {f".{name}-{key}.shards" for name, key in keys.items()}
    assert not shared.stages(), "an assistant writes no rows"
    kept = sharing.Shards.make

    def make(self, shard, **more):
        assert shard.name == "control" or self._path(shard).exists(), f"{self.name}: part {shard.name} was left"
        return kept(self, shard, **more)

    monkeypatch.setattr(sharing.Shards, "make", make)
    execute(dataclasses.replace(spec, runs_dir=tmp_path), QUIET)
    assert written(shared) == written(alone) != {}
    one, other = ({s.info["key"]: (s.info["facts"], s.info["passes"]) for s in f.stages()} for f in (alone, shared))
    assert one == other


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sets": ("n_test=150",)}, "expected the data, plug-ins and precision that it has, those here make run"),
        ({"precision": "bf16"}, "bf16). Put the same files on every machine."),
        ({"limit": 20}, "expected classification with key"),
    ],
)
def test_an_assistant_that_finds_other_data_or_settings_is_refused(place, tmp_path, change, said):
    spec = spec_of("multilabel", place, place / "tiny.py", evaluations=("classification", "localisation"), sets=PHANTOM)
    (result,) = execute(spec, QUIET)
    shared = trained_copy(RunFolder(spec.runs_dir / result.run_id), tmp_path)
    offer(shared, keys_of(RunFolder(spec.runs_dir / result.run_id)))
    other = dataclasses.replace(spec, runs_dir=tmp_path, **change)
    if "sets" in change:
        other = dataclasses.replace(other, sets=(*PHANTOM[:-1], *change["sets"]))
    with pytest.raises(UsageError) as error:
        assist(other, shared.run_id, QUIET)
    assert said in str(error.value)
    assert not list(shared.folder.rglob("*.parquet"))


PHANTOM = ("classification.resamples=20", "localisation.resamples=20", "localisation.batch=4", "max_epochs=1",
           "phantom_shortcut.size=32", "n_train=64", "n_validation=64", "n_test=160")  # fmt: skip
COMMAND = """
import pickle, sys
from harness.console import Reporter
spec, run_id = pickle.loads(bytes.fromhex(sys.argv[1]))
if sys.argv[2] == "run":
    from harness.run import execute
    execute(spec, Reporter(quiet=True))
else:
    from harness.assist import assist
    assist(spec, run_id, Reporter(quiet=True))
"""


class Shared:
    """A run with some twenty parts of a third of a second, and the processes that are at it."""

    def __init__(self, place: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        plugin, self.log = folder / "logged.py", Log(folder)
        plugin.write_text(TINY_NETWORK + LOGGED)
        for name, value in self.log.environment(seconds=0).items():
            monkeypatch.setenv(name, value)
        self.spec = spec_of("multilabel", place, plugin, evaluations=("classification", "localisation"),
                            runs_dir=folder / "alone", explainers=("logged",), sets=PHANTOM)  # fmt: skip
        (result,) = execute(self.spec, QUIET)
        self.alone = RunFolder(self.spec.runs_dir / result.run_id)
        self.shared = trained_copy(self.alone, folder / "shared")
        self.spec = dataclasses.replace(self.spec, runs_dir=folder / "shared")
        self.parts = Counter(self.log.named("done"))
        self.log.path.write_text("")
        monkeypatch.setenv("PARTS_SECONDS", "0.3")

    def start(self, what: str) -> subprocess.Popen:
        given = pickle.dumps((self.spec, self.shared.run_id)).hex()
        return subprocess.Popen([sys.executable, "-c", COMMAND, given, what], cwd=REPOSITORY, start_new_session=True)

    def wait(self, until, seconds: float = 240.0) -> None:
        began = time.monotonic()
        while not until():
            assert time.monotonic() - began < seconds, self.log.lines()
            time.sleep(0.02)

    def same(self) -> bool:
        """Return whether each part was made once, and all came to the same bytes."""
        return Counter(self.log.named("done")) == self.parts and written(self.shared) == written(self.alone) != {}


@pytest.fixture
def shared(place, tmp_path, monkeypatch):
    return Shared(place, tmp_path, monkeypatch)


def ended(process: subprocess.Popen) -> bool:
    return process.wait(timeout=240) == 0


@pytest.mark.slow
def test_a_run_and_two_assistants_make_every_part_once(shared):
    offer(shared.shared, keys_of(shared.alone))
    processes = [shared.start("assist"), shared.start("assist")]
    for process in processes:
        shared.wait(lambda process=process: shared.log.at(process.pid))
    run = shared.start("run")
    assert all(map(ended, (*processes, run)))
    assert shared.same()
    assert min(len(shared.log.done_by(p.pid)) for p in (*processes, run)) >= 1
    assert not list(shared.shared.folder.rglob("*.shards")) + list(shared.shared.folder.rglob(".shared.json"))


@pytest.mark.slow
def test_an_assistant_that_is_killed_costs_the_part_that_it_is_at(shared):
    run = shared.start("run")
    shared.wait(lambda: offered(shared.shared))
    assistant = shared.start("assist")
    shared.wait(lambda: shared.log.done_by(assistant.pid) and shared.log.at(assistant.pid))
    os.kill(assistant.pid, signal.SIGKILL)
    assistant.wait()
    lost = shared.log.at(assistant.pid)
    assert ended(run)
    assert shared.same()
    again = Counter(shared.log.named("begun")) - shared.parts
    assert again == Counter([lost] if lost else [])


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_with_what_its_assistant_has_made(shared):
    run = shared.start("run")
    shared.wait(lambda: shared.log.at(run.pid))
    assistant = shared.start("assist")
    shared.wait(lambda: shared.log.done_by(assistant.pid) and shared.log.at(run.pid))
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    assert ended(assistant), "it makes all that is left, and ends"
    assert keys_of(shared.shared).keys() == {"classification"}, "what the run itself had finished"
    again = shared.start("run")
    assert ended(again)
    assert shared.same()
    assert len(shared.log.done_by(again.pid)) == 1, "the pictures alone"
