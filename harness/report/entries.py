"""The lines of a leaderboard: the runs of one method that differ in their seed alone, as one line (protocol.md, 0).

A run with a fault, or of a part of the samples, stands alone: its number is shown, and spoils no mean. Of two runs of
the same seed the newer one counts; the older ones make another line, which says so, so that nothing is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.columns import ColumnKey
from harness.report.boards import Board, Line
from harness.rows import INVALID

ENOUGH = 3  # seeds it takes to speak of training noise


@dataclass(frozen=True)
class Entry:
    """One line of a leaderboard: runs of different seeds, lowest first; `older` where newer runs make another line."""

    runs: list[Line]
    older: bool = False

    @property
    def id(self) -> str:
        """Return the id of its first run; no other entry has that run."""
        return self.runs[0].result.run_id

    @property
    def method(self) -> str:
        """Return the method's name."""
        return self.runs[0].first.method

    @property
    def model(self) -> str:
        """Return the model's name."""
        return self.runs[0].first.model

    @property
    def settings(self) -> str:
        """Return the settings that differ from the method's defaults."""
        return self.runs[0].first.settings

    @property
    def seeds(self) -> list[int]:
        """Return the seeds, lowest first."""
        return [run.first.seed for run in self.runs]

    @property
    def keys(self) -> list[ColumnKey]:
        """Return the columns in which any of the runs has a cell."""
        return list(dict.fromkeys(k for run in self.runs for k in run.cells))

    @property
    def flags(self) -> list[str]:
        """Return the notes and faults of all runs, sorted."""
        return sorted({flag for run in self.runs for flag in run.flags})


def entries(board: Board) -> list[Entry]:
    """Return the lines of a board, in the order of its runs."""
    groups: dict[tuple[str, ...], list[Line]] = {}
    for run in board.lines:
        groups.setdefault(_identity(run), []).append(run)
    return [entry for runs in groups.values() for entry in _layers(runs)]


def _identity(run: Line) -> tuple[str, ...]:
    """Return what seeds of one method have in common; a run that is never ranked has all to itself."""
    info = run.result.info
    alone = run.result.run_id if any(f == "partial" or f in INVALID for f in run.flags) else ""
    data = str((info.get("dataset") or {}).get("fingerprint", ""))
    precision = str((info.get("provenance") or {}).get("precision", ""))
    return run.first.method, run.first.model, run.first.settings, data, precision, alone


def _layers(runs: Sequence[Line]) -> Iterable[Entry]:
    """Yield the newest run of every seed as one entry, then the next newest of those that have one, and so on."""
    by_seed: dict[int, list[Line]] = {}
    for run in sorted(runs, key=_age):
        by_seed.setdefault(run.first.seed, []).append(run)
    for layer in range(max(map(len, by_seed.values()))):
        yield Entry([made[-1 - layer] for _, made in sorted(by_seed.items()) if len(made) > layer], older=layer > 0)


def _age(run: Line) -> tuple[str, str]:
    return str((run.result.info.get("provenance") or {}).get("created", "")), run.result.run_id


def few_seeds(board: Board, needed: int = ENOUGH) -> bool:
    """Return whether some line has fewer seeds than it takes to speak of training noise."""
    return any(len(entry.runs) < needed for entry in entries(board))


def names_of(found: Sequence[Entry]) -> list[str]:
    """Return a short name for each entry: the method, and whatever tells it from the others of that method."""
    by_method: dict[str, list[Entry]] = {}
    for entry in found:
        by_method.setdefault(entry.method, []).append(entry)
    shared = {m: set.intersection(*(set(parts_of(e.settings)) for e in same)) for m, same in by_method.items()}
    models = {m: len({e.model for e in same}) > 1 for m, same in by_method.items()}
    names = []
    for entry in found:
        own = [part for part in parts_of(entry.settings) if part not in shared[entry.method]]
        names.append(", ".join([entry.method, *([entry.model] if models[entry.method] else []), *own]))
    repeated = {n for n in names if names.count(n) > 1} if len(set(names)) < len(names) else set()
    return [f"{n} ({e.id})" if n in repeated else n for n, e in zip(names, found, strict=True)]


def parts_of(settings: str) -> list[str]:
    """Return the settings of a row one by one: commas within brackets part nothing.

    >>> parts_of("epsilon = 0.1, layers = [1, 2]")
    ['epsilon = 0.1', 'layers = [1, 2]']
    """
    return re.split(r", (?![^\[(]*[\])])", settings) if settings else []
