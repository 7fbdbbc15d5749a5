"""The verdicts for a person, for machines (JSON, JUnit), and as annotations of a pull request."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any
from xml.etree import ElementTree as xml

from rich.console import Console
from rich.table import Table

from harness.gate.identity import identity, seed
from harness.gate.judge import BETTER, FAILED, IGNORED, NEW, SAME, WITHIN, WORSE, Verdict
from harness.report.boards import digits_of
from harness.rows import cell

WIDTH = 160
MEANINGS = {  # state -> what it says of a number
    WORSE: "worse than chance and tolerance allow",
    FAILED: "could not be compared",
    BETTER: "better by more than the tolerance: perhaps an update is due",
    WITHIN: "within tolerance or chance",
    SAME: "the same",
    IGNORED: "not gated: a rule says so",
    NEW: "not in the record",
}


def label(v: Verdict) -> str:
    """Return what a verdict is about."""
    return "the whole record" if v.place is None else v.place[1].label()


def counts(verdicts: Iterable[Verdict]) -> dict[str, int]:
    """Return how many numbers are in each state, in the order of `MEANINGS`, those without any left out."""
    found = Counter(v.state for v in verdicts)
    return {state: found[state] for state in MEANINGS if found[state]}


def text(verdicts: Sequence[Verdict], alpha: float, *, everything: bool) -> str:
    """Return the verdicts for a terminal: what is bad or better by record, or everything, and how many of each."""
    console = Console(width=WIDTH, highlight=False)
    with console.capture() as captured:
        for group in by_record(verdicts):
            shown = [v for v in group if everything or v.bad or v.state == BETTER]
            first = group[0].record
            said = ", ".join(f"{n} {state}" for state, n in counts(group).items())
            modes = sorted({v.mode for v in group if v.mode})
            console.print(f"{identity(first)}, seed {seed(first)}{' · ' if modes else ''}{'; '.join(modes)}: {said}",
                          markup=False)  # fmt: skip
            if shown:
                console.print(_table(shown))
                console.print()
    lines = [line.rstrip() for line in captured.get().splitlines()]
    total = counts(verdicts)
    lines += ["", *(f"{n:5d} {state}: {MEANINGS[state]}" for state, n in total.items())]
    bad = total.get(WORSE, 0) + total.get(FAILED, 0)
    chance = f"Chance of any false alarm over all numbers together: {alpha:g} (Holm)"
    lines += ["", f"The gate is {'closed' if bad else 'open'}. {chance}."]
    return "\n".join(lines)


def _table(verdicts: Sequence[Verdict]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("", "number"):
        table.add_column(name)
    for name in ("record", "now", "worse by", "tolerance", "p"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("note")
    for v in verdicts:
        digits = _digits(v)
        numbers = [cell(x, digits=digits) if math.isfinite(x) else "" for x in (v.before, v.after, v.loss, v.tolerance)]
        p = f"{v.p:.2g}" if math.isfinite(v.p) else ""
        table.add_row(*map(_plain, (v.state, label(v), *numbers, p, v.note)))
    return table


def _digits(v: Verdict) -> int:
    return digits_of(v.place[1].metric) + 1 if v.place else 3


def _plain(words: str) -> str:
    return words.replace("[", r"\[")


def by_record(verdicts: Iterable[Verdict]) -> list[list[Verdict]]:
    """Return the verdicts of each record, in order."""
    groups: dict[str, list[Verdict]] = {}
    for v in verdicts:
        groups.setdefault(v.record.run_id, []).append(v)
    return list(groups.values())


def entry(v: Verdict) -> dict[str, Any]:
    """Return a verdict as plain JSON values."""
    numbers = {n: getattr(v, n) for n in ("before", "after", "low", "high", "loss", "tolerance", "p")}
    row = v.row
    return {
        "record": v.record.run_id,
        "state": v.state,
        "number": label(v),
        "metric": row.metric if row else "",
        "explainer": row.explainer if row else "",
        "class": row.class_name if row else "",
        "mode": v.mode,
        "note": v.note,
        **{name: x if math.isfinite(x) else None for name, x in numbers.items()},
    }


def as_json(verdicts: Sequence[Verdict], alpha: float) -> str:
    """Return counts and every verdict as JSON."""
    content = {"open": not any(v.bad for v in verdicts), "alpha": alpha, "counts": counts(verdicts),
               "verdicts": [entry(v) for v in verdicts]}  # fmt: skip
    return json.dumps(content, indent=1)


def junit(verdicts: Sequence[Verdict]) -> bytes:
    """Return the verdicts as JUnit XML: a suite per record, a case per number; worse is a failure, failed an error."""
    root = xml.Element("testsuites", name="harness check")
    for group in by_record(verdicts):
        found = Counter(v.state for v in group)
        suite = xml.SubElement(root, "testsuite", name=_legal(group[0].record.run_id), tests=str(len(group)),
                               failures=str(found[WORSE]), errors=str(found[FAILED]),
                               skipped=str(found[IGNORED] + found[NEW]))  # fmt: skip
        for v in group:
            case = xml.SubElement(suite, "testcase", name=_legal(label(v)), classname=_legal(v.record.run_id))
            kind = {WORSE: "failure", FAILED: "error", IGNORED: "skipped", NEW: "skipped"}.get(v.state)
            if kind:
                xml.SubElement(case, kind, message=_legal(sentence(v)))
    xml.indent(root, " ")
    return xml.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n"


def sentence(v: Verdict) -> str:
    """Return one line on what is wrong, or why it is not gated."""
    if v.state != WORSE:
        return v.note or MEANINGS[v.state]
    digits = _digits(v)
    p = f", p = {v.p:.2g}" if math.isfinite(v.p) else ""
    return (
        f"{cell(v.before, digits=digits)} -> {cell(v.after, digits=digits)}: worse by {cell(v.loss, digits=digits)}, "
        f"allowed {cell(v.tolerance, digits=digits)}{p} ({v.mode})"
    )


def github(verdicts: Iterable[Verdict]) -> list[str]:
    """Return what is bad as GitHub's workflow commands, a line each: they appear on the pull request."""
    return [
        f"::error title={_property(f'{identity(v.record)}, seed {seed(v.record)}')}::"
        f"{_data(f'{label(v)}: {sentence(v)}')}"
        for v in verdicts
        if v.bad
    ]


def _data(words: str) -> str:
    return words.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(words: str) -> str:
    return _data(words).replace(":", "%3A").replace(",", "%2C")


def _legal(words: str) -> str:
    """Return text without the characters that XML 1.0 has no way to write."""
    return re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\N{REPLACEMENT CHARACTER}", words)
