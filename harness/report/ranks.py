"""Rank groups: which lines of a column the data can tell apart (protocol.md, 0).

A line is the mean over the seeds of one method. Lines are sorted by the point value. A line opens a new rank group when
it differs from the best of the group above: a paired, patient-clustered bootstrap on the same samples, in which seeds
and clusters are resampled together, Holm over the comparisons made (one per line after the first), at 0.05. A line is
compared with a leader, not with its neighbour, so a group says "not told apart from its best", no more. The interval
and the p-value of a single seed know sampling noise, not the noise of training again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from harness import stats
from harness.columns import UNRANKED, ColumnKey
from harness.draws import AGREEMENT, Draws, draws_of
from harness.errors import HarnessError
from harness.report.apart import ALPHA, apart, errors, sentence
from harness.report.boards import Board, Cell, Column, Line, digits_of
from harness.report.entries import Entry, entries, names_of


@dataclass(frozen=True)
class Rank:
    """The rank group of one cell (1 is the best), and the comparison that decided it."""

    group: int
    against: str = ""  # line the cell was compared with; empty for the first of the column
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
    """Return line -> rank of one column; lines over other samples than most are left out."""
    order, values, error = _ordered(draws, higher_is_better)

    def p_values(leader: int, start: int) -> stats.Floats:
        """As stats.paired: the same clusters were drawn in all lines, so that differences of replicates are paired."""
        return stats.normal_p(values[leader] - values[start:], error[leader, start:])

    return dict(zip(order, grouped(order, p_values), strict=True))


def _ordered(draws: Mapping[str, Draws], higher_is_better: bool) -> tuple[list[str], stats.Floats, stats.Floats]:
    """Return the m lines over the usual samples, best first, their values (m,), and `errors` (m, m)."""
    if not draws:
        return [], np.empty(0), np.empty((0, 0))
    kinds = [d.samples for d in draws.values()]
    usual = max(sorted(set(kinds)), key=kinds.count)
    sign = -1 if higher_is_better else 1
    mine = {run: d for run, d in draws.items() if d.samples == usual}
    order = sorted(mine, key=lambda run: (sign * mine[run].value, run))
    replicates = np.stack([mine[run].replicates for run in order], axis=1)  # (R, m)
    return order, np.array([mine[run].value for run in order]), errors(replicates)


@dataclass(frozen=True)
class Mean:
    """One number of a line: the mean over its seeds, as a cell, and how many of the seeds it rests on."""

    cell: Cell
    seeds: tuple[int, ...]  # those it is the mean of
    without: tuple[int, ...] = ()  # those that were not scored on this

    @property
    def note(self) -> str:
        """Return of which seeds the number is, where it is not of one alone; "" there."""
        if not self.without:
            return f"mean of {len(self.seeds)} seeds" if len(self.seeds) > 1 else ""
        some = ", ".join(map(str, self.without))
        return (
            f"{len(self.seeds)} of {len(self.seeds) + len(self.without)} seeds: not run with seed"
            f"{'' if len(self.without) == 1 else 's'} {some}"
        )


def mean_of(entry: Entry, key: ColumnKey, draws: Sequence[Mapping[ColumnKey, Draws]]) -> tuple[Mean, Draws | None]:
    """Return one number of a line and its draws; `draws` are those of each of its runs.

    Of several seeds it is their mean, and its interval resamples seeds and clusters together. A seed that was scored
    and has no value makes the mean undefined: a mean over other seeds would be another number. A seed that was not
    scored is left out, and named. Without draws of every seed on the same samples there is no interval.
    """
    have = [(run, run.cells[key], d.get(key)) for run, d in zip(entry.runs, draws, strict=True) if key in run.cells]
    seeds = tuple(run.first.seed for run, _, _ in have)
    without = tuple(seed for seed in entry.seeds if seed not in seeds)
    cells = [cell for _, cell, _ in have]
    first = cells[0]
    if len(cells) == 1:
        return Mean(first, seeds, without), have[0][2]
    missing = next(((seed, c) for seed, c in zip(seeds, cells, strict=True) if not c.measured), None)
    shared = {"flags": tuple(sorted({f for c in cells for f in c.row.flags})), "n": min(c.row.n for c in cells),
              "n_missing": max(c.row.n_missing for c in cells)}  # fmt: skip
    if missing:
        reason = f"seed {missing[0]}: {missing[1].row.reason or 'not measured'}"
        row = replace(first.row, value=math.nan, low=math.nan, high=math.nan, reason=reason, **shared)
        return Mean(Cell(row, first.stage), seeds, without), None
    value = float(np.mean([c.row.value for c in cells]))
    found = [d for _, _, d in have if d]
    if len(found) < len(cells) or len({d.samples for d in found}) > 1:
        why = (
            "no interval over the seeds: they were scored on different samples"
            if len(found) == len(cells)
            else "no interval over the seeds: it cannot be computed from their per-sample scores"
        )
        row = replace(first.row, value=value, low=math.nan, high=math.nan, reason=why, **shared)
        return Mean(Cell(row, first.stage), seeds, without), None
    values, replicates = stats.over_seeds(
        np.array([[d.value] for d in found]), np.stack([d.replicates for d in found])[:, :, None]
    )
    estimate = stats.summarise(values, replicates)
    row = replace(first.row, value=value, low=float(estimate.low[0]), high=float(estimate.high[0]), **shared)
    return Mean(Cell(row, first.stage), seeds, without), Draws(float(values[0]), replicates[:, 0], found[0].samples)


@dataclass(frozen=True)
class BoardRanks:
    """The lines of a board, and by column and line: numbers, ranks, why a measured number has no rank.

    `said` holds by column what the data cannot separate, `problems` what went wrong while reading samples.
    """

    entries: list[Entry]
    means: dict[ColumnKey, dict[str, Mean]]
    ranks: dict[ColumnKey, dict[str, Rank]]
    unranked: dict[ColumnKey, dict[str, str]]
    said: dict[ColumnKey, str]
    problems: list[str]


def rank_board(board: Board, cache: Path | None = None, *, resamples: int = stats.RESAMPLES) -> BoardRanks:
    """Return the lines of a board with the ranks of all columns. A run's samples are read once and let go of again.

    `cache` is a folder that keeps replicates between reports; None computes them anew.
    """
    lines = entries(board)
    names = dict(zip([e.id for e in lines], names_of(lines), strict=True))
    collected: dict[ColumnKey, dict[str, Draws]] = {c.key: {} for c in board.columns}
    unranked: dict[ColumnKey, dict[str, str]] = {c.key: {} for c in board.columns}
    means: dict[ColumnKey, dict[str, Mean]] = {c.key: {} for c in board.columns}
    problems: list[str] = []
    for entry in lines:
        several = len(entry.runs) > 1
        read = [_draws(run, cache, resamples, every=several) for run in entry.runs]
        problems += [p for _, _, found in read for p in found]
        for key in entry.keys:
            mean, draws = mean_of(entry, key, [d for d, _, _ in read])
            means[key][entry.id] = mean
            why = _unranked(key, mean, next((w[key] for _, w, _ in read if key in w), ""))
            if why or draws is None:
                unranked[key][entry.id] = why or "not ranked: other samples than the other seeds"
            else:
                collected[key][entry.id] = Draws(draws.value, draws.replicates.copy(), draws.samples)
    ranks: dict[ColumnKey, dict[str, Rank]] = {}
    said: dict[ColumnKey, str] = {}
    for column in board.columns:
        found = collected.pop(column.key)
        ranks[column.key], said[column.key] = _ranked(column, found, means[column.key], names)
        for line in found.keys() - ranks[column.key].keys():
            unranked[column.key][line] = "not ranked: other samples than the other lines of this column"
    return BoardRanks(lines, means, ranks, unranked, said, sorted(set(problems)))


def _unranked(key: ColumnKey, mean: Mean, of_a_seed: str) -> str:
    if key.variant in UNRANKED:
        return f"not ranked: {key.variant} is shown for comparison"
    return mean.cell.unranked_because or of_a_seed


def _ranked(
    column: Column, draws: Mapping[str, Draws], means: Mapping[str, Mean], names: Mapping[str, str]
) -> tuple[dict[str, Rank], str]:
    """Return the ranks of a column, and what its data cannot separate; "" where nothing is ranked."""
    ranks = rank_column(draws, higher_is_better=column.higher_is_better)
    if not ranks:
        return ranks, ""
    order, values, error = _ordered(draws, column.higher_is_better)
    first = [names[line] for line in order if ranks[line].group == 1]
    n = means[order[0]].cell.row.n
    return ranks, sentence(apart(values, error), column.key.label(), first, n, digits_of(column.key.metric))


def _draws(
    run: Line, cache: Path | None, resamples: int, *, every: bool
) -> tuple[dict[ColumnKey, Draws], dict[ColumnKey, str], list[str]]:
    """Return a run's draws, why a measured cell has none, and what went wrong.

    `every` reads those of cells that are never ranked too: a mean over seeds needs them for its interval.
    """
    by_stage: dict[str, dict[ColumnKey, Cell]] = {}
    for key, cell in run.cells.items():
        if cell.measured and (every or not (cell.unranked_because or key.variant in UNRANKED)):
            by_stage.setdefault(cell.stage.name, {})[key] = cell
    found: dict[ColumnKey, Draws] = {}
    why: dict[ColumnKey, str] = {}
    problems: list[str] = []
    for cells in by_stage.values():
        stage = next(iter(cells.values())).stage
        try:
            draws = draws_of(stage, cells, cache, resamples)
            reason = "not ranked: this report cannot compute the metric from per-sample scores"
        except (HarnessError, OSError, KeyError, ValueError, TypeError) as error:  # samples of another version
            draws, reason = {}, "not ranked: the per-sample scores cannot be read"
            problems.append(f"{run.result.run_id}, {stage.name}: per-sample scores cannot be read ({error})")
        for key, cell in cells.items():
            if key not in draws:
                why[key] = reason
            elif abs(draws[key].value - cell.row.value) <= AGREEMENT:
                found[key] = draws[key]
            else:
                why[key] = "not ranked: the value does not follow from the per-sample scores"
                problems.append(
                    f"{run.result.run_id}, {stage.name}, {key.label()}: stored {cell.row.value:.6g}, but the "
                    f"per-sample scores give {draws[key].value:.6g}. Evaluate the run again."
                )
    return found, why, problems
