"""Evaluations of one run that several processes share: the rows of one process, whoever made the parts, and was killed."""

import dataclasses
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import examples
import pytest
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
from harness.stages import Step
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
