"""Boards: which numbers may stand beside each other, as lines (runs) and columns (metrics).

Only cells of one column of one board are ever ranked together (protocol.md, 0). A board holds runs on the same data:
where several fingerprints have one name and the same settings, each has a board of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from harness.columns import MISSING, BoardKey, ColumnKey, board_key, column_key
from harness.metrics.cells import registration
from harness.metrics.summary import builtin
from harness.record import Result, StageResult, newest
from harness.rows import INVALID, Row

SUMMARY_CLASSES = ("macro", "all")
FINISHED = "complete"
# Evaluations whose reference rows depend on the model: not a board's.
OF_EACH_MODEL = ("insertion_deletion", "infidelity", "alignment")
HEADLINE = 4  # columns of each evaluation and explainer that are shown before anyone asks for more
DIGITS = 3
SHOWN = 12  # digits of a fingerprint in a board's title


@dataclass(frozen=True)
class Cell:
    """One number of one run, and the stage whose samples it was computed from."""

    row: Row
    stage: StageResult

    @property
    def measured(self) -> bool:
        """Return whether there is a value."""
        return math.isfinite(self.row.value)

    @property
    def unranked_because(self) -> str:
        """Return why the cell takes no part in ranks; empty where it does."""
        if not self.measured:
            return self.row.reason or "not measured"
        if "partial" in self.row.flags:
            return "partial: only a part of the samples was scored"
        faults = [f for f in self.row.flags if f in INVALID]
        return f"invalid: {', '.join(faults)}" if faults else ""


@dataclass(frozen=True)
class Line:
    """One run on one board."""

    result: Result
    cells: dict[ColumnKey, Cell]

    @property
    def first(self) -> Row:
        """Return a row of the line, for what all of them share: method, model, settings, seed."""
        return next(iter(self.cells.values())).row

    @property
    def flags(self) -> list[str]:
        """Return the notes and faults of all cells, sorted."""
        return sorted({flag for cell in self.cells.values() for flag in cell.row.flags})


@dataclass(frozen=True)
class Column:
    """One metric as a column: its direction, and whether it is shown before anyone asks for it."""

    key: ColumnKey
    higher_is_better: bool
    unit: str
    headline: bool


@dataclass(frozen=True)
class Board:
    """All lines and columns of one key; `references` holds the rows no model is needed for, by explainer."""

    key: BoardKey
    columns: list[Column]
    lines: list[Line]
    references: dict[str, dict[ColumnKey, Cell]] = field(default_factory=dict)

    @property
    def explainers(self) -> list[str]:
        """Return the explainers of the columns, in the order of their names."""
        return sorted({c.key.explainer for c in self.columns if c.key.explainer})

    def reference_cells(self, key: ColumnKey) -> dict[str, Cell]:
        """Return explainer -> cell of the reference rows that stand below column `key`."""
        as_here = {name: _with_explainer(key, name) for name in self.references}
        return {n: self.references[n][k] for n, k in as_here.items() if k in self.references[n]}

    def best_reference(self, column: Column) -> Cell | None:
        """Return the reference an explainer has to beat in this column; None where there is none."""
        if not column.key.explainer:
            return None
        found = [c for c in self.reference_cells(column.key).values() if c.measured]
        sign = 1 if column.higher_is_better else -1
        return max(found, key=lambda c: sign * c.row.value, default=None)


def _with_explainer(key: ColumnKey, explainer: str) -> ColumnKey:
    return replace(key, explainer=explainer, explainer_settings="")


def status(result: Result) -> str:
    """Return a run's status; a run.json without one counts as interrupted."""
    return str(result.info.get("status") or "interrupted")


def is_reference(stage: StageResult) -> bool:
    """Return whether a stage scored a reference (a random map, say) instead of an explainer."""
    return bool(stage.info.get("reference"))


def boards(results: Sequence[Result], *, every_class: bool = False) -> list[Board]:
    """Return the boards of all finished runs, sorted; lines are sorted by method, model, settings, seed and run.

    Single classes have columns for the headline metrics that need no explainer; `every_class` keeps all there are.
    """
    lines: dict[BoardKey, dict[str, dict[ColumnKey, Cell]]] = {}
    references: dict[BoardKey, dict[str, dict[ColumnKey, Cell]]] = {}
    by_id = {r.run_id: r for r in sorted(results, key=lambda r: r.run_id) if status(r) == FINISHED}
    several = _on_other_data(by_id.values())
    for run_id, result in by_id.items():
        for stage in newest(result.stages):
            for row in stage.rows:
                if not every_class and not (row.class_name in SUMMARY_CLASSES or _plain(column_key(row))):
                    continue
                key, cell = board_key(row), Cell(row, stage)
                key = replace(key, data=_data(result)) if key in several else key
                if is_reference(stage):  # needs no model, so the first run speaks for all
                    if stage.info.get("evaluation") in OF_EACH_MODEL:
                        continue
                    references.setdefault(key, {}).setdefault(row.explainer, {}).setdefault(column_key(row), cell)
                else:
                    lines.setdefault(key, {}).setdefault(run_id, {})[column_key(row)] = cell
    found = []
    for key in sorted(lines):
        columns = _columns(lines[key].values(), every_class)
        kept = {c.key for c in columns}
        own = {run: {k: cell for k, cell in cells.items() if k in kept} for run, cells in lines[key].items()}
        found.append(Board(key, columns, _sorted({r: c for r, c in own.items() if c}, by_id), references.get(key, {})))
    return found


def own_key(key: BoardKey, result: Result, found: Iterable[Board]) -> BoardKey:
    """Return the key of the board that a run's rows of `key` stand on: they may share it with other data."""
    mine = (b.key for b in found if replace(b.key, data="") == key and any(x.result is result for x in b.lines))
    return next(mine, key)


def _data(result: Result) -> str:
    return str((result.info.get("dataset") or {}).get("fingerprint") or "")[:SHOWN] or "not known"


def _on_other_data(results: Iterable[Result]) -> set[BoardKey]:
    """Return the keys whose rows are of several data: a folder that grew, or two of one name. They are never ranked."""
    found: dict[BoardKey, set[str]] = {}
    for result in results:
        if (result.info.get("dataset") or {}).get("fingerprint"):
            for key in {board_key(row) for stage in result.stages for row in stage.rows}:
                found.setdefault(key, set()).add(_data(result))
    return {key for key, data in found.items() if len(data) > 1}


def _plain(key: ColumnKey) -> bool:
    """Return whether a column has neither explainer nor variant, threshold, resolution or radius."""
    return not (key.explainer or key.variant) and (key.threshold, key.resolution, key.radius) == (MISSING,) * 3


def _sorted(cells: dict[str, dict[ColumnKey, Cell]], by_id: dict[str, Result]) -> list[Line]:
    found = [Line(by_id[run_id], mine) for run_id, mine in cells.items()]
    return sorted(found, key=lambda x: (x.first.method, x.first.model, x.first.settings, x.first.seed, x.result.run_id))


def _columns(lines: Iterable[dict[ColumnKey, Cell]], every_class: bool) -> list[Column]:
    rows = {key: cell.row for cells in lines for key, cell in cells.items()}
    places = {registration(m)["name"]: i for i, m in enumerate(builtin())}  # a plug-in's metrics come after ours
    order = sorted(rows, key=lambda k: (k.evaluation, k.explainer, places.get(k.metric, len(places)), k))
    headline: dict[tuple[str, ...], list[ColumnKey]] = {}
    for key in order:
        summary = every_class or key.class_name in SUMMARY_CLASSES
        if summary and not key.variant and key.threshold == MISSING and key.radius == MISSING:
            headline.setdefault((key.evaluation, key.explainer), []).append(key)
    shown = {key for keys in headline.values() for key in keys[:HEADLINE]}
    by_class = {_of_all(key) for key in shown}
    kept = [k for k in order if every_class or k.class_name in SUMMARY_CLASSES or _of_all(k) in by_class]
    return [Column(key, rows[key].higher_is_better, rows[key].unit, key in shown) for key in kept]


def _of_all(key: ColumnKey) -> ColumnKey:
    return replace(key, class_name="")


@cache
def _digits() -> dict[str, int]:
    return {registration(m)["name"]: registration(m).get("digits", DIGITS) for m in builtin()}


def digits_of(metric: str) -> int:
    """Return how many decimals a metric is shown with; one of a plug-in has the usual number."""
    return _digits().get(metric, DIGITS)


def missing_reason(result: Result, column: ColumnKey) -> str:
    """Return why a run has no number in a column."""
    missing: dict[str, Any] = result.info.get("missing_evaluations") or {}
    reason = missing.get(column.evaluation)
    return f"{column.evaluation}: {reason}" if reason else "not run"
