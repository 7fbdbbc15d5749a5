"""Published figures, read from reports/literature.csv: shown beside our numbers, never ranked with them.

One line per figure: what was published (system, dataset, split, metric, class, threshold, value, note), where (source,
year), and `seen_or_memory`, the mark of how it was read: in the source itself (seen), where another quotes it
(seen-secondary), or computed (derived). `our_dataset`, `our_metric` and `our_class` name it in our words and `factor`
brings its value to our unit; they are empty where there is nothing of ours to stand beside. `protocol` says how it was
measured where that is not how we measure. Systems are shown in the order of the file.
"""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UsageError

FILE = "literature.csv"
COLUMNS = ("source", "year", "system", "dataset", "split", "metric", "class_or_setting", "threshold", "value", "note",
           "seen_or_memory", "our_dataset", "our_metric", "our_class", "factor", "protocol")  # fmt: skip
REQUIRED = ("source", "system", "dataset", "metric", "value", "seen_or_memory")
JOINED = ("our_dataset", "our_metric", "our_class", "factor")
ADVICE = "Mend the line, or restore the file."


@dataclass(frozen=True)
class Published:
    """One published figure, with its value in our unit."""

    source: str
    year: int | None
    system: str
    dataset: str  # our name; "" where we have no such dataset
    metric: str  # our name, likewise
    class_name: str  # a class, `macro` or `all`
    threshold: float | None  # T(IoU), where the metric has one
    value: float
    mark: str  # seen, seen-secondary, seen-corrected, derived
    split: str
    protocol: str  # how it was measured, where that is not how we measure
    note: str
    measured: str = ""  # what was published, in its own words: the metric
    setting: str = ""  # ... the class or setting
    data: str = ""  # ... and the dataset


def load(folder: Path) -> list[Published]:
    """Return the published figures of the report's folder, in the order of the file.

    Raises `UsageError` for a file that is missing or not a table of these columns, and for a line that does not hold
    what its columns say, by its number.
    """
    path = folder / FILE
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            reader = csv.DictReader(lines, strict=True)
            found = list(reader.fieldnames or ())
            if sorted(found) != sorted(COLUMNS):
                raise UsageError(f"{path}: expected the columns {', '.join(COLUMNS)}; {_difference(found)}. {ADVICE}")
            return [_published(record, f"{path}, line {reader.line_num}") for record in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path}: expected a table of published figures, cannot be read ({error}). {ADVICE}") from None


def _difference(found: Sequence[str]) -> str:
    missing = [c for c in COLUMNS if c not in found]
    extra = [c for c in found if c not in COLUMNS]
    parts = [f"missing: {', '.join(missing)}" if missing else "", f"unknown: {', '.join(extra)}" if extra else ""]
    return "; ".join(p for p in parts if p) or f"got {', '.join(found)}"


def _published(record: Mapping[str | None, str | list[str] | None], place: str) -> Published:
    texts = {str(k): v.strip() for k, v in record.items() if isinstance(v, str)}
    if set(texts) != set(COLUMNS):
        raise UsageError(f"{place}: expected {len(COLUMNS)} fields, got more or fewer. {ADVICE}")
    empty = [c for c in REQUIRED if not texts[c]]
    if empty:
        raise UsageError(
            f"{place}: expected a text in every one of {', '.join(REQUIRED)}; {empty[0]} is empty. {ADVICE}"
        )
    joined = [c for c in JOINED if texts[c]]
    if joined and len(joined) < len(JOINED):
        raise UsageError(f"{place}: expected all of {', '.join(JOINED)} or none, got {', '.join(joined)}. {ADVICE}")
    year = _number(texts, "year", place) if texts["year"] else None
    value = _number(texts, "value", place) * (_number(texts, "factor", place) if joined else 1.0)
    if not math.isfinite(value):
        raise UsageError(f"{place}: expected a finite value times factor, got {value}. {ADVICE}")
    return Published(
        source=texts["source"],
        year=None if year is None else int(year),
        system=texts["system"],
        dataset=texts["our_dataset"],
        metric=texts["our_metric"],
        class_name=texts["our_class"],
        threshold=_number(texts, "threshold", place) if joined and texts["threshold"] else None,
        value=value,
        mark=texts["seen_or_memory"],
        split=texts["split"],
        protocol=texts["protocol"],
        note=texts["note"],
        measured=texts["metric"],
        setting=texts["class_or_setting"],
        data=texts["dataset"],
    )


def _number(texts: Mapping[str, str], column: str, place: str) -> float:
    try:
        value = float(texts[column])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UsageError(f"{place}: expected a number as {column}, got {texts[column]!r}. {ADVICE}")
    return value


@dataclass(frozen=True)
class System:
    """One published system: its figures of one metric, and how they were read and measured."""

    name: str
    rows: list[Published]

    def by_class(self) -> dict[str, list[Published]]:
        """Return class -> figures, those of lower thresholds first."""
        found: dict[str, list[Published]] = {}
        for row in sorted(self.rows, key=lambda r: r.threshold or 0.0):
            found.setdefault(row.class_name, []).append(row)
        return found

    def facts(self) -> dict[str, str]:
        """Return year, marks, sources, splits, protocols and notes, each text once; a rare note names its class."""
        usual = Counter(r.note for r in self.rows).most_common(1)[0][0]
        return {
            "name": self.name,
            "year": _texts(r.year for r in self.rows),
            "mark": _texts(r.mark for r in self.rows),
            "source": _texts(r.source for r in self.rows),
            "split": _texts(r.split for r in self.rows),
            "protocol": _texts(r.protocol for r in self.rows),
            "note": _texts(
                [usual, *(f"{r.class_name}: {_without(r.note, usual)}" for r in self.rows if r.note not in ("", usual))]
            ),
        }


def _without(note: str, usual: str) -> str:
    return note.removesuffix(usual).strip() if usual else note


def _texts(values: Iterable[object]) -> str:
    return "; ".join(dict.fromkeys(str(v) for v in values if v))


def systems(published: Sequence[Published], dataset: str, metric: str) -> list[System]:
    """Return the published systems that have figures of a dataset and metric, in the order of the file."""
    found: dict[str, list[Published]] = {}
    for row in published:
        if row.dataset == dataset and row.metric == metric:
            found.setdefault(row.system, []).append(row)
    return [System(name, rows) for name, rows in found.items()]
