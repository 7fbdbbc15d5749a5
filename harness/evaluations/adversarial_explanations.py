"""Adversarial explanations: what an image would have to be for the model to see more, or less, of a class in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.config import setting
from harness.data.cache import Prepared
from harness.evaluations.explained import DIRECTIONS, explained, pictures_of, samples_shown
from harness.evaluations.subject import Picture, Scored, Subject, labelled
from harness.metrics.cells import Metric
from harness.metrics.explanations import ExplanationTable
from harness.metrics.summary import summarise
from harness.plugins import evaluation
from harness.tasks import Task
from harness.types import Batch

ROLES = ("true", "other")  # a true class, and the most probable one that is not
SIZES = {"quick": 16, "paper": 1000}  # images by profile (protocol.md, 7)
ROUNDING = 1e-5  # relative, of an RMSE


def targets(probability: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    """Return the most probable true class and the most probable other one, (2,B), and where there is one, (2,B) bool.

    From probabilities (B,V) and what is true (B,V) bool.
    """
    known = probability.isfinite().all(1)
    classes = torch.stack([true, ~true])  # (2,B,V)
    chosen = probability.nan_to_num().where(classes, -1.0).argmax(2)
    return chosen, classes.any(2) & known


def measure(subject: Subject, batch: Batch, rho: float) -> tuple[dict[str, NDArray[np.float64]], float]:
    """Return the scores of a batch, (B,2) each, and the backward passes spent on each image.

    An image that could not be scored in one direction is missing in both.
    """
    before = subject.task.probability(subject.logits(batch))
    chosen, there = targets(before, subject.task.true(batch.y, before.shape[1]))
    found: dict[str, NDArray[np.float64]] = {}
    passes = 0.0
    for role, target, known in zip(ROLES, chosen, there, strict=True):
        made = [explained(subject, batch, target, d, rho) for d in DIRECTIONS]
        passes += sum(m.passes for m in made)
        known = known & torch.stack([m.probability.isfinite().all(1) for m in made]).all(0)
        values = {
            "before": [_of(before, target)] * len(made),
            "after": [_of(m.probability, target) for m in made],
            "rmse": [m.rmse for m in made],
        }
        for name, columns in values.items():
            scores = torch.stack(columns, dim=1).where(known[:, None], torch.nan)  # (B,2)
            found[f"{role}_{name}"] = scores.double().cpu().numpy()
    return found, passes


def _of(values: Tensor, target: Tensor) -> Tensor:
    return values.gather(1, target[:, None])[:, 0]


@evaluation("adversarial_explanations", source="Woods 2019, arXiv:1906.02494, eq. 2, Figs 1, 4 and 5; protocol.md, 5",
            version=1, standard=False, per_explainer=False, attacks=True, parts=True)  # fmt: skip
@dataclass(frozen=True, kw_only=True)
class AdversarialExplanations:
    """Probability of a true class and of the most probable other one, before and after explain+ and explain-.

    Images without a label have no true class and are not sampled.
    """

    rho: float = setting(0.1, unit="RMSE, [0,1] pixels", source="Woods 2019: authors' program; 0.075 in Fig. 5")
    images: int | None = setting(None, unit="images", source="protocol.md, 7", help="none: 16 (quick) or 1,000 (paper)")
    batch: int = setting(32, unit="images", help="logical batch; part of the key")
    resamples: int = setting(1000, source="protocol.md, 0", help="bootstrap replicates")

    def attack_names(self, task: Task, profile: str) -> tuple[str, ...]:
        """Return the attack that makes the explanations."""
        return ("explain",)

    def applies(self, prepared: Prepared) -> str:
        """Return why there is nothing to explain, or the empty string."""
        return "" if len(labelled(prepared, 1)) else "no image of the test split has a label"

    def score(self, subject: Subject, explainer: Any = None) -> Scored:
        """Return one line per image: probability before and after, RMSE, of two classes in two directions."""
        count = SIZES[subject.profile] if self.images is None else self.images
        positions = labelled(subject.prepared, min(count, subject.limit or count))
        shown = samples_shown(subject.prepared)[: subject.limit]
        every = len(positions) + len(shown)
        scoring = replace(subject, progress=lambda done, of: subject.progress(done, every))

        def make(rows: NDArray[np.int64]) -> pd.DataFrame:
            batch = subject.feed(positions[rows]).batch(np.arange(len(rows)))
            found, passes = measure(subject, batch, self.rho)
            columns = {f"{n}|{c}": column for n, values in found.items() for c, column in enumerate(values.T)}
            return pd.DataFrame({**columns, "passes": passes})

        frame = scoring.in_parts(len(positions), self.batch, make)
        passes = float(frame["passes"].iloc[-1])
        index = subject.prepared.index
        table = ExplanationTable(
            ids=index.ids(positions),
            clusters=index.patients(positions),
            values={k: frame[[f"{k}|{c}" for c in range(len(DIRECTIONS))]].to_numpy() for k in ExplanationTable.scores},
            conditions=[{"attack": f"explain{sign}", "radius": self.rho} for sign in "+-"],
            task=subject.task.name,
        )
        sizes = np.concatenate([table.values[f"{role}_rmse"] for role in ROLES])
        flags = ("beyond rho",) if (sizes > self.rho * (1 + ROUNDING)).any() else ()
        pictures: list[Picture] = []
        for number, (position, own) in enumerate(shown, len(positions) + 1):
            pictures += pictures_of(subject, position, own, self.rho)
            subject.progress(number, every)
        return Scored(table.to_frame(), pictures, {"forward": 5.0, "backward": passes}, flags)

    def summarise(self, samples: pd.DataFrame, extra: Sequence[Metric] = ()) -> list[dict[str, Any]]:
        """Return the fields of every row: each metric, and those of plug-ins, with intervals."""
        return summarise(ExplanationTable.from_frame(samples), resamples=self.resamples, extra=extra)
