"""Rank groups: which runs of a column the data can tell apart (protocol.md, 0).

Runs are sorted by the point value. A run opens a new rank group when it differs from the best run of the group above:
a paired, patient-clustered bootstrap on the same samples, Holm over the comparisons made (one per run after the
first), at 0.05. A run is compared with a leader, not with its neighbour, so a group says "not told apart from its
best", no more. Runs are single: the interval and the p-value know sampling noise, not the noise of training again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from harness import stats
from harness.errors import HarnessError
from harness.report.boards import Board, Cell, ColumnKey
from harness.report.draws import Draws, draws_of

ALPHA = 0.05
AGREEMENT = 5e-4  # a stored value further than this from its own samples is not theirs


@dataclass(frozen=True)
class Rank:
    """The rank group of one cell (1 is the best), and the comparison that decided it."""

    group: int
    against: str = ""  # run the cell was compared with; empty for the first of the column
    p: float = float("nan")  # two-sided, Holm-adjusted over the comparisons of the column


def grouped(runs: Sequence[str], p_value: Callable[[int, int], float]) -> list[Rank]:
    """Return the rank of each run, best first; `p_value(leader, i)` compares two positions of the list.

    Leaders are opened from the top, and Holm is taken over the m-1 comparisons that the present leaders imply, until
    no run differs from its leader. A leader whose difference does not survive the correction in the end is dropped.
    """
    count = len(runs)
    if not count:
        return []
    leaders, dropped = [0], set[int]()
    compare = cache(p_value)
    while True:
        own = [max(x for x in leaders if x < i or x == 0) for i in range(count)]
        p = np.array([compare(own[i], i) for i in range(1, count)], float)
        adjusted = np.concatenate([[np.nan], stats.holm(p)])
        differs = adjusted < ALPHA  # NaN does not differ
        lost = [i for i in leaders[1:] if not differs[i]]
        new = [i for i in range(1, count) if differs[i] and i not in leaders and i not in dropped]
        if lost:
            leaders.remove(lost[-1])
            dropped.add(lost[-1])
        elif new:
            leaders = sorted([*leaders, new[0]])
        else:
            break
    ranks = [Rank(1)]
    for i in range(1, count):
        ranks.append(Rank(sum(x <= i for x in leaders), runs[own[i]], float(adjusted[i])))
    return ranks


def rank_column(draws: Mapping[str, Draws], *, higher_is_better: bool) -> dict[str, Rank]:
    """Return run -> rank of one column; runs over other samples than most are left out."""
    if not draws:
        return {}
    kinds = [d.samples for d in draws.values()]
    usual = max(sorted(set(kinds)), key=kinds.count)
    sign = -1 if higher_is_better else 1
    mine = {run: d for run, d in draws.items() if d.samples == usual}
    order = sorted(mine, key=lambda run: (sign * mine[run].value, run))

    def p_value(leader: int, i: int) -> float:
        a, b = mine[order[leader]], mine[order[i]]
        found = stats.summarise(np.asarray(a.value - b.value), a.replicates - b.replicates)  # stats.paired, kept draws
        return float(stats.normal_p(found.value, found.standard_error))

    return dict(zip(order, grouped(order, p_value), strict=True))


@dataclass(frozen=True)
class BoardRanks:
    """Ranks of a board by column and run; why a measured cell has none; what went wrong while reading samples."""

    ranks: dict[ColumnKey, dict[str, Rank]]
    unranked: dict[ColumnKey, dict[str, str]]
    problems: list[str]


def rank_board(board: Board, cache: Path | None = None) -> BoardRanks:
    """Return the ranks of all columns of a board. Each run's samples are read once and let go of again.

    `cache` is a folder that keeps replicates between reports; None computes them anew.
    """
    collected: dict[ColumnKey, dict[str, Draws]] = {c.key: {} for c in board.columns}
    unranked: dict[ColumnKey, dict[str, str]] = {c.key: {} for c in board.columns}
    problems: list[str] = []
    for line in board.lines:
        run_id = line.result.run_id
        by_stage: dict[str, dict[ColumnKey, Cell]] = {}
        for key, cell in line.cells.items():
            if cell.unranked_because:
                unranked[key][run_id] = cell.unranked_because
            else:
                by_stage.setdefault(cell.stage.name, {})[key] = cell
        for cells in by_stage.values():
            stage = next(iter(cells.values())).stage
            try:
                draws = draws_of(stage, cells, cache)
                why = "not ranked: this report cannot compute the metric from per-sample scores"
            except (HarnessError, OSError, KeyError, ValueError, TypeError) as error:  # samples of another version
                draws, why = {}, "not ranked: the per-sample scores cannot be read"
                problems.append(f"{run_id}, {stage.name}: per-sample scores cannot be read ({error})")
            for key, cell in cells.items():
                if key in draws and abs(draws[key].value - cell.row.value) <= AGREEMENT:
                    collected[key][run_id] = draws[key]
                elif key in draws:
                    unranked[key][run_id] = "not ranked: the value does not follow from the per-sample scores"
                    problems.append(
                        f"{run_id}, {stage.name}, {key.label()}: stored {cell.row.value:.6g}, but the per-sample "
                        f"scores give {draws[key].value:.6g}. Evaluate the run again."
                    )
                else:
                    unranked[key][run_id] = why
    ranks: dict[ColumnKey, dict[str, Rank]] = {}
    for column in board.columns:
        ranks[column.key] = rank_column(collected[column.key], higher_is_better=column.higher_is_better)
        for run_id in collected[column.key].keys() - ranks[column.key].keys():
            unranked[column.key][run_id] = "not ranked: other samples than the other runs of this column"
    return BoardRanks(ranks, unranked, sorted(set(problems)))


def few_seeds(board: Board, needed: int = 3) -> bool:
    """Return whether some method of the board has fewer seeds than it takes to speak of training noise."""
    seeds: dict[tuple[str, str, str], set[int]] = {}
    for line in board.lines:
        row = line.first
        seeds.setdefault((row.method, row.model, row.settings), set()).add(row.seed)
    return any(len(s) < needed for s in seeds.values())

