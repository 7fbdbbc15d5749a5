"""Input gradients and the bound they put on the logits under attack (Woods 2019, arXiv:1906.02494, eqs 6-8)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from harness.attacks.goals import Goal
from harness.config import setting
from harness.data.cache import Prepared
from harness.evaluations.attacked import Part, fooled, measured, sampled
from harness.evaluations.subject import Scored, Subject
from harness.metrics.cells import Metric
from harness.metrics.gradient_bound import GradientBoundTable
from harness.metrics.summary import summarise
from harness.plugins import evaluation
from harness.scores.linear_bound import gradients, linear_bound
from harness.tasks import Task


def concerned(task: Task, goal: Goal, logits: Tensor) -> Tensor:
    """Return the outputs that an attack is about, (B,K) class numbers, from the logits (B,V) that it led to.

    One class per image: the true one and the most probable other one. Several findings: the one whose decision flips.
    """
    target = goal.target[:, None]
    if not task.exclusive:
        return target
    return torch.cat([target, logits.scatter(1, target, -torch.inf).argmax(1, keepdim=True)], dim=1)


def measure(subject: Subject, part: Part) -> dict[str, Tensor]:
    """Return the scores of `GradientBoundTable` for a batch, each (B,) float64, and which gradients are `faulty`."""
    batch, logits, goal, found = part.batch, part.logits, part.goal, part.found
    moved = subject.logits(replace(batch, x=batch.x + found.delta))
    outputs = concerned(subject.task, goal, moved)
    jacobian = torch.empty((len(batch), outputs.shape[1], *batch.x.shape[1:]), device=batch.x.device)
    for model, chosen in subject.shares(batch.index.numpy()):
        rows = torch.from_numpy(chosen).to(batch.x.device)
        with subject.room:
            jacobian[rows] = gradients(model, batch.x[rows], outputs[rows])
    size = jacobian.double().abs().flatten(2)  # (B,K,C*H*W)
    finite, known = size.isfinite().flatten(1).all(1), fooled(found)
    change = (moved - logits).double().gather(1, outputs).abs().sum(1)
    scores = {"gradient_mean": size.mean((1, 2)), "gradient_max": size.amax(2).mean(1)}
    of_attacks = {
        "gradient_sum": size.sum((1, 2)),
        "distance": found.delta.double().abs().flatten(1).mean(1),
        "change": change,
        "bound": linear_bound(found.delta, jacobian),
    }
    return {
        **{name: values.where(finite, torch.nan) for name, values in scores.items()},
        **{name: values.where(finite & known, torch.nan) for name, values in of_attacks.items()},
        "faulty": ~finite | (size.flatten(1).amax(1) == 0),
    }


@evaluation("gradient_bound", source="Woods 2019, arXiv:1906.02494, eqs 6-8; protocol.md, 3", version=1,
            standard=False, per_explainer=False, attacks=True, parts=True)  # fmt: skip
@dataclass(frozen=True, kw_only=True)
class GradientBound:
    """Mean and maximum |dy/dx|, and the change of the logits under attack against what they allow a linear model.

    y is before the softmax, x the image in [0,1]. The paper takes "one of the NN's outputs", not said which, for the
    gradients, and the true and the adversarial class for the change: here both are of the outputs that the attack
    concerns, true class and strongest other one after it, or with several findings the one that flips. The paper's
    attacks go on until the adversarial class leads by half of the probability; these stop at the boundary. Images that
    are wrong as they are, or are not fooled, have gradients but no attack.
    """

    attack: Literal["deepfool", "ddn", "algorithm1"] = setting("deepfool", help="minimal-norm attack")
    images: int | None = setting(None, unit="images", help="first of the fixed order; none: quick 16, paper 1,000")
    batch: int = setting(16, unit="images", help="logical batch; part of the key")
    resamples: int = setting(1000, source="protocol.md, 0", help="bootstrap replicates")

    def applies(self, prepared: Prepared) -> str:
        """Return the empty string: every model has gradients."""
        return ""

    def attack_names(self, task: Task, profile: str) -> tuple[str, ...]:
        """Return the attack that is used."""
        return (self.attack,)

    def score(self, subject: Subject, explainer: Any = None) -> Scored:
        """Return one line per image: gradients, size of the attack, change of the logits and its bound."""
        positions = sampled(subject, self.images)
        scores, facts, attacking = measured(
            subject, positions, self.attack, self.batch, lambda part: measure(subject, part)
        )
        faulty = scores.pop("faulty")
        index = subject.prepared.index
        table = GradientBoundTable(
            ids=index.ids(positions),
            clusters=index.patients(positions),
            values={name: values[:, None] for name, values in scores.items()},
            conditions=({"attack": self.attack},),
            task=subject.task.name,
        )
        outputs = 2 if subject.task.exclusive else 1
        return Scored(
            table.to_frame(),
            passes={"forward": 2.0, "backward": attacking + outputs},
            flags=("zero or NaN gradients",) if faulty.mean() > 0.5 else (),
            facts={**facts, "zero or NaN gradients": int(np.sum(faulty)), "outputs": outputs},
        )

    def summarise(self, samples: pd.DataFrame, extra: Sequence[Metric] = ()) -> list[dict[str, Any]]:
        """Return the fields of every row: each metric, and those of plug-ins, with intervals."""
        return summarise(GradientBoundTable.from_frame(samples), resamples=self.resamples, extra=extra)
