"""The verdict on each number of a record (protocol.md, 6): worse than chance and tolerance allow, or not to be told.

Same weights: worse by more than the tolerance, and the paired interval of the difference excludes zero. Retrained:
worse than the mean of the record's seeds by more than the tolerance and by more than three standard deviations of that
difference, sd * sqrt(1/m + 1/n) for m runs against n seeds. In both cases the p-value, Holm-adjusted over all numbers
of all records that are compared, must lie below alpha. What cannot be compared fails: a gate that has not measured must
not pass.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from harness import stats
from harness.columns import UNRANKED
from harness.gate.identity import identity, same_weights, seed
from harness.gate.spread import Spread, stored
from harness.gate.tolerance import Tolerance, Tolerances
from harness.paired import NOT_THEIRS, UNREADABLE, Cell, Difference, Place, differences, scored
from harness.record import Result
from harness.rows import INVALID, Row

DEVIATIONS = 3.0  # of honest retraining, below which nothing is called worse
EXACT = 1e-6  # differences that the order of sums can make, as a share of the value
SAME_WEIGHTS, RETRAINED, ONE_RUN = "same weights", "retrained", "retrained, scatter not known"

SAME, WITHIN, BETTER, WORSE = "same", "within", "better", "worse"
IGNORED, NEW, FAILED = "ignored", "new", "failed"


@dataclass(frozen=True)
class Verdict:
    """What became of one number of a record; `place` is None where it is the whole record that cannot be compared."""

    record: Result
    place: Place | None
    state: str
    before: float = math.nan
    after: float = math.nan
    low: float = math.nan  # of the difference after - before: paired interval, or 95 % range of honest retraining
    high: float = math.nan
    loss: float = math.nan  # how much worse
    tolerance: float = math.nan
    p: float = math.nan  # that it is as bad by chance; adjusted once all records are judged
    mode: str = ""
    note: str = ""  # why it failed or is ignored, or what there is to know
    row: Row | None = None

    @property
    def bad(self) -> bool:
        """Return whether the gate must not open."""
        return self.state in (WORSE, FAILED)


def judged(
    pairs: Iterable[tuple[Result, Sequence[Result]]],
    tolerances: Tolerances,
    *,
    cache: Path | None = None,
    resamples: int = stats.RESAMPLES,
) -> list[Verdict]:
    """Return a verdict on every number of each record, held against the runs that are it made again.

    The runs of a record differ in their seed alone; those of the same weights count before those of others.
    """
    found = [v for record, runs in pairs for v in _record(record, runs, tolerances, cache, resamples)]
    adjusted = stats.holm(np.array([v.p for v in found], float))
    return [_settled(replace(v, p=float(p)), tolerances.alpha) for v, p in zip(found, adjusted, strict=True)]


def _settled(v: Verdict, alpha: float) -> Verdict:
    """Turn a number that is worse than its tolerance back into one within it, where chance explains it."""
    if v.state == WORSE and not (math.isnan(v.p) or v.p < alpha):
        return replace(v, state=WITHIN, note=v.note or f"chance explains it: p = {v.p:.2g} over all numbers")
    return v


def _record(
    record: Result, runs: Sequence[Result], tolerances: Tolerances, cache: Path | None, resamples: int
) -> list[Verdict]:
    if not runs:
        return [_failed(record, f"no finished run of it: {identity(record)}, seed {seed(record)}")]
    again = next((r for r in runs if same_weights(record, r)), None)
    spreads = {} if again else stored(record)
    chosen = [again] if again else list(runs) if spreads else nearest(record, runs)
    for run in chosen:
        if problem := _whole(record, run):
            return [_failed(record, f"{problem} ({run.run_id})")]
    numbers = scored(record)
    gated = [p for p, (row, _) in numbers.items() if tolerances.gates(row) and p[1].variant not in UNRANKED]
    mode = SAME_WEIGHTS if again else RETRAINED if spreads else ONE_RUN
    cells = {run.run_id: scored(run) for run in chosen}
    found = [_missing(record, numbers[p][0], p, cells, mode) for p in sorted(gated)]
    open_ = [v.place for v in found if v.state == "" and v.place]
    verdicts = {v.place: v for v in found}
    if spreads:
        for place in open_:
            rule = tolerances.of(numbers[place][0])
            rows = [mine[place][0] for mine in cells.values()]
            verdicts[place] = _retrained(verdicts[place], rows, spreads.get(place), rule)
    else:
        for d in differences(record, chosen[0], cache=cache, resamples=resamples, places=open_):
            place = (d.board, d.key)
            verdicts[place] = _again(verdicts[place], d, tolerances.of(numbers[place][0]), chosen[0])
    new = [
        Verdict(record, p, NEW, after=row.value, mode=mode, row=row)
        for p, (row, _) in sorted(cells[chosen[0].run_id].items(), key=lambda item: item[0])
        if p not in numbers and tolerances.gates(row) and p[1].variant not in UNRANKED
    ]
    return [*verdicts.values(), *new]


def nearest(record: Result, runs: Sequence[Result]) -> list[Result]:
    """Return the run of the record's own seed, else the first."""
    return [next((r for r in runs if seed(r) == seed(record)), runs[0])]


def _failed(record: Result, note: str) -> Verdict:
    return Verdict(record, None, FAILED, note=note)


def _whole(record: Result, run: Result) -> str:
    """Return why no number of a run can be compared; empty where they can."""
    status = str(run.info.get("status") or "interrupted")
    if status != "complete":
        return f"its status is {status!r}: finish it by the command that made it"
    ours, theirs = (str((r.info.get("dataset") or {}).get("fingerprint", "")) for r in (record, run))
    if ours != theirs:
        return f"other data: fingerprint {ours[:12] or 'not known'} in the record, {theirs[:12] or 'not known'} now"
    faults = sorted({f for row in run.rows for f in row.flags if f in INVALID})
    return f"flagged {', '.join(faults)}" if faults else ""


def _missing(record: Result, row: Row, place: Place, cells: Mapping[str, Mapping[Place, Cell]], mode: str) -> Verdict:
    """Return the verdict so far: failed where a run lacks the number or measured it otherwise, else open (state "")."""
    v = Verdict(record, place, "", before=row.value, mode=mode, row=row)
    if not math.isfinite(row.value):
        return replace(v, state=SAME, note=f"no value in the record: {row.reason or 'not measured'}")
    for run_id, mine in cells.items():
        if place not in mine:
            return replace(v, state=FAILED, note=f"not measured{_elsewhere(place, mine)} ({run_id})")
        now, stage = mine[place]
        if not math.isfinite(now.value):
            return replace(v, state=FAILED, note=f"no value now: {now.reason or 'not measured'} ({run_id})")
        if now.n != row.n and (stage.info.get("facts") or {}).get("sampling") != "until_right":
            return replace(v, state=FAILED, note=f"rests on n = {now.n}, in the record on {row.n} ({run_id})")
    return v


def _elsewhere(place: Place, cells: Iterable[Place]) -> str:
    """Return where the run has the number instead: under another profile, size, split or protocol version."""
    board, key = place
    for other, same in cells:
        if same == key and other != board:
            return f" under {board.title()}, but under {other.title()}"
    return ""


def _again(v: Verdict, d: Difference, rule: Tolerance, run: Result) -> Verdict:
    """Judge one run: of the same weights by the paired interval; of others where a rule says how much is too much."""
    assert d.before is not None
    assert d.after is not None
    v = replace(v, after=d.after.value, low=d.low, high=d.high, loss=d.loss)
    if rule.ignore:
        return replace(v, state=IGNORED, note=rule.ignore)
    if d.reason == NOT_THEIRS and d.loss > rule.at(d.before.value):  # on the very same samples: the code has changed
        return replace(v, state=WORSE, tolerance=rule.at(d.before.value), note=d.reason)
    if d.reason in (UNREADABLE, NOT_THEIRS):
        return replace(v, state=FAILED, note=f"{d.reason} ({run.run_id})")
    if v.mode == ONE_RUN and rule.retrained is None:
        note = (
            "other weights than the record's, which does not say how much training scatters: publish it with --spread, "
            "or give `retrained` in the tolerance file"
        )
        return replace(v, state=FAILED, note=note)
    tolerance = rule.at(d.before.value) if v.mode == SAME_WEIGHTS else max(rule.at(d.before.value), rule.retrained or 0)
    how = "" if d.paired else f"unpaired: {d.reason}"
    if d.shared:
        how = f"paired on the {d.shared} samples that both scored"
    v = replace(v, tolerance=tolerance, note=how)
    if abs(d.loss) <= EXACT * abs(d.before.value):
        return replace(v, state=SAME, loss=0.0, p=1.0)
    worse = d.loss > tolerance and d.excludes_zero
    one_sided = d.p / 2 if d.loss > 0 else 1 - d.p / 2
    return replace(v, state=WORSE if worse else _side(v.loss, tolerance), p=one_sided)


def _retrained(v: Verdict, rows: Sequence[Row], spread: Spread | None, rule: Tolerance) -> Verdict:
    """Judge the mean of the runs against the record's seeds."""
    from scipy.stats import t as student

    values = np.array([row.value for row in rows], float)
    if rule.ignore:
        return replace(v, state=IGNORED, note=rule.ignore, after=float(values.mean()))
    if spread is None:
        return replace(v, state=FAILED, note="the record does not say how much it scatters: publish it with --spread")
    scatter = spread.sd * math.sqrt(1 / len(values) + 1 / spread.seeds)
    change = float(values.mean()) - spread.mean
    assert v.row is not None
    loss = -change if v.row.higher_is_better else change
    tolerance = max(rule.at(spread.mean), rule.retrained or 0.0, DEVIATIONS * scatter)
    reach = float(student.ppf((1 + stats.CONFIDENCE) / 2, spread.seeds - 1)) * scatter
    count = f"{len(values)} run{'' if len(values) == 1 else 's'} against {spread.seeds} seeds"
    v = replace(v, before=spread.mean, after=float(values.mean()), low=change - reach, high=change + reach, loss=loss,
                tolerance=tolerance, note=count)  # fmt: skip
    if abs(loss) <= EXACT * abs(spread.mean):
        return replace(v, state=SAME, loss=0.0)
    p = float(student.sf(loss / scatter, spread.seeds - 1)) if scatter > 0 else math.nan
    return replace(v, state=WORSE if loss > tolerance else _side(loss, tolerance), p=p)


def _side(loss: float, tolerance: float) -> str:
    return BETTER if loss < -tolerance else WITHIN
