"""AUROC per class, a series per method, beside published figures of the same dataset (Khakzar 2019, Fig. 2)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from harness.columns import MISSING, ColumnKey
from harness.report.boards import Board
from harness.report.figures.series import (
    HOLLOW,
    MACRO,
    PUBLISHED_SHOWN,
    Point,
    Series,
    labels,
    legend_entry,
    plain,
    published_entry,
    published_record,
    record,
    series_of,
    settings_of,
)
from harness.report.literature import Published, System, systems
from harness.report.names import chart_text

METRIC = "auroc"
CHANCE = 0.5
LANE = 11  # px between two series within a class
SPREAD = 0.33  # series of a class lie at most this far around its line, in classes
CLOSEST = 0.22  # few series need not lie further apart than this, in classes


def figure(board: Board, published: Sequence[Published], pages: Mapping[str, str]) -> dict[str, Any]:
    """Return the page's context: chart, legend, tables, and the lines of the download."""
    series, left_out = series_of(board)
    names = labels(series)
    settings = settings_of(board, METRIC)
    numbers = [by_class(s, settings) for s in series]
    found = systems(published, board.key.dataset, METRIC)
    known = [*_classes(board), MACRO]
    shown = [c for c in known if any(c in mine for mine in numbers)]
    chart = _chart(shown, list(zip(names, numbers, strict=True)), found) if shown else None
    return {
        "charts": {"classes": chart} if chart else {},
        "evaluation_settings": settings,
        "legend_series": [legend_entry(i, n, s, pages) for i, (n, s) in enumerate(zip(names, series, strict=True))],
        "published_legend": [published_entry(i, s) for i, s in enumerate(found)],
        "classes": shown,
        "columns": names,
        "lines": [{"class_name": c, "cells": [mine[c].shown() if c in mine else None for mine in numbers]}
                  for c in shown],
        "published": [s.facts() for s in found],
        "published_lines": [{"class_name": c, "cells": [_published_text(s, c) for s in found]} for c in shown],
        "left_out": left_out,
        "records": _records(shown, list(zip(names, numbers, strict=True)), found),
    }  # fmt: skip


def by_class(series: Series, settings: str) -> dict[str, Point]:
    """Return class -> AUROC of a series under the evaluation's `settings`, with the macro mean."""
    return {k.class_name: p for k, p in series.points().items() if _is_auroc(k) and k.evaluation_settings == settings}


def _is_auroc(key: ColumnKey) -> bool:
    moved = key.explainer or key.attack or key.variant
    return key.metric == METRIC and not moved and key.threshold == MISSING and key.radius == MISSING


def _classes(board: Board) -> list[str]:
    """Return the classes in the dataset's order."""
    return [str(c) for line in board.lines[:1] for c in line.result.info.get("classes") or ()]


def _chart(
    classes: Sequence[str], ours: Sequence[tuple[str, Mapping[str, Point]]], found: Sequence[System]
) -> dict[str, Any]:
    """Return the chart: a line per class, above it a lane per series, below it one lane for published figures."""
    lanes = len(ours) + bool(found)
    step = min(CLOSEST, 2 * SPREAD / max(1, lanes - 1))
    offset = [round(step * (i - (lanes - 1) / 2), 4) for i in range(lanes)]
    data = [_trace(i, name, points, classes, offset[i]) for i, (name, points) in enumerate(ours)]
    data += [_published_trace(i, system, classes, offset[-1]) for i, system in enumerate(found)]
    ends = [x for t in data for x in _ends(t)]
    low, high = min([CHANCE, *ends]), max([CHANCE, *ends])
    margin = 0.02 * (high - low) + 0.01
    bands = [{"type": "rect", "x0": 0, "x1": 1, "xref": "paper", "y0": i - 0.5, "y1": i + 0.5, "tone": "band"}
             for i in range(0, len(classes), 2)]  # fmt: skip
    chance = {"type": "line", "x0": CHANCE, "x1": CHANCE, "y0": 0, "y1": 1, "yref": "paper", "tone": "reference"}
    layout = {
        "xaxis": {"title": {"text": "AUROC (0.5 is chance)"}, "range": [low - margin, high + margin]},
        "yaxis": {"tickvals": list(range(len(classes))), "ticktext": [chart_text(c) for c in classes],
                  "range": [len(classes) - 0.5, -0.5], "showgrid": False},
        "showlegend": False,
        "shapes": [*bands, chance],
    }  # fmt: skip
    return {"data": data, "layout": layout, "height": 70 + len(classes) * (16 + LANE * lanes)}


def _ends(trace: Mapping[str, Any]) -> list[float]:
    bars = trace.get("error_x") or {"array": [0] * len(trace["x"]), "arrayminus": [0] * len(trace["x"])}
    parts = zip(trace["x"], bars["array"], bars["arrayminus"], strict=True)
    return [end for x, up, down in parts if x is not None for end in (x + up, x - down)]


def _trace(
    number: int, name: str, points: Mapping[str, Point], classes: Sequence[str], offset: float
) -> dict[str, Any]:
    there = [(i, c, points[c]) for i, c in enumerate(classes) if c in points and math.isfinite(points[c].value)]
    return {
        "x": [plain(p.value) for _, _, p in there],
        "y": [i + offset for i, _, _ in there],
        "mode": "markers",
        "tone": number,
        "groups": [f"series-{number}"],
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [plain(p.high - p.value) or 0 for _, _, p in there],
            "arrayminus": [plain(p.value - p.low) or 0 for _, _, p in there],
        },
        "text": [chart_text(f"{name}, {c}: {p.text()}, n = {p.n}") for _, c, p in there],
        "hovertemplate": "%{text}<extra></extra>",
    }


def _published_trace(number: int, system: System, classes: Sequence[str], offset: float) -> dict[str, Any]:
    rows = {r.class_name: r for r in system.rows}
    there = [(i, rows[c]) for i, c in enumerate(classes) if c in rows]
    return {
        "x": [plain(r.value) for _, r in there],
        "y": [i + offset for i, _ in there],
        "mode": "markers",
        "tone": "published",
        "symbol": HOLLOW[number % len(HOLLOW)][0],
        "groups": [f"published-{number}"],
        "visible": number < PUBLISHED_SHOWN,
        "text": [chart_text(f"{system.name}, {r.class_name}: {r.value:.3f}, published ({r.mark})") for _, r in there],
        "hovertemplate": "%{text}<extra></extra>",
    }


def _published_text(system: System, class_name: str) -> str:
    return next((f"{r.value:.3f}" for r in system.rows if r.class_name == class_name), "")


def _records(
    classes: Sequence[str], ours: Sequence[tuple[str, Mapping[str, Point]]], found: Sequence[System]
) -> list[dict[str, Any]]:
    own = [record("run", n, mine[c], class_name=c, metric=METRIC) for n, mine in ours for c in classes if c in mine]
    theirs = [published_record(r, class_name=r.class_name, metric=METRIC) for s in found for r in s.rows]
    return own + theirs
