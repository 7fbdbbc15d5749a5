"""`harness compare A B`: what tells two results apart, number by number and sample by sample."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from harness import stats
from harness.changes import Change, Changes, changes, pairs
from harness.conditions import conditions, differing, part, subject, text
from harness.errors import NothingMeasured, UsageError, unknown
from harness.paired import Difference, Place, differences, scored
from harness.record import Result
from harness.report.boards import SUMMARY_CLASSES, digits_of
from harness.rows import Row, cell

ALPHA = 0.05
LINES = 40  # of the table, unless all are asked for
SAMPLES = 5  # that changed most, of each evaluation
STAGES = 8  # evaluations whose samples are shown, unless all are asked for
WIDTH = 160
BETTER, WORSE, ALIKE, UNPAIRED = "better", "worse", "not told apart", "unpaired"


@dataclass(frozen=True)
class Line:
    """One difference B - A, with its p adjusted over all lines that are shown."""

    difference: Difference
    adjusted: float

    @property
    def word(self) -> str:
        """Return what B is, compared with A."""
        if not self.difference.paired:
            return UNPAIRED
        if not self.adjusted < ALPHA or self.difference.value == 0:
            return ALIKE
        return WORSE if self.difference.loss > 0 else BETTER

    @property
    def remark(self) -> str:
        """Return why the difference is not paired, or on how many samples of both it rests; empty where on all."""
        d = self.difference
        return f"{d.reason}: on the {d.shared} of both" if d.shared else d.reason

    @property
    def texts(self) -> tuple[str, str, str, str, str]:
        """Return details, A, B, B - A with its interval, and p as they are shown."""
        d, digits = self.difference, digits_of(self.difference.key.metric)
        assert d.before is not None
        assert d.after is not None
        a, b = (cell(r.value, r.low, r.high, digits) for r in (d.before, d.after))
        return d.key.details(), a, b, signed(d.value, d.low, d.high, digits), p_text(self.adjusted)


@dataclass(frozen=True)
class Comparison:
    """Two results against each other; B - A is what B has more."""

    a: Result
    b: Result
    lines: list[Line]
    left_out: int  # numbers of both that are not among the lines
    only: tuple[int, int]  # numbers that A alone, and B alone, has
    changed: list[Changes]

    @property
    def unlike(self) -> list[tuple[str, str, str]]:
        """Return name and both texts of each condition that differs."""
        return differing(conditions(self.a), conditions(self.b))

    def json(self) -> str:
        """Return everything as JSON, without NaN."""
        return json.dumps(self.entry(), indent=1, allow_nan=False, ensure_ascii=False)

    def entry(self) -> dict[str, Any]:
        """Return what the comparison found, as plain values."""
        return {
            "a": {"run_id": self.a.run_id, "subject": subject(self.a)},
            "b": {"run_id": self.b.run_id, "subject": subject(self.b)},
            "conditions_that_differ": [{"name": n, "a": a, "b": b} for n, a, b in self.unlike],
            "differences": [_entry(line) for line in self.lines],
            "not_shown": self.left_out,
            "only_a": self.only[0],
            "only_b": self.only[1],
            "samples": [
                {"evaluation": c.label, "scored_by_both": c.shared, "reason": c.reason,
                 "changed_most": [vars(s) for s in c.most(SAMPLES)]}
                for c in self.changed
            ],
        }  # fmt: skip

    def text(self) -> str:
        """Return what a person reads in a terminal."""
        one, other = subject(self.a), subject(self.b)
        console = Console(width=WIDTH, highlight=False, markup=False, emoji=False)
        with console.capture() as captured:
            facts = _table("Compared", ["", f"A: {self.a.run_id}", f"B: {self.b.run_id}"])
            for name in one:
                facts.add_row(name, one[name], other[name])
            unlike = _table("Conditions that differ", ["", "A", "B"])
            for line in self.unlike:
                unlike.add_row(*line)
            found = _table(f"Differences, B - A ({self.words})", ["metric", "", "A", "B", "B - A", "p", "B is"])
            for line in self.lines:
                found.add_row(line.difference.key.metric, *line.texts, line.word)
            for shown in (facts, unlike, found):
                if shown.row_count:
                    console.print(shown)
                    console.print()
            for c in self.changed[:STAGES]:
                console.print(_samples(c))
                console.print()
        lines = [line.rstrip() for line in captured.get().rstrip().splitlines()]
        return "\n".join([*lines, "", *self.notes()])

    @property
    def words(self) -> str:
        """Return how often each word was given."""
        words = [line.word for line in self.lines]
        return ", ".join(f"{words.count(w)} {w}" for w in (BETTER, WORSE, ALIKE, UNPAIRED) if w in words)

    def notes(self) -> list[str]:
        """Return how the numbers are to be read, and what is not among them."""
        notes = [
            "B - A with its 95 % interval: bootstrap over patients (or images), the same ones drawn for A and B. p: "
            f"Holm over the {len(self.lines)} lines shown; better and worse: p below {ALPHA:g}."
        ]
        reasons = sorted({line.remark for line in self.lines if line.remark})
        notes += [f"Not paired, or on a part of the samples: {reason}." for reason in reasons]
        if self.left_out:
            notes.append(f"{self.left_out} more numbers are measured in both: --all shows them, --metric some of them.")
        notes += [f"{n} numbers are measured in {w} alone." for n, w in zip(self.only, "AB", strict=True) if n]
        if len(self.changed) > STAGES:
            notes.append(
                f"{len(self.changed) - STAGES} more evaluations have samples that changed: see the page (--out)."
            )
        return notes


def compare(
    a: Result,
    b: Result,
    *,
    metrics: Sequence[str] = (),
    every: bool = False,
    cache: Path | None = None,
    resamples: int = stats.RESAMPLES,
) -> Comparison:
    """Compare two results; `metrics` names those wanted, () means all.

    Raises `UsageError` for results of other data, sizes or protocols, one result twice and unknown metrics;
    `NothingMeasured` where they have no number in common.
    """
    _comparable(a, b)
    mine, theirs = scored(a), scored(b)
    known = {r.metric for found in (mine, theirs) for r, _ in found.values()}
    for name in metrics:
        if name not in known:
            raise unknown("metric", name, known, "Metrics of these two results are listed.")
    wanted = {p for p in {*mine, *theirs} if not metrics or p[1].metric in metrics}
    has = [{p for p in wanted if p in found and math.isfinite(found[p][0].value)} for found in (mine, theirs)]
    both = has[0] & has[1]
    if not both:
        raise NothingMeasured(_nothing(a, b, metrics))
    number = {place: i for i, place in enumerate(mine)}
    references = {s.name for s in a.stages if s.info.get("reference")}
    ordered = sorted(both, key=lambda p: (_rank(mine[p][0], mine[p][1].name in references), number[p]))
    chosen = ordered if every else ordered[:LINES]
    found = {(d.board, d.key): d for d in differences(a, b, cache=cache, resamples=resamples, places=chosen)}
    lines = adjusted([found[p] for p in chosen])
    changed = [c for pair in pairs(a, b) if (c := changes(*pair)) is not None and (not metrics or _of(c, chosen))]
    return Comparison(a, b, lines, len(both) - len(lines), (len(has[0] - both), len(has[1] - both)), changed)


def adjusted(found: Sequence[Difference]) -> list[Line]:
    """Return differences as lines, their p-values adjusted over all of them (Holm 1979)."""
    p = stats.holm(np.array([d.p for d in found], float))
    return [Line(d, float(x)) for d, x in zip(found, p, strict=True)]


def signed(value: float, low: float, high: float, digits: int) -> str:
    """Return a difference with its interval, its sign always shown.

    >>> signed(0.0213, 0.0101, 0.0312, 3)
    '+0.021 [+0.010, +0.031]'
    """
    interval = f" [{low:+.{digits}f}, {high:+.{digits}f}]" if math.isfinite(low) and math.isfinite(high) else ""
    return f"{value:+.{digits}f}{interval}"


def p_text(p: float) -> str:
    """Return a p-value as text.

    >>> p_text(0.00001), p_text(0.0312), p_text(float("nan"))
    ('< 0.001', '0.031', 'n/a')
    """
    if math.isnan(p):
        return "n/a"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _rank(row: Row, reference: bool) -> tuple[bool, bool, bool, bool]:
    """Return the place of a number: of a method before those of reference maps, sums before their parts."""
    part_of = bool(row.variant) or row.threshold is not None or row.radius is not None
    return reference, row.class_name not in SUMMARY_CLASSES, part_of, bool(row.variant)


def _comparable(a: Result, b: Result) -> None:
    """Raise `UsageError` for two results whose numbers do not mean the same."""
    if a.source == b.source:
        raise UsageError(f"{a.run_id} was given twice. Name two runs.")
    data = [part(r.info, "dataset") for r in (a, b)]
    what = {"name": "dataset", "settings": "settings of the dataset", "size": "image size", "fingerprint": "data"}
    other = [f"{w} {_said(data[0].get(k))} and {_said(data[1].get(k))}" for k, w in what.items()
             if data[0].get(k) != data[1].get(k)]  # fmt: skip
    if other:
        raise UsageError(f"A and B cannot be compared: {'; '.join(other)}. Give two runs on the same data.")
    versions = [{row.protocol_version for row in r.rows} for r in (a, b)]
    if versions[0] and versions[1] and not versions[0] & versions[1]:
        raise UsageError(
            f"A and B cannot be compared: protocol version {_said(sorted(versions[0]))} and "
            f"{_said(sorted(versions[1]))}. Evaluate the older one again with this version of harness."
        )


def _said(value: Any) -> str:
    return text(value)[:60] if value not in (None, "", []) else "none"


def _nothing(a: Result, b: Result, metrics: Sequence[str]) -> str:
    def measured(result: Result) -> str:
        kinds = {(r.evaluation, r.profile) for r, _ in scored(result).values() if not metrics or r.metric in metrics}
        return ", ".join(f"{e} ({p})" for e, p in sorted(kinds)) or "nothing"

    which = f" {', '.join(metrics)}" if metrics else ""
    return (
        f"A and B have no number{which} in common. A has {measured(a)}; B has {measured(b)}; settings may differ. "
        "Add what is missing by `harness evaluate`."
    )


def _of(changed: Changes, chosen: Sequence[Place]) -> bool:
    return any((k.evaluation, k.explainer) == (changed.evaluation, changed.explainer) for _, k in chosen)


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for i, column in enumerate(columns):
        table.add_column(column, overflow="fold", no_wrap=i > 1 and len(columns) > 3)
    return table


def _samples(found: Changes) -> Table:
    table = _table(f"Samples that changed most: {found.label}", ["sample", "class", "score", "A", "B", ""])
    for s in found.most(SAMPLES):
        table.add_row(s.sample, s.class_name, s.score, number(s.before), number(s.after), s.note)
    if not found.samples:
        table.add_row(found.reason)
    return table


def number(value: float) -> str:
    """Return a per-sample score as text."""
    return f"{value:.4g}"


def sample_line(change: Change) -> tuple[str, ...]:
    """Return one sample's line as a page shows it."""
    return change.sample, change.class_name, change.score, number(change.before), number(change.after), change.note


def _entry(line: Line) -> dict[str, Any]:
    d = line.difference
    assert d.before is not None
    assert d.after is not None
    key = {k: v for k, v in vars(d.key).items()}
    key |= {k: getattr(d.row, k) for k in ("threshold", "resolution", "radius")}
    values = {"a": d.before.value, "b": d.after.value, "difference": d.value, "low": d.low, "high": d.high, "p": d.p,
              "p_adjusted": line.adjusted}  # fmt: skip
    return {
        **key,
        **{k: v if math.isfinite(v) else None for k, v in values.items()},
        "word": line.word,
        "higher_is_better": d.row.higher_is_better,
        "unit": d.row.unit,
        "reason": line.remark,
    }
