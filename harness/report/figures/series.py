"""The series of a board's figures: one per method, model and settings, averaged over its seeds."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from harness.columns import ColumnKey
from harness.report.boards import DIGITS, Board, Line
from harness.report.literature import Published, System
from harness.rows import INVALID, Row, cell

SYMBOLS = (("circle", "●"), ("square", "■"), ("diamond", "◆"), ("triangle-up", "▲"), ("triangle-down", "▼"))
HOLLOW = (("circle-open", "○"), ("square-open", "□"), ("diamond-open", "◇"), ("triangle-up-open", "△"),
          ("triangle-down-open", "▽"), ("star-open", "☆"), ("pentagon-open", "⬠"), ("hexagon-open", "⬡"))  # fmt: skip
MACRO = "macro"
PUBLISHED_SHOWN = 4  # published systems that a chart shows before anyone asks for more: the first of the file


@dataclass(frozen=True)
class Point:
    """One number of a series: the mean over its seeds and what its bar stands for."""

    value: float
    low: float
    high: float
    n: int  # samples of the first seed
    seeds: int
    reason: str = ""
    without: int = 0  # seeds of the series that were not measured on this

    def text(self, digits: int = DIGITS) -> str:
        """Return value and bar, as everywhere, and how many seeds they are of where that is not all."""
        part = f" ({self.seeds} of {self.seeds + self.without} seeds)" if self.without else ""
        return cell(self.value, self.low, self.high, digits) + part

    def shown(self, digits: int = DIGITS) -> dict[str, Any]:
        """Return what a table's cell shows."""
        text, _, rest = self.text(digits).partition(" ")
        if self.seeds > 1:
            rest = rest.replace("[", "(").replace("]", ")").replace(", ", " to ")  # no interval: the seeds' range
        what = "one seed" if self.seeds == 1 else f"mean of {self.seeds} seeds, in parentheses their range"
        title = "; ".join(x for x in (what, f"n = {self.n}", self.reason) if x)
        return {"text": text, "interval": rest, "title": title, "reason": self.reason}


def point(rows: Sequence[Row]) -> Point:
    """Return the mean of one number over its seeds.

    The bar of one seed is its 95 % interval (sampling noise); of several it is their range, lowest to highest. A seed
    without a value makes the mean undefined: a mean over other seeds than elsewhere would be another series.
    """
    first = rows[0]
    if len(rows) == 1:
        return Point(first.value, first.low, first.high, first.n, 1, first.reason)
    values = np.array([r.value for r in rows])
    reason = next((r.reason for r in rows if not math.isfinite(r.value)), "")
    return Point(float(values.mean()), float(values.min()), float(values.max()), first.n, len(rows), reason)


@dataclass(frozen=True)
class Series:
    """The runs of one method, model and settings on a board, by seed."""

    method: str
    model: str
    settings: str
    lines: list[Line]

    @property
    def seeds(self) -> list[int]:
        """Return the seeds, lowest first."""
        return [line.first.seed for line in self.lines]

    def bar(self) -> str:
        """Return what the numbers of the series stand for, and behind it what their bars do."""
        if len(self.lines) == 1:
            return f"seed {self.seeds[0]} [95 % interval]"
        return f"mean of seeds {', '.join(map(str, self.seeds))} (their range)"

    def points(self) -> dict[ColumnKey, Point]:
        """Return the numbers of the series."""
        keys = {k: None for x in self.lines for k in x.cells}
        rows = {k: [x.cells[k].row for x in self.lines if k in x.cells] for k in keys}
        return {k: replace(point(mine), without=len(self.lines) - len(mine)) for k, mine in rows.items()}


def series_of(board: Board, *, partial: bool = False) -> tuple[list[Series], list[str]]:
    """Return the series of a board, and which of its runs are left out, each with the reason.

    `partial` keeps partial runs, for a figure of pictures, which no number of samples makes better.
    """
    why = "with a fault" if partial else "partial, or with a fault"
    left_out = [f"{x.result.run_id} ({why})" for x in board.lines if faulty(x, partial=partial)]
    groups: dict[tuple[str, str, str], list[Line]] = {}
    for line in board.lines:
        if not faulty(line, partial=partial):
            groups.setdefault((line.first.method, line.first.model, line.first.settings), []).append(line)
    found = []
    for key, lines in groups.items():
        newest = _newest_of_each_seed(lines)
        found.append(Series(*key, newest))
        kept = {x.result.run_id for x in newest}
        left_out += [f"{x.result.run_id} (a newer run of the same seed is shown)" for x in lines
                     if x.result.run_id not in kept]  # fmt: skip
    return found, left_out


def faulty(line: Line, *, partial: bool = False) -> bool:
    """Return whether a run is never ranked: with a fault, or partial where `partial` does not keep those."""
    return any((flag == "partial" and not partial) or flag in INVALID for flag in line.flags)


def _newest_of_each_seed(lines: Sequence[Line]) -> list[Line]:
    """Return the newest run of each seed, lowest seed first."""
    made = sorted(
        lines, key=lambda x: (str((x.result.info.get("provenance") or {}).get("created", "")), x.result.run_id)
    )
    by_seed = {line.first.seed: line for line in made}
    return [by_seed[seed] for seed in sorted(by_seed)]


def settings_of(board: Board, metric: str) -> str:
    """Return the evaluation settings a figure of `metric` shows: those of most runs, since others do not compare."""
    counted = Counter(t for x in board.lines for t in {k.evaluation_settings for k in x.cells if k.metric == metric})
    return min(counted, key=lambda text: (-counted[text], text), default="")


def labels(series: Sequence[Series]) -> list[str]:
    """Return a short name for each series: the method, and the model and settings that tell it from its others."""
    found = []
    for s in series:
        same = [x for x in series if x.method == s.method]
        shared = set.intersection(*(set(_parts(x.settings)) for x in same))
        own = [part for part in _parts(s.settings) if part not in shared]
        models = {x.model for x in same}
        found.append(", ".join([s.method, *([s.model] if len(models) > 1 else []), *own]))
    return found


def _parts(settings: str) -> list[str]:
    """Return the settings of a row one by one: commas within brackets part nothing."""
    return re.split(r", (?![^\[(]*[\])])", settings) if settings else []


def legend_entry(number: int, name: str, s: Series, pages: Mapping[str, str]) -> dict[str, Any]:
    """Return the legend's entry of a series: its colour, name, what its bars are, and its runs."""
    return {
        "group": f"series-{number}",
        "tone": number,
        "name": name,
        "detail": s.bar(),
        "title": f"{s.model}; {s.settings or 'default settings'}",
        "runs": [{"seed": x.first.seed, "page": pages[x.result.run_id]} for x in s.lines],
        "shown": True,
    }


def published_entry(number: int, system: System) -> dict[str, Any]:
    """Return the legend's entry of a published system: its glyph, year, mark and source."""
    facts = system.facts()
    return {"group": f"published-{number}", "glyph": HOLLOW[number % len(HOLLOW)][1], "name": system.name,
            "detail": ", ".join(x for x in (facts["year"], facts["mark"]) if x), "title": facts["source"],
            "shown": number < PUBLISHED_SHOWN}  # fmt: skip


def plain(value: float) -> float | None:
    """Return a number for a chart or download; None where there is none."""
    return round(float(value), 8) if math.isfinite(value) else None


def record(kind: str, name: str, p: Point, **fields: Any) -> dict[str, Any]:
    """Return one line of a figure's download."""
    bar = "" if not math.isfinite(p.low) else "95 % interval" if p.seeds == 1 else "range of the seeds"
    ends = {"low": plain(p.low), "high": plain(p.high), "bar": bar}
    origin = {"seeds": p.seeds, "n": p.n, "reason": p.reason, "mark": "", "source": "", "protocol": ""}
    return {"kind": kind, "name": name, **fields, "value": plain(p.value), **ends, **origin}


def published_record(row: Published, **fields: Any) -> dict[str, Any]:
    """Return the line of a published figure in a figure's download."""
    return {"kind": "published", "name": row.system, **fields, "value": plain(row.value), "low": None, "high": None,
            "bar": "", "seeds": None, "n": None, "reason": "", "mark": row.mark, "source": row.source,
            "protocol": "; ".join(x for x in (row.split, row.protocol, row.note) if x)}  # fmt: skip
