"""Carry a plan out: data, fit, evaluations, store. The only module that writes runs."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness import device as devices
from harness import provenance, together
from harness.attend import Assistants, assisted, attend
from harness.console import Reporter
from harness.data.cache import Prepared
from harness.data.index import SPLITS
from harness.device import Compute
from harness.errors import HarnessError, NothingToScoreError, UsageError
from harness.evaluations import gallery
from harness.evaluations.subject import Scored
from harness.memory import Memory
from harness.models.classifier import Classifier
from harness.plan import Part, Plan, RunSpec, make, remade
from harness.record import Result, from_run
from harness.rows import Row
from harness.shapes import WHOLE, need
from harness.shards import Shards
from harness.stages import Step, fit_key, key_of_stage, prepare_data, steps, subject_of
from harness.store import RunFolder, find_run, name_of, write_stage
from harness.trained import Work, device_name, finished, load, models_of, trained, weights_of

MESSAGE = 2000  # characters of an error that run.json keeps


def execute(spec: RunSpec, reporter: Reporter) -> list[Result]:
    """Make or finish the run that `spec` names, and the runs it starts from; return them, first started first.

    Of several processes (torchrun) every one calls this; the one that leads returns the runs, the others nothing.
    """
    with together.session():
        return _executed(spec, reporter)


def _executed(spec: RunSpec, reporter: Reporter) -> list[Result]:
    plan = make(spec)
    compute = devices.resolve(together.device(spec.device), spec.precision)
    if weights := weights_of(plan):
        weights.digest()  # wrong or absent files are said before the data are prepared
    elif "train" not in plan.data.splits:
        raise UsageError(
            f"{spec.dataset} has no training split, its images are for testing: {spec.method} cannot be trained on it. "
            "Score a network that is trained already: --method zoo:... (`harness list zoo`), or --checkpoint FILE."
        )
    if not together.world().leads:
        together.hear()  # the data are prepared
        attend(plan, prepare_data(plan, Reporter(quiet=True)), compute)
        return []
    prepared = prepare_data(plan, reporter)
    together.tell({})
    done = _execute(plan, prepared, compute, reporter)
    together.tell(None)
    return done


def _execute(
    plan: Plan, prepared: Prepared, compute: Compute, reporter: Reporter, *, wait: bool = False
) -> list[Result]:
    """Make the run of a plan and those before it; `wait` until another process is done with the same run."""
    earlier = _execute(plan.before, prepared, compute, reporter, wait=True) if plan.before else []
    start = earlier[-1] if earlier else None
    key = fit_key(plan, prepared, compute, start.info["fit"]["key"] if start else None)
    spec = plan.spec
    if (weights := weights_of(plan)) and prepared.index.crossfitted:
        raise UsageError(
            f"{weights.network}: the cross-fitted split needs {prepared.index.folds} models, each without the patients "
            "it is scored on; one file of weights is one model. Use the official split."
        )
    folder = RunFolder(spec.runs_dir / name_of(spec.method, plan.dataset_name, spec.seed, key))
    work = Work(plan, prepared, compute, folder, key, reporter)
    with folder.lock(wait=wait), _status(folder):
        if spec.existing == "redo":
            shutil.rmtree(folder.fit, ignore_errors=True)
            shutil.rmtree(folder.folder / "evaluations", ignore_errors=True)
        if not (finished(folder.fit) and (folder.folder / "run.json").exists()):
            folder.update(**describe(work, start.run_id if start else None))
        _evaluate(work, models_of(work, start))
    return [*earlier, from_run(folder)]


def evaluate(run: str, changes: dict[str, Any], runs_dir: Path, reporter: Reporter) -> Result:
    """Add evaluations to a finished run without training anything; `changes` replaces fields of its spec."""
    folder = find_run(runs_dir, run)
    info = folder.info
    need(info, WHOLE, f"{folder.folder}/run.json", "Give its `harness run` command again.")
    trained(folder)
    plan = remade(info, changes, runs_dir)
    spec = plan.spec
    prepared = prepare_data(plan, reporter)
    if prepared.fingerprint != info["dataset"]["fingerprint"]:
        raise UsageError(
            f"run {folder.run_id} was trained on data with fingerprint {info['dataset']['fingerprint'][:12]}, "
            f"{spec.dataset} now has {prepared.fingerprint[:12]}. Restore that data, or make a new run."
        )
    compute = devices.resolve(spec.device, spec.precision)
    work = Work(plan, prepared, compute, folder, info["fit"]["key"], reporter)
    with folder.lock():  # the run stays complete, whatever becomes of the evaluations that are added
        _evaluate(work, load(work))
    return from_run(folder)


@contextmanager
def _status(folder: RunFolder) -> Iterator[None]:
    """Keep `status` in run.json true, whatever happens inside."""
    try:
        yield
    except KeyboardInterrupt:
        _mark(folder, "interrupted", "stopped by the user; the same command goes on where it was")
        raise
    except BaseException as error:
        _mark(folder, "failed", f"{type(error).__name__}: {error}"[:MESSAGE])
        raise
    folder.update(status="complete", message="")


def _mark(folder: RunFolder, status: str, message: str) -> None:
    if not (folder.folder / "run.json").exists():
        return
    try:
        folder.update(status=status, message=message)
    except HarnessError:  # a full disk: the error that is being raised says so
        return


def describe(work: Work, start_from: str | None) -> dict[str, Any]:
    """Return the entries of run.json that are known before anything is trained."""
    plan, prepared, index = work.plan, work.prepared, work.prepared.index
    parts = [{s: index.of_split(s, k) for s in SPLITS} for k in range(index.folds)]
    splits = {"test": index.scored()[0]} if index.crossfitted else parts[0]
    positives = {s: index.positives(p).tolist() for s, p in splits.items()}
    return {
        "status": "running",
        "message": "",
        "spec": plan.spec.public() | {"model": plan.model.component.name, "sets": plan.assignments()},
        "settings": plan.settings(),
        "start_from": start_from,
        "classes": list(index.classes),
        "task": plan.data.task.name,
        "dataset": {
            "name": plan.dataset_name,
            "settings": plan.dataset_settings,
            "size": plan.data.size,
            "fingerprint": prepared.fingerprint,
            "counts": {s: len(p) for s, p in splits.items()},
            "folds": [{s: len(p) for s, p in part.items()} for part in parts] if index.crossfitted else [],
            "positives": {c: {s: positives[s][i] for s in splits} for i, c in enumerate(index.classes)},
            "notes": list(index.notes),
            "corrupt": list(prepared.corrupt),
            "manifest_sha256": prepared.manifest_sha256,
        },
        "fit": {"key": work.fit_key},
        "provenance": provenance.collect() | {"device": device_name(work.compute), "precision": work.compute.precision},
    }


def _evaluate(work: Work, models: tuple[Classifier, ...]) -> None:
    """Score every evaluation of the plan that the store does not have yet, in fp32 whatever the training's format."""
    work = dataclasses.replace(work, compute=work.compute.exact())
    wanted, missing = steps(work.plan, work.prepared, exact_cam=models[0].exact_cam)
    memory = Memory(note=work.reporter.note)
    keys = {step.name: key_of_stage(work, step) for step in wanted}
    todo = {s.name: keys[s.name] for s in wanted if not work.folder.has_stage(s.name, keys[s.name])}
    with assisted(work, todo, any(s.shared for s in wanted if s.name in todo)) as assistants:
        for step in wanted:
            try:
                _stage(work, models, step, memory, assistants)
            except NothingToScoreError as why:
                missing[step.part.component.name] = str(why)
    before = work.folder.info.get("missing_evaluations", {})
    done = {s.info["evaluation"] for s in work.folder.stages()}
    work.folder.update(missing_evaluations={k: v for k, v in {**before, **missing}.items() if k not in done})


def _stage(work: Work, models: tuple[Classifier, ...], step: Step, memory: Memory, assistants: Assistants) -> None:
    spec, part, explainer, name = work.plan.spec, step.part, step.explainer, step.name
    key = key_of_stage(work, step)
    shards = Shards(work.folder, name, key)
    if shards.finished:
        shards.forget()  # a killed process may not have come to it
        return
    with work.reporter.task(f"{name} of {spec.method}") as update:

        def progress(done: int, of: int) -> None:
            assistants.look()
            update(done, of, "")

        subject = subject_of(work, models, part, shards=shards.all, memory=memory, progress=progress)
        began = time.monotonic()
        with devices.memory_advice(spec.batch_size or getattr(part.made, "batch", 1)):
            scored: Scored = part.made.score(subject, explainer.made if explainer else None)
        seconds = time.monotonic() - began - shards.waited + shards.elsewhere  # whoever made the parts, and when
        rows = _rows(work, part, explainer, key, scored)
    used = (*work.plan.attacks_of(part).values(), *work.plan.explainers_of(part).values())
    info = {
        "evaluation": part.component.name,
        "explainer": explainer.component.name if explainer else "",
        "reference": bool(explainer and explainer.component.options.get("reference")),
        "key": key,
        "settings": [entry for p in (part, explainer, *used) if p for entry in p.described()],
        "seconds": round(seconds, 3),
        "passes": scored.passes,
        "facts": scored.facts,
        "device": device_name(work.compute),
        "precision": work.compute.precision,
        "created": provenance.now(),
        "git": provenance.git_state(),
    }
    with work.folder.new_stage(name, key) as place:
        write_stage(place, info, rows, scored.samples)
        if scored.pictures:
            gallery.write(scored.pictures, place / "gallery")
    shards.forget()


def _rows(work: Work, part: Part, explainer: Part | None, key: str, scored: Scored) -> list[Row]:
    plan, spec = work.plan, work.plan.spec
    used = {**plan.attacks_of(part), **plan.explainers_of(part)}
    others = [f"{name}({p.changed})" for name, p in used.items() if p.changed]
    flags = [*scored.flags, *work.prepared.index.notes]
    flags += ["partial"] if spec.limit is not None else []
    flags += ["loaded"] if weights_of(plan) or (finished(work.folder.fit) or {}).get("loaded") else []
    file = work.folder.info["spec"].get("checkpoint")
    loaded = f"checkpoint={file}" if file else ""  # two files of one method are two lines of a board
    common = {
        "run_id": work.folder.run_id,
        "evaluation": part.component.name,
        "evaluation_key": key,
        "dataset": plan.dataset_name,
        "dataset_settings": plan.dataset_settings,
        "split": "cross_fitted" if work.prepared.index.crossfitted else "test",
        "size": plan.data.size,
        "profile": spec.profile,
        "evaluation_settings": ", ".join(filter(None, (part.changed, *others))),
        "method": spec.method,
        "model": plan.model.component.name,
        "settings": ", ".join(filter(None, (plan.method.changed, plan.model.changed, loaded))),
        "seed": spec.seed,
        "explainer": explainer.component.name if explainer else "",
        "explainer_settings": explainer.changed if explainer else "",
        "flags": tuple(flags),
    }
    metrics = [c for c in plan.catalogue.of("metric") if c.options.get("evaluation") == part.component.name]
    summary = part.made.summarise(scored.samples, [c.load() for c in metrics if c.module is None])
    return [Row(**{**common, **entry}) for entry in summary]
