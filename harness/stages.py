"""What a run is made of: its data, its fit and a step for each evaluation, with the keys that say what is stored."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from harness.console import Reporter, rated
from harness.data.cache import Prepared, prepare
from harness.data.roots import find_root
from harness.device import Compute
from harness.evaluations.subject import Subject
from harness.fit.loop import FIT_VERSION
from harness.models.classifier import Classifier
from harness.plan import Part, Plan
from harness.plugins import Catalogue
from harness.rows import PROTOCOL_VERSION
from harness.store import key_of
from harness.trained import Work, weights_of


@dataclass(frozen=True)
class Step:
    """One evaluation, of one explainer where it is an evaluation of explainers."""

    part: Part
    explainer: Part | None

    @property
    def name(self) -> str:
        """Return what its folder's name begins with."""
        return self.part.component.name + (f"-{self.explainer.component.name}" if self.explainer else "")

    @property
    def shared(self) -> bool:
        """Return whether other processes may make parts of it."""
        return bool(self.part.component.options.get("parts"))


def prepare_data(plan: Plan, reporter: Reporter) -> Prepared:
    """Return the plan's dataset from its cache, prepared first where it is missing."""
    root = find_root(plan.data, plan.spec.dataset, plan.spec.root)
    network = plan.network
    with reporter.task(f"prepare {plan.spec.dataset}") as update:
        return prepare(
            plan.dataset_spec,
            root,
            plan.dataset.component.identity(),
            progress=rated(update),
            accept=(lambda index: network.check(len(index.classes), plan.data.channels)) if network else None,
        )


def steps(plan: Plan, prepared: Prepared, *, exact_cam: bool) -> tuple[list[Step], dict[str, str]]:
    """Return what the plan evaluates, in order, and why other evaluations of it cannot be made.

    `exact_cam` says whether its architecture has an exact class activation map.
    """
    found: list[Step] = []
    missing = dict(plan.missing)
    for name, part in plan.evaluations.items():
        if reason := part.made.applies(prepared):
            missing[name] = reason
            continue
        explainers: Iterable[Part | None] = [None]
        if part.component.options.get("per_explainer"):
            explainers = plan.explainers.values()
        for explainer in explainers:
            step = Step(part, explainer)
            if explainer and not explains(explainer, exact_cam):
                missing[step.name] = (
                    f"{plan.model.component.name} has no exact class activation map; gradcam needs none"
                )
                continue
            found.append(step)
    return found, missing


def explains(explainer: Part, exact_cam: bool) -> bool:
    """Return whether the explainer can explain an architecture with or without an exact class activation map."""
    return exact_cam or not explainer.component.options.get("needs_exact_cam")


def fit_key(plan: Plan, prepared: Prepared, compute: Compute, start: str | None) -> str:
    """Return the key of the fit: all that can change the weights, but for the device.

    `start` is the key of the fit whose weights training begins with.
    """
    weights = weights_of(plan)
    return key_of(
        {
            "stage": "fit",
            "version": FIT_VERSION,
            "method": plan.method.key(),
            "dataset": plan.dataset.key(),
            "fingerprint": prepared.fingerprint,
            "model": plan.model.key(),
            "task": [plan.data.task.name, plan.data.task.version],
            "seed": plan.spec.seed,
            "precision": compute.precision,
            "start_from": start,
            "checkpoint": weights.digest() if weights else None,
        }
    )


def stage_key(plan: Plan, prepared: Prepared, compute: Compute, fit: str, step: Step) -> str:
    """Return the key of one evaluation's stage; `compute` is that of the evaluation, `fit` the key of the fit."""
    found, part, explainer = plan.catalogue, step.part, step.explainer
    attacks, compared = plan.attacks_of(part).values(), plan.explainers_of(part).values()
    return key_of(
        {
            "stage": "evaluation",
            "protocol": PROTOCOL_VERSION,
            "evaluation": part.key(),
            "explainer": explainer.key() if explainer else None,
            **({"attacks": [p.key() for p in attacks]} if attacks else {}),
            **({"explainers": [p.key() for p in compared]} if compared else {}),
            "fit": fit,
            "fingerprint": prepared.fingerprint,
            "metrics": [c.identity() for c in found.of("metric") if c.options.get("evaluation") == part.component.name],
            **_scores(part, found),
            "device": compute.kind,
            "precision": compute.precision,
            "profile": plan.spec.profile,
            "limit": plan.spec.limit,
        }
    )


def key_of_stage(work: Work, step: Step) -> str:
    """Return the key of one evaluation of a run, whose work is to be in fp32."""
    return stage_key(work.plan, work.prepared, work.compute, work.fit_key, step)


def subject_of(work: Work, models: tuple[Classifier, ...], part: Part, **more: Any) -> Subject:
    """Return what an evaluation is given of a run; `more` is what becomes of its parts, memory and progress."""
    exact = models[0].exact_cam
    return Subject(
        models=models,
        task=work.plan.data.task,
        prepared=work.prepared,
        compute=work.compute,
        limit=work.plan.spec.limit,
        profile=work.plan.spec.profile,
        attacks={n: p.made for n, p in work.plan.attacks_of(part).items()},
        explainers={n: p.made for n, p in work.plan.explainers_of(part).items() if explains(p, exact)},
        memory_batch=work.plan.spec.batch_size,
        **more,
    )


def _scores(part: Part, found: Catalogue) -> dict[str, Any]:
    """Return the scores that came to another version, so that a new one leaves the keys of all stages as they are.

    Those of plug-in files are used by evaluations of plug-in files alone.
    """
    every = [c for c in found.of("score") if c.version > 1 or c.module is None]
    kept = [c.identity() for c in every if c.module is not None or part.component.module is None]
    return {"scores": kept} if kept else {}
