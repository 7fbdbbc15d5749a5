"""`harness rerun RECORD`: make a published record again from itself alone, and say what became of its numbers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.conditions import part
from harness.console import Reporter
from harness.draws import user_cache
from harness.errors import HarnessError, UsageError
from harness.named import find_result
from harness.plan import Plan, RunSpec, make
from harness.plugins import catalogue
from harness.record import Result, from_run
from harness.recorded import Call, Repeat, Values, assignment, repeat
from harness.store import find_run
from harness.verdict import Verdict, judge


@dataclass(frozen=True)
class Commands:
    """What `--dry-run` prints: the commands that make the record again."""

    lines: list[str]
    left_out: dict[str, str]
    notes: tuple[str, ...]

    exit_status = 0

    def json(self) -> str:
        """Return them as JSON."""
        return json.dumps({"commands": self.lines, "not_repeated": self.left_out, "notes": list(self.notes)}, indent=1)

    def text(self) -> str:
        """Return the commands, one a line, and what cannot be repeated."""
        rest = [f"cannot be repeated: {name}: {reason}" for name, reason in self.left_out.items()]
        rest += [f"note: {note}" for note in self.notes]
        return "\n".join([*self.lines, "", *rest, "Nothing was done (--dry-run)."])


def rerun(
    name: str,
    *,
    results_dir: Path,
    runs_dir: Path,
    root: Path | None,
    checkpoint: Path | None,
    plugins: Sequence[str],
    device: str,
    evaluations: Sequence[str],
    dry_run: bool,
    quiet: bool,
) -> Verdict | Commands:
    """Make a record again in a folder of runs of its own, and compare; what is there already is not made twice.

    Raises `UsageError` for a record that cannot be made at all: unknown names, weights that are absent or others.
    """
    record = _record(name, results_dir)
    plan = repeat(record, catalogue(plugins), evaluations)
    if not (plan.base.stages or plan.others):
        reasons = "; ".join(f"{stage}: {why}" for stage, why in plan.left_out.items())
        raise UsageError(f"nothing of {record.run_id} can be repeated: {reasons or 'it has no evaluations'}.")
    places: dict[str, Any] = {"root": root, "runs_dir": runs_dir, "device": device, "plugins": tuple(plugins)}
    plan = _with_weights(plan, checkpoint)
    spec = _spec(plan, plan.base, places)
    planned = make(spec)
    _right_network(planned, record)
    extra = tuple(_restored(planned, {**plan.base.values, **plan.values}))
    plan = replace(plan, run={**plan.run, "sets": (*plan.run["sets"], *extra)})
    plan = replace(plan, others=tuple(_complete(plan, call, places) for call in plan.others))
    spec = _spec(plan, plan.base, places)
    if dry_run:
        return Commands(plan.commands(_options(places)), plan.left_out, plan.notes)
    made, failed, notes = _execute(plan, spec, places, Reporter(quiet=quiet))
    wanted = [stage for call in (plan.base, *plan.others) for stage in call.stages]
    return judge(record, made, wanted=[*wanted, *failed], failed=failed, notes=notes, cache=user_cache())


def _record(name: str, results_dir: Path) -> Result:
    """Return the record called `name`: its id, a unique beginning of it, or its JSON file."""
    found = find_result(name, None, results_dir)
    if not found.published:
        raise UsageError(f"{name}: expected a published record, got a run. Publish it first: harness publish.")
    return found


def _spec(plan: Repeat, call: Call, places: dict[str, Any]) -> RunSpec:
    run = {k: v for k, v in plan.run.items() if v is not None}
    changes = call.changes()
    return RunSpec(**{**run, **changes, **places, "sets": (*run["sets"], *changes["sets"])})


def _with_weights(plan: Repeat, checkpoint: Path | None) -> Repeat:
    """Return the plan with the file of weights that the record was loaded from, checked against its sha256."""
    named = part(plan.record.info, "spec").get("checkpoint")
    if not named:
        if checkpoint is not None:
            raise UsageError(f"--checkpoint {checkpoint}: {plan.record.run_id} loads no file of weights. Leave it out.")
        return plan
    expected = str(part(plan.record.info, "fit").get("loaded_sha256"))
    if checkpoint is None:
        raise UsageError(f"{plan.record.run_id} was loaded from {named} (sha256 {expected}): give it by --checkpoint.")
    if not checkpoint.is_file():
        raise UsageError(f"--checkpoint {checkpoint}: expected a file of weights, nothing is there.")
    with checkpoint.open("rb") as file:
        got = hashlib.file_digest(file, "sha256").hexdigest()
    if got != expected:
        raise UsageError(
            f"--checkpoint {checkpoint}: expected {named} with sha256 {expected}, got {got}. Give that file."
        )
    return replace(plan, run={**plan.run, "checkpoint": checkpoint})


def _right_network(planned: Plan, record: Result) -> None:
    """Raise `UsageError` where the files of a network trained elsewhere are absent, or others than the record's."""
    if planned.network is None:
        return
    expected, got = part(record.info, "fit").get("loaded_sha256"), planned.network.weights.digest()
    if expected and got != expected:
        raise UsageError(
            f"{planned.network.name}: expected the weights of the record (sha256 {expected}), the file here has {got}. "
            "Put that file in its place."
        )


def _restored(planned: Plan | None, recorded: Values) -> list[str]:
    """Return, as assignments, the settings whose value in this version is not the one that was recorded."""
    found: dict[str, None] = {}
    while planned is not None:
        for component in planned.parts:
            for s in component.settings:
                key = (s.component, s.name)
                value = list(s.value) if isinstance(s.value, tuple) else s.value
                if key in recorded and recorded[key] != value:
                    found[assignment(*key, recorded[key])] = None
        planned = planned.before
    return list(found)


def _complete(plan: Repeat, call: Call, places: dict[str, Any]) -> Call:
    try:
        planned = make(_spec(plan, call, places))
    except UsageError:  # a setting that is gone: said where the call is made
        return call
    return replace(call, sets=(*call.sets, *_restored(replace(planned, before=None), call.values)))


def _options(places: dict[str, Any]) -> list[str]:
    found = ["--runs-dir", str(places["runs_dir"])]
    found += ["--root", str(places["root"])] * bool(places["root"])
    found += ["--device", places["device"]] * (places["device"] != "auto")
    return [*found, *(word for p in places["plugins"] for word in ("--plugin", str(p)))]


def _execute(
    plan: Repeat, spec: RunSpec, places: dict[str, Any], reporter: Reporter
) -> tuple[Result, dict[str, str], tuple[str, ...]]:
    """Carry out every call; return the repeat, the stages that failed with their reasons, and notes."""
    from harness.run import evaluate, execute
    from harness.stages import prepare_data

    notes, failed = list(plan.notes), dict(plan.left_out)
    prepared = prepare_data(make(spec), reporter)
    expected = part(plan.record.info, "dataset").get("fingerprint")
    if prepared.fingerprint != expected:
        notes.append(f"the data here are others than the record's: fingerprint {prepared.fingerprint[:12]}, not "
                     f"{str(expected)[:12]}")  # fmt: skip
        reporter.note(f"note: {notes[-1]}")
    made = execute(spec, reporter)[-1]
    if made.run_id != plan.record.run_id:
        notes.append(f"the repeat is {made.run_id}: data, settings, code or format of its training are others")
    for call in plan.others:
        changes = {**call.changes(), **{k: v for k, v in places.items() if k != "runs_dir" and v not in (None, ())}}
        try:
            evaluate(made.run_id, changes, spec.runs_dir, reporter)
        except HarnessError as error:
            failed |= dict.fromkeys(call.stages, str(error))
            reporter.note(f"{call.evaluation}: {error}")
    return from_run(find_run(spec.runs_dir, made.run_id)), failed, tuple(notes)
