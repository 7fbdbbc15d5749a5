"""Timing: what is compared takes turns, so that each sees the same machine; medians, with the rounds' extremes."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Work = Callable[[], Any]
Spread = list[float]  # median, least, most of the rounds
KINDS = ("text", "count", "ms", "s", "ratio", "MB", "number", "difference")


@dataclass
class Table:
    """One table of the page. A row holds a value for each column, and a `target` where there is one."""

    title: str
    columns: dict[str, tuple[str, str]]  # name -> kind of number, what it means; "" where the name says it
    says: str = ""
    judged: str = ""  # the column that targets are of
    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, *values: Any, most: float | None = None, least: float | None = None) -> None:
        """Add a row: one value for each column; a target is the most or the least of the judged one."""
        print(f"  {self.title}: {', '.join(str(v) for v in values[:2])}", file=sys.stderr, flush=True)
        row = dict(zip(self.columns, values, strict=True))
        if most is not None or least is not None:
            row["target"] = ["most", most] if most is not None else ["least", least]
        self.rows.append(row)


def seconds(work: Work) -> float:
    """Return what one call takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def turns(works: Mapping[str, Work], rounds: int, *, warm: bool = True) -> dict[str, list[float]]:
    """Return the seconds of every call; all are called once before, and then in turn, `rounds` times."""
    if warm:
        for work in works.values():
            work()
    found: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            found[name].append(seconds(work))
    return found


def spread(values: Iterable[float]) -> Spread:
    """Return median, least and most."""
    known = list(values)
    return [statistics.median(known), min(known), max(known)]


def ratio(over: Iterable[float], under: Iterable[float]) -> Spread:
    """Return the spread of the rounds' ratios."""
    return spread(a / b for a, b in zip(over, under, strict=True))


GROWTH = {
    "time": ("s", "median of the rounds"),
    "per unit": ("ratio", "time for one more of them, over that in the row above; 1: the cost is linear"),
}


def scaled(
    table: Table, label: str, sizes: Iterable[int], work: Callable[[int], Work], rounds: int, most: float | None = None
) -> None:
    """Add a row for each size of one path: its time, and the time of each unit over that of the size before."""
    works = {str(size): work(size) for size in sizes}
    found = turns(works, rounds)
    before: tuple[int, list[float]] | None = None
    for size in map(int, works):
        mine = found[str(size)]
        grown = (
            None if before is None else spread(a / size / (b / before[0]) for a, b in zip(mine, before[1], strict=True))
        )
        if before is None or most is None:
            table.add(label, size, spread(mine)[0], grown)
        else:
            table.add(label, size, spread(mine)[0], grown, most=most)
        before = size, mine
