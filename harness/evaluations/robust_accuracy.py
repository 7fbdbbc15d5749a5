"""Robust accuracy: the share of images that bounded attacks at fixed radii leave right (protocol.md, 3)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from harness.attacks.balls import Norm, length
from harness.attacks.goals import Adversarial
from harness.config import setting
from harness.data.cache import Prepared
from harness.errors import HarnessError, UsageError
from harness.evaluations.attacked import sampled
from harness.evaluations.counted import Counted
from harness.evaluations.subject import Scored, Subject
from harness.metrics.cells import Metric
from harness.metrics.robust_accuracy import RobustAccuracyTable
from harness.metrics.summary import summarise
from harness.plugins import evaluation
from harness.tasks import Task

ROUNDING = 1e-5  # how far beyond the ball a moved image may lie: of the radius, and of a pixel's range
NOT_FALLING = "adversarial loss not falling"
ELSEWHERE = "images with several labels: the evaluation `robustness` measures theirs"


@dataclass(frozen=True)
class Looked:
    """What a clean pass over B images says."""

    right: Tensor  # (B,) bool
    margin: Tensor  # (B,)
    known: Tensor  # (B,) bool: images and logits are finite


@torch.no_grad()
def look(model: nn.Module, task: Task, x: Tensor, goal: Adversarial) -> Looked:
    """Classify images (B,C,H,W) of the classes that the goal is about."""
    logits = model(x)
    known = logits.isfinite().all(1) & x.isfinite().flatten(1).all(1)
    return Looked(task.correct(logits, goal.target), goal.margin(logits), known)


def confirm(name: str, moved: Tensor, x: Tensor, norm: Norm, radius: float) -> None:
    """Raise `HarnessError` where an attack's images (B,C,H,W) leave the ball or [0,1]. NaN is missing, not outside."""
    known = moved.isfinite().flatten(1).all(1)
    far = float(length(torch.where(known.view(-1, 1, 1, 1), moved - x, 0.0), norm).max())
    low, high = (float(moved.nan_to_num(0.5).min()), float(moved.nan_to_num(0.5).max()))
    if far > radius * (1 + ROUNDING) + ROUNDING / 255 or low < -ROUNDING or high > 1 + ROUNDING:
        raise HarnessError(
            f"attack {name}: expected images in [0, 1] within {radius:.6g} ({norm}), got changes of {far:.6g} and "
            f"pixels in [{low:.6g}, {high:.6g}]. Mend the attack."
        )


@evaluation("robust_accuracy", source="Madry 2018, arXiv:1706.06083; Croce 2021, arXiv:2010.09670; protocol.md, 3",
            version=1, standard=False, per_explainer=False, attacks=True, finds="bounded", parts=True)  # fmt: skip
@dataclass(frozen=True, kw_only=True)
class RobustAccuracy:
    """Accuracy under bounded attacks at fixed Linf and L2 radii, beside the clean one of the same images."""

    attacks: tuple[str, ...] = setting(("pgd",), help="bounded attacks, ours or foolbox's, a row each")
    linf: tuple[float, ...] = setting(
        (8 / 255,), unit="largest change of a pixel, in [0,1]", source="Croce 2021; protocol.md, 3", help="radii"
    )
    l2: tuple[float, ...] = setting(
        (0.5 / 3072**0.5,), unit="RMSE in [0,1] pixels", source="Croce 2021: an L2 length of 0.5 at 3x32x32",
        help="radii",
    )  # fmt: skip
    images: int | None = setting(
        None, unit="images", source="protocol.md, 7",
        help="prefix of the split's fixed order; none: 16 in profile quick, 1,000 in paper",
    )  # fmt: skip
    batch: int = setting(64, unit="images", help="logical batch; part of the key")
    resamples: int = setting(1000, source="protocol.md, 0", help="bootstrap replicates")

    def __post_init__(self) -> None:
        """Raise `UsageError` for settings that measure nothing."""
        if not self.attacks:
            raise UsageError("robust_accuracy: attacks: expected at least one bounded attack, got none.")
        for norm, radii in (("linf", self.linf), ("l2", self.l2)):
            for radius in radii:
                if not (math.isfinite(radius) and radius > 0):
                    raise UsageError(
                        f"robust_accuracy: {norm}: expected radii above 0, in [0,1] pixels, got {radius}. "
                        "Without an attack the row of variant clean says it."
                    )
        if not (self.linf or self.l2):
            raise UsageError("robust_accuracy: expected a radius in linf or l2, got none.")
        for name, count in (("images", self.images), ("batch", self.batch)):
            if count is not None and count < 1:
                raise UsageError(f"robust_accuracy: {name}: expected at least 1, got {count}.")

    def attack_names(self, task: Task, profile: str) -> tuple[str, ...]:
        """Return the attacks to run; none where images have several labels, which are not measured here."""
        return tuple(dict.fromkeys(self.attacks)) if task.exclusive else ()

    def balls(self, profile: str, task: Task) -> list[tuple[str, Norm, float]]:
        """Return attack, norm and radius of every condition but the clean one."""
        names = self.attack_names(task, profile)
        radii: dict[Norm, tuple[float, ...]] = {"linf": self.linf, "l2": self.l2}
        return [(name, norm, r) for name in names for norm in radii for r in dict.fromkeys(radii[norm])]

    def applies(self, prepared: Prepared) -> str:
        """Return why there is nothing to attack, or the empty string."""
        labels = prepared.index.labels
        if labels.shape[1] < 2:
            return "the dataset has one class: there is nothing else to be taken for"
        return "" if (labels[prepared.index.scored()[0]].sum(1) == 1).all() else ELSEWHERE

    def score(self, subject: Subject, explainer: Any = None) -> Scored:
        """Return one line per image: right or not, as it is and in every ball. NaN where a pass was not finite."""
        if not subject.task.exclusive:
            raise UsageError(f"robust_accuracy: expected one label per image, got {ELSEWHERE}.")
        balls, positions = self.balls(subject.profile, subject.task), sampled(subject, self.images)

        def make(numbers: NDArray[np.int64]) -> pd.DataFrame:
            batch = subject.feed(positions[numbers]).batch(np.arange(len(numbers)))
            right = np.full((len(numbers), 1 + len(balls)), np.nan)
            margins = np.full(right.shape, np.nan)  # of the images that are right at the start
            passes = np.zeros((len(numbers), 2))
            for model, rows in subject.shares(batch.index.numpy()):
                with subject.room:
                    counted = Counted(model)
                    found = self.part(counted, subject.task, batch.x[rows], batch.y[rows], balls, subject.attacks)
                    right[rows], margins[rows] = found
                    passes[rows[0]] = counted.forwards, counted.backwards
            columns = {"right": right, "margin": margins, "passes": passes}
            return pd.DataFrame({f"{n}|{c}": v for n, values in columns.items() for c, v in enumerate(values.T)})

        frame = subject.in_parts(len(positions), self.batch, make)
        right, margins, passes = (
            frame[[c for c in frame.columns if c.startswith(f"{n}|")]].to_numpy(np.float64)
            for n in ("right", "margin", "passes")
        )
        index = subject.prepared.index
        conditions = [{"variant": "clean"}, *({"attack": a, "variant": n, "radius": r} for a, n, r in balls)]
        table = RobustAccuracyTable(
            ids=index.ids(positions),
            clusters=index.patients(positions),
            values={"right": right},
            conditions=conditions,
            task=subject.task.name,
        )
        mean = [float(column[~np.isnan(column)].mean()) if (column == column).any() else None for column in margins.T]
        facts = {f"{a} {n} {r:.6g}": after for (a, n, r), after in zip(balls, mean[1:], strict=True)}
        falling = all(mean[0] is None or (after is not None and after < mean[0]) for after in mean[1:])
        forward, backward = (float(p) for p in passes.sum(0) / len(positions))
        return Scored(
            table.to_frame(),
            passes={"forward": forward, "backward": backward},
            flags=() if falling else (NOT_FALLING,),
            facts={"mean_margin": {"clean": mean[0], **facts}},
        )

    def part(
        self, model: nn.Module, task: Task, x: Tensor, y: Tensor, balls: Sequence[tuple[str, Norm, float]],
        attacks: Any,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:  # fmt: skip
        """Return whether each of B images is right, and its margin where it was right at first, (B, 1 + balls).

        NaN in all columns where an image or logits of any of them are not finite.
        """
        goal = Adversarial(y)
        looks = [look(model, task, x, goal)]
        for name, norm, radius in balls:
            attack: Callable[..., Tensor] = attacks[name]
            moved = attack(model, x, goal, norm=norm, radius=radius)
            confirm(name, moved, x, norm, radius)
            looks.append(look(model, task, moved, goal))
        clean = looks[0].right
        known = torch.stack([found.known for found in looks], 1).all(1, keepdim=True)  # (B,1)
        right = torch.stack([clean & found.right for found in looks], 1).double()
        margin = torch.stack([found.margin for found in looks], 1).double()
        assert (right <= right[:, :1]).all(), "an attack made an image right"
        right = torch.where(known, right, torch.nan)
        margin = torch.where(known & clean[:, None], margin, torch.nan)
        return right.cpu().numpy(), margin.cpu().numpy()

    def summarise(self, samples: pd.DataFrame, extra: Sequence[Metric] = ()) -> list[dict[str, Any]]:
        """Return the fields of every row: each metric, and those of plug-ins, in every ball, with intervals."""
        return summarise(RobustAccuracyTable.from_frame(samples), resamples=self.resamples, extra=extra)
