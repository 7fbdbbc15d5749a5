"""Which samples changed most between two results: per-sample scores of the same evaluation, sample by sample."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from harness.columns import board_key
from harness.errors import HarnessError
from harness.metrics.cells import registration
from harness.metrics.classification_table import ClassificationTable
from harness.metrics.localisation import pair_iou
from harness.metrics.localisation_table import LocalisationTable
from harness.metrics.robustness import RobustnessTable
from harness.metrics.scored import ScoreTable, suffix
from harness.metrics.summary import TABLES, builtin
from harness.record import Result, StageResult, newest

Key: TypeAlias = tuple[str, str]  # sample and class; class "" where the score is of the sample alone
Score: TypeAlias = dict[Key, float]


@dataclass(frozen=True)
class Change:
    """One sample's score before and after. `size` is the change in standard deviations of the score over all."""

    sample: str
    class_name: str
    score: str
    before: float
    after: float
    size: float
    note: str = ""  # `right, then wrong`


@dataclass(frozen=True)
class Changes:
    """The samples of one evaluation that both results scored, those that changed most first."""

    label: str  # `localisation · cam`
    evaluation: str
    explainer: str
    samples: list[Change]  # of each sample and class the score that changed most
    shared: int  # samples that both scored
    reason: str = ""  # why there are none

    def most(self, count: int) -> list[Change]:
        """Return the samples that changed most, each with the class and score in which it did."""
        first: dict[str, Change] = {}
        for change in self.samples:
            first.setdefault(change.sample, change)
        return list(first.values())[:count]


def pairs(before: Result, after: Result) -> list[tuple[StageResult, StageResult]]:
    """Return the whole stages that two results have in common, the newest of each kind; those of references are not."""
    mine, theirs = _stages(before), _stages(after)
    return [(mine[kind], theirs[kind]) for kind in mine if kind in theirs]


def _stages(result: Result) -> dict[tuple[Any, ...], StageResult]:
    return {
        (board_key(r), r.evaluation, r.evaluation_settings, r.explainer, r.explainer_settings): stage
        for stage in newest(result.stages)
        if not stage.partial and not stage.info.get("reference")
        for r in stage.rows[:1]
    }


def changes(before: StageResult, after: StageResult) -> Changes | None:
    """Return how the samples of two stages of the same kind changed; None for a plug-in's evaluation."""
    row = before.rows[0]
    if row.evaluation not in TABLES:
        return None
    settings = row.evaluation_settings
    explainer = f"{row.explainer} ({row.explainer_settings})" if row.explainer_settings else row.explainer
    label = " · ".join(filter(None, (row.evaluation, explainer, settings)))
    try:
        one, other = (TABLES[row.evaluation].from_frame(s.read_samples()) for s in (before, after))
        a, b = scores(one), scores(other)
    except (HarnessError, OSError, KeyError, ValueError, TypeError):  # damaged, or of another version
        return Changes(label, row.evaluation, row.explainer, [], 0, "the per-sample scores cannot be read")
    found: dict[Key, Change] = {}
    shared: set[str] = set()
    for name in a:
        keys = [k for k in a[name] if k in b.get(name, {})]
        shared |= {k[0] for k in keys}
        both = np.array([[a[name][k], b[name][k]] for k in keys]).reshape(-1, 2)
        spread = float(np.nanstd(both)) if np.isfinite(both).any() else 0.0
        for key, (x, y) in zip(keys, both.tolist(), strict=True):
            size = abs(y - x) / spread if spread else 0.0
            if math.isfinite(size) and size > 0 and (key not in found or size > found[key].size):
                found[key] = Change(*key, name, x, y, size)
    notes = _notes(one, other)
    ordered = sorted(found.values(), key=lambda c: (-c.size, c.class_name, c.sample))
    named = [replace(c, note=notes.get(c.sample, "")) for c in ordered]
    reason = "" if named else "no sample's score changed" if shared else "no sample was scored by both"
    return Changes(label, row.evaluation, row.explainer, named, len(shared), reason)


def scores(table: Any) -> dict[str, Score]:
    """Return the per-sample scores of a table that its metrics rest on, by name, each by sample and class."""
    if isinstance(table, ClassificationTable):
        return _probabilities(table)
    if isinstance(table, LocalisationTable):
        return {"IoU at the chosen threshold": _score(table.ids, table.class_names, pair_iou(table))}
    if isinstance(table, RobustnessTable):
        return {f"smallest RMSE, {goal}": _score(table.ids, table.class_names, v) for goal, v in table.rmse.items()}
    assert isinstance(table, ScoreTable)
    options = [registration(m) for m in builtin()]
    used = {o.get("score") for o in options if o["evaluation"] == table.evaluation}
    names = [""] * len(table.ids) if table.class_names is None else table.class_names
    return {
        (score + suffix(condition).replace("|", ", ").replace("=", " ")): _score(table.ids, names, values[:, c])
        for score, values in table.values.items()
        if score in used
        for c, condition in enumerate(table.conditions)
    }


def _score(ids: Sequence[Any] | np.ndarray, names: Sequence[Any] | np.ndarray, values: np.ndarray) -> Score:
    return {(str(i), str(c)): float(v) for i, c, v in zip(ids, names, values, strict=True)}


def _probabilities(table: ClassificationTable) -> dict[str, Score]:
    """Return the probability of what is true: of the one true class, or of each finding's presence or absence."""
    if table.task == "multiclass":
        true = table.label.argmax(1)
        names = np.array(table.classes)[true]
        chosen = table.probability[np.arange(len(true)), true]
        return {"probability of the true class": _score(table.ids, names, chosen)}
    truth = np.where(table.label == 1, table.probability, 1 - table.probability)  # (N,V)
    ids = np.repeat(table.ids, len(table.classes))
    names = np.tile(np.array(table.classes), len(table.ids))
    return {"probability of the true label": _score(ids, names, truth.ravel())}


def _notes(one: Any, other: Any) -> Mapping[str, str]:
    """Return of each image whether its most probable class was the true one; {} where that is no question."""
    if not isinstance(one, ClassificationTable) or one.task != "multiclass":
        return {}

    def said(table: ClassificationTable) -> dict[str, str]:
        return {str(i): "right" if r else "wrong" for i, r in zip(table.ids, table.right, strict=True)}

    a, b = said(one), said(other)
    return {i: f"{a[i]} in both" if a[i] == b[i] else f"{a[i]}, then {b[i]}" for i in a if i in b}
