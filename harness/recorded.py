"""From a published record to the calls that make it again: one training, and what each evaluation was asked for.

A record keeps every resolved setting, and who set it. Stages of one evaluation that differ in a setting were made by
calls of their own, and are made again by calls of their own.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.conditions import part
from harness.errors import HarnessError, UsageError, unknown
from harness.plugins import Catalogue
from harness.record import Result, StageResult, from_record

Values = dict[tuple[str, str], Any]  # (component, setting) -> value
OF_RUNS = ("method", "dataset", "model")  # kinds whose settings belong to the run, not to a stage
CHEAP = "classification"  # what `harness run` asks for: the runs that it starts from are scored by it as well


@dataclass(frozen=True)
class Call:
    """One call that scores stages of a record again: an evaluation with its settings, explainers with theirs."""

    evaluation: str
    profile: str
    explainers: tuple[str, ...] = ()
    sets: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()  # names in the record
    values: Values = field(default_factory=dict)  # every resolved setting of those stages

    def changes(self) -> dict[str, Any]:
        """Return the fields of a `RunSpec` that the call replaces."""
        return {"evaluations": (self.evaluation,), "profile": self.profile, "explainers": self.explainers,
                "sets": self.sets}  # fmt: skip

    def words(self) -> list[str]:
        """Return the call's options."""
        found = ["--evaluation", self.evaluation, "--profile", self.profile]
        for option, values in (("--explainer", self.explainers), ("--set", self.sets)):
            found += [word for value in values for word in (option, value)]
        return found


@dataclass(frozen=True)
class Repeat:
    """What makes a record again: the run, the calls, and the stages that cannot be repeated, with the reason."""

    record: Result
    run: dict[str, Any]  # fields of a `RunSpec`: method, dataset, seed, model, precision, batch_size, sets
    values: Values  # every resolved setting of the run and of those it starts from
    base: Call  # made by `harness run`; the others by `harness evaluate`
    others: tuple[Call, ...]
    left_out: dict[str, str]  # stage -> reason
    notes: tuple[str, ...] = ()

    def commands(self, options: Sequence[str]) -> list[str]:
        """Return the commands of the repeat; `options` are those of this machine that each of them takes."""
        names = ("method", "dataset", "seed", "model", "precision", "batch_size", "checkpoint")
        run = [word for name in names if self.run.get(name) is not None
               for word in (f"--{name.replace('_', '-')}", str(self.run[name]))]  # fmt: skip
        run += [word for value in self.run["sets"] for word in ("--set", value)]
        first = shlex.join(["harness", "run", *run, *self.base.words(), *options])
        return [first, *(shlex.join(["harness", "evaluate", self.record.run_id, *c.words(), *options])
                         for c in self.others)]  # fmt: skip


def repeat(record: Result, known: Catalogue, evaluations: Sequence[str] = ()) -> Repeat:
    """Return what makes a record again; `evaluations` restricts it to these, () means all.

    Raises `UsageError` where the run itself cannot be made: a method, dataset or model that this version does not
    know, an evaluation that the record does not have, a record without a spec.
    """
    spec = part(record.info, "spec")
    missing = [name for name in ("method", "dataset") if not isinstance(spec.get(name), str)]
    if missing:
        raise UsageError(f"{record.source}: a record's spec names method and dataset, this one has no {missing[0]}.")
    has = list(dict.fromkeys(str(s.info.get("evaluation")) for s in record.stages))
    for name in evaluations:
        if name not in has:
            raise unknown("evaluation", name, has, "Those of the record are listed.")
    zoo = str(spec["method"]).startswith("zoo:")
    plugins = ", ".join(map(str, spec.get("plugins") or ())) or "no plug-ins"
    for kind, name in (("dataset", spec["dataset"]), *([] if zoo else [("method", spec["method"])]),
                       *([] if zoo or not spec.get("model") else [("model", spec["model"])])):  # fmt: skip
        names = [c.name for c in known.of(kind)]
        if name not in names:
            raise unknown(kind, str(name), names, f"The record was made with {plugins}: give them by --plugin.")
    lineage, notes = _lineage(record)
    values = {k: v for r in reversed(lineage) for k, v in _values(r.info.get("settings"), OF_RUNS).items()}
    wanted = [s for s in record.stages if not evaluations or s.info.get("evaluation") in evaluations]
    left_out = {s.name: reason for s in wanted if (reason := _unknown(s, known))}
    calls = list(_calls([s for s in wanted if s.name not in left_out], known))
    plain = [c for c in calls if not c.sets and (c.evaluation == CHEAP or not record.info.get("start_from"))]
    base = min(plain, key=lambda c: (c.evaluation != CHEAP, len(c.explainers)), default=None)
    precision = part(record.info, "provenance").get("precision")
    sets = [s for r in lineage for s in _assignments(r.info.get("settings"), OF_RUNS)]
    return Repeat(
        record=record,
        run={
            "method": spec["method"],
            "dataset": spec["dataset"],
            "seed": None if zoo else int(spec.get("seed") or 0),
            "model": None if zoo else spec.get("model"),
            "precision": precision if precision in ("fp32", "bf16") else "auto",
            "batch_size": spec.get("batch_size"),
            "sets": tuple(dict.fromkeys(sets)),
        },
        values=values,
        base=base or Call(CHEAP, str(spec.get("profile") or "quick")),
        others=tuple(c for c in calls if c is not base),
        left_out=left_out,
        notes=notes,
    )


def _lineage(record: Result) -> tuple[list[Result], tuple[str, ...]]:
    """Return a record and those of the runs it starts from, which lie beside it, and what is not known of them."""
    found, parent = [record], record.info.get("start_from")
    while parent:
        path = Path(record.source).with_name(f"{parent}.json")
        try:
            found.append(from_record(path))
        except HarnessError:
            note = f"{path.name}, the run it starts from, has no record beside it: made again with its default settings"
            return found, (note,)
        parent = found[-1].info.get("start_from")
        if parent in {r.run_id for r in found}:
            break
    return found, ()


def _unknown(stage: StageResult, known: Catalogue) -> str:
    """Return why a stage cannot be scored by this version; empty where it can."""
    named = [("evaluation", str(stage.info.get("evaluation")))]
    named += [("explainer", str(stage.info["explainer"]))] * bool(stage.info.get("explainer"))
    for kind, name in (*named, *_components(stage)):
        if name not in {c.name for c in known.of(kind)}:
            return f"this version of harness has no {kind} {name!r}; where a plug-in has it, give --plugin"
    return ""


def _components(stage: StageResult) -> list[tuple[str, str]]:
    """Return kind and name of every component whose settings a stage keeps."""
    labels = dict.fromkeys(component for component, _ in _values(stage.info.get("settings")))
    return [(kind, name) for kind, _, name in (label.partition(" ") for label in labels)]


def _calls(stages: Iterable[StageResult], known: Catalogue) -> Iterator[Call]:
    """Yield the fewest calls that score these stages: one for all explainers that share the evaluation's settings."""
    references = {c.name for c in known.of("explainer") if c.options.get("reference")}
    explainers = [c.name for c in known.of("explainer")]
    open_calls: list[tuple[Any, dict[str, Values], Call]] = []
    for stage in stages:
        values = _values(stage.info.get("settings"))
        own = str(stage.info.get("explainer") or "")
        profile = next((r.profile for r in stage.rows), "quick")
        mine = {k: v for k, v in values.items() if own and k[0] == f"explainer {own}"}
        shared = [(k, repr(v)) for k, v in values.items() if k not in mine]
        compared = _compared(stage, explainers) if not own else ()
        kind = (str(stage.info["evaluation"]), profile, tuple(sorted(shared)), compared)
        sets = tuple(_assignments(stage.info.get("settings")))
        fits = (i for i, (k, taken, _) in enumerate(open_calls) if k == kind and taken.get(own, mine) == mine)
        place = next(fits, len(open_calls))
        if place == len(open_calls):
            open_calls.append((kind, {}, Call(str(stage.info["evaluation"]), profile, compared)))
        _, taken, call = open_calls[place]
        more = replace(call, sets=tuple(dict.fromkeys((*call.sets, *sets))), stages=(*call.stages, stage.name),
                       values={**call.values, **values})  # fmt: skip
        open_calls[place] = (kind, {**taken, own: mine} if own else taken, more)
    for _, taken, call in open_calls:
        names = sorted(taken.keys() - references) or sorted(taken)[:1]  # the references come with any explainer
        yield replace(call, explainers=tuple(names) or call.explainers)


def _compared(stage: StageResult, explainers: Sequence[str]) -> tuple[str, ...]:
    """Return the explainers that a stage compares with each other, in their order; () for one that compares none."""
    named = [name for kind, name in _components(stage) if kind == "explainer"]
    named += [name for row in stage.rows for name in row.variant.split(" and ")]
    return tuple(n for n in dict.fromkeys(named) if n in explainers)


def _values(settings: Any, kinds: Sequence[str] = ()) -> Values:
    return {(s["component"], s["name"]): s.get("value") for s in _described(settings, kinds)}


def _assignments(settings: Any, kinds: Sequence[str] = ()) -> list[str]:
    """Return what a user had set, as `component.field=value`."""
    mine = (s for s in _described(settings, kinds) if s.get("set_by") in ("--set", "config"))
    return [assignment(s["component"], s["name"], s.get("value")) for s in mine]


def assignment(component: str, name: str, value: Any) -> str:
    """Return one setting as --set takes it.

    >>> assignment("evaluation robustness", "attacks", ["pgd", "ddn"])
    'robustness.attacks=pgd,ddn'
    """
    shown = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return f"{component.partition(' ')[2]}.{name}={shown}"


def _described(settings: Any, kinds: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    for s in settings if isinstance(settings, list) else ():
        if isinstance(s, Mapping) and isinstance(s.get("component"), str) and isinstance(s.get("name"), str):
            kind = s["component"].partition(" ")[0]
            if not kinds or kind in kinds:
                yield s
