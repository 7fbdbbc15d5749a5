"""Two results held against each other, number by number: paired where both scored the same samples (protocol.md, 0)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pandas as pd

from harness import stats
from harness.columns import BoardKey, ColumnKey, board_key, column_key
from harness.draws import AGREEMENT, Draws, draws_of
from harness.errors import HarnessError
from harness.record import Result, StageResult, newest
from harness.rows import Row

Place: TypeAlias = tuple[BoardKey, ColumnKey]
Cell: TypeAlias = tuple[Row, StageResult]

SAMPLES = "other samples were scored"
UNREADABLE = "the per-sample scores cannot be read"
NOT_THEIRS = "a stored value does not follow from its per-sample scores"
PLUG_IN = "the metric cannot be computed from per-sample scores here"


@dataclass(frozen=True)
class Difference:
    """after - before of one number. What does not exist is NaN, and `reason` says why."""

    board: BoardKey
    key: ColumnKey
    before: Row | None
    after: Row | None
    value: float = math.nan
    low: float = math.nan  # 95 % interval
    high: float = math.nan
    standard_error: float = math.nan
    p: float = math.nan  # two-sided, normal tail on the standard error
    paired: bool = False
    shared: int = 0  # samples it rests on, where only those that both scored were compared; 0: all
    reason: str = ""  # why it is missing, or not paired

    @property
    def row(self) -> Row:
        """Return the row of either side, for what both have in common."""
        found = self.after or self.before
        assert found is not None
        return found

    @property
    def loss(self) -> float:
        """Return how much worse `after` is, in the unit of the metric; below zero where it is better."""
        return -self.value if self.row.higher_is_better else self.value

    @property
    def excludes_zero(self) -> bool:
        """Return whether the interval lies on one side of zero; False where there is none."""
        return self.low > 0 or self.high < 0


def scored(result: Result) -> dict[Place, Cell]:
    """Return each number of a result, the newest of its place; stages on a part of the samples are left out."""
    whole = [s for s in newest(result.stages) if not s.partial]
    return {(board_key(row), column_key(row)): (row, stage) for stage in whole for row in stage.rows}


def differences(
    before: Result,
    after: Result,
    *,
    cache: Path | None = None,
    resamples: int = stats.RESAMPLES,
    places: Iterable[Place] | None = None,
) -> list[Difference]:
    """Return the differences after - before of every number that either result has, or of those at `places`.

    Paired where the samples are the same; over the samples in common where one stage's are among the other's; else
    from both standard errors, as if the two were independent. `cache` is a folder that keeps replicates.
    """
    mine, theirs = scored(before), scored(after)
    wanted = sorted({*mine, *theirs} if places is None else set(places) & {*mine, *theirs})
    found = {p: _missing(p, mine.get(p), theirs.get(p)) for p in wanted}
    together: dict[tuple[str, str], list[Place]] = {}
    for place in wanted:
        if not found[place].reason:
            together.setdefault((mine[place][1].name, theirs[place][1].name), []).append(place)
    for pair in together.values():
        one, other = mine[pair[0]][1], theirs[pair[0]][1]
        for d in _of_stages(one, other, [found[p] for p in pair], cache, resamples):
            found[d.board, d.key] = d
    return [found[p] for p in wanted]


def _missing(place: Place, before: Cell | None, after: Cell | None) -> Difference:
    sides = {"before": before[0] if before else None, "after": after[0] if after else None}
    lost = [f"{side}: {_lost(row)}" for side, row in sides.items() if _lost(row)]
    both = len(lost) == 2 and _lost(sides["before"]) == _lost(sides["after"])
    reason = f"on both sides: {_lost(sides['before'])}" if both else "; ".join(lost)
    return Difference(*place, sides["before"], sides["after"], reason=reason)


def _lost(row: Row | None) -> str:
    """Return why there is no value; empty where there is one."""
    if row is None:
        return "not measured"
    return "" if math.isfinite(row.value) else row.reason or "no value"


def _of_stages(
    one: StageResult, other: StageResult, found: list[Difference], cache: Path | None, resamples: int
) -> Iterator[Difference]:
    """Yield the differences of two stages, completed."""
    keys = [d.key for d in found]
    try:
        a, b = (draws_of(s, keys, cache, resamples) for s in (one, other))
    except (HarnessError, OSError, KeyError, ValueError, TypeError):  # damaged, or of another version
        yield from (_unpaired(d, UNREADABLE) for d in found)
        return
    theirs = [k for k in keys if k in a and k in b]
    common: list[dict[ColumnKey, Draws]] = [{}, {}]
    shared = 0
    if any(a[k].samples != b[k].samples for k in theirs):
        shared, parts = _in_common(one, other)
        if shared:
            common = [draws_of(s, keys, cache, resamples) for s in parts]
    for d in found:
        if d.key not in a or d.key not in b:
            yield _unpaired(d, PLUG_IN)
        elif _apart(a[d.key], d.before) or _apart(b[d.key], d.after):
            yield _unpaired(d, NOT_THEIRS)
        elif a[d.key].samples == b[d.key].samples:
            yield _paired(d, a[d.key], b[d.key])
        elif d.key in common[0] and d.key in common[1]:
            yield replace(_paired(d, common[0][d.key], common[1][d.key]), shared=shared, reason=SAMPLES)
        else:
            yield _unpaired(d, SAMPLES, a[d.key], b[d.key])


def _in_common(one: StageResult, other: StageResult) -> tuple[int, list[StageResult]]:
    """Return how many samples two stages share where those of one are among the other's, and both cut down to them."""
    frames = [s.read_samples() for s in (one, other)]
    ids = [set(map(str, f["id"].tolist())) for f in frames]
    both = ids[0] & ids[1]
    if both != ids[0] and both != ids[1]:
        return 0, [one, other]

    def cut(stage: StageResult, frame: pd.DataFrame) -> StageResult:
        kept = frame[np.array([str(i) in both for i in frame["id"]])].reset_index(drop=True)
        return replace(stage, read_samples=lambda: kept)

    return len(both), [cut(s, f) for s, f in zip((one, other), frames, strict=True)]


def _apart(draws: Draws, row: Row | None) -> bool:
    return row is None or abs(draws.value - row.value) > AGREEMENT


def _paired(d: Difference, a: Draws, b: Draws) -> Difference:
    found = stats.summarise(np.asarray(b.value - a.value), b.replicates - a.replicates)
    return _complete(d, found, paired=True)


def _unpaired(d: Difference, reason: str, a: Draws | None = None, b: Draws | None = None) -> Difference:
    """Return the difference of the stored values with the standard errors of both, of their replicates or intervals."""
    assert d.before is not None
    assert d.after is not None
    sides = [_error(row, draws) for row, draws in ((d.before, a), (d.after, b))]
    error = math.hypot(*sides)
    reach = stats.NORMAL * error
    value = d.after.value - d.before.value
    low, high = value - reach, value + reach
    p = float(stats.normal_p(np.asarray(value), np.asarray(error)))
    return replace(d, value=value, low=low, high=high, standard_error=error, p=p, reason=reason)


def _error(row: Row, draws: Draws | None) -> float:
    if draws is not None:
        return float(stats.summarise(np.asarray(draws.value), draws.replicates).standard_error)
    return (row.high - row.low) / (2 * stats.NORMAL)


def _complete(d: Difference, found: stats.Estimate, *, paired: bool) -> Difference:
    p = float(stats.normal_p(found.value, found.standard_error))
    return replace(d, value=float(found.value), low=float(found.low), high=float(found.high),
                   standard_error=float(found.standard_error), p=p, paired=paired)  # fmt: skip
