"""Rank groups: which runs of a column the data can tell apart (protocol.md, 0).

Runs are sorted by the point value. A run opens a new rank group when it differs from the best run of the group above:
a paired, patient-clustered bootstrap on the same samples, Holm over the comparisons made (one per run after the
first), at 0.05. A run is compared with a leader, not with its neighbour, so a group says "not told apart from its
best", no more. Runs are single: the interval and the p-value know sampling noise, not the noise of training again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness import stats
from harness.columns import UNRANKED, ColumnKey
from harness.draws import AGREEMENT, Draws, draws_of
from harness.errors import HarnessError
from harness.report.boards import Board, Cell

ALPHA = 0.05


@dataclass(frozen=True)
class Rank:
    """The rank group of one cell (1 is the best), and the comparison that decided it."""

    group: int
    against: str = ""  # run the cell was compared with; empty for the first of the column
    p: float = float("nan")  # two-sided, Holm-adjusted over the comparisons of the column


def grouped(runs: Sequence[str], p_values: Callable[[int, int], stats.Floats]) -> list[Rank]:
    """Return the rank of each run, best first.

    `p_values(leader, start)` compares a position of the list with all from `start` on. All runs below a leader are
    compared with it; Holm is taken over these and the comparisons that decided the groups above, m-1 in all; the
    first run that differs leads the next group.
    """
    ranks = [Rank(1)] if runs else []
    decided: list[float] = []
    leader = 0
    while len(ranks) < len(runs):
        start = len(ranks)
        p = p_values(leader, start)
        adjusted = stats.holm(np.concatenate([decided, p]))[len(decided) :]
        differs = np.flatnonzero(adjusted < ALPHA)  # NaN does not differ
        stop = int(differs[0]) + 1 if len(differs) else len(p)
        group = ranks[-1].group
        ranks += [Rank(group + int(x < ALPHA), runs[leader], float(x)) for x in adjusted[:stop]]
        decided += p[:stop].tolist()
        leader = len(ranks) - 1
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
    values = np.array([mine[run].value for run in order])
    replicates = np.stack([mine[run].replicates for run in order], axis=1)  # (R, m)

    def p_values(leader: int, start: int) -> stats.Floats:
        """As stats.paired: the same clusters were drawn in all runs, so that differences of replicates are paired."""
        found = stats.summarise(values[leader] - values[start:], replicates[:, [leader]] - replicates[:, start:])
        return stats.normal_p(found.value, found.standard_error)

    return dict(zip(order, grouped(order, p_values), strict=True))


@dataclass(frozen=True)
class BoardRanks:
    """Ranks of a board by column and run; why a measured cell has none; what went wrong while reading samples."""

    ranks: dict[ColumnKey, dict[str, Rank]]
    unranked: dict[ColumnKey, dict[str, str]]
    problems: list[str]


def rank_board(board: Board, cache: Path | None = None, *, resamples: int = stats.RESAMPLES) -> BoardRanks:
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
            if key.variant in UNRANKED:
                unranked[key][run_id] = f"not ranked: {key.variant} is shown for comparison"
            elif cell.unranked_because:
                unranked[key][run_id] = cell.unranked_because
            else:
                by_stage.setdefault(cell.stage.name, {})[key] = cell
        for cells in by_stage.values():
            stage = next(iter(cells.values())).stage
            try:
                draws = draws_of(stage, cells, cache, resamples)
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
