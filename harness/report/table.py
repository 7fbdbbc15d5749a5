"""One board as the page shows it: texts, whiskers, rank groups, and a footnote for whatever is missing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.report.boards import Board, Cell, Column, Line, digits_of, missing_reason
from harness.report.ranks import BoardRanks, Rank, few_seeds
from harness.rows import INVALID, NOTES, cell


@dataclass
class Footnotes:
    """Reasons, each with the mark that stands in the cells, in the order in which they were met."""

    marks: dict[str, str] = field(default_factory=dict)

    def mark(self, reason: str) -> str:
        """Return the mark of a reason: a, b, ... z, aa, ab, ..."""
        if reason not in self.marks:
            number, name = len(self.marks), ""
            while number >= 0:
                name = chr(ord("a") + number % 26) + name
                number = number // 26 - 1
            self.marks[reason] = name
        return self.marks[reason]


@dataclass(frozen=True)
class Scale:
    """The common axis of a column's whiskers."""

    low: float
    high: float

    def at(self, value: float) -> float:
        """Return where a value lies, in percent of the axis."""
        span = self.high - self.low
        share = (value - self.low) / span if span > 0 else 0.5
        return round(100 * min(1.0, max(0.0, share)), 1)


def scale_of(cells: list[Cell]) -> Scale:
    """Return the axis that holds all values and intervals of a column."""
    ends = [x for c in cells for x in (c.row.value, c.row.low, c.row.high) if math.isfinite(x)]
    return Scale(min(ends), max(ends)) if ends else Scale(0.0, 1.0)


def badges(flags: list[str]) -> list[dict[str, str]]:
    """Return flags with their meaning and kind, faults first."""
    known = {**NOTES, **INVALID}
    found = [
        {"text": f, "title": known.get(f, "a note stored with the row"), "kind": "fault" if f in INVALID else
         "partial" if f == "partial" else "note"}
        for f in flags
    ]  # fmt: skip
    return sorted(found, key=lambda b: (("fault", "partial", "note").index(b["kind"]), b["text"]))


def _number(value: float) -> float | None:
    return round(value, 8) if math.isfinite(value) else None


def empty_cell(reason: str, text: str, notes: Footnotes) -> dict[str, Any]:
    """Return a cell without a number, which says why."""
    return {"text": text, "title": reason, "mark": notes.mark(reason), "reason": reason, "value": None}


def number_cell(
    found: Cell, scale: Scale, notes: Footnotes, rank: Rank | None, unranked: str, below: bool
) -> dict[str, Any]:
    """Return a cell with its number, interval, whisker, rank group, and what the pointer shows over it."""
    row = found.row
    if not found.measured:
        return empty_cell(row.reason or "not measured, no reason stored", "n/a", notes)
    text, _, interval = cell(row.value, row.low, row.high, digits_of(row.metric)).partition(" [")
    lines = [f"n = {row.n}" + (f", {row.n_missing} could not be scored" if row.n_missing else "")]
    if rank:
        lines.append(f"rank group {rank.group}")
        if rank.against:
            lines.append(f"p = {rank.p:.2g} (Holm)")
    elif unranked:
        lines.append(unranked)
    if below:
        lines.append("not above the best reference row")
    low, high = (row.low, row.high) if interval else (row.value, row.value)
    return {
        "text": text,
        "interval": f"[{interval}" if interval else "",
        "title": "; ".join(lines),
        "whisker": (scale.at(low), round(scale.at(high) - scale.at(low), 1), scale.at(row.value)),
        "group": rank.group if rank else None,
        "below": below,
        "mark": notes.mark(row.reason) if row.reason else "",
        "reason": row.reason or unranked,
        "value": _number(row.value),
        "low": _number(row.low),
        "high": _number(row.high),
        "n": row.n,
    }


def board_view(board: Board, ranks: BoardRanks, pages: Mapping[str, str], index: int) -> dict[str, Any]:
    """Return what the template and the page's script need of one board; `pages` maps a run to its page's address."""
    notes = Footnotes()
    scales = {c.key: scale_of(_all_cells(board, c)) for c in board.columns}
    explainers = board.explainers
    first = [c.key for c in board.columns if c.headline and c.key.explainer in ("", *explainers[:1])]
    columns = [
        {
            "id": f"c{i}",
            "metric": c.key.metric,
            "details": c.key.details(),
            "label": c.key.label(),
            "evaluation": c.key.evaluation,
            "explainer": c.key.explainer,
            "higher": c.higher_is_better,
            "unit": c.unit,
            "headline": c.headline,
            "shown": c.key in first,
        }
        for i, c in enumerate(board.columns)
    ]
    lines = [_line(board, line, ranks, pages, scales, notes) for line in board.lines]
    references = [
        {"name": name, "cells": [_reference(board, c, name, scales[c.key], notes) for c in board.columns]}
        for name in sorted(board.references)
    ]
    return {
        "id": f"board-{index}",
        "title": board.key.title(),
        "dataset": _dataset(board),
        "columns": columns,
        "lines": lines,
        "references": references,
        "explainers": explainers,
        "footnotes": [{"mark": m, "reason": r} for r, m in notes.marks.items()],
        "missing": _missing(board),
        "few_seeds": few_seeds(board),
        "any_below": any(c.get("below") for x in lines for c in x["cells"]),
    }


def _all_cells(board: Board, column: Column) -> list[Cell]:
    own = [line.cells[column.key] for line in board.lines if column.key in line.cells]
    return own + (list(board.reference_cells(column.key).values()) if column.key.explainer else [])


def _line(
    board: Board,
    line: Line,
    ranks: BoardRanks,
    pages: Mapping[str, str],
    scales: Mapping[Any, Scale],
    notes: Footnotes,
) -> dict[str, Any]:
    run_id, row = line.result.run_id, line.first
    cells: list[dict[str, Any]] = []
    for column in board.columns:
        found = line.cells.get(column.key)
        if found is None:
            cells.append(empty_cell(missing_reason(line.result, column.key), "not run", notes))
            continue
        best = board.best_reference(column)
        sign = 1 if column.higher_is_better else -1
        below = best is not None and found.measured and sign * found.row.value <= sign * best.row.value
        rank = ranks.ranks.get(column.key, {}).get(run_id)
        why = ranks.unranked.get(column.key, {}).get(run_id, "")
        cells.append(number_cell(found, scales[column.key], notes, rank, why, below))
    return {
        "run_id": run_id,
        "page": pages[run_id],
        "method": row.method,
        "model": row.model,
        "settings": row.settings,
        "seed": row.seed,
        "published": line.result.published,
        "badges": badges(line.flags),
        "cells": cells,
    }


def _reference(board: Board, column: Column, name: str, scale: Scale, notes: Footnotes) -> dict[str, Any]:
    if not column.key.explainer:
        return {"text": "", "value": None, "reason": "explains nothing"}
    found = board.reference_cells(column.key).get(name)
    if found is None:
        return empty_cell(f"{name} has no {column.key.metric} of this kind", "n/a", notes)
    return number_cell(found, scale, notes, None, "", below=False)


def _dataset(board: Board) -> dict[str, Any]:
    described = [line.result.info.get("dataset") or {} for line in board.lines]
    prints = sorted({str(d["fingerprint"]) for d in described if d.get("fingerprint")})
    noted = sorted({str(n) for d in described for n in d.get("notes") or ()})
    counts = next((d["counts"] for d in described if d.get("counts")), {})
    return {"counts": {str(k): v for k, v in counts.items()}, "fingerprints": prints, "notes": noted}


def _missing(board: Board) -> list[dict[str, Any]]:
    """Return evaluation, reason and how many runs lack it, for the evaluations of the board that were not made."""
    counted: dict[tuple[str, str], int] = {}
    for line in board.lines:
        for name, reason in (line.result.info.get("missing_evaluations") or {}).items():
            counted[str(name), str(reason)] = counted.get((str(name), str(reason)), 0) + 1
    return [{"evaluation": e, "reason": r, "runs": n} for (e, r), n in sorted(counted.items())]


def downloadable(view: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a view that the page's script sorts by and writes into CSV and JSON files."""
    fields = ("value", "low", "high", "n", "group")
    reasons = {"": 0}  # each text once; cells hold its place

    def plain(cells: list[dict[str, Any]]) -> list[list[Any]]:
        return [
            [*(c.get(name) for name in fields), reasons.setdefault(c.get("reason", ""), len(reasons))] for c in cells
        ]

    columns = [[c["label"], c["explainer"], c["shown"], c["headline"], c["higher"]] for c in view["columns"]]
    lines = [
        [*(x[name] for name in ("run_id", "method", "model", "settings", "seed")), [b["text"] for b in x["badges"]],
         plain(x["cells"])]
        for x in view["lines"]
    ]  # fmt: skip
    references = [[x["name"], plain(x["cells"])] for x in view["references"]]
    return {
        "title": view["title"],
        "columns": columns,
        "lines": lines,
        "references": references,
        "reasons": list(reasons),
    }
