"""What the page that holds two runs against each other needs: a script per run with its bootstrap replicates.

The page loads the scripts of the two runs that were chosen. The same clusters were drawn in all runs, so a difference
of replicates is a paired one (protocol.md, 0): the browser subtracts, and summarises as `stats.summarise` does. A
replicate is kept as its distance from the value, a float32: differences are exact to about 1e-8 of an interval's width,
far beyond the decimals that are shown.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness import stats
from harness.columns import ColumnKey
from harness.draws import Draws, draws_of
from harness.errors import HarnessError
from harness.record import Result
from harness.report import gallery
from harness.report.boards import Board, Cell, Column, Line, digits_of, missing_reason
from harness.report.ranks import AGREEMENT, UNRANKED

VARIABLE = "harnessDraws"  # the page's table of what was loaded, by run
SHORT = 16  # hexadecimal digits of a digest of samples


def entries(boards: Sequence[Board], files: Mapping[str, str], pages: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return what the page's choosers offer, by board: each run's id, words, script and page."""
    return [
        {"board": board.key.title(), "runs": [
            {"id": line.result.run_id, "text": _words(line, board), "file": files[line.result.run_id],
             "page": pages[line.result.run_id]} for line in board.lines]}
        for board in boards
    ]  # fmt: skip


def _words(line: Line, board: Board) -> str:
    """Return a run in words that tell it from the others of its board."""
    row = line.first
    models = {x.first.model for x in board.lines if x.first.method == row.method}
    said = [row.method, row.model if len(models) > 1 else "", row.settings, f"seed {row.seed}"]
    text = ", ".join(x for x in said if x)
    same = [x for x in board.lines if (x.first.method, x.first.model, x.first.settings, x.first.seed)
            == (row.method, row.model, row.settings, row.seed)]  # fmt: skip
    return text if len(same) == 1 else f"{text} ({line.result.run_id})"


def columns_of(board: Board) -> list[Column]:
    """Return the columns that are compared: those shown first, without the ones that measure no merit of a run."""
    return [c for c in board.columns if c.headline and c.key.variant not in UNRANKED]


def compared(board: Board, cache: Path | None, resamples: int) -> dict[str, dict[str, Any]]:
    """Return run -> board and columns: a column's words once per run, its value, replicates and samples, or why not."""
    columns = columns_of(board)
    found = {}
    for line in board.lines:
        draws = _draws(line, cache, resamples)
        found[line.result.run_id] = {
            "board": board.key.title(),
            "columns": [{**_described(c), **_column(c, line, draws)} for c in columns],
        }
    return found


def _described(column: Column) -> dict[str, Any]:
    key = column.key
    return {
        "id": key.label(),
        "metric": key.metric,
        "details": key.details(),
        "explainer": key.explainer,
        "group": " · ".join(x for x in (key.evaluation, key.explainer, key.attack) if x),
        "unit": column.unit,
        "higher": column.higher_is_better,
        "digits": digits_of(key.metric),
    }


def _draws(line: Line, cache: Path | None, resamples: int) -> dict[ColumnKey, Draws | str]:
    """Return the replicates of a run's columns, or why there are none.

    Asked for by whole stages, with the columns that are ranked: so the replicates of the ranks are found again.
    """
    by_stage: dict[str, dict[ColumnKey, Cell]] = {}
    for key, cell in line.cells.items():
        if key.variant not in UNRANKED and not cell.unranked_because:
            by_stage.setdefault(cell.stage.name, {})[key] = cell
    found: dict[ColumnKey, Draws | str] = {}
    for cells in by_stage.values():
        try:
            draws = draws_of(next(iter(cells.values())).stage, cells, cache, resamples)
            why = "this report cannot compute the metric from per-sample scores"
        except (HarnessError, OSError, KeyError, ValueError, TypeError):  # said on the board already
            draws, why = {}, "the per-sample scores cannot be read"
        found |= {key: draws.get(key, why) for key in cells}
    return found


def _column(column: Column, line: Line, draws: Mapping[ColumnKey, Draws | str]) -> dict[str, Any]:
    cell = line.cells.get(column.key)
    if cell is None:
        return {"why": missing_reason(line.result, column.key)}
    if cell.unranked_because:
        return {"why": cell.unranked_because}
    own = draws[column.key]
    if isinstance(own, str):
        return {"why": own}
    if abs(own.value - cell.row.value) > AGREEMENT:
        return {"why": "the value does not follow from the per-sample scores"}
    known = {"value": own.value, "n": cell.row.n, "samples": own.samples[:SHORT]}
    if not math.isfinite(cell.row.low) and np.isfinite(own.replicates).mean() >= 1 - stats.MAX_UNDEFINED:
        return {**known, "why": cell.row.reason or "no interval: fewer than two clusters to resample"}
    return {**known, "low": _plain(cell.row.low), "high": _plain(cell.row.high), "replicates": packed(own)}


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None


def packed(draws: Draws) -> str:
    """Return the replicates as base64 of little-endian float32: each one's distance from the value, NaN kept."""
    away = np.where(np.isfinite(draws.replicates), draws.replicates, np.nan) - draws.value
    return base64.b64encode(away.astype("<f4").tobytes()).decode("ascii")


def pictured(result: Result, pictures: gallery.Pictures, base: str) -> list[dict[str, Any]]:
    """Return the samples of a run's gallery that every run shows, by explainer, image and class."""
    found = []
    for explainer, stage in gallery.pictured(result).items():
        for (name, class_name), e in sorted(gallery.fixed_samples(stage, pictures, base).items()):
            if e["overlay"]:
                shown = {k: e[k] for k in ("image", "overlay", "heat", "caption", "boxes")}
                found.append({"explainer": explainer, "id": name, "class": class_name, **shown})
    return found


def scripts(
    results: Sequence[Result], boards: Sequence[Board], pictures: gallery.Pictures, cache: Path | None, resamples: int
) -> Iterator[tuple[str, bytes]]:
    """Yield run id and script of every run that is on a board."""
    by_run: dict[str, list[dict[str, Any]]] = {}
    for board in boards:
        for run_id, own in compared(board, cache, resamples).items():
            by_run.setdefault(run_id, []).append(own)
    for result in (r for r in results if r.run_id in by_run):
        samples = pictured(result, pictures, "assets/pictures")
        yield result.run_id, script(result.run_id, by_run[result.run_id], samples)


def script(run_id: str, boards: Sequence[Mapping[str, Any]], samples: Sequence[Mapping[str, Any]]) -> bytes:
    """Return the script of one run: it puts what was measured into the page's table, under the run's id."""
    content = {"boards": list(boards), "pictures": list(samples)}
    name, value = (_literal(x) for x in (run_id, content))
    return f"(globalThis.{VARIABLE} ??= {{}})[{name}] = {value};\n".encode("utf-8", "replace")


def _literal(value: Any) -> str:
    """Return a value as JSON that is a JavaScript literal anywhere, in the text of an HTML script as well."""
    text = json.dumps(value, sort_keys=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
