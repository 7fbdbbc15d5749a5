"""Localisation accuracy over T(IoU), a panel per class, a line per method and explainer (Khakzar 2019, Fig. 3)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from harness.columns import MISSING, ColumnKey
from harness.report.boards import Board
from harness.report.charts import DASHES
from harness.report.figures.series import (
    MACRO,
    SYMBOLS,
    Point,
    labels,
    legend_entry,
    plain,
    point,
    published_entry,
    published_record,
    record,
    series_of,
    settings_of,
)
from harness.report.literature import Published, System, systems
from harness.report.names import chart_text

METRIC = "localisation_accuracy"
DEFAULT = "one threshold per class for all T"
VARIANTS = {"": DEFAULT, "per_t": "a threshold of its own for each T"}  # variants of the metric, in words
LAYOUT = {
    "showlegend": False,
    "margin": {"l": 34, "r": 6, "t": 6, "b": 34},
    "xaxis": {"title": {"text": "T(IoU)", "standoff": 4}, "dtick": 0.1, "tickangle": 0},
    "yaxis": {"range": [-0.02, 1.02], "dtick": 0.25},
}

Curve = dict[float, Point]  # T(IoU) -> accuracy
Place = tuple[str, str]  # variant, class


def figure(board: Board, published: Sequence[Published], pages: Mapping[str, str]) -> dict[str, Any]:
    """Return the page's context: panels, legends, a table per variant and class, and the lines of the download."""
    series, left_out = series_of(board)
    names = labels(series)
    found = systems(published, board.key.dataset, METRIC)
    settings = settings_of(board, METRIC)
    lines = [_own(i, n, e, curves) for i, (n, s) in enumerate(zip(names, series, strict=True))
             for e, curves in curves_of(s.points(), settings).items()]  # fmt: skip
    explainers = sorted({x["explainer"] for x in lines})
    for line in lines:
        line["symbol"] = SYMBOLS[explainers.index(line["explainer"]) % len(SYMBOLS)][0]
    known = [str(c) for x in board.lines[:1] for c in x.result.info.get("classes") or ()]
    measured = {c for x in lines for (_, c), curve in x["curves"].items() if any(map(_finite, curve.values()))}
    classes = [c for c in (MACRO, *known) if c in measured]
    lines += [_reference(i, name, curves) for i, (name, curves) in enumerate(_references(board, settings).items())]
    variants = sorted({v for x in lines for v, _ in x["curves"]})
    return {
        "evaluation_settings": settings,
        "panels": [{"title": c, "chart": f"panel-{i}"} for i, c in enumerate(classes)],
        "charts": {f"panel-{i}": {"data": _traces(lines, found, variants, c), "layout": LAYOUT, "height": 250}
                   for i, c in enumerate(classes)},
        "legend_series": [legend_entry(i, n, s, pages) for i, (n, s) in enumerate(zip(names, series, strict=True))],
        "explainers": [{"group": f"explainer-{e}", "name": e, "glyph": SYMBOLS[i % len(SYMBOLS)][1]}
                       for i, e in enumerate(explainers)],
        "reference_legend": [{"group": x["groups"][0], "name": x["name"], "dash": x["dash"]} for x in lines
                             if x["kind"] == "reference"],
        "published_legend": [published_entry(i, s) | {"shown": True} for i, s in enumerate(found)],
        "variants": [{"name": v, "text": VARIANTS.get(v, v)} for v in variants],
        "tables": [_table(lines, found, v, c) for v in variants for c in classes],
        "published": [s.facts() for s in found],
        "left_out": left_out,
        "records": _records(lines, found, classes),
    }  # fmt: skip


def _finite(p: Point) -> bool:
    return math.isfinite(p.value)


def curves_of(points: Mapping[ColumnKey, Point], settings: str) -> dict[str, dict[Place, Curve]]:
    """Return explainer -> (variant, class) -> curve of a series, under the evaluation's `settings`."""
    found: dict[str, dict[Place, Curve]] = {}
    for key, p in points.items():
        if key.metric == METRIC and key.threshold != MISSING and key.evaluation_settings == settings:
            places = found.setdefault(key.map, {})
            places.setdefault((key.variant, key.class_name), {})[key.threshold] = p
    return {e: found[e] for e in sorted(found)}


def _references(board: Board, settings: str) -> dict[str, dict[Place, Curve]]:
    found = {name: {k: point([c.row]) for k, c in board.references[name].items()} for name in sorted(board.references)}
    return {name: curves for name, points in found.items() for curves in curves_of(points, settings).values()}


def _own(number: int, name: str, explainer: str, curves: dict[Place, Curve]) -> dict[str, Any]:
    return {"kind": "run", "name": f"{name} · {explainer}", "series": name, "explainer": explainer, "tone": number,
            "dash": "solid", "groups": [f"series-{number}", f"explainer-{explainer}"], "curves": curves}  # fmt: skip


def _reference(number: int, name: str, curves: dict[Place, Curve]) -> dict[str, Any]:
    return {"kind": "reference", "name": name, "series": name, "explainer": "", "tone": "reference", "symbol": "",
            "dash": DASHES[number % len(DASHES)], "groups": [f"reference-{number}"], "curves": curves}  # fmt: skip


def _traces(
    lines: Sequence[Mapping[str, Any]], found: Sequence[System], variants: Sequence[str], name: str
) -> list[dict[str, Any]]:
    """Return the lines of one panel; those of every variant but the first are not visible until asked for."""
    traces = []
    for line in lines:
        for variant in variants:
            curve = line["curves"].get((variant, name))
            if curve:
                traces.append(_trace(line, curve, variant, visible=variant == variants[0]))
    return traces + [_published_trace(i, s, name) for i, s in enumerate(found) if name in s.by_class()]


def _trace(line: Mapping[str, Any], curve: Curve, variant: str, *, visible: bool) -> dict[str, Any]:
    at = sorted(curve)
    own = line["kind"] == "run"
    return {
        "x": at,
        "y": [plain(curve[t].value) for t in at],
        "mode": "lines+markers" if own else "lines",
        "tone": line["tone"],
        "symbol": line["symbol"],
        "line": {"dash": line["dash"], "width": 2 if own else 1},
        "groups": line["groups"],
        "variant": variant,
        "visible": visible,
        "text": [chart_text(f"{line['name']}, T {t:g}: {curve[t].text()}") for t in at],
        "hovertemplate": "%{text}<extra></extra>",
    }


def _published_trace(number: int, system: System, name: str) -> dict[str, Any]:
    rows = [r for r in system.by_class()[name] if r.threshold is not None]
    entry = published_entry(number, system)
    return {
        "x": [r.threshold for r in rows],
        "y": [plain(r.value) for r in rows],
        "mode": "lines+markers",
        "tone": "published",
        "symbol": "circle-open",
        "line": {"dash": "8px,3px", "width": 1.5},
        "groups": [entry["group"]],
        "text": [chart_text(f"{system.name}, T {r.threshold:g}: {r.value:.3f}, published ({r.mark})") for r in rows],
        "hovertemplate": "%{text}<extra></extra>",
    }


def _table(lines: Sequence[Mapping[str, Any]], found: Sequence[System], variant: str, name: str) -> dict[str, Any]:
    """Return the numbers of one panel and variant: a line per curve, a column per T."""
    mine = [(x, x["curves"][variant, name]) for x in lines if (variant, name) in x["curves"]]
    theirs = [(s, {r.threshold: r for r in s.by_class().get(name, ())}) for s in found]
    at = sorted({t for _, curve in mine for t in curve})
    rows = [
        {"kind": x["kind"], "name": x["name"], "n": next((p.n for p in curve.values()), None), "cells":
         [curve[t].shown() if t in curve else None for t in at]}
        for x, curve in mine
    ]  # fmt: skip
    rows += [
        {"kind": "published", "name": s.name, "n": None, "mark": s.facts()["mark"], "cells":
         [{"text": f"{by[t].value:.3f}", "interval": "", "title": by[t].source} if t in by else None for t in at]}
        for s, by in theirs if by
    ]  # fmt: skip
    return {"variant": variant, "class_name": name, "thresholds": [f"{t:g}" for t in at], "rows": rows}


def _records(
    lines: Sequence[Mapping[str, Any]], found: Sequence[System], classes: Sequence[str]
) -> list[dict[str, Any]]:
    own = [
        record(x["kind"], x["series"], curve[t], explainer=x["explainer"], variant=v, class_name=c, threshold=t)
        for x in lines for (v, c), curve in sorted(x["curves"].items()) if c in classes for t in sorted(curve)
    ]  # fmt: skip
    return own + [
        published_record(r, explainer="", variant="", class_name=r.class_name, threshold=r.threshold)
        for s in found for r in s.rows
    ]  # fmt: skip
