"""A record held against its repeat: each number the same, within noise or different, and the likely cause."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from harness import stats
from harness.columns import board_key, column_key
from harness.comparison import WIDTH, signed
from harness.conditions import commit, part, text, weights
from harness.paired import NOT_THEIRS, Difference, Place, differences, scored
from harness.record import Result, StageResult, newest
from harness.report.boards import digits_of
from harness.rows import Row, cell

SAME, NOISE, DIFFERENT = "same", "within noise", "different"
WORDS = (SAME, NOISE, DIFFERENT)
RELATIVE = 1e-9  # two values within this share of each other are the same
TRIFLE = 1e-6  # changes up to this size are those of rounding in float32
SHOWN = 20  # numbers that differ, in the terminal
NAMED = 5  # metrics that are named of the numbers that the repeat of a stage lacks
UNFOUNDED = (
    "the record itself: a value that it stores does not follow from its own per-sample scores, as this version "
    "computes it"
)
ROUNDING = (
    f"rounding: the weights are the same and no number moved by more than {TRIFLE:g}; another processor or build of a "
    "library adds in another order, which no record can tell"
)
UNRECORDED = (
    "not recorded: weights, data, settings, versions, device and precision are alike. The record was changed, or the "
    "evaluation does not repeat itself"
)


@dataclass(frozen=True)
class Finding:
    """One number of the record and of its repeat."""

    stage: str
    place: Place
    before: Row
    after: Row
    word: str
    difference: Difference | None  # None where both are the same

    @property
    def change(self) -> float:
        """Return repeat - record; NaN where one has no value."""
        return self.after.value - self.before.value

    def entry(self) -> dict[str, Any]:
        """Return it as plain values."""
        d = self.difference
        found = {"record": self.before.value, "rerun": self.after.value, "difference": self.change,
                 "low": d.low if d else 0.0, "high": d.high if d else 0.0}  # fmt: skip
        return {
            "stage": self.stage,
            "metric": self.before.metric,
            "details": self.place[1].details(),
            **{k: v if math.isfinite(v) else None for k, v in found.items()},
            "word": self.word,
            "paired": d.paired if d else True,
            "reason": d.reason if d else "",
        }


@dataclass(frozen=True)
class Verdict:
    """A record, its repeat, and what became of every number."""

    record: Result
    rerun: Result
    findings: list[Finding]
    causes: dict[str, list[str]]  # stage of the record -> what may explain its differences
    failed: dict[str, str]  # stage of the record -> why it was not repeated, or not all of it
    empty: int = 0  # numbers without a value on either side
    lacking: int = 0  # numbers of repeated stages that are only in the record
    notes: tuple[str, ...] = ()

    def count(self, word: str) -> int:
        """Return how many numbers are the same, within noise, or different."""
        return sum(f.word == word for f in self.findings)

    @property
    def exit_status(self) -> int:
        """Return 0: all alike, 1: a number or the data are others, 3: nothing was compared, 4: a part was repeated."""
        if not self.findings:
            return 3
        return 1 if self.count(DIFFERENT) or self.other_data else 4 if self.failed else 0

    @property
    def other_data(self) -> bool:
        """Return whether the repeat was made of other data than the record: alike numbers then repeat nothing."""
        one, two = (part(r.info, "dataset").get("fingerprint") for r in (self.record, self.rerun))
        return one != two

    def json(self) -> str:
        """Return everything as JSON, without NaN."""
        entry = {
            "record": self.record.run_id,
            "rerun": self.rerun.run_id,
            "counts": {word: self.count(word) for word in WORDS},
            "without_a_value": self.empty,
            "only_in_the_record": self.lacking,
            "same_weights": same_weights(self.record, self.rerun),
            "causes": {name: found for name, found in self.causes.items() if found},
            "not_repeated": self.failed,
            "notes": list(self.notes),
            "numbers": [f.entry() for f in self.findings],
        }
        return json.dumps(entry, indent=1, allow_nan=False, ensure_ascii=False)

    def text(self) -> str:
        """Return what a person reads in a terminal."""
        console = Console(width=WIDTH, highlight=False, markup=False, emoji=False)
        with console.capture() as captured:
            for table in (self._metrics(), self._different()):
                if table.row_count:
                    console.print(table)
                    console.print()
        lines = [f"record  {self.record.source}", f"rerun   {self.rerun.source}", ""]
        lines += [line.rstrip() for line in captured.get().rstrip().splitlines()]
        counts = [f"{self.count(w)} {w}" for w in WORDS]
        counts += [f"{self.lacking} only in the record"] * bool(self.lacking)
        counts += [f"{self.empty} without a value on either side"] * bool(self.empty)
        lines += ["", ", ".join(counts) + self._weights()]
        causes: dict[str, list[str]] = {}
        for name, found in self.causes.items():
            for cause in found:
                causes.setdefault(cause, []).append(name)
        for cause, names in causes.items():
            which = "" if len(names) == len(self.causes) else f" ({', '.join(names)})"
            lines.append(f"likely cause: {cause}{which}")
        lines += [f"not repeated: {name}: {reason}" for name, reason in self.failed.items()]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    def _weights(self) -> str:
        alike = same_weights(self.record, self.rerun)
        return "; the weights are " + ("not known" if alike is None else "the same" if alike else "others")

    def _metrics(self) -> Table:
        table = Table(title="Numbers of the record, repeated", title_justify="left", box=None, pad_edge=False)
        for name in ("metric", "of", *WORDS, "verdict"):
            table.add_column(name, justify="right" if name in WORDS else "left", overflow="fold")
        groups: dict[tuple[str, str], list[Finding]] = {}
        for f in self.findings:
            key = f.place[1]
            of = " · ".join(filter(None, (key.evaluation, key.map, key.attack, key.evaluation_settings)))
            groups.setdefault((key.metric, of), []).append(f)
        for (metric, of), found in groups.items():
            counts = [sum(f.word == word for f in found) for word in WORDS]
            worst = next(word for word, n in reversed(list(zip(WORDS, counts, strict=True))) if n)
            table.add_row(metric, of, *(str(n or "") for n in counts), worst)
        return table

    def _different(self) -> Table:
        found = [f for f in self.findings if f.word == DIFFERENT]
        more = f", {SHOWN} of {len(found)} (--json has all)" if len(found) > SHOWN else ""
        table = Table(title=f"Different{more}", title_justify="left", box=None, pad_edge=False)
        for name in ("metric", "", "record", "rerun", "rerun - record"):
            table.add_column(name, overflow="fold")
        for f in found[:SHOWN]:
            digits, d = digits_of(f.before.metric), f.difference
            change = signed(f.change, d.low if d else math.nan, d.high if d else math.nan, digits)
            if 0 < abs(f.change) < 10**-digits:
                change = f"{f.change:+.2g}"
            a, b = (cell(r.value, r.low, r.high, digits) for r in (f.before, f.after))
            table.add_row(f.before.metric, f.place[1].details(), a, b, change)
        return table


def judge(
    record: Result,
    rerun: Result,
    *,
    wanted: Sequence[str] = (),
    failed: Mapping[str, str] | None = None,
    notes: tuple[str, ...] = (),
    cache: Path | None = None,
    resamples: int = stats.RESAMPLES,
) -> Verdict:
    """Return what became of a record's numbers in its repeat. `wanted` names stages of the record, () means all.

    Stages are matched by evaluation, explainer and every resolved setting, so that a default that has changed since,
    and was given by hand, does not hide the match.
    """
    lost = dict(failed or {})
    findings: list[Finding] = []
    causes: dict[str, list[str]] = {}
    empty = lacking = 0
    for stage in record.stages:
        if (wanted and stage.name not in wanted) or stage.name in lost:
            continue
        if not stage.rows:
            lost[stage.name] = "the record has no numbers of it"
            continue
        again = match(stage, rerun)
        if again is None:
            reasons = part(rerun.info, "missing_evaluations")
            lost[stage.name] = str(reasons.get(stage.name.rpartition("-")[0]) or reasons.get(
                str(stage.info.get("evaluation"))) or "the repeat has no stage with these settings")  # fmt: skip
            continue
        found = _findings(record, rerun, stage, again, cache, resamples)
        with_value = [f for f in found if math.isfinite(f.before.value) or math.isfinite(f.after.value)]
        alone = _only_here(stage, found)
        if valued := [row for row in alone if math.isfinite(row.value)]:
            lost[stage.name] = f"the repeat lacks {_named(valued)}"
        lacking += len(valued)
        empty += len(found) - len(with_value) + len(alone) - len(valued)
        findings += with_value
        apart = [f.difference for f in found if f.word != SAME]
        if apart:
            unfounded = [UNFOUNDED] if any(d and d.reason == NOT_THEIRS for d in apart) else []
            small = all(abs(f.change) <= TRIFLE for f in found if f.word != SAME)
            rounding = [ROUNDING] * (small and same_weights(record, rerun) is True)
            causes[stage.name] = unfounded or [*rounding, *likely(record, rerun, stage, again)]
    return Verdict(record, rerun, findings, causes, lost, empty, lacking, notes)


def match(stage: StageResult, rerun: Result) -> StageResult | None:
    """Return the newest stage of `rerun` that measured the same with the same settings, named as the record's rows."""
    if not stage.rows:
        return None
    wanted = _values(stage.info)

    def fits(other: StageResult) -> bool:
        kinds = [(str(s.info.get("evaluation")), str(s.info.get("explainer") or "")) for s in (stage, other)]
        mine = _values(other.info)
        return kinds[0] == kinds[1] and all(mine.get(k, v) == v for k, v in wanted.items())

    found = [s for s in newest(rerun.stages) if fits(s) and s.rows and s.rows[0].profile == stage.rows[0].profile]
    if not found:
        return None
    first = stage.rows[0]
    names = {k: getattr(first, k) for k in ("evaluation_settings", "explainer_settings", "dataset_settings")}
    return replace(found[-1], rows=[replace(row, **names) for row in found[-1].rows])


def _values(info: Mapping[str, Any]) -> dict[tuple[str, str], Any]:
    listed = info.get("settings")
    return {(s["component"], s["name"]): s.get("value") for s in listed} if isinstance(listed, list) else {}


def _findings(
    record: Result, rerun: Result, stage: StageResult, again: StageResult, cache: Path | None, resamples: int
) -> list[Finding]:
    before, after = replace(record, stages=[stage]), replace(rerun, stages=[again])
    mine, theirs = scored(before), scored(after)
    both = [p for p in mine if p in theirs]
    rows = {p: (mine[p][0], theirs[p][0]) for p in both}
    apart = [p for p in both if not alike(*rows[p])]
    found: dict[Place, Difference] = {}
    if apart:
        compared = differences(before, after, cache=cache, resamples=resamples, places=apart)
        found = {(d.board, d.key): d for d in compared}
    return [Finding(stage.name, p, *rows[p], _word(found.get(p)), found.get(p)) for p in both]


def _only_here(stage: StageResult, found: Sequence[Finding]) -> list[Row]:
    """Return the rows of a stage of the record that its repeat does not have, one for each place."""
    rows = {(board_key(row), column_key(row)): row for row in stage.rows}
    return [rows[p] for p in rows.keys() - {f.place for f in found}]


def _named(rows: Sequence[Row]) -> str:
    """Return how many numbers there are, and of which metrics."""
    counts = Counter(row.metric for row in rows)
    parts = [f"{metric} ({n})" for metric, n in sorted(counts.items())]
    more = [f"{len(parts) - NAMED} more metrics"] * (len(parts) > NAMED)
    return f"{len(rows)} of its numbers: {', '.join(parts[:NAMED] + more)}"


def alike(before: Row, after: Row) -> bool:
    """Return whether two rows have the same value, or both none."""
    a, b = before.value, after.value
    if not math.isfinite(a) or not math.isfinite(b):
        return math.isfinite(a) == math.isfinite(b)
    return abs(a - b) <= RELATIVE * max(abs(a), abs(b))


def _word(d: Difference | None) -> str:
    if d is None:
        return SAME
    if d.reason == NOT_THEIRS:  # the same samples, another number: noise is no excuse
        return DIFFERENT
    return NOISE if d.low <= 0 <= d.high else DIFFERENT  # without an interval nothing speaks for noise


def same_weights(record: Result, rerun: Result) -> bool | None:
    """Return whether both have the same weights, of every fold; None where that is not known."""
    both = weights(record), weights(rerun)
    return both[0] == both[1] if all(both) else None


def likely(record: Result, rerun: Result, stage: StageResult, again: StageResult) -> list[str]:
    """Return what may explain that a stage's numbers differ, the most likely first, each a category and its facts."""
    found = []
    data = [text(part(r.info, "dataset").get("fingerprint"))[:12] for r in (record, rerun)]
    if data[0] != data[1]:
        found.append(f"data: the fingerprint is {data[1]}, the record has {data[0]}")
    if settings := _settings(record, rerun):
        found.append(f"settings: {settings}")
    trained = [part(r.info, "fit").get("device") or part(r.info, "provenance").get("device") for r in (record, rerun)]
    if same_weights(record, rerun) is False:
        loaded = [part(r.info, "fit").get("loaded_sha256") for r in (record, rerun)]
        if loaded[0] != loaded[1]:
            found.append(f"weights: loaded from other files, sha256 {text(loaded[0])[:12]} and {text(loaded[1])[:12]}")
        else:
            why = _formats(record, rerun, trained) or versions(record, rerun)
            why = why or [f"training is not bit-reproducible here ({text(trained[0])}; {text(trained[1])})"]
            found.append(f"weights: trained again they are others; {'; '.join(why)}")
        return found
    where = [stage.info.get("device"), again.info.get("device")]
    if _kind(where[0]) != _kind(where[1]):
        found.append(f"device: scored on {text(where[1])}, the record on {text(where[0])}")
    formats = [stage.info.get("precision"), again.info.get("precision")]
    if formats[0] != formats[1]:
        found.append(f"precision: scored in {text(formats[1])}, the record in {text(formats[0])}")
    if why := versions(record, rerun, stage, again):
        found.append(f"version: the weights are the same, the code that scores them is not; {'; '.join(why)}")
    elif not found and stage.info.get("key") != again.info.get("key"):
        found.append("version: a component of the evaluation has another version (the key of the stage is another)")
    elif not found and where[0] != where[1]:
        found.append(f"device: scored on {text(where[1])}, the record on {text(where[0])}")
    return found or [UNRECORDED]


def _settings(record: Result, rerun: Result) -> str:
    a, b = (_values(r.info) for r in (record, rerun))
    apart = [f"{c}.{n} is {text(b[c, n])}, was {text(v)}" for (c, n), v in a.items()
             if c.partition(" ")[0] in ("method", "dataset", "model") and (c, n) in b and b[c, n] != v]  # fmt: skip
    return ", ".join(apart)


def _formats(record: Result, rerun: Result, trained: Sequence[Any]) -> list[str]:
    precision = [part(r.info, "provenance").get("precision") for r in (record, rerun)]
    found = []
    if precision[0] != precision[1]:
        found.append(f"precision {text(precision[0])} -> {text(precision[1])}")
    if _kind(trained[0]) != _kind(trained[1]):
        found.append(f"device {text(trained[0])} -> {text(trained[1])}")
    return found


def _kind(device: Any) -> str:
    """Return a device without its number of threads.

    >>> _kind("cpu, 2 threads"), _kind("NVIDIA H200")
    ('cpu', 'NVIDIA H200')
    """
    return str(device).partition(",")[0]


def versions(record: Result, rerun: Result, *stages: StageResult) -> list[str]:
    """Return the versions that differ: of packages, Python and harness; what one side does not know is left out."""
    known = [part(r.info, "provenance") for r in (record, rerun)]
    a, b = (part(k, "packages") for k in known)
    found = [f"{name} {a[name]} -> {b[name]}" for name in a if name in b and a[name] != b[name]]
    if known[0].get("python") and known[1].get("python") and known[0]["python"] != known[1]["python"]:
        found.append(f"python {known[0]['python']} -> {known[1]['python']}")
    git = [part(s.info, "git") for s in stages] or [part(k, "git") for k in known]
    if all(g.get("sha") for g in git) and commit(git[0]) != commit(git[1]):
        found.append(f"harness commit {commit(git[0])} -> {commit(git[1])}")
    return found
