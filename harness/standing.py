"""What the store already has of a run that a spec asks for: its name, its fit, each of its evaluations."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch

from harness import device as devices
from harness.data.cache import Prepared, cache_folder, open_cache
from harness.data.roots import find_root
from harness.errors import HarnessError
from harness.plan import Plan, RunSpec, make
from harness.stages import Step, fit_key, stage_key, steps
from harness.store import RunFolder, name_of, runs
from harness.trained import architecture, finished


@dataclass(frozen=True)
class Standing:
    """What is there of one run. `run_id` is empty, and `why` says the reason, where it cannot be known yet."""

    spec: RunSpec
    run_id: str
    fit: bool
    done: tuple[str, ...]  # evaluations, with their explainer
    missing: tuple[str, ...]
    seconds: float | None  # that what is missing should take, from runs alike in the store; None: none is alike
    why: str = ""
    status: str = ""  # of run.json: interrupted, failed, ...; with its message

    @property
    def complete(self) -> bool:
        """Return whether nothing is left to do."""
        return bool(self.run_id) and self.fit and not self.missing

    def word(self) -> str:
        """Return the state in one word or two."""
        if self.complete:
            return "complete"
        if not self.run_id or not (self.fit or self.done or self.status):
            return "to do"
        return f"{len(self.done)} of {len(self.done) + len(self.missing)} evaluations" if self.fit else "begun"


class Store:
    """A store as it is now: says of any spec what is there, and how long the rest should take."""

    def __init__(self, folders: Iterable[RunFolder]) -> None:
        self.fits: dict[tuple[Any, ...], list[float]] = {}
        self.stages: dict[tuple[Any, ...], list[float]] = {}
        for folder in folders:
            try:
                self._count(folder)
            except (HarnessError, KeyError, TypeError):
                continue  # a damaged run gives no estimate; `harness list runs` names it

    def _count(self, folder: RunFolder) -> None:
        info = folder.info
        data, spec = info["dataset"], info["spec"]
        alike = (spec["dataset"], data["settings"], spec["model"])
        if seconds := info.get("fit", {}).get("seconds"):
            self.fits.setdefault((spec["method"], *alike), []).append(seconds)
        for stage in folder.stages():
            told = stage.info
            key = (told["evaluation"], told["explainer"], *alike, _settings(told["settings"]))
            self.stages.setdefault(key, []).append(told["seconds"])

    def standing(self, spec: RunSpec) -> Standing:
        """Return what is there of the run that a spec asks for. `UsageError`: no plan can be made of it."""
        plan = make(spec)
        try:
            prepared = cached(plan)
            if prepared is None:
                return Standing(spec, "", False, (), (), None, f"{spec.dataset} is not prepared yet")
            compute = compute_of(spec)
            key = chained_key(plan, prepared, compute)
            exact_cam = architecture(plan, len(prepared.index.classes)).exact_cam
        except HarnessError as error:
            return Standing(spec, "", False, (), (), None, str(error).splitlines()[0])
        folder = RunFolder(spec.runs_dir / name_of(spec.method, plan.dataset_name, spec.seed, key))
        wanted, _ = steps(plan, prepared, exact_cam=exact_cam)
        measured, info = compute.exact(), folder.info if (folder.folder / "run.json").exists() else {}
        cannot = set(info.get("missing_evaluations", {}))
        there = [_there(folder, s, stage_key(plan, prepared, measured, key, s)) for s in wanted]
        done = tuple(s.name for s, is_there in zip(wanted, there, strict=True) if is_there)
        todo = [s for s, is_there in zip(wanted, there, strict=True)
                if not is_there and not cannot & {s.name, s.part.component.name}]  # fmt: skip
        fit = finished(folder.fit) is not None
        status = "" if info.get("status", "complete") == "complete" else f"{info['status']}: {info.get('message', '')}"
        return Standing(
            spec, folder.run_id, fit, done, tuple(s.name for s in todo), self._seconds(plan, fit, todo), status=status
        )

    def _seconds(self, plan: Plan, fit: bool, todo: Iterable[Step]) -> float | None:
        alike = (plan.spec.dataset, plan.dataset.changed, plan.model.component.name)
        known = [] if fit else [self.fits.get((plan.spec.method, *alike))]
        for step in todo:
            used = (*plan.attacks_of(step.part).values(), *plan.explainers_of(step.part).values())
            settings = _settings([e for p in (step.part, step.explainer, *used) if p for e in p.described()])
            explainer = step.explainer.component.name if step.explainer else ""
            known.append(self.stages.get((step.part.component.name, explainer, *alike, settings)))
        return None if any(k is None for k in known) else sum(median(k) for k in known if k)


def read_store(spec: RunSpec) -> Store:
    """Return the store that a spec's runs go to."""
    return Store(runs(spec.runs_dir))


def _settings(described: Iterable[dict[str, Any]]) -> str:
    return repr(sorted((d["component"], d["name"], str(d["value"])) for d in described))


def cached(plan: Plan) -> Prepared | None:
    """Return the plan's dataset where its cache is complete; nothing is prepared."""
    root = find_root(plan.data, plan.spec.dataset, plan.spec.root)
    folder = cache_folder(plan.dataset_spec, plan.data, root, plan.dataset.component.identity())
    return open_cache(folder) if (folder / "meta.json").exists() else None


def compute_of(spec: RunSpec) -> devices.Compute:
    """Return the device and precision of a spec's keys; where it names both, they need not be of this machine."""
    if spec.device in ("cpu", "cuda") and spec.precision != "auto":
        return devices.Compute(torch.device(spec.device), spec.precision)
    return devices.resolve(spec.device, spec.precision)


def chained_key(plan: Plan, prepared: Prepared, compute: devices.Compute) -> str:
    """Return the key of a plan's fit, from those of the fits that it starts from."""
    start = chained_key(plan.before, prepared, compute) if plan.before else None
    return fit_key(plan, prepared, compute, start)


def _there(folder: RunFolder, step: Step, key: str) -> bool:
    return (folder.stage_folder(step.name, key) / "rows.json").exists()
