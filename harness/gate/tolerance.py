"""How much worse a number may become before it counts: rules of a TOML file, the later ones over the earlier.

    alpha = 0.01               # chance of any false alarm, over all numbers together (Holm)

    [[tolerance]]              # for every number that all patterns fit; one that is left out fits all
    metric = "auroc"           # also: class, dataset, method, evaluation, explainer; * and ? as in file names
    absolute = 0.01            # in the unit of the metric
    relative = 0.02            # of the record's value; the larger of the two counts

    [[tolerance]]
    metric = "ece"
    retrained = 0.05           # of other weights than the record's, where it does not say how much training scatters

    [[tolerance]]
    metric = "brier"
    ignore = "says the same as ece here"    # shown, never a failure

Rows of single classes are compared where a rule gives a class; those over all classes always.
"""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from harness.errors import UsageError, closest, unknown
from harness.metrics.cells import registration
from harness.metrics.summary import builtin
from harness.rows import Row

ALPHA = 0.01
RELATIVE = 0.01  # where no rule says anything
OVERALL = ("macro", "all")  # classes of a row that stands for all of them
PATTERNS = {"metric": "metric", "class": "class_name", "dataset": "dataset", "method": "method",
            "evaluation": "evaluation", "explainer": "explainer"}  # name in the file -> field of a row  # fmt: skip
AMOUNTS = ("absolute", "relative", "retrained")
WILD = "*?["


@dataclass(frozen=True)
class Tolerance:
    """What applies to one number."""

    absolute: float = 0.0
    relative: float = RELATIVE
    retrained: float | None = None
    ignore: str = ""  # why the number is not gated

    def at(self, value: float) -> float:
        """Return the tolerance of a record's value, in its unit."""
        return max(self.absolute, self.relative * abs(value))


@dataclass(frozen=True)
class Rule:
    """One table of the file: patterns by field of a row, and what it sets."""

    patterns: dict[str, str]
    values: dict[str, Any]

    def fits(self, row: Row) -> bool:
        """Return whether all patterns fit the row."""
        return all(fnmatchcase(str(getattr(row, field)), pattern) for field, pattern in self.patterns.items())

    def __str__(self) -> str:
        """Return the patterns as the file has them."""
        names = {field: name for name, field in PATTERNS.items()}
        return ", ".join(f"{names[f]} = {p!r}" for f, p in self.patterns.items()) or "without a pattern"


@dataclass(frozen=True)
class Tolerances:
    """All rules, and the chance of a false alarm."""

    rules: tuple[Rule, ...] = ()
    alpha: float = ALPHA

    def of(self, row: Row) -> Tolerance:
        """Return what applies to a row."""
        values: dict[str, Any] = {}
        for rule in self.rules:
            if rule.fits(row):
                values |= rule.values
        return Tolerance(**values)

    def gates(self, row: Row) -> bool:
        """Return whether a row is compared: one over all classes, or of a class that a rule gives."""
        return row.class_name in OVERALL or any("class_name" in r.patterns and r.fits(row) for r in self.rules)


def read(path: Path | None) -> Tolerances:
    """Return the rules of a file, the default ones for None; raises `UsageError` for what is not understood."""
    if path is None:
        return Tolerances()
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"--tolerance {path}: cannot be read ({error.strerror}). Name a TOML file.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"--tolerance {path}: not valid TOML ({error}). Mend it.") from None
    where = f"--tolerance {path}"
    for name in content:
        if name not in ("alpha", "tolerance"):
            raise UsageError(f"{where}: expected alpha and tables [[tolerance]], got {name!r}. Remove it.")
    tables = content.get("tolerance", [])
    if not isinstance(tables, list) or not all(isinstance(t, dict) for t in tables):
        raise UsageError(f"{where}: expected tables [[tolerance]], with two brackets. Mend it.")
    alpha = _number(content.get("alpha", ALPHA), f"{where}: alpha", most=0.5)
    if alpha == 0:
        raise UsageError(f"{where}: alpha = 0 would let every regression pass. Give a chance above 0, as 0.01.")
    return Tolerances(tuple(_rule(t, f"{where}, rule {i}") for i, t in enumerate(tables, 1)), alpha)


def _rule(table: dict[str, Any], where: str) -> Rule:
    known = (*PATTERNS, *AMOUNTS, "ignore")
    patterns, values = {}, {}
    for name, value in table.items():
        if name in PATTERNS:
            if not isinstance(value, str):
                raise UsageError(f"{where}: expected text for {name}, got {value!r}. Put it in quotes.")
            patterns[PATTERNS[name]] = value
        elif name in AMOUNTS:
            values[name] = _number(value, f"{where}: {name}")
        elif name == "ignore":
            if not isinstance(value, str) or not value.strip():
                raise UsageError(f"{where}: expected the reason as text for ignore, got {value!r}. Say why.")
            values[name] = value.strip()
        else:
            raise UsageError(f"{where}: unknown {name!r}.{closest(name, known)} Known: {', '.join(known)}.")
    if not values:
        raise UsageError(f"{where}: it sets nothing. Give one of {', '.join((*AMOUNTS, 'ignore'))}.")
    metric = patterns.get("metric", "")
    metrics = {registration(m)["name"] for m in builtin()}
    if metric and not set(metric) & set(WILD) and metric not in metrics:
        raise unknown("metric", metric, metrics, f"({where})")
    return Rule(patterns, values)


def _number(value: Any, what: str, most: float = math.inf) -> float:
    number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    if not (0 <= number <= most and math.isfinite(number)):
        bound = "" if most == math.inf else f", at most {most}"
        raise UsageError(f"{what}: expected a number of 0 or more{bound}, got {value!r}. Mend it.")
    return number
