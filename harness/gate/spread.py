"""How much honest retraining scatters: mean and standard deviation of every number over seeds, kept in the record.

A record's run.json entry `spread` is {"seeds": [...], "stages": {stage: [[mean, sd], ...]}}, in the order of the
stage's rows; null where a seed has no value.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.columns import board_key, column_key
from harness.errors import UsageError
from harness.paired import Place, scored
from harness.record import Result, newest

ENTRY = "spread"
SEEDS = 5  # at least (protocol.md, 6)


@dataclass(frozen=True)
class Spread:
    """A number over n seeds: its mean and standard deviation (n - 1)."""

    mean: float
    sd: float
    seeds: int


def measured(result: Result, seeds: Sequence[tuple[int, Result]]) -> dict[str, Any]:
    """Return the entry of a record: how the numbers of `result` scatter over runs of these seeds, its own among them.

    Raises `UsageError` for fewer than five.
    """
    numbers = [number for number, _ in seeds]
    if len(set(numbers)) < SEEDS:
        raise UsageError(
            f"run {result.run_id}: expected {SEEDS} or more seeds of it in the store to say how training scatters, got "
            f"{', '.join(map(str, sorted(set(numbers))))}. Make them first: harness run ... --seed 0 --seed 1 ..."
        )
    every = [scored(r) for _, r in seeds]
    stages: dict[str, list[list[float] | None]] = {s.name: [] for s in result.stages}
    for place, stage, _ in _rows(result):
        values = np.array([cells[place][0].value if place in cells else math.nan for cells in every])
        good = np.isfinite(values).all()
        stages[stage].append([float(values.mean()), float(values.std(ddof=1))] if good else None)
    return {"seeds": sorted(numbers), "stages": stages}


def stored(record: Result) -> dict[Place, Spread]:
    """Return the spread of each number of a record; {} for one without. Raises `UsageError` for a damaged entry."""
    entry = record.info.get(ENTRY)
    if not entry:
        return {}
    found: dict[Place, Spread] = {}
    try:
        count = len(set(entry["seeds"]))
        pairs = {name: list(values) for name, values in entry["stages"].items()}
        for place, stage, i in _rows(record):
            if len(pairs[stage]) <= i:
                raise KeyError(f"number {i} of {stage}")
            if (pair := pairs[stage][i]) is None:
                continue
            mean, sd = map(float, pair)
            if count < SEEDS or not math.isfinite(mean) or not (math.isfinite(sd) and sd >= 0):
                raise ValueError(f"{pair} over {count} seeds")
            found[place] = Spread(mean, sd, count)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"{record.source}: its spread cannot be read ({error}). Publish it again.") from None
    return found


def _rows(result: Result) -> Iterator[tuple[Place, str, int]]:
    """Yield place, stage and position of every row, those of newer stages last."""
    for stage in newest(result.stages):
        for i, row in enumerate(stage.rows):
            yield (board_key(row), column_key(row)), stage.name, i
