"""What a run's page shows, besides charts and gallery: headline numbers, per-class tables, settings, provenance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from harness.columns import BoardKey, ColumnKey, board_key, column_key
from harness.metrics.localisation_table import THRESHOLDS
from harness.record import Result
from harness.report import charts
from harness.report.boards import SUMMARY_CLASSES, digits_of, is_reference, newest, status
from harness.report.figures.areas import GOALS, summed
from harness.report.table import badges
from harness.report.unfinished import ADVICE, command
from harness.rows import Row, cell

PER_CLASS_METRICS = 8  # columns of the per-class table at most, by the order of the rows


def rows_by_kind(result: Result) -> dict[tuple[BoardKey, ColumnKey], Row]:
    """Return the rows of a result, the newest of each kind."""
    found: dict[tuple[BoardKey, ColumnKey], Row] = {}
    for stage in newest(result.stages):
        for row in stage.rows:
            found[board_key(row), column_key(row)] = row
    return found


def page(result: Result) -> dict[str, Any]:
    """Return the context of a run's page."""
    info = result.info
    rows = list(rows_by_kind(result).values())
    spec, fit = info.get("spec") or {}, info.get("fit") or {}
    dataset = info.get("dataset") or {}
    classes = [str(c) for c in info.get("classes") or ()]
    references = {str(s.info.get("explainer", "")) for s in result.stages if is_reference(s)}
    flags = sorted({f for r in rows for f in r.flags})
    auroc = [r for r in rows if r.metric == "auroc" and not r.variant]
    return {
        "run_id": result.run_id,
        "status": status(result),
        "advice": ADVICE.get(status(result), ""),
        "command": command(info),
        "error": str(info.get("message") or ""),
        "spec": spec,
        "start_from": info.get("start_from"),
        "badges": badges(flags),
        "published": result.published,
        "headline": _headline(rows, references),
        "dataset": dataset,
        "boards": sorted({board_key(r) for r in rows}),
        "missing": sorted((str(k), str(v)) for k, v in (info.get("missing_evaluations") or {}).items()),
        "settings": [setting_of(s) for s in info.get("settings") or ()],
        "fit": [(k, text_of(v)) for k, v in fit.items() if k != "folds"],
        "folds": _folds(fit.get("folds") or (), dataset.get("folds") or ()),
        "provenance": _provenance(info.get("provenance") or {}),
        "stages": [_stage(s.info, s.name) for s in sorted(result.stages, key=lambda s: s.name)],
        "attacks": _attacks(result),
        "per_class": _per_class(rows, classes, dataset.get("positives") or {}),
        "localisation_tables": _localisation(rows, classes, references),
        "charts": {
            "training": charts.training(result.history, fit.get("best_epoch"), fit.get("folds") or ()),
            "auroc": charts.per_class(auroc, classes),
            "localisation": charts.localisation(result),
        },
    }


def number(row: Row | None) -> dict[str, str]:
    """Return the text of a cell of the page's tables, and why it has no number."""
    if row is None:
        return {"text": "not run", "title": ""}
    text, _, interval = cell(row.value, row.low, row.high, digits_of(row.metric)).partition(" [")
    title = f"n = {row.n}" + (f", {row.n_missing} could not be scored" if row.n_missing else "")
    return {"text": text, "interval": f"[{interval}" if interval else "", "title": title, "reason": row.reason}


def _headline(rows: Sequence[Row], references: set[str]) -> list[dict[str, Any]]:
    """Return the summary numbers: the macro mean, or the one value, of every metric without a T.

    Those at a radius only where nothing sums them up, as an area does.
    """
    shown = [r for r in rows if r.class_name in SUMMARY_CLASSES and not r.variant and r.threshold is None]
    shown = [r for r in shown if r.explainer not in references or not r.explainer]
    summed_up = {(r.evaluation, r.attack) for r in shown if r.radius is None}
    shown = [r for r in shown if r.radius is None or (r.evaluation, r.attack) not in summed_up]
    return [
        {"group": " · ".join(x for x in (r.evaluation, r.explainer, r.attack) if x), "metric": r.metric, "class_name":
         r.class_name + ("" if r.radius is None else f", radius {r.radius:g}")
         + ("" if r.resolution is None else f", {r.resolution} x {r.resolution} cells"),
         "higher": r.higher_is_better, "n": r.n, **number(r)}
        for r in shown
    ]  # fmt: skip


def _attacks(result: Result) -> list[dict[str, Any]]:
    """Return how the attacks went, by evaluation and goal, of each stage that stores it."""
    found = []
    for stage in newest(result.stages):
        facts = stage.info.get("facts") or {}
        for goal in GOALS:
            if isinstance(own := facts.get(goal.name), Mapping):
                attack = next((r.attack for r in stage.rows if r.metric == goal.area), "")
                found.append({"name": attack, "goal": goal.text, "seeds": 1, "stored": True, **summed([own])})
    return found


def _per_class(rows: Sequence[Row], classes: Sequence[str], positives: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the classification metrics by class, with the class's positives in the test split."""
    mine = [r for r in rows if not r.explainer and not r.attack and r.threshold is None and not r.variant]
    metrics = list(dict.fromkeys(r.metric for r in mine if r.class_name not in SUMMARY_CLASSES))[:PER_CLASS_METRICS]
    if not metrics:
        return None
    by = {(r.metric, r.class_name): r for r in mine}
    lines = []
    for name in (*classes, "macro"):
        counts = positives.get(name)
        test = counts.get("test") if isinstance(counts, Mapping) else None
        n = next((by[m, name].n for m in metrics if (m, name) in by), None)
        cells = [number(by.get((m, name))) for m in metrics]
        lines.append({"class_name": name, "n": n, "positives": test, "cells": cells})
    return {"metrics": metrics, "lines": lines}


def _localisation(rows: Sequence[Row], classes: Sequence[str], references: set[str]) -> list[dict[str, Any]]:
    """Return per explainer a table of localisation accuracy, classes by T(IoU)."""
    mine = [r for r in rows if r.metric == "localisation_accuracy" and not r.variant and r.threshold is not None]
    by = {(r.explainer, r.class_name, r.threshold): r for r in mine}
    explainers = {r.explainer for r in mine}
    thresholds = sorted({r.threshold for r in mine if r.threshold is not None}) or list(THRESHOLDS)
    tables = []
    for explainer in (*sorted(explainers - references), *sorted(explainers & references)):
        names = [c for c in (*classes, "macro") if any((explainer, c, t) in by for t in thresholds)]
        lines = []
        for name in names:
            found = [by.get((explainer, name, t)) for t in thresholds]
            n = next((r.n for r in found if r is not None), None)
            reason = next((r.reason for r in found if r is not None and not math.isfinite(r.value)), "")
            lines.append({"class_name": name, "n": n, "reason": reason, "cells": [number(r) for r in found]})
        tables.append({"explainer": explainer, "reference": explainer in references, "thresholds":
                       [f"{t:g}" for t in thresholds], "lines": lines})  # fmt: skip
    return tables


def _folds(fits: Sequence[Mapping[str, Any]], counts: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the table of a cross-fitted run's models: the images of each fold and the facts of its fit."""
    if not fits and not counts:
        return None
    images = list(dict.fromkeys(str(k) for c in counts for k in c))
    facts = list(dict.fromkeys(str(k) for f in fits for k in f if k != "key"))  # the key is the run's own
    lines = []
    for i in range(max(len(fits), len(counts))):
        own = counts[i] if i < len(counts) else {}
        fit = fits[i] if i < len(fits) else {}
        lines.append(
            {"fold": i, "cells": [*(text_of(own.get(k)) for k in images), *(text_of(fit.get(k)) for k in facts)]}
        )
    return {"columns": [*(f"{k} images" for k in images), *facts], "lines": lines}


def setting_of(described: Mapping[str, Any]) -> dict[str, Any]:
    """Return one stored setting as texts, and whether something other than its default set it."""
    texts = {k: text_of(described.get(k)) for k in ("component", "name", "value", "default", "unit", "source", "help")}
    return {**texts, "set_by": text_of(described.get("set_by")), "changed": described.get("set_by") != "default"}


def _provenance(known: Mapping[str, Any]) -> list[tuple[str, str]]:
    git = known.get("git") or {}
    dirty = ", with changes that were not committed" if git.get("dirty") else ""
    commit = text_of(git.get("sha") or "not known") + dirty
    packages = known.get("packages") or {}
    lines = [("made", known.get("created")), ("commit", commit), ("device", known.get("device")),
             ("python", known.get("python")), ("platform", known.get("platform"))]  # fmt: skip
    return [(k, text_of(v)) for k, v in lines if v] + [(str(k), text_of(v)) for k, v in sorted(packages.items())]


def _stage(info: Mapping[str, Any], name: str) -> dict[str, Any]:
    passes = info.get("passes") or {}
    return {
        "name": name,
        "evaluation": text_of(info.get("evaluation")),
        "explainer": text_of(info.get("explainer")),
        "reference": bool(info.get("reference")),
        "seconds": f"{info['seconds']:.1f}" if isinstance(info.get("seconds"), int | float) else "",
        "device": text_of(info.get("device")),
        "precision": text_of(info.get("precision")),
        "passes": ", ".join(f"{text_of(v)} {k}" for k, v in sorted(passes.items())),
        "settings": ", ".join(f"{s.get('name')} = {text_of(s.get('value'))}" for s in info.get("settings") or ()),
    }


def text_of(value: Any) -> str:
    """Return a stored value as a person reads it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}" if value == 0 or 1e-4 <= abs(value) < 1e4 else f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{k}: {text_of(v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(text_of(v) for v in value)
    return str(value)
