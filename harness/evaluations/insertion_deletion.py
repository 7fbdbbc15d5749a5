"""Insertion and deletion: does the model look where the map says? (protocol.md, 4; Khorram 2021, Petsiuk 2018)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from harness.config import setting
from harness.data.cache import Prepared
from harness.errors import UsageError
from harness.evaluations.explained_maps import Remembered, explain
from harness.evaluations.masked import View, followed, views
from harness.evaluations.masked_pictures import LEVELS, pictures_of
from harness.evaluations.subject import Scored, Subject, fixed_order, labelled
from harness.metrics.cells import Metric
from harness.metrics.insertion_deletion import MAP_CELLS, InsertionDeletionTable
from harness.metrics.scored import suffix
from harness.metrics.summary import summarise
from harness.plugins import evaluation
from harness.scores.insertion import counts, deletion, insertion, resolutions_of
from harness.scores.threshold_iou import finite
from harness.tasks import Task

IMAGES = {"quick": 16, "paper": 5000}  # protocol.md, 7
REMEMBERED = 64  # images whose maps are kept, to be shown


@evaluation("insertion_deletion", source="Khorram 2021, Table 1; Petsiuk 2018, arXiv:1806.07421; protocol.md, 4",
            version=1, standard=True, per_explainer=True, attacks=True, parts=True)  # fmt: skip
@dataclass(frozen=True, kw_only=True)
class InsertionDeletion:
    """Areas under the probability of a class while the most important cells of the image appear, or are blurred away.

    The class is the model's most probable one; with several findings the most probable true one, on images that have
    any. The map is brought down to cells by area means; at resolutions finer than the map nothing is scored. With an
    attack the same images are scored clean and attacked, the map explaining the class that each of them has then.
    """

    resolutions: tuple[int, ...] = setting(
        (), unit="cells per side", source="protocol.md, 4",
        help="default: the coarsest (quick), or all (paper) of those near 7 and 28, and the pixels",
    )  # fmt: skip
    mode: Literal["protocol", "igos_code", "rise"] = setting(
        "protocol", source="protocol.md, 4",
        help="igos_code: steps and sum of the authors' program (Khorram 2021); rise: deletion to zeros (Petsiuk 2018)",
    )  # fmt: skip
    attack: Literal["none", "deepfool", "ddn"] = setting(
        "none", source="Khorram 2021, Fig. 3", help="also score explanations of attacked images, beside the clean ones"
    )
    overshoot: float = setting(
        1.0, unit="times the smallest perturbation", source="ours: the poster's attack is not stated",
        help="attacked images are moved this far; beyond 1 the network grows sure of the wrong class",
    )  # fmt: skip
    images: int | None = setting(
        None, unit="images", source="protocol.md, 7", help="default: 16 (quick), 5,000 (paper)"
    )
    batch: int = setting(
        16, unit="images", help="explained at once; part of the key, and what an interrupted run keeps"
    )
    masked: int = setting(32, unit="images", help="partly shown images that the model sees at once; part of the key")
    resamples: int = setting(1000, source="protocol.md, 0", help="bootstrap replicates")

    def __post_init__(self) -> None:
        """Refuse sizes that measure nothing."""
        for name in ("images", "batch", "masked"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise UsageError(f"insertion_deletion.{name}: expected at least 1, got {value}.")
        if not 1 <= self.overshoot < math.inf:
            raise UsageError(f"insertion_deletion.overshoot: expected at least 1, got {self.overshoot}.")

    def attack_names(self, task: Task, profile: str) -> tuple[str, ...]:
        """Return the attack that is used, () for none."""
        return () if self.attack == "none" else (self.attack,)

    def applies(self, prepared: Prepared) -> str:
        """Return why there is no class to follow, or the empty string."""
        return "" if len(labelled(prepared, 1)) else "no image of the test split has a label"

    def chosen(self, side: int, profile: str) -> tuple[int, ...]:
        """Return the resolutions that images with `side` pixels are scored at; raises `UsageError`."""
        known = resolutions_of(side)
        wrong = [r for r in self.resolutions if r < 1 or side % r]
        if wrong:
            raise UsageError(
                f"insertion_deletion.resolutions: expected divisors of the image's {side} px, got "
                f"{', '.join(map(str, wrong))}. The protocol's are {', '.join(map(str, known))}."
            )
        return tuple(sorted(set(self.resolutions))) or (known if profile == "paper" else known[:1])

    def score(self, subject: Subject, explainer: Any = None) -> Scored:
        """Return one line per image: areas and curves of both directions at each resolution, and the curves' ends."""
        resolutions = self.chosen(subject.prepared.images.shape[-1], subject.profile)
        count = IMAGES[subject.profile] if self.images is None else self.images
        positions = labelled(subject.prepared, min(count, subject.limit or count))

        def make(rows: NDArray[np.int64]) -> pd.DataFrame:
            if rows[0] >= REMEMBERED:
                return self._part(subject, explainer, positions[rows], resolutions)
            remembered = Remembered(explainer)
            found = self._part(subject, remembered, positions[rows], resolutions)
            return found.assign(maps=[remembered.packed(), *[b""] * (len(rows) - 1)])

        frame = subject.in_parts(len(positions), self.batch, make)
        remembered = Remembered(explainer, frame.pop("maps").dropna())
        table = self._table(subject, positions, resolutions, frame)
        pictures = pictures_of(
            subject,
            remembered,
            positions,
            table,
            mode=self.mode,
            attack=self.attack,
            overshoot=self.overshoot,
            batch=self.batch,
        )
        return Scored(table.to_frame(), pictures, *_passes_and_facts(subject, positions, frame))

    def _variants(self) -> tuple[str, ...]:
        mode = "" if self.mode == "protocol" else self.mode
        return (mode,) if self.attack == "none" else tuple(f"{v} {mode}".strip() for v in ("clean", "attacked"))

    def _conditions(self, resolutions: Sequence[int]) -> list[dict[str, Any]]:
        """Return what the columns are of: the variants, each at every resolution."""
        return [
            {"attack": self.attack if v.startswith("attacked") else "", "variant": v, "resolution": r}
            for v in self._variants()
            for r in resolutions
        ]

    def _part(
        self, subject: Subject, explainer: Any, positions: NDArray[np.int64], resolutions: tuple[int, ...]
    ) -> pd.DataFrame:
        """Return the columns of one batch: those of the table, and what became of maps and passes."""
        batch = subject.feed(positions).batch(np.arange(len(positions)))
        parts = [
            self._columns(subject, explainer, view, resolutions, self._conditions(resolutions)[i * len(resolutions) :])
            for i, view in enumerate(views(subject, batch, self.attack, self.overshoot))
        ]
        found: dict[str, Any] = {}
        for part in parts:
            passes = {k: found.get(k, 0.0) + part[k] for k in ("forwards", "backwards")}
            found |= part | passes | {"lost_map": found.get("lost_map", False) | part["lost_map"]}
        return pd.DataFrame(found)

    def _columns(
        self, subject: Subject, explainer: Any, view: View, resolutions: tuple[int, ...],
        conditions: Sequence[dict[str, Any]],
    ) -> dict[str, Any]:  # fmt: skip
        explanation = explain(subject, explainer, view.batch, view.target)
        usable = finite(explanation.heat)
        heat = explanation.heat.where(usable[:, None, None], 0.0)
        side = min(heat.shape[-2:])
        scored = [r for r in resolutions if r <= side]
        curves = followed(subject, view, heat, scored, mode=self.mode, at_once=self.masked)
        index = subject.prepared.index
        found: dict[str, Any] = {
            f"explained_class{_of(view.variant)}": np.array(index.classes, object)[view.target.cpu().numpy()],
            "lost_map": (~usable).cpu().numpy(),
            MAP_CELLS: side,
            "forwards": explanation.forwards + 1 + curves.forwards,
            "backwards": explanation.backwards,
        }
        for r, condition in zip(resolutions, conditions, strict=False):
            levels = None if r > side else {"insertion": curves.insertion[r], "deletion": curves.deletion[r]}
            found |= _scores(levels, usable, counts(r * r, self.mode), self.mode, suffix(condition))
        return found

    def _table(
        self, subject: Subject, positions: NDArray[np.int64], resolutions: tuple[int, ...], frame: pd.DataFrame
    ) -> InsertionDeletionTable:
        conditions = self._conditions(resolutions)
        index = subject.prepared.index
        values = {
            s: np.stack([frame[s + suffix(c)].to_numpy(np.float64) for c in conditions], axis=1)
            for s in InsertionDeletionTable.scores
        }
        scorable = [c for c, condition in enumerate(conditions) if condition["resolution"] <= frame[MAP_CELLS].min()]
        for array in values.values():  # missing under one condition is missing under all
            array[np.isnan(array[:, scorable]).any(1)] = np.nan
        known = {s + suffix(c) for s in values for c in conditions}
        return InsertionDeletionTable(
            ids=index.ids(positions),
            clusters=index.patients(positions),
            values=values,
            conditions=conditions,
            task=subject.task.name,
            extra={str(c): frame[c].to_numpy() for c in frame.columns if c not in known},
        )

    def summarise(self, samples: pd.DataFrame, extra: Sequence[Metric] = ()) -> list[dict[str, Any]]:
        """Return the fields of every row: each metric, and those of plug-ins, with intervals."""
        return summarise(InsertionDeletionTable.from_frame(samples), resamples=self.resamples, extra=extra)


def _of(variant: str) -> str:
    return f"|variant={variant}" if variant else ""


def _scores(
    levels: dict[str, torch.Tensor] | None, usable: torch.Tensor, count: NDArray[np.int64], mode: str, at: str
) -> dict[str, Any]:
    """Return the columns of one condition from curves (B,S+1); NaN where a map is not usable (B,) bool, or no curves.

    A curve that cannot be given is an empty list.
    """
    if levels is None:
        levels = {name: torch.full((len(usable), len(count)), torch.nan) for name in ("insertion", "deletion")}
    scored = usable.cpu() & levels["insertion"][:, -1].isfinite().cpu()  # an image without p(original) has no scores
    known = {name: values.double().cpu().where(scored[:, None], torch.nan) for name, values in levels.items()}
    areas = {
        "insertion": insertion(known["insertion"], count, mode),
        "deletion": deletion(known["deletion"], count, mode),
    }
    blurred, original = known["insertion"][:, 0], known["insertion"][:, -1]
    scores = {
        **areas,
        "insertion_minus_deletion": areas["insertion"] - areas["deletion"],
        **{f"normalised_{name}": a / original.where(original > 0, torch.nan) for name, a in areas.items()},
        "p_original": original,
        "p_blurred": blurred,
    }
    found: dict[str, Any] = {f"{name}{at}": values.numpy() for name, values in scores.items()}
    for name, values in known.items():
        rows = [(row * LEVELS).round().astype(np.uint16) if np.isfinite(row).all() else np.zeros(0, np.uint16)
                for row in values.numpy()]  # fmt: skip
        found[f"{name}_curve{at}"] = pd.Series(rows, dtype=object)
    return found


def _passes_and_facts(
    subject: Subject, positions: NDArray[np.int64], frame: pd.DataFrame
) -> tuple[dict[str, float], tuple[str, ...], dict[str, Any]]:
    every, _ = subject.prepared.index.scored()
    order = every[fixed_order(len(every))]
    reached = int(np.isin(order, positions).nonzero()[0].max()) + 1
    columns = {c: frame[c].to_numpy() for c in ("forwards", "backwards", "lost_map", MAP_CELLS)}
    passes = {"forward": float(columns["forwards"].mean()), "backward": float(columns["backwards"].mean())}
    facts = {
        "images": len(positions),
        "images without a label, passed over": reached - len(positions),
        "maps not finite": int(columns["lost_map"].sum()),
        "cells of the map per side": int(columns[MAP_CELLS].min()),
    }
    return passes, (), facts
