"""The trained models of a run: reused, loaded from a file, or trained now. One, or one for each fold of its split.

Of several processes the leading one does all of it, and calls the others for each training (attend.py).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness import device as devices
from harness import together
from harness.console import Reporter, duration
from harness.data.batches import feed
from harness.data.cache import Prepared
from harness.device import Compute
from harness.errors import UsageError
from harness.fit.loop import Progress, train
from harness.models import checkpoint
from harness.models.classifier import Classifier
from harness.plan import Plan
from harness.record import Result
from harness.rng import seed_for
from harness.store import RunFolder, read_json, write_bytes, write_json
from harness.zoo.files import WeightFiles

WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Work:
    """What every step of a run shares."""

    plan: Plan
    prepared: Prepared
    compute: Compute
    folder: RunFolder
    fit_key: str
    reporter: Reporter


def weights_of(plan: Plan) -> WeightFiles | None:
    """Return the files that are loaded instead of training: the network's, or --checkpoint."""
    path = plan.spec.checkpoint
    if plan.network or path is None:
        return plan.network.weights if plan.network else None
    return WeightFiles("--checkpoint", (path.parent,), (path.name,), "", lambda _: checkpoint.read_state(path))


def finished(folder: Path) -> dict[str, Any] | None:
    """Return the summary of a finished fit, or None."""
    done = folder / "fit.json"
    return read_json(done) if done.exists() else None


def models_of(work: Work, start: Result | None) -> tuple[Classifier, ...]:
    """Return the run's models in eval mode, each trained or loaded where it is not there yet.

    `start` is the run whose weights training begins with.
    """
    index, fit = work.prepared.index, work.folder.fit
    if finished(fit):
        work.reporter.note(f"{work.folder.run_id}: trained already, reused")
        work.folder.update(fit=read_json(fit / "fit.json"))  # it was killed before it could say so
        return load(work)
    found = tuple(_fit(work, start, fold) for fold in range(index.folds))
    if index.crossfitted:
        _join(work)
    work.folder.update(fit=read_json(fit / "fit.json"))
    return found


def trained(folder: RunFolder) -> dict[str, Any]:
    """Return the summary of a run's fit; `UsageError` where it has not been finished."""
    if (summary := finished(folder.fit)) is None:
        raise UsageError(f"run {folder.run_id} has no trained model yet. Give its `harness run` command again first.")
    return summary


def stored(plan: Plan, folder: RunFolder, classes: int, compute: Compute) -> tuple[Classifier, ...]:
    """Return the models of a run for its number of classes, without its data: one, or one for each fold."""
    folds = trained(folder).get("folds", ())
    places = [folder.fit / f"fold-{k}" for k in range(len(folds))] or [folder.fit]
    return tuple(_filled(architecture(plan, classes), place / WEIGHTS, compute) for place in places)


def load(work: Work) -> tuple[Classifier, ...]:
    """Return the models of a finished fit."""
    return tuple(_loaded(work, fold) for fold in range(work.prepared.index.folds))


def _folder(fit: Path, work: Work, fold: int) -> Path:
    return fit / f"fold-{fold}" if work.prepared.index.crossfitted else fit


def _seed(work: Work, fold: int) -> int:
    seed = work.plan.spec.seed
    return seed_for(seed, "fold", fold) if work.prepared.index.crossfitted else seed


def _build(work: Work, fold: int) -> Classifier:
    """Return the plan's architecture, freshly initialised from the run's seed."""
    torch.manual_seed(seed_for(_seed(work, fold), "init"))
    return architecture(work.plan, len(work.prepared.index.classes))


def architecture(plan: Plan, classes: int) -> Classifier:
    """Return the plan's architecture for so many classes, with weights as they are drawn."""
    data = plan.data
    model = plan.model.made(num_classes=classes, channels=data.channels, mean=data.mean, std=data.std)
    model = plan.recipe.adapt(model)
    assert isinstance(model, Classifier)
    model.exclusive = data.task.exclusive
    return model


def _loaded(work: Work, fold: int) -> Classifier:
    return _filled(_build(work, fold), _folder(work.folder.fit, work, fold) / WEIGHTS, work.compute)


def _filled(model: Classifier, path: Path, compute: Compute) -> Classifier:
    checkpoint.load_into(model, checkpoint.read_state(path), path)
    return _ready(model, compute)


def _ready(model: Classifier, compute: Compute) -> Classifier:
    model.to(device=compute.device, memory_format=compute.memory_format)  # pyright: ignore[reportCallIssue]
    return model.eval().requires_grad_(False)


def _fit(work: Work, start: Result | None, fold: int) -> Classifier:
    """Return the model of one fold: reused, loaded from a file, or trained now."""
    folder, weights = _folder(work.folder.fit, work, fold), weights_of(work.plan)
    if finished(folder):
        return _loaded(work, fold)
    model = _build(work, fold)
    if weights:
        checkpoint.load_into(model, weights.state(), weights.place)
        summary: dict[str, Any] = {"loaded": weights.label, "loaded_sha256": weights.digest(), "seconds": 0.0}
    else:
        if start:
            begin = _folder(start.source / "fit", work, fold) / WEIGHTS
            checkpoint.load_into(model, checkpoint.read_state(begin), begin)
        summary = _train(work, model, fold)
    with devices.memory_advice(work.plan.recipe.batch_size):
        checkpoint.save(model, folder / WEIGHTS)
    summary |= {
        "key": work.fit_key,
        "weights_sha256": checkpoint.digest(folder / WEIGHTS),
        "device": device_name(work.compute),
    }
    write_json(folder / "fit.json", summary)
    (folder / "resume.pt").unlink(missing_ok=True)
    return _ready(model, work.compute)


def _join(work: Work) -> None:
    """Write the summary and the history of all folds: fit.json is there when every model is."""
    fit = work.folder.fit
    folds = [read_json(_folder(fit, work, k) / "fit.json") for k in range(work.prepared.index.folds)]
    lines = [
        f'{{"fold": {k}, ' + line.removeprefix("{")
        for k in range(len(folds))
        for line in (_folder(fit, work, k) / "history.jsonl").read_text().splitlines(keepends=True)
    ]
    write_bytes(fit / "history.jsonl", "".join(lines).encode())
    seconds = sum(f["seconds"] for f in folds)
    write_json(fit / "fit.json", {"key": work.fit_key, "seconds": seconds, "folds": folds})


def device_name(compute: Compute) -> str:
    """Return the device in words: `cpu, 2 threads`, `NVIDIA H200`."""
    if compute.kind == "cuda":
        return torch.cuda.get_device_name(compute.device)
    return f"cpu, {torch.get_num_threads()} threads"


def _train(work: Work, model: Classifier, fold: int) -> dict[str, Any]:
    plan, prepared, spec = work.plan, work.prepared, work.plan.spec
    if together.world().leads:
        together.tell({"train": depth(plan), "fold": fold, "run": work.folder.run_id}, wait=True)
    index, task = prepared.index, plan.data.task
    ids = index.samples["id"].to_numpy(str)
    parts = {s: feed(prepared, index.of_split(s, fold), task, work.compute) for s in ("train", "validation")}
    which = f", fold {fold + 1} of {index.folds}" if index.crossfitted else ""
    with work.reporter.task(f"train {spec.method} on {spec.dataset}{which}") as update:

        def report(p: Progress) -> None:
            remark = (
                f"epoch {p.epoch}/{p.epochs}  loss {p.loss:.4f}  {p.images_per_second:.0f} img/s  "
                f"at most {duration(p.seconds_left)} left"
            )
            if p.best_epoch:
                remark += f"  validation {p.best_loss:.4f} (epoch {p.best_epoch})"
            update((p.epoch - 1) * p.steps + p.step, p.epochs * p.steps, remark)

        def names(positions: Tensor) -> list[str]:
            return [str(ids[i]) for i in positions.tolist()]

        result = train(
            plan.recipe,
            model,
            task,
            parts["train"],
            parts["validation"],
            compute=work.compute,
            seed=_seed(work, fold),
            folder=_folder(work.folder.fit, work, fold),
            names=names,
            report=report,
        )
    work.reporter.note(
        f"{work.folder.run_id}{which}: lowest validation loss {result.best_validation_loss:.4f} in epoch "
        f"{result.best_epoch} of {result.epochs}, {duration(result.seconds)}"
    )
    summary = dataclasses.asdict(result)
    summary.pop("history")
    return summary


def take_part(work: Work, fold: int) -> None:
    """Take part in the training of one fold that process 0 leads, as another one: nothing is read or written."""
    _train(work, _build(work, fold), fold)


def depth(plan: Plan) -> int:
    """Return how many runs a plan's run starts from, one after the other."""
    return depth(plan.before) + 1 if plan.before else 0
