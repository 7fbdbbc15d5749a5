"""Accuracy over the size of the perturbation, a line per method, and what the areas above naive are (Woods 2019, Fig. 3
and Table 1)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from harness.columns import ColumnKey
from harness.errors import UsageError
from harness.metrics.cells import ALL, MACRO
from harness.metrics.robustness import RobustnessTable
from harness.record import StageResult
from harness.report.boards import Board, Line
from harness.report.figures.areas import (
    AUROC,
    CLEAN,
    EVALUATION,
    GOALS,
    Drawn,
    Goal,
    area_of,
    at_radii,
    attacks_on,
    by_class,
    classified,
    height_of,
    lines_of,
    over_radii,
    published_systems,
    records_of,
    sources_of,
)
from harness.report.figures.attacked import Place, Steps, bands_of, curves_of, mean, range_of
from harness.report.figures.series import Point, Series, faulty, labels, legend_entry, plain, point, series_of
from harness.report.literature import Published
from harness.report.names import chart_text

DECADES = 4  # of the logarithmic axis, at most
FLOOR = 1e-6  # smallest radius that it shows
AXIS = {"title": {"text": "RMSE of the perturbation, [0,1] pixels", "standoff": 6}, "exponentformat": "none"}
LAYOUT = {"showlegend": False, "margin": {"l": 44, "r": 12, "t": 14, "b": 44}}


def figure(board: Board, published: Sequence[Published], pages: Mapping[str, str], resamples: int) -> dict[str, Any]:
    """Return the page's context: charts, legend, tables, and the lines of the download."""
    kind = kind_of(board)
    drawn, left_out = _drawn(board, kind, resamples)
    faults = [(x, _points([x], kind)) for x in board.lines if faulty(x)]
    faults = [(x, points) for x, points in faults if any(k.evaluation == EVALUATION for k in points)]
    drawn = sorted(drawn, key=height_of, reverse=True)
    found = published_systems(published, board.key.dataset) if drawn or faults else []
    measured = {p for d in drawn for p in d.curves}
    goals = [g for g in GOALS if any(g.name == goal for goal, _ in measured)]
    classes = _ordered(board, {c for _, c in measured})
    shown = [*(d.points for d in drawn), *(points for _, points in faults)]
    areas = [(g, p) for g in GOALS for points in shown for c in (ALL, MACRO) if (p := area_of(points, g, c))]
    tried = {goal for d in drawn for t in d.tables for goal in t.rmse}
    asked = [g for g in GOALS if g.name in tried or any(g is x and math.isfinite(p.value) for x, p in areas)]
    clean = next((c for c in CLEAN if any(classified(points, *c) for points in shown)), CLEAN[0])
    return {
        "evaluation_settings": kind[1],
        "attack": kind[0],
        "goals": [{"name": g.name, "text": g.text} for g in goals],
        "classes": classes,
        "charts": _charts(drawn, goals, classes),
        "legend_series": [legend_entry(d.number, d.name, d.series, pages) | {"dash": d.dash} for d in drawn],
        "areas": [{"group": f"series-{d.number}", "name": d.name} for d in drawn],
        "columns": [{"goal": g.name, "title": g.area, "detail": f"macro{', never ranked' if g.variant else ''}"
                     if classes[:1] == [MACRO] else ""} for g in asked],
        "clean": clean,
        "lines": lines_of(drawn, faults, found, asked, clean, pages),
        "by_class": by_class(drawn, asked, [c for c in classes if c not in (ALL, MACRO)]),
        "fixed": [t | {"goal": g.name} for g in goals for c in classes
                  if (t := at_radii(drawn, g.accuracy, c))["rows"]],
        "auroc": [t for c in classes if (t := at_radii(drawn, AUROC, c))["rows"]],
        "attacks": [line for d in drawn for g in GOALS if (line := attacks_on(d, g))],
        "published": sources_of(found),
        "left_out": left_out,
        "records": records_of(drawn, found, clean),
    }  # fmt: skip


def kind_of(board: Board) -> tuple[str, str]:
    """Return the attacks and evaluation settings that most runs were attacked with; only those compare."""
    counted = Counter(kind for x in board.lines for kind in _kinds(x))
    return min(counted, key=lambda kind: (-counted[kind], kind), default=("", ""))


def _kinds(line: Line) -> set[tuple[str, str]]:
    areas = {g.area for g in GOALS}
    return {(k.attack, k.evaluation_settings) for k in line.cells if k.evaluation == EVALUATION and k.metric in areas}


def _drawn(board: Board, kind: tuple[str, str], resamples: int) -> tuple[list[Drawn], list[str]]:
    """Return the series that were attacked alike, and what is left out, each with the reason."""
    series, left_out = series_of(board)
    found = []
    for number, (name, s) in enumerate(zip(labels(series), series, strict=True)):
        for line in s.lines:
            left_out += [f"{line.result.run_id} ({_said(other)})" for other in sorted(_kinds(line) - {kind})]
        lines = [x for x in s.lines if kind in _kinds(x)]
        stages = [_stage(x, kind) for x in lines]
        try:
            tables = [RobustnessTable.from_frame(stage.read_samples()) for stage in stages]
        except UsageError as error:
            left_out.append(f"{name} ({error})")
            continue
        if tables:
            kept = Series(s.method, s.model, s.settings, lines)
            found.append(_series(number, name, kept, kind, stages, tables, resamples))
    return found, left_out


def _said(kind: tuple[str, str]) -> str:
    return ", ".join(x for x in (f"attacked by {kind[0]}", kind[1]) if x)


def _stage(line: Line, kind: tuple[str, str]) -> StageResult:
    return next(c.stage for k, c in line.cells.items()
                if k.evaluation == EVALUATION and (k.attack, k.evaluation_settings) == kind)  # fmt: skip


def _series(
    number: int,
    name: str,
    s: Series,
    kind: tuple[str, str],
    stages: list[StageResult],
    tables: list[RobustnessTable],
    resamples: int,
) -> Drawn:
    each = [curves_of(t) for t in tables]
    places = [p for p in each[0] if all(p in mine for mine in each)]
    curves = {p: mean([mine[p] for mine in each]) for p in places}
    bands = bands_of(tables[0], resamples) if len(tables) == 1 else {p: range_of([x[p] for x in each]) for p in places}
    return Drawn(number, name, s, stages, tables, _points(s.lines, kind), curves, bands)


def _points(lines: Sequence[Line], kind: tuple[str, str]) -> dict[ColumnKey, Point]:
    """Return the numbers of some runs: of robustness those of one kind of attack, of all else everything."""

    def wanted(k: ColumnKey) -> bool:
        alike = k.evaluation_settings == kind[1] and (k.attack == kind[0] or k.metric == AUROC)
        return k.evaluation != EVALUATION or alike

    keys = dict.fromkeys(k for x in lines for k in x.cells if wanted(k))
    return {k: point([x.cells[k].row for x in lines if k in x.cells]) for k in keys}


def _ordered(board: Board, names: set[str]) -> list[str]:
    known = [str(c) for x in board.lines[:1] for c in x.result.info.get("classes") or ()]
    return [c for c in (ALL, MACRO, *known) if c in names]


# ---- charts


def _charts(drawn: Sequence[Drawn], goals: Sequence[Goal], classes: Sequence[str]) -> dict[str, Any]:
    """Return the chart of the curves and, where it was measured, that of AUROC under attack."""
    places = [(g.name, c) for g in goals for c in classes if any((g.name, c) in d.curves for d in drawn)]
    if not places:
        return {}
    curves = {p: [d.curves[p] for d in drawn if p in d.curves] for p in places}
    naive = sorted({t.naive for d in drawn for t in d.tables})
    logarithmic, zero = _logarithmic([c for mine in curves.values() for c in mine])
    layouts = [{"when": {"axis": "linear", "goal": goal, "class": c},
                "layout": {"xaxis": AXIS | {"range": _linear(mine, naive[0])}}}
               for (goal, c), mine in curves.items()]  # fmt: skip
    charts: dict[str, Any] = {
        "curves": {
            "data": [_curve(d, p, zero) for p in places for d in drawn if p in d.curves],
            "layouts": [*layouts, {"when": {"axis": "log"}, "layout": {"xaxis": logarithmic}}],
            "layout": LAYOUT | {
                "yaxis": {"range": [-0.02, 1.03], "dtick": 0.2, "title": {"text": "accuracy", "standoff": 4}},
                "shapes": [
                    {"type": "line", "x0": 0, "x1": 1, "xref": "paper", "y0": v, "y1": v, "tone": "published",
                     "dash": "dash"}
                    for v in naive
                ],
                "annotations": [
                    {"text": f"naive<br>{v:.3g}", "x": 1.01, "xref": "paper", "xanchor": "left", "y": v,
                     "showarrow": False, "align": "left"}
                    for v in naive
                ],
                "margin": LAYOUT["margin"] | {"r": 44},
            },
            "height": 400,
        }
    }  # fmt: skip
    traces = [t for c in classes for d in drawn if (t := _auroc(d, c))]
    if traces:
        top = max(x for t in traces for x in t["x"]) or 1.0
        chance = {"type": "line", "x0": 0, "x1": 1, "xref": "paper", "y0": 0.5, "y1": 0.5, "tone": "reference"}
        charts["auroc"] = {"data": traces, "height": 260, "layout": LAYOUT | {
            "xaxis": AXIS | {"range": [-0.04 * top, 1.04 * top]}, "shapes": [chance],
            "yaxis": {"range": [-0.02, 1.03], "dtick": 0.25, "title": {"text": "AUROC", "standoff": 4}}}}  # fmt: skip
    return charts


def _logarithmic(curves: Sequence[Steps]) -> tuple[dict[str, Any], float]:
    """Return the logarithmic axis of all curves, decade by decade, and where 0 stands on it, left of the first."""
    top = max((float(c.radii[-1]) for c in curves), default=0.0) or 1.0
    least = min((float(c.radii[1]) for c in curves if len(c.radii) > 1), default=top)
    first = math.floor(math.log10(max(least, top * 10.0**-DECADES, FLOOR)))
    ticks = [10.0**k for k in range(first, max(first + 1, math.ceil(math.log10(top))) + 1)]
    zero = ticks[0] / 2.5
    axis = {"type": "log", "tickvals": [zero, *ticks], "ticktext": ["0", *(f"{t:g}" for t in ticks)],
            "range": [math.log10(zero) - 0.08, math.log10(max(top, ticks[1])) + 0.05]}  # fmt: skip
    return AXIS | axis, zero


def _linear(curves: Sequence[Steps], naive: float) -> list[float]:
    """Return the linear axis: a bit further than where the last curve meets the naive accuracy."""
    end = 1.2 * max(c.meets(naive) for c in curves) or max(float(c.radii[-1]) for c in curves) or 1.0
    return [-0.015 * end, end]


def _curve(d: Drawn, place: Place, zero: float) -> dict[str, Any]:
    curve, band = d.curves[place], d.bands.get(place)
    goal, class_name = place
    return {
        "steps": {"x": _plain(curve.radii), "y": _plain(curve.share), "zero": zero, "naive": d.tables[0].naive},
        "band": {"x": _plain(band.radii), "low": _plain(band.low), "high": _plain(band.high), "bar": band.bar}
                if band else None,
        "tone": d.number,
        "dash": d.dash,
        "groups": [f"series-{d.number}"],
        "when": {"goal": goal, "class": class_name},
        "name": d.name,
        "label": chart_text(d.name),
    }  # fmt: skip


def _plain(values: np.ndarray) -> list[float]:
    return [float(f"{v:.6g}") for v in values.tolist()]


def _auroc(d: Drawn, class_name: str) -> dict[str, Any] | None:
    at = over_radii(d.points, AUROC, class_name)
    there = [(r, p) for r, p in at.items() if math.isfinite(p.value)]
    if not there:
        return None
    return {
        "x": [r for r, _ in there],
        "y": [plain(p.value) for _, p in there],
        "mode": "lines+markers",
        "tone": d.number,
        "line": {"dash": d.dash},
        "groups": [f"series-{d.number}"],
        "when": {"class": class_name},
        "error_y": {"type": "data", "symmetric": False, "array": [plain(p.high - p.value) or 0 for _, p in there],
                    "arrayminus": [plain(p.value - p.low) or 0 for _, p in there]},
        "text": [chart_text(f"{d.name}, radius {r:g}: {p.text()}") for r, p in there],
        "hovertemplate": "%{text}<extra></extra>",
    }  # fmt: skip
