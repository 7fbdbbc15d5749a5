"""Every metric of a table, with its interval, as what a row of results needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from harness import stats
from harness.errors import UsageError
from harness.metrics import (
    alignment,
    ara,
    auroc,
    autoattack,
    average_precision,
    calibration,
    explanations,
    gradient_bound,
    insertion_deletion,
    localisation,
    pointing,
    predictions,
    robust_accuracy,
    shortcut,
    trust,
)
from harness.metrics.alignment import AlignmentTable
from harness.metrics.autoattack import AutoAttackTable
from harness.metrics.cells import (
    CLASSES_LISTED,
    MACRO,
    Metric,
    Table,
    cells,
    evaluated,
    is_per_class,
    reasons,
    registration,
    scorable,
)
from harness.metrics.classification_table import ClassificationTable
from harness.metrics.explanations import ExplanationTable
from harness.metrics.gradient_bound import GradientBoundTable
from harness.metrics.insertion_deletion import InsertionDeletionTable
from harness.metrics.localisation_table import LocalisationTable
from harness.metrics.robust_accuracy import RobustAccuracyTable
from harness.metrics.robustness import RobustnessTable
from harness.metrics.shortcut import ShortcutMapsTable, ShortcutTable
from harness.metrics.trust import AgreementTable, InfidelityTable, RandomisationTable, SensitivityTable

MODULES = (  # in the order of their columns
    auroc,
    average_precision,
    calibration,
    predictions,
    localisation,
    pointing,
    ara,
    robust_accuracy,
    autoattack,
    gradient_bound,
    alignment,
    explanations,
    insertion_deletion,
    trust,
    shortcut,
)
TABLES = {  # by the evaluation that fills them
    t.evaluation: t
    for t in (
        ClassificationTable,
        LocalisationTable,
        RobustnessTable,
        RobustAccuracyTable,
        AutoAttackTable,
        GradientBoundTable,
        AlignmentTable,
        ExplanationTable,
        InsertionDeletionTable,
        RandomisationTable,
        InfidelityTable,
        SensitivityTable,
        AgreementTable,
        ShortcutTable,
        ShortcutMapsTable,
    )
}


def builtin() -> list[Metric]:
    """Return the metrics of harness, by file and line."""
    found = {id(f): f for m in MODULES for f in vars(m).values() if "metric" in getattr(f, "__harness__", {})}
    return list(found.values())


def applicable(table: Table, metrics: Sequence[Metric]) -> list[Metric]:
    """Return the metrics that are meant for the table's evaluation and task."""

    def fits(metric: Metric) -> bool:
        options = registration(metric)
        return options.get("evaluation") == table.evaluation and (
            not table.task or table.task in options.get("tasks", (table.task,))
        )

    return [m for m in metrics if fits(m)]


def summarise(
    table: Table, metrics: Sequence[Metric] | None = None, resamples: int = stats.RESAMPLES, *,
    extra: Sequence[Metric] = (),
) -> list[dict[str, Any]]:  # fmt: skip
    """Return a dictionary per value of every metric: the fields of a `Row` that a metric determines.

    `metrics` replaces the built-in ones, `extra` adds to them (a plug-in's); those of other evaluations or tasks are
    passed over. Keys: metric, class_name, threshold, variant, value, low, high, n, n_missing, reason, unit,
    higher_is_better.
    """
    chosen = applicable(table, [*(builtin() if metrics is None else metrics), *extra])
    if not chosen:
        return []
    found = stats.estimate(joint(chosen), table, table.clusters, resamples=resamples)
    result, start = [], 0
    for metric in chosen:
        part = slice(start, start + len(cells(table, metric)))
        result += lines(table, metric, found[part])
        start = part.stop
    return result


def joint(metrics: Sequence[Metric]) -> stats.Statistic:
    """Return one statistic that holds the values of all `metrics`, one after the other, (R, sum of K).

    In each replicate they see the same array of weights, so that what they share is computed once. Raises
    `UsageError` where a metric gives another number of values than its registration says.
    """

    def statistic(table: Table, weights: stats.Floats) -> stats.Floats:
        return np.concatenate(
            [_checked(metric, table, evaluated(metric, table, weights)) for metric in metrics], axis=1
        )

    return statistic


def _checked(metric: Metric, table: Table, values: stats.Floats) -> stats.Floats:
    options, expected = registration(metric), len(cells(table, metric))
    if values.shape[1:] != (expected,):
        raise UsageError(
            f"metric {options['name']!r} gave values of shape {values.shape[1:]}, expected {(expected,)}: "
            f"{len(table.conditions)} conditions x {len(options.get('variants', ('',)))} variants x "
            f"{len(options.get('thresholds', (None,)))} thresholds x classes. Mend its registration."
        )
    return values


def lines(table: Table, metric: Metric, found: stats.Estimate) -> list[dict[str, Any]]:
    """Return the dictionaries of one metric, one for each value of its estimate.

    Of a thousand classes those that cannot be scored have none: the macro mean says how many it misses.
    """
    options = registration(metric)
    layout, why = cells(table, metric), reasons(table, metric)
    n, n_missing = _counts(table, metric)
    unscored: Mapping[int, str] = getattr(table, "unscored", {})
    of_condition = len(layout) // len(table.conditions)
    many = is_per_class(table, metric) and len(table.classes) > CLASSES_LISTED
    result = []
    for k, cell in enumerate(layout):
        lost = unscored.get(k // of_condition, "")
        value, low, high = (float(a[k]) for a in (found.value, found.low, found.high))
        if many and cell["class_name"] != MACRO and np.isnan(value):
            continue
        result.append(
            {
                "metric": options["name"],
                **cell,
                "value": value,
                "low": low,
                "high": high,
                "n": 0 if lost else int(n[k % len(n)]),
                "n_missing": int(n_missing[k % len(n)]) + (int(n[k % len(n)]) if lost else 0),
                "reason": lost or _reason(value, low, why[k], float(found.undefined[k])),
                "unit": options.get("unit", ""),
                "higher_is_better": options["higher_is_better"],
            }
        )
    return result


def _counts(table: Table, metric: Metric) -> tuple[list[int], list[int]]:
    """Return n and n_missing of a block of values (classes and macro, or all); a macro mean misses classes."""
    score = registration(metric).get("score", "")
    scored, missing = (a.tolist() for a in table.counted(score))
    kept = scorable(table, metric)
    if not is_per_class(table, metric):
        return [table.rests_on(np.ones_like(kept), score)], [max(missing, default=0)]
    return [*scored, table.rests_on(kept, score)], [*missing, int((~kept).sum())]


def _reason(value: float, low: float, why: str, undefined: float) -> str:
    if np.isnan(value):
        return why or "undefined on these samples"
    if np.isnan(low):
        interval = f"undefined in {undefined:.1%} of the replicates: no interval"
        return f"{why}; {interval}" if why else interval
    return why
