"""Help with the evaluations of a run that another process is making: its parts alone, never its rows or run.json."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from harness import device as devices
from harness.console import Reporter
from harness.data.cache import Prepared
from harness.device import Compute
from harness.errors import NothingToScoreError, UsageError
from harness.memory import Memory
from harness.plan import Plan, RunSpec, make
from harness.shards import POLL, Shard, Shards, offered
from harness.stages import Step, key_of_stage, prepare_data, steps, subject_of
from harness.standing import chained_key
from harness.store import RunFolder, name_of
from harness.trained import Work, load


class _Entered(Exception):
    """What an evaluation is left by as soon as it has said which parts it has."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        super().__init__()
        self.shards = shards


def assist(spec: RunSpec, run_id: str, reporter: Reporter) -> int:
    """Make parts of the evaluations of a run until none is left, or the run needs none; return how many.

    A part that another process has claimed is left to it, and taken up when it is killed. Raises `UsageError` where
    the data or the evaluations are others here than those of the run.
    """
    plan = make(spec)
    compute = devices.resolve(spec.device, spec.precision)
    return make_parts(work_of(plan, prepare_data(plan, reporter), compute, run_id, reporter))


def work_of(plan: Plan, prepared: Prepared, compute: Compute, run_id: str, reporter: Reporter) -> Work:
    """Return the work of a run, in fp32; `UsageError` where what is here makes another one."""
    key = chained_key(plan, prepared, compute)
    folder = RunFolder(plan.spec.runs_dir / name_of(plan.spec.method, plan.dataset_name, plan.spec.seed, key))
    if folder.run_id != run_id:
        raise UsageError(
            f"to assist run {run_id}: expected the data, plug-ins and precision that it has, those here make run "
            f"{folder.run_id} (data with fingerprint {prepared.fingerprint[:12]}, {compute.precision}). Put the same "
            "files on every machine."
        )
    return Work(plan, prepared, compute.exact(), folder, key, reporter)


def make_parts(work: Work) -> int:
    """Make parts of what is offered of a run, whose models are there, until none is left; return how many."""
    run_id, folder = work.folder.run_id, work.folder
    models = load(work)
    wanted, _ = steps(work.plan, work.prepared, exact_cam=models[0].exact_cam)
    keys = {step.name: key_of_stage(work, step) for step in wanted}
    asked = offered(folder)
    for name in sorted(asked.keys() & keys.keys()):
        if asked[name] != keys[name]:
            raise UsageError(
                f"to assist run {run_id}: expected {name} with key {asked[name]}, got {keys[name]}, on "
                f"{work.compute.kind}. Give all workers the same kind of device and the same plug-in files."
            )
    memory = Memory(note=work.reporter.note)
    stages = [
        _Stage(
            Shards(folder, s.name, keys[s.name]),
            lambda s=s: _parts(work, models, s, memory),
            work.plan.spec.batch_size or getattr(s.part.made, "batch", 1),
        )
        for s in wanted
        if s.name in asked and s.shared
    ]
    return _make(folder, stages[::-1])  # from the end: the run itself begins at the start, and seldom has to wait


@dataclass
class _Stage:
    """One stage that is to be made; its parts are known when it has been entered."""

    shards: Shards
    enter: Callable[[], Sequence[Shard]]
    batch: int  # images at once, that running out of memory is said of
    left: list[Shard] | None = None

    def parts(self) -> list[Shard]:
        """Return the parts that may not be there yet, the last ones first."""
        if self.left is None:
            self.left = [] if self.shards.finished else list(self.enter())[::-1]
        return self.left


def _make(folder: RunFolder, stages: Sequence[_Stage]) -> int:
    """Make what nobody has made or claimed until every part is there; return how many were made here."""
    while True:
        before = sum(len(stage.shards.own) for stage in stages)
        for stage in stages:
            with devices.memory_advice(stage.batch):
                for shard in list(stage.parts()):
                    if not offered(folder):
                        return sum(len(stage.shards.own) for stage in stages)
                    if stage.shards.make(shard):
                        stage.left = [s for s in stage.parts() if s is not shard]
        made = sum(len(stage.shards.own) for stage in stages)
        if not any(stage.left for stage in stages):
            return made
        if made == before:
            time.sleep(POLL)


def _parts(work: Work, models: Any, step: Step, memory: Memory) -> Sequence[Shard]:
    """Return the parts of one stage; [] where it turns out that there is nothing to score."""

    def enter(shards: Sequence[Shard], _: Any) -> Any:
        raise _Entered(shards)

    explainer = step.explainer.made if step.explainer else None
    subject = subject_of(work, models, step.part, shards=enter, memory=memory)
    try:
        step.part.made.score(subject, explainer)
    except _Entered as entered:
        return entered.shards
    except NothingToScoreError:
        pass
    return []
