"""One board as the page shows it: texts, whiskers, rank groups, and a footnote for whatever is missing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.report.beside import Beside, beside
from harness.report.boards import Board, Cell, Column, Line, digits_of, missing_reason
from harness.report.entries import ENOUGH, Entry
from harness.report.literature import Published
from harness.report.ranks import BoardRanks, Mean, Rank
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


def number_cell(mean: Mean, notes: Footnotes, rank: Rank | None, unranked: str, below: bool) -> dict[str, Any]:
    """Return a cell with its number, interval, whisker, rank group, and what stands behind the number, in words."""
    row = mean.cell.row
    if not mean.cell.measured:
        return empty_cell(row.reason or "not measured, no reason stored", "n/a", notes)
    text, _, interval = cell(row.value, row.low, row.high, digits_of(row.metric)).partition(" [")
    reason = "; ".join(x for x in (row.reason, mean.note if mean.without else "") if x)
    said = [f"n = {row.n}" + (f", {row.n_missing} could not be scored" if row.n_missing else "")]
    said += [mean.note] if mean.note and not mean.without else []
    if rank:
        said.append(
            f"rank group {rank.group}" + (f", p = {rank.p:.2g} against its leader (Holm)" if rank.against else "")
        )
    said += [x for x in (unranked if not rank else "", row.reason, mean.note if mean.without else "") if x]
    said += ["not above the best reference row"] if below else []
    return {
        "text": text,
        "interval": f"[{interval}" if interval else "",
        "title": "; ".join(dict.fromkeys(said)),
        "group": rank.group if rank else None,
        "below": below,
        "mark": notes.mark(reason) if reason else "",
        "reason": reason or unranked,
        "value": _number(row.value),
        "low": _number(row.low),
        "high": _number(row.high),
        "n": row.n,
    }


def board_view(
    board: Board, ranks: BoardRanks, pages: Mapping[str, str], published: Sequence[Published], index: int
) -> dict[str, Any]:
    """Return what the template and the page's script need of one board; `pages` maps a run to its page's address."""
    notes = Footnotes()
    scales = {c.key: scale_of(_all_cells(board, ranks, c)) for c in board.columns}
    explainers = board.explainers
    first = [c.key for c in board.columns if c.headline and c.key.explainer in ("", *explainers[:1])]
    columns = [_column(board, c, scales[c.key], ranks.said.get(c.key, ""), c.key in first) for c in board.columns]
    lines = [_line(board, entry, ranks, pages, notes) for entry in ranks.entries]
    references = [
        {"name": name, "cells": [_reference(board, c, name, notes) for c in board.columns]}
        for name in sorted(board.references)
    ]
    sources: dict[str, int] = {}  # text -> its number below the table
    others = [_published(board, system, sources) for system in beside(board, published)]
    counts = sorted({len(entry.runs) for entry in ranks.entries})
    flags = [set(entry.flags) for entry in ranks.entries]
    return {
        "id": f"board-{index}",
        "title": board.key.title(),
        "dataset": _dataset(board),
        "columns": columns,
        "lines": lines,
        "references": references,
        "published": others,
        "sources": [{"number": n, "text": text} for text, n in sources.items()],
        "explainers": explainers,
        "footnotes": [{"mark": m, "reason": r} for r, m in notes.marks.items()],
        "flags": badges(sorted(set.union(*flags))),
        "common": badges(sorted(set.intersection(*flags)) if len(flags) > 1 else []),  # said once, above the table
        "missing": _missing(board),
        "seeds": seeds_note(counts, [len(e.runs) for e in ranks.entries]),
        "said": headline_sentences(board, ranks),
    }


def seeds_note(counts: Sequence[int], per_line: Sequence[int]) -> str:
    """Return what the numbers of seeds of a board's lines mean for its ranks."""
    few = sum(n < ENOUGH for n in per_line)
    said = []
    if few == len(per_line):
        said.append("Fewer than three seeds: sampling noise only, training again may change the order.")
    elif few:
        said.append(
            f"{few} of {len(per_line)} lines {'has' if few == 1 else 'have'} fewer than three seeds: sampling noise "
            "only there, training again may change the order."
        )
    if max(counts) > 1:
        said.append("A line of several seeds is their mean; its interval resamples seeds and patients together.")
    if len(counts) > 1:
        said.append(
            f"Lines of {' and '.join(map(str, counts))} seeds are ranked together where they were scored on the same "
            "samples; the interval of one seed lacks the noise of training."
        )
    return " ".join(said)


def headline_sentences(board: Board, ranks: BoardRanks) -> list[str]:
    """Return what the data cannot separate in the first headline column of each evaluation."""
    found: dict[str, str] = {}
    for c in board.columns:
        if c.headline and ranks.said.get(c.key):
            found.setdefault(c.key.evaluation, ranks.said[c.key])
    return list(found.values())


def _column(board: Board, c: Column, scale: Scale, said: str, shown: bool) -> dict[str, Any]:
    best = board.best_reference(c)
    digits = digits_of(c.key.metric)
    return {
        "metric": c.key.metric,
        "details": c.key.details(),
        "label": c.key.label(),
        "evaluation": c.key.evaluation,
        "explainer": c.key.explainer,
        "class_name": c.key.class_name,
        "higher": c.higher_is_better,
        "unit": c.unit,
        "headline": c.headline,
        "shown": shown,
        "low": _number(scale.low),
        "high": _number(scale.high),
        "ends": f"{scale.low:.{digits}f} to {scale.high:.{digits}f}",
        "reference": _number(best.row.value) if best else None,
        "said": said,
    }


def _all_cells(board: Board, ranks: BoardRanks, column: Column) -> list[Cell]:
    own = [line.cells[column.key] for line in board.lines if column.key in line.cells]
    own += [mean.cell for mean in ranks.means.get(column.key, {}).values()]
    return own + (list(board.reference_cells(column.key).values()) if column.key.explainer else [])


def _below(board: Board, column: Column, found: Cell) -> bool:
    best = board.best_reference(column)
    sign = 1 if column.higher_is_better else -1
    return best is not None and found.measured and sign * found.row.value <= sign * best.row.value


def _line(
    board: Board,
    entry: Entry,
    ranks: BoardRanks,
    pages: Mapping[str, str],
    notes: Footnotes,
) -> dict[str, Any]:
    cells: list[dict[str, Any]] = []
    for column in board.columns:
        mean = ranks.means.get(column.key, {}).get(entry.id)
        if mean is None:
            cells.append(empty_cell(missing_reason(entry.runs[0].result, column.key), "not run", notes))
            continue
        rank = ranks.ranks.get(column.key, {}).get(entry.id)
        why = ranks.unranked.get(column.key, {}).get(entry.id, "")
        cells.append(number_cell(mean, notes, rank, why, _below(board, column, mean.cell)))
    runs = [_run(board, run, pages, notes, several=len(entry.runs) > 1) for run in entry.runs]
    return {
        "method": entry.method,
        "model": entry.model,
        "settings": entry.settings,
        "older": entry.older,
        "runs": runs,
        "badges": badges(entry.flags),
        "cells": cells,
    }


def _run(board: Board, run: Line, pages: Mapping[str, str], notes: Footnotes, *, several: bool) -> dict[str, Any]:
    """Return one seed of a line; its cells only where the line is a mean of several."""
    cells = []
    for column in board.columns if several else ():
        found = run.cells.get(column.key)
        if found is None:
            cells.append(empty_cell(missing_reason(run.result, column.key), "not run", notes))
        else:
            one = Mean(found, (run.first.seed,))
            why = "a single seed: its line is ranked"
            cells.append(number_cell(one, notes, None, why, _below(board, column, found)))
    return {
        "run_id": run.result.run_id,
        "page": pages[run.result.run_id],
        "seed": run.first.seed,
        "badges": badges(run.flags),
        "cells": cells,
    }


def _reference(board: Board, column: Column, name: str, notes: Footnotes) -> dict[str, Any]:
    if not column.key.explainer:
        return {"text": "", "value": None, "mark": "", "reason": "explains nothing"}
    found = board.reference_cells(column.key).get(name)
    if found is None:
        return empty_cell(f"no reference rows for {column.key.evaluation} with these settings", "n/a", notes)
    return number_cell(Mean(found, ()), notes, None, "a reference: needs no model", below=False)


def _published(board: Board, system: Beside, sources: dict[str, int]) -> dict[str, Any]:
    facts, source = system.facts, system.source
    number = sources.setdefault(source, len(sources) + 1)
    title = f"published, never ranked: {source}"
    cells = []
    for c in board.columns:
        row = system.figures.get(c.key)
        if row is None:
            cells.append({"text": "", "value": None, "mark": "", "reason": "not published"})
            continue
        value = round(row.value, 8)
        cells.append({"text": f"{value:.{digits_of(row.metric)}f}", "interval": "", "title": title, "group": None,
                      "below": False, "mark": "", "reason": "published, never ranked", "value": value, "low": None,
                      "high": None, "n": None})  # fmt: skip
    return {"name": system.name, "year": facts["year"], "mark": facts["mark"], "source": source,
            "conditions": facts["split"], "number": number,
            "cells": cells}  # fmt: skip


def _dataset(board: Board) -> dict[str, Any]:
    described = [line.result.info.get("dataset") or {} for line in board.lines]
    data = next((str(d["fingerprint"]) for d in described if d.get("fingerprint")), "")
    noted = sorted({str(n) for d in described for n in d.get("notes") or ()})
    counts = next((d["counts"] for d in described if d.get("counts")), {})
    return {"counts": {str(k): v for k, v in counts.items()}, "fingerprint": data, "notes": noted}


def _missing(board: Board) -> list[dict[str, Any]]:
    """Return evaluation, reason and how many runs lack it, for the evaluations of the board that were not made."""
    counted: dict[tuple[str, str], int] = {}
    for line in board.lines:
        for name, reason in (line.result.info.get("missing_evaluations") or {}).items():
            counted[str(name), str(reason)] = counted.get((str(name), str(reason)), 0) + 1
    return [{"evaluation": e, "reason": r, "runs": n} for (e, r), n in sorted(counted.items())]


def downloadable(view: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a view that the page's script draws, sorts by and writes into files.

    A cell is [text, title, mark, reason] where nothing was measured, else it goes on with [interval, value, low, high,
    n, group, below]. Titles and reasons are places in `texts`, flags places in `flags`: each text is there once.
    """
    texts: dict[str, int] = {"": 0}

    def place(text: str) -> int:
        return texts.setdefault(text, len(texts))

    def plain(cells: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
        return [
            [c["text"], place(c.get("title", c.get("reason", ""))), c.get("mark", ""), place(c.get("reason", ""))]
            + ([] if c["value"] is None else [c["interval"], c["value"], c["low"], c["high"], c["n"], c["group"],
                                              int(c["below"])])
            for c in cells
        ]  # fmt: skip

    def flags(found: Sequence[Mapping[str, str]]) -> list[int]:
        return [[b["text"] for b in view["flags"]].index(b["text"]) for b in found]

    wanted = ("metric", "details", "label", "evaluation", "explainer", "class_name", "higher", "unit", "headline",
              "low", "high", "ends", "reference", "said")  # fmt: skip
    return {
        "id": view["id"],
        "title": view["title"],
        "columns": [{name: c[name] for name in wanted} for c in view["columns"]],
        "lines": [
            {**{name: x[name] for name in ("method", "model", "settings", "older")}, "flags": flags(x["badges"]),
             "cells": plain(x["cells"]),
             "runs": [{"id": r["run_id"], "page": r["page"], "seed": r["seed"], "flags": flags(r["badges"]),
                       "cells": plain(r["cells"])} for r in x["runs"]]}
            for x in view["lines"]
        ],
        "references": [{"name": x["name"], "cells": plain(x["cells"])} for x in view["references"]],
        "published": [{**{name: x[name] for name in ("name", "year", "mark", "source", "conditions", "number")},
                       "cells": plain(x["cells"])} for x in view["published"]],
        "flags": [[b["text"], b["title"], b["kind"]] for b in view["flags"]],
        "common": flags(view["common"]),
        "texts": list(texts),
    }  # fmt: skip
