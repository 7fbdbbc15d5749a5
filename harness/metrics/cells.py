"""What each of a metric's K values belongs to (variant, threshold, class) and why a class has none.

A metric is a function `(table, weights) -> values`: `weights` (R,N) float64 holds one bootstrap replicate per row
(ones for the point value), `values` is (R,K) float64, NaN where undefined. Its registration says how K is laid out:

    per         "class": a value per class and last their macro mean (K = V+1), or "all": one value (K = 1); a
                dictionary gives it per task. Default "class".
    thresholds  T(IoU) of each block of K values; default (None,)
    variants    variants of each block; default ("",)
    radii       perturbation radii of each block, where they are the metric's own and not the table's conditions
    attack      attack that moved the images, where it is not that of the table's conditions
    needs       what a class must have to be scored: "positives", "negatives", "predictions" (classification),
                "pairs", "folds" (localisation)
    score       which per-sample score it reads, where the table has several (localisation)

Values are ordered by the table's condition (an attack or a radius, say), then radius, variant, threshold and class.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from harness.errors import UsageError

Floats = NDArray[np.float64]
Metric = Callable[[Any, Floats], Floats]

MINIMUM_SCORED = 20  # positives (pairs) a class needs to be scored (protocol.md, 0)
MINIMUM_PER_FOLD = 4  # ... and in each fold, where a threshold is chosen by folds
MINIMUM_PER_MODEL = 5  # ... and in each fold with a model of its own: with 4, 5 % of the replicates lack the class
CLASSES_NAMED = 20  # of those left out of a macro mean, in its reason
CLASSES_LISTED = 100  # beyond: classes without a value have no row of their own, their macro mean counts them
MACRO = "macro"
ALL = "all"
NOWHERE: dict[str, Any] = {"attack": "", "resolution": None, "radius": None}  # a table without conditions


class Table(Protocol):
    """What a metric may ask of every table of per-sample scores."""

    evaluation: ClassVar[str]

    @property
    def clusters(self) -> NDArray[Any]:
        """Names of the clusters to resample, (N,)."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the V classes, in the dataset's order."""
        ...

    @property
    def task(self) -> str:
        """`multilabel`, `multiclass`, or "" where it plays no part."""
        ...

    @property
    def conditions(self) -> Sequence[dict[str, Any]]:
        """Return the attack, resolution and radius of each block of values: one block, `NOWHERE`, where none has any.

        A metric gives its values for each of them. A condition that names a variant as well (the norm of a ball)
        replaces the metric's own.
        """
        ...

    def lacking(self, need: str, score: str) -> list[str]:
        """Return per class what is missing for `need`, "" where nothing is, (V,)."""
        ...

    def counted(self, score: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return per class how many samples could be scored and how many could not, (V,) and (V,)."""
        ...

    def parts(self) -> Sequence[tuple[slice | NDArray[Any], Table]]:
        """Return the parts over which a value is averaged, each with its samples: one, but for cross-fitted scores."""
        ...

    def rests_on(self, kept: NDArray[np.bool_], score: str) -> int:
        """Return how many samples a value over these classes (V,) rests on."""
        ...


def registration(metric: Metric) -> dict[str, Any]:
    """Return what `@metric(...)` said of a function; raises `UsageError` for one that is not registered."""
    marks = getattr(metric, "__harness__", {})
    if "metric" not in marks:
        raise UsageError(f"expected a function registered by @metric, got {metric!r}. Put @metric(...) on it.")
    return marks["metric"]


def is_per_class(table: Table, metric: Metric) -> bool:
    """Return whether the metric has a value per class on this table's task."""
    per = registration(metric).get("per", "class")
    return (per[table.task] if isinstance(per, dict) else per) == "class"


def cells(table: Table, metric: Metric) -> list[dict[str, Any]]:
    """Return attack, resolution, radius, variant, threshold and class_name of each of the K values, in order."""
    options = registration(metric)
    names = (*table.classes, MACRO) if is_per_class(table, metric) else (ALL,)
    own = {k: options[k] for k in ("attack",) if k in options}
    blocks = [{**NOWHERE, **condition, **own} for condition in table.conditions]
    if "radii" in options:
        blocks = [{**block, "radius": radius} for block in blocks for radius in options["radii"]]
    return [
        {**block, "variant": block.get("variant", variant), "threshold": threshold, "class_name": name}
        for block in blocks
        for variant in options.get("variants", ("",))
        for threshold in options.get("thresholds", (None,))
        for name in names
    ]


def class_reasons(table: Table, metric: Metric) -> list[str]:
    """Return per class why it cannot be scored, "" where it can, (V,)."""
    options = registration(metric)
    score = options.get("score", "")
    found = table.lacking("finite", score)
    for need in options.get("needs", ()) if is_per_class(table, metric) else ():
        found = [a or b for a, b in zip(found, table.lacking(need, score), strict=True)]
    return found


def scorable(table: Table, metric: Metric) -> NDArray[np.bool_]:
    """Return which classes can be scored, (V,). It depends on the samples, never on their weights."""
    return np.array([not reason for reason in class_reasons(table, metric)], dtype=bool)


def evaluated(metric: Metric, table: Table, weights: Floats) -> Floats:
    """Return the metric's values (R,K) under `weights` (R,N): computed in each part of the table, then averaged.

    Scores of two models are never pooled (protocol.md, 1); undefined in one part is undefined in the mean.
    """
    parts = table.parts()
    if len(parts) == 1:
        return metric(table, weights)  # the very same array: metrics keep what they have in common by it
    return np.mean([metric(part, weights[:, rows]) for rows, part in parts], axis=0)


def reasons(table: Table, metric: Metric) -> list[str]:
    """Return for each of the K values why it, or a part of it, is missing; "" where nothing is."""
    counts = np.stack(table.counted(registration(metric).get("score", "")), axis=1)
    if not is_per_class(table, metric):
        found = [next(filter(None, class_reasons(table, metric)), "")]
    else:
        found = class_reasons(table, metric)
        left_out = [name for name, reason in zip(table.classes, found, strict=True) if reason]
        lost = [f"{m} of {n + m} could not be scored" if m else "" for n, m in counts]
        found = [a or b for a, b in zip(found, lost, strict=True)]
        if left_out:
            kept, more = len(found) - len(left_out), len(left_out) - CLASSES_NAMED
            names = ", ".join(left_out[:CLASSES_NAMED]) + (f" and {more:,} more" if more > 0 else "")
            found.append(f"mean of {kept} of {len(found)} classes, without {names}")
        else:
            found.append("")
    return found * (len(cells(table, metric)) // len(found))


def ratio(numerator: Floats, denominator: Floats, undefined: float = np.nan) -> Floats:
    """Return numerator / denominator, `undefined` where the denominator is zero; shapes broadcast."""
    shape = np.broadcast_shapes(numerator.shape, denominator.shape)
    return np.divide(numerator, denominator, out=np.full(shape, undefined), where=denominator != 0)


def with_macro(values: Floats, kept: Sequence[bool] | NDArray[np.bool_]) -> Floats:
    """Return values per class (R,V) with those of classes that cannot be scored set to NaN, and the macro mean last.

    (R,V+1). The macro mean is over the classes that can be scored on the full set, the same in every replicate: where
    one of them is undefined in a replicate, so is the mean, which else would be a mean over other classes.
    """
    kept = np.asarray(kept, dtype=bool)
    values = np.where(kept, values, np.nan)
    macro = values[:, kept].mean(axis=1) if kept.any() else np.full(len(values), np.nan)
    return np.concatenate([values, macro[:, None]], axis=1)
