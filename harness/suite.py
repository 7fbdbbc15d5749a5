"""A suite: the runs that make a table, as a TOML file says them. From its text to the specs of all its runs.

    title = "What it shows"
    source = "paper, table"

    [all]                        # of every run, unless it says otherwise
    dataset = "phantom"
    seeds = [0, 1, 2]
    set = { "baseline.max_epochs" = 3 }

    [[runs]]
    method = "robust_fgsm"
    sweep = { epsilon = [0.001, 0.005] }

Entries are the options of `harness run` but for places and machines: those are given where the suite is run.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import UsageError, closest
from harness.plan import PROFILES, RunSpec
from harness.reading import read_toml

TEXTS = ("method", "dataset", "model", "checkpoint", "precision", "profile")
LISTS = {"seeds": int, "explainers": str, "evaluations": str}
TABLES = ("set", "sweep")
ENTRIES = (*TEXTS, *LISTS, *TABLES, "limit")
PRECISIONS = ("auto", "fp32", "bf16")


@dataclass(frozen=True)
class Suite:
    """A file's title and source, and the specs of its runs in the order of the file, each once."""

    path: Path
    title: str
    source: str
    specs: tuple[RunSpec, ...]


def read(path: Path, machine: Mapping[str, Any]) -> Suite:
    """Return the suite of a file; `machine` holds the fields of `RunSpec` that the file may not say.

    Raises `UsageError` for a file that is none, unknown entries, and entries of a wrong kind.
    """
    content = read_toml(path, str(path))
    if unknown := sorted(set(content) - {"title", "source", "all", "runs"}):
        raise UsageError(f"{path}: unknown entry {unknown[0]!r}; expected title, source, [all] and [[runs]]. Mend it.")
    title, source = (_text(path, content.get(key, ""), key) for key in ("title", "source"))
    common = _entry(path, content.get("all", {}), "[all]")
    runs = content.get("runs")
    if not isinstance(runs, list) or not runs:
        raise UsageError(f"{path}: expected at least one [[runs]] with a method. Add it.")
    specs: dict[RunSpec, None] = {}
    for number, run in enumerate(runs, 1):
        where = f"run {number}"
        own = _entry(path, run, where)
        merged = {**common, **own, "set": {**common.get("set", {}), **own.get("set", {})}}
        specs |= dict.fromkeys(_specs(path, merged, where, machine))
    return Suite(path, title, source, tuple(specs))


def _specs(path: Path, entry: Mapping[str, Any], where: str, machine: Mapping[str, Any]) -> list[RunSpec]:
    """Return a spec for each seed and each combination of swept values of an entry."""
    for needed in ("method", "dataset"):
        if not entry.get(needed):
            raise UsageError(f"{path}, {where}: expected a {needed}, got none. Name it there or in [all].")
    axes = [_axis(path, where, name, values) for name, values in entry.get("sweep", {}).items()]
    given = {k: entry[k] for k in (*TEXTS, "limit") if k in entry and k != "checkpoint"}
    if "checkpoint" in entry:
        given["checkpoint"] = _file(path, entry["checkpoint"], where)
    fixed = tuple(_assigned(path, where, name, value) for name, value in entry["set"].items())
    return [
        RunSpec(
            **given, **machine, seed=seed, sets=(*fixed, *swept), explainers=tuple(entry.get("explainers", ())),
            evaluations=tuple(entry.get("evaluations", ())),
        )
        for swept in itertools.product(*axes)
        for seed in dict.fromkeys(entry.get("seeds", (0,)))
    ]  # fmt: skip


def _entry(path: Path, entry: Any, where: str) -> dict[str, Any]:
    """Return a table of the file, every value of the right kind and nested settings flat."""
    if not isinstance(entry, dict):
        raise UsageError(f"{path}, {where}: expected a table, got {entry!r:.80}. Mend it.")
    for name, value in entry.items():
        if name not in ENTRIES:
            raise UsageError(f"{path}, {where}: unknown entry {name!r}.{closest(name, ENTRIES)} Known: "
                             f"{', '.join(ENTRIES)}.")  # fmt: skip
        if name in TEXTS:
            _text(path, value, f"{where}, {name}")
        elif name in LISTS:
            kind = LISTS[name]
            if not isinstance(value, list) or not value or not all(type(v) is kind for v in value):
                raise UsageError(f"{path}, {where}: {name} = {value!r:.80}; expected a list of "
                                 f"{'whole numbers' if kind is int else 'names'}. Mend it.")  # fmt: skip
        elif name in TABLES and not isinstance(value, dict):
            raise UsageError(f"{path}, {where}: {name} = {value!r:.80}; expected a table of settings. Mend it.")
    for name, known in (("profile", PROFILES), ("precision", PRECISIONS)):
        if entry.get(name, known[0]) not in known:
            raise UsageError(f"{path}, {where}: {name} = {entry[name]!r}; expected {' or '.join(known)}. Mend it.")
    limit = entry.get("limit", 1)
    if type(limit) is not int or limit < 1:
        raise UsageError(f"{path}, {where}: limit = {limit!r:.80}; expected a whole number of samples. Mend it.")
    return {**entry, **{t: _flat(entry[t]) for t in TABLES if t in entry}}


def _text(path: Path, value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise UsageError(f"{path}, {what}: expected text, got {value!r:.80}. Mend it.")
    return value


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the settings of nested tables by `component.field`."""
    found: dict[str, Any] = {}
    for name, value in table.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found


def _axis(path: Path, where: str, name: str, values: Any) -> list[str]:
    """Return the assignment of each swept value, each once."""
    if not isinstance(values, list) or not values:
        raise UsageError(f"{path}, {where}: sweep of {name}: expected a list of values, got {values!r:.80}. Mend it.")
    return list(dict.fromkeys(_assigned(path, where, name, value) for value in values))


def _assigned(path: Path, where: str, name: str, value: Any) -> str:
    """Return a setting as --set has it; of several values, with commas between them."""
    values = value if isinstance(value, list) else [value]
    if any(isinstance(v, list | dict) for v in values):
        raise UsageError(f"{path}, {where}: {name}: expected a value or a list of them, got {value!r:.80}. Mend it.")
    return f"{name}={','.join(map(str, values))}"


def _file(path: Path, name: str, where: str) -> Path:
    """Return a file of weights: an absolute path, one beside the suite, or one with $VARIABLES in it."""
    expanded = os.path.expandvars(name)
    if "$" in expanded:
        raise UsageError(
            f"{path}, {where}: checkpoint {name}: its variable is not set. Set it: export HARNESS_DATA=..."
        )
    return path.parent / expanded
