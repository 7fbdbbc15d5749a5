"""Robust accuracy at fixed radii by AutoAttack (Croce & Hein 2020, arXiv:2003.01690; protocol.md, 3)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from harness.config import setting
from harness.data.cache import Prepared
from harness.errors import UsageError
from harness.evaluations.attacked import sampled_in_order
from harness.evaluations.counted import Counted
from harness.evaluations.subject import Scored, Subject
from harness.metrics.autoattack import AutoAttackTable
from harness.metrics.cells import Metric
from harness.metrics.summary import summarise
from harness.plugins import evaluation
from harness.rng import seed_for
from harness.robustbench_adapter import attacks_of, autoattack

ROUNDING = 1e-4  # of a radius, that a moved image may lie outside: AutoAttack computes in single precision
CROCE = "Croce & Hein 2020, arXiv:2003.01690, for CIFAR-10"


@evaluation("autoattack", source="Croce & Hein 2020, arXiv:2003.01690; protocol.md, 3", version=1, standard=False,
            per_explainer=False, parts=True)  # fmt: skip
@dataclass(frozen=True, kw_only=True)
class AutoAttack:
    """Share of the images that are right and that AutoAttack does not fool within an Linf and an L2 radius."""

    linf: float | None = setting(8 / 255, unit="Linf radius, [0,1] pixels", source=CROCE, help="none: not attacked")
    l2: float | None = setting(0.5, unit="L2 length, [0,1] pixels", source=CROCE, help="none: not attacked")
    version: Literal["standard", "apgd"] = setting(
        "standard", source="Croce & Hein 2020", help="apgd: its two APGD attacks alone, a tenth of the work"
    )
    images: int | None = setting(
        None, unit="images", source="protocol.md, 7",
        help="prefix of the split's fixed order; none: 16 in profile quick, 1,000 in profile paper",
    )  # fmt: skip
    batch: int = setting(64, unit="images", help="logical batch, attacked at once; part of the key")
    resamples: int = setting(1000, source="protocol.md, 0", help="bootstrap replicates")

    def __post_init__(self) -> None:
        """Refuse what cannot be attacked."""
        radii = [r for r in (self.linf, self.l2) if r is not None]
        if not radii or not all(r > 0 for r in radii) or (self.images is not None and self.images < 1):
            raise UsageError(
                f"autoattack: expected a radius above 0 and 1 or more images, got linf {self.linf}, l2 {self.l2} and "
                f"images {self.images}."
            )

    def applies(self, prepared: Prepared) -> str:
        """Return why there is nothing to attack, or the empty string."""
        one = (prepared.index.labels.sum(1) == 1).all() and len(prepared.index.classes) > 1
        return "" if one else "AutoAttack needs one class per image; no library attacks several labels"

    def score(self, subject: Subject, explainer: Any = None) -> Scored:
        """Return one line per image: whether it is right as it is, and whether it stays so under each norm."""
        if not subject.task.exclusive:
            raise UsageError("autoattack: expected one class per image, got a task of several labels.")
        index = subject.prepared.index
        positions = sampled_in_order(subject, self.images)
        pixels = math.prod(subject.prepared.images.shape[1:])
        norms = {n: r for n, r in (("linf", self.linf), ("l2", self.l2)) if r is not None}
        conditions = [
            {"attack": "autoattack", "variant": n, "radius": r / math.sqrt(pixels) if n == "l2" else r}
            for n, r in norms.items()
        ]
        frame = subject.in_parts(len(positions), self.batch, lambda rows: self._part(subject, positions[rows], norms))
        correct = frame["correct"].to_numpy(np.float64)
        table = AutoAttackTable(
            ids=index.ids(positions),
            clusters=index.patients(positions),
            values={"robust": frame[list(norms)].to_numpy(np.float64)},
            conditions=conditions,
            task=subject.task.name,
            extra={"correct": correct},
        )
        remarks = [remark for found in frame["remarks"] for remark in found]
        facts = {
            "accuracy": float(np.nanmean(correct)) if np.isfinite(correct).any() else None,
            "attacks": list(attacks_of(self.version, len(index.classes))),
            "left_the_ball": int(frame["outside"].to_numpy().sum()),  # such an image counts as not fooled
            "remarks": list(dict.fromkeys(remarks)),
        }
        passes = {name: float(frame[name].to_numpy().sum() / len(positions)) for name in ("forward", "backward")}
        return Scored(table.to_frame(), passes=passes, facts=facts)

    def _part(self, subject: Subject, positions: NDArray[np.int64], norms: dict[str, float]) -> pd.DataFrame:
        """Return the columns of one batch; what is counted over several images stands in the line of their first."""
        ids = subject.prepared.index.samples["id"]
        batch = subject.feed(positions).batch(np.arange(len(positions)))
        found = {name: np.zeros(len(positions)) for name in ("correct", *norms, "outside", "forward", "backward")}
        remarks: list[list[str]] = [[] for _ in positions]
        for model, rows in subject.shares(positions):
            with subject.room:
                counted, first, left = Counted(model), rows[0], np.zeros(len(rows))
                remarks[first].clear()
                x, y = batch.x[rows], batch.y[rows]
                right, known = _right(counted, x, y)
                found["correct"][rows] = np.where(known, right, np.nan)
                for norm, radius in norms.items():
                    seed = seed_for(0, "autoattack", norm, str(ids.iloc[positions[first]]))
                    moved = autoattack(counted, x, y, norm=norm, epsilon=radius, version=self.version, seed=seed,
                                       batch=len(rows), remarks=remarks[first])  # fmt: skip
                    inside = within(moved, x, norm, radius)
                    left += ~inside
                    held = right & (_right(counted, moved, y)[0] | ~inside)
                    found[norm][rows] = np.where(known, held, np.nan)
                found["forward"][first], found["backward"][first] = counted.forwards, counted.backwards
                found["outside"][rows] = left
        return pd.DataFrame({**found, "remarks": remarks})

    def summarise(self, samples: pd.DataFrame, extra: Sequence[Metric] = ()) -> list[dict[str, Any]]:
        """Return the fields of every row: robust accuracy under each norm; the radius of L2 is an RMSE."""
        return summarise(AutoAttackTable.from_frame(samples), resamples=self.resamples, extra=extra)


@torch.no_grad()
def _right(model: nn.Module, x: Tensor, y: Tensor) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which images have their own class as the most probable one, and which have finite logits, (B,) each."""
    logits = model(x)
    return (logits.argmax(1) == y).cpu().numpy(), logits.isfinite().all(1).cpu().numpy()


def within(moved: Tensor, x: Tensor, norm: str, radius: float) -> NDArray[np.bool_]:
    """Return which moved images lie in [0,1] and within `radius` of their own in the norm, up to rounding, (B,)."""
    delta = (moved - x).double().flatten(1)
    length = delta.norm(dim=1) if norm == "l2" else delta.abs().amax(1)
    flat = moved.flatten(1)
    inside = (length <= radius * (1 + ROUNDING)) & (flat.amin(1) >= 0) & (flat.amax(1) <= 1)
    return inside.cpu().numpy()
