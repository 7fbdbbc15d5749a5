"""The page of all explainers: what each is, and what it scored on every board, beside the reference maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.columns import MISSING, ColumnKey
from harness.record import newest
from harness.report.boards import SUMMARY_CLASSES, Board, Line, digits_of
from harness.report.figures.series import Point, labels, plain, point, record, series_of
from harness.report.names import file_stems
from harness.report.registered import Registered, doc, spoken

# What is shown of an explainer: one number of each question that is put to a map.
METRICS = ("mean_localisation_accuracy", "pointing_game", "energy", "insertion", "deletion", "insertion_minus_deletion",
           "randomisation", "unexplained_change", "max_sensitivity")  # fmt: skip
LOWER = ("deletion", "randomisation", "unexplained_change", "max_sensitivity")
SOURCES = {"localisation": "the map alone", "insertion_deletion": "with insertion and deletion"}


def page(boards: Sequence[Board], known: Registered, pages: Mapping[str, str]) -> dict[str, Any]:
    """Return the page's context: the explainers, the boards' tables, and the lines of the download."""
    found = [b for board in boards if (b := _board(board, pages))]
    records = [r for b in found for r in b.pop("records")]
    used = sorted({e for board in boards for e in (*board.explainers, *board.references)})
    idle = [c.name for c in known.found.of("explainer") if c.name not in used]
    return {
        "explainers": [_described(e, known, boards) for e in (*used, *idle)],
        "anchors": {name: f"explainer-{stem}" for name, stem in file_stems((*used, *idle)).items()},
        "boards": found,
        "data": {"name": "explainers", "board": "all boards", "charts": {}, "records": records},
    }


def _described(name: str, known: Registered, boards: Sequence[Board]) -> dict[str, Any]:
    component = known.get("explainer", name)
    own = [b.key.title() for b in boards if name in b.explainers or name in b.references]
    return {
        "name": name,
        "summary": spoken(component.summary) if component else "",
        "more": doc(component).partition("\n\n")[2] if component else "",
        "source": component.source if component else "",
        "reference": bool(component and component.options.get("reference")),
        "boards": own,
    }


def _board(board: Board, pages: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the table of one board, a group of lines per series; None where nothing was explained."""
    series, left_out = series_of(board)
    names = labels(series)
    groups, records = [], []
    columns = [m for m in METRICS if any(k.metric == m for x in board.lines for k in x.cells)]
    if not columns:
        return None
    for name, s in zip(names, series, strict=True):
        lines = []
        for e in sorted({k.explainer for x in s.lines for k in x.cells if k.explainer}):
            points = _points(s.lines, e, columns)
            if points:
                lines.append({"name": e, "kind": "run", "passes": _passes(s.lines[0], e), **_cells(points, columns)})
                records += [_record(name, e, board, k, p) for k, p in points.values()]
        if lines:
            mine = [{"seed": x.first.seed, "page": pages[x.result.run_id]} for x in s.lines]
            groups.append({"name": name, "detail": s.bar(), "runs": mine, "lines": lines})
    references = []
    for e, cells in sorted(board.references.items()):
        points = _best({k: point([c.row]) for k, c in cells.items()}, columns)
        if points:
            references.append({"name": e, "kind": "reference", "passes": "", **_cells(points, columns)})
            records += [_record("reference", e, board, k, p) for k, p in points.values()]
    if not groups:
        return None
    shown = [{"metric": m, "higher": m not in LOWER} for m in columns]
    for i, _ in enumerate(columns):
        cells = [c for part in (*(g["lines"] for g in groups), references) for x in part if (c := x["cells"][i])]
        if len({c["settings"] for c in cells}) < 2:  # the same for all: said over the table
            shown[i]["settings"] = next((c["settings"] for c in cells), "")
            for c in cells:
                c["settings"] = ""
    return {"title": board.key.title(), "columns": shown, "groups": groups, "references": references,
            "left_out": left_out, "records": records}  # fmt: skip


def _points(lines: Sequence[Line], explainer: str, columns: Sequence[str]) -> dict[str, tuple[ColumnKey, Point]]:
    """Return metric -> one number of an explainer, over the seeds of a series that have it."""
    keys = dict.fromkeys(k for x in lines for k in x.cells if k.explainer == explainer and k.metric in columns)
    return _best({k: point([x.cells[k].row for x in lines if k in x.cells]) for k in keys}, columns)


def _best(points: Mapping[ColumnKey, Point], columns: Sequence[str]) -> dict[str, tuple[ColumnKey, Point]]:
    """Return metric -> its number: no variant or threshold, all classes, default settings, coarsest cells."""
    found: dict[str, tuple[ColumnKey, Point]] = {}
    for key in sorted(points, key=lambda k: (bool(k.evaluation_settings), k.resolution, k)):
        plainly = not key.variant and key.threshold == MISSING and key.class_name in SUMMARY_CLASSES
        if plainly and key.metric in columns:
            found.setdefault(key.metric, (key, points[key]))
    return found


def _cells(points: Mapping[str, tuple[ColumnKey, Point]], columns: Sequence[str]) -> dict[str, Any]:
    cells = []
    for metric in columns:
        if metric not in points:
            cells.append(None)
            continue
        key, p = points[metric]
        side = f"{key.resolution} x {key.resolution} cells" if key.resolution != MISSING else ""
        shown = p.shown(digits_of(metric))
        title = "; ".join(x for x in (shown["title"], side, key.evaluation_settings) if x)
        cells.append({**shown, "title": title, "cells": side, "settings": key.evaluation_settings})
    return {"cells": cells}


def _passes(line: Line, explainer: str) -> str:
    """Return forward and backward passes per image and what they are of, as the first run stores them."""
    stages = {str(s.info.get("evaluation")): s.info for s in newest(line.result.stages)
              if s.info.get("explainer") == explainer}  # fmt: skip
    for evaluation, what in SOURCES.items():
        spent = (stages.get(evaluation) or {}).get("passes") or {}
        if spent:
            return f"{spent.get('forward', 0):g} + {spent.get('backward', 0):g}: {what}"
    return ""


def _record(name: str, explainer: str, board: Board, key: ColumnKey, p: Point) -> dict[str, Any]:
    side = None if key.resolution == MISSING else key.resolution
    own = record("run", name, p, board=board.key.title(), explainer=explainer, metric=key.metric, resolution=side,
                 evaluation_settings=key.evaluation_settings)  # fmt: skip
    return {**own, "value": plain(p.value)}
