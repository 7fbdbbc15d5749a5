"""The headline numbers of some runs of a board: a line per number, a column per run, and means over seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.columns import ColumnKey
from harness.report.boards import Board, Column, Line, digits_of, missing_reason
from harness.report.figures.series import Series, point, series_of
from harness.report.table import badges
from harness.rows import cell


def table(board: Board, lines: Sequence[Line], pages: Mapping[str, str]) -> dict[str, Any]:
    """Return columns (runs by settings, lowest seed first, and the mean where there are several) and groups of lines:
    those of the model, and apart from them those of an explainer."""
    series, _ = series_of(replace(board, lines=list(lines)))
    shown = {x.result.run_id for s in series for x in s.lines}
    columns: list[dict[str, Any]] = []
    takers: list[list[Line]] = []  # of each column: one run, or those that a mean is over
    for s in (*series, *(Series(x.first.method, x.first.model, x.first.settings, [x]) for x in lines
                         if x.result.run_id not in shown)):  # fmt: skip
        for x in s.lines:
            columns.append({"kind": "run", "name": f"seed {x.first.seed}", "page": pages[x.result.run_id],
                            "run_id": x.result.run_id, "detail": _detail(s), "badges": badges(x.flags)})  # fmt: skip
            takers.append([x])
        if len(s.lines) > 1:
            columns.append({"kind": "mean", "name": f"mean of {len(s.lines)} seeds", "detail": "their range",
                            "page": "", "run_id": "", "badges": []})  # fmt: skip
            takers.append(list(s.lines))
    keys = {k for x in lines for k in x.cells}
    groups: dict[tuple[bool, str], list[dict[str, Any]]] = {}
    for c in (c for c in board.columns if c.headline and c.key in keys):
        groups.setdefault((bool(c.key.explainer), group_of(c.key)), []).append(
            {"metric": c.key.metric, "details": _rest(c.key), "higher": c.higher_is_better, "unit": c.unit,
             "cells": [_cell(mine, c) for mine in takers]})  # fmt: skip
    parts = [[{"name": name, "lines": v} for (explained, name), v in groups.items() if explained is of_maps]
             for of_maps in (False, True)]  # fmt: skip
    return {"columns": columns, "groups": parts[0], "explained": parts[1]}


def group_of(key: ColumnKey) -> str:
    """Return what a number is of: its evaluation, explainer and attack."""
    return " · ".join(x for x in (key.evaluation, key.explainer, key.attack) if x)


def _rest(key: ColumnKey) -> str:
    """Return the column's details without those that its group says."""
    return replace(key, attack="", explainer="").details()


def _detail(s: Series) -> str:
    return ", ".join(x for x in (s.model, s.settings) if x)


def _cell(lines: Sequence[Line], column: Column) -> dict[str, Any]:
    """Return the cell of one run, or of the mean of several; a cell without a number says why."""
    found = [x.cells.get(column.key) for x in lines]
    if None in found:
        lacking = next(x for x in lines if column.key not in x.cells)
        why = missing_reason(lacking.result, column.key)
        return {"text": "not run", "interval": "", "title": why, "reason": "" if why == "not run" else why}
    digits = digits_of(column.key.metric)
    if len(lines) > 1:
        return point([c.row for c in found if c]).shown(digits)
    (own,) = (c.row for c in found if c)
    text, _, rest = cell(own.value, own.low, own.high, digits).partition(" [")
    title = f"n = {own.n}" + (f", {own.n_missing} could not be scored" if own.n_missing else "")
    reason = own.reason if not math.isfinite(own.value) else ""
    return {"text": text, "interval": f"[{rest}" if rest else "", "title": title, "reason": reason}
