"""`harness publish`: a run's record in results/, for others to compare with."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

from harness.columns import board_key, column_key
from harness.errors import HarnessError, UsageError
from harness.gate.identity import alike, identity, seed
from harness.gate.spread import ENTRY, measured
from harness.metrics.summary import TABLES
from harness.reading import understood
from harness.record import Result, StageResult, from_record, from_run, joined, load_all, record_files, table_bytes
from harness.rows import INVALID, PROTOCOL_VERSION, SCHEMA_VERSION, Row, from_json
from harness.shapes import WHOLE, WHOLE_STAGE, need
from harness.store import find_run, write_together

LARGEST = 5_000_000  # bytes of a record, JSON and Parquet together: it is reviewed and kept for good
AGAIN = "Give its `harness run` command again."
SEVERAL = 3  # of many faults, those that are named


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
    that is unfinished, partial (--limit), flagged invalid, not what the readers of records expect, or made by code
    with uncommitted changes (unless `allow_dirty`), where the record that is there has stages of other weights (unless
    `overwrite`), and for a record of more than 5 MB.

    `spread` stores with it how much its numbers scatter over the seeds of it in the store (five or more), for the gate;
    `note` adds entries to what it says of the run.
    """
    folder = find_run(runs_dir, run)
    result = from_run(folder)
    if result.run_id != folder.run_id:
        raise UsageError(
            f"run {folder.run_id} is not published: its run.json is that of {result.run_id!r:.200}. Give the folder "
            "its run's name."
        )
    if result.info.get("status") == "complete":
        need(result.info, WHOLE, f"{folder.folder}/run.json", AGAIN)
        for stage in result.stages:
            need(stage.info, WHOLE_STAGE, f"{folder.folder}/evaluations/{stage.name}/stage.json", AGAIN)
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
    states = [(i.get("git") or {}).get("dirty") for i in (info.get("provenance") or {}, *(s.info for s in whole))]
    if any(dirty is not False for dirty in states) and not allow_dirty:
        state = "uncommitted changes" if any(states) else "no known version"
        refused.append(f"the code that made it had {state}: commit and run again, or --allow-dirty")
    if refused:
        raise UsageError(f"run {result.run_id} is not published: {'; '.join(refused)}.")
    faults = [fault for stage in whole for fault in _faults(result, stage)]
    if faults:
        more = f" ({len(faults) - SEVERAL} more)" if len(faults) > SEVERAL else ""
        raise UsageError(f"run {result.run_id} is not published: {'; '.join(faults[:SEVERAL])}{more}. {AGAIN}")
    added = {**(note or {}), **({ENTRY: over_seeds(result, runs_dir)} if spread else {})}
    result = result if overwrite else _with_earlier(result, results_dir)
    result = replace(result, info={**result.info, **added})
    files = record_files(result, results_dir)
    _small(result, sum(map(len, files.values())))
    write_together(files)
    return results_dir / f"{result.run_id}.json"


def _faults(result: Result, stage: StageResult) -> Iterator[str]:
    """Yield what a reader of records would stumble over in a stage: rows of something else, samples of no table."""
    info, run = stage.info, result.info
    own = {"run_id": result.run_id, "evaluation": info["evaluation"], "evaluation_key": info["key"],
           "explainer": info.get("explainer") or "", "dataset": run["dataset"]["name"], "size": run["dataset"]["size"],
           "method": run["spec"]["method"], "model": run["spec"]["model"], "seed": run["spec"]["seed"],
           "schema_version": SCHEMA_VERSION, "protocol_version": PROTOCOL_VERSION}  # fmt: skip
    kinds = set()
    for number, row in enumerate(stage.rows, 1):
        place = f"{stage.name}, row {number}"
        stray = next((k for k, v in own.items() if getattr(row, k) != v), None)
        if stray:
            yield f"{place}: {stray} is {getattr(row, stray)!r:.80}, expected {own[stray]!r:.80}"
        if not _same(row, from_json(json.loads(json.dumps(row.to_json())))):
            yield f"{place}: {row.metric:.80} does not come back from JSON as it is"
        if not math.isfinite(row.value) and not row.reason:
            yield f"{place}: {row.metric:.80} of {row.class_name:.80} has neither a value nor a reason"
        kind = (board_key(row), column_key(row), row.settings)
        if kind in kinds:
            yield f"{place}: {row.metric:.80} of {row.class_name:.80} is there twice"
        kinds.add(kind)
    table = TABLES.get(str(info["evaluation"]))
    try:
        samples = stage.read_samples()
        if table:
            with understood(stage.name, "its samples cannot be understood", AGAIN):
                table.from_frame(samples)
    except HarnessError as error:
        yield str(error).rstrip(".")


def _same(a: Row, b: Row) -> bool:
    return all(x == y or (x != x and y != y) for x, y in zip(astuple(a), astuple(b), strict=True))


def _small(result: Result, size: int) -> None:
    """Raise `UsageError` for a record of more than 5 MB, with what each stage takes of it."""
    if size < LARGEST:
        return
    rows = {s.name: json.dumps([r.to_json() for r in s.rows], indent=1) for s in result.stages}
    sizes = {s.name: len(table_bytes({s.name: s.read_samples()})) + len(rows[s.name]) for s in result.stages}
    told = ", ".join(f"{name} {taken / 1e6:.1f} MB" for name, taken in sorted(sizes.items(), key=lambda x: -x[1]))
    raise UsageError(
        f"run {result.run_id} is not published: its record has {size / 1e6:.1f} MB, expected less than "
        f"{LARGEST / 1e6:.0f} MB ({told}). Remove the folder of the largest from the run's evaluations, or evaluate it "
        "on fewer samples."
    )


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
    return str(stage.info.get("evaluation")), str(stage.info.get("explainer") or "")
