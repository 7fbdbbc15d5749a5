"""`harness publish`: a run's record in results/, for others to compare with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.gate.identity import alike, identity, seed
from harness.gate.spread import ENTRY, measured
from harness.record import Result, StageResult, from_record, from_run, joined, load_all, write_record
from harness.rows import INVALID
from harness.store import find_run


def publish(
    run: str,
    runs_dir: Path,
    results_dir: Path,
    *,
    allow_dirty: bool = False,
    overwrite: bool = False,
    spread: bool = False,
    note: Mapping[str, Any] | None = None,
) -> Path:
    """Write the record of a run and return its JSON file.

    What only the record that is there has measured, of the same weights, stays in it. Raises `UsageError` for a run
    that is unfinished, partial (--limit), flagged invalid, or made by code with uncommitted changes (unless
    `allow_dirty`), and where the record that is there has stages of other weights (unless `overwrite`).

    `spread` stores with it how much its numbers scatter over the seeds of it in the store (five or more), for the gate;
    `note` adds entries to what it says of the run.
    """
    result = from_run(find_run(runs_dir, run))
    whole = [s for s in result.stages if not s.partial]
    partial = sorted({_kind(s) for s in result.stages} - {_kind(s) for s in whole})
    result = replace(result, stages=whole)
    info, rows = result.info, result.rows
    refused = []
    if info.get("status") != "complete":
        refused.append(f"its status is {info.get('status')!r}: give its `harness run` command again")
    if partial:
        what = " ".join(filter(None, partial[0]))
        refused.append(f"of {what} only a part of the samples was scored (--limit): run it without")
    elif not rows:
        refused.append("it has no evaluations")
    flags = {flag for row in rows for flag in row.flags}
    refused += [f"it is flagged {flag!r}: {INVALID[flag]}" for flag in sorted(flags & set(INVALID))]
    states = [info["provenance"]["git"]["dirty"], *(s.info["git"]["dirty"] for s in whole)]
    if any(dirty is not False for dirty in states) and not allow_dirty:
        state = "uncommitted changes" if any(states) else "no known version"
        refused.append(f"the code that made it had {state}: commit and run again, or --allow-dirty")
    if refused:
        raise UsageError(f"run {result.run_id} is not published: {'; '.join(refused)}.")
    added = {**(note or {}), **({ENTRY: over_seeds(result, runs_dir)} if spread else {})}
    kept = result if overwrite else _with_earlier(result, results_dir)
    return write_record(replace(kept, info={**kept.info, **added}), results_dir)


def over_seeds(result: Result, runs_dir: Path) -> dict[str, Any]:
    """Return how the numbers of a run scatter over the finished runs of the store that differ in their seed alone."""
    finished = [r for r in load_all(runs_dir, None)[0] if r.info.get("status") == "complete" and r.rows]
    return measured(result, [(seed(r), r) for r in alike(finished, identity(result))])


def _with_earlier(result: Result, results_dir: Path) -> Result:
    path = results_dir / f"{result.run_id}.json"
    if not path.exists():
        return result
    earlier = from_record(path)
    both = joined(result, earlier)
    lost = sorted({s.name for s in earlier.stages} - {s.name for s in both.stages})
    if lost:
        raise UsageError(
            f"run {result.run_id} is not published: {path} is of other weights, and {', '.join(lost)} would be lost. "
            f"Run these evaluations here first, or give --overwrite."
        )
    return both


def _kind(stage: StageResult) -> tuple[str, str]:
    return str(stage.info["evaluation"]), str(stage.info["explainer"])
