"""`harness publish`: a run's record in results/, for others to compare with."""

from __future__ import annotations

from pathlib import Path

from harness.errors import UsageError
from harness.record import from_run, write_record
from harness.rows import INVALID
from harness.store import find_run


def publish(run: str, runs_dir: Path, results_dir: Path, *, allow_dirty: bool = False) -> Path:
    """Write the record of a run and return its JSON file.

    Raises `UsageError` for a run that is unfinished, partial (--limit), flagged invalid, or made by code with
    uncommitted changes (unless `allow_dirty`).
    """
    result = from_run(find_run(runs_dir, run))
    info, rows = result.info, result.rows
    refused = []
    if info.get("status") != "complete":
        refused.append(f"its status is {info.get('status')!r}: give its `harness run` command again")
    if not rows:
        refused.append("it has no evaluations")
    flags = {flag for row in rows for flag in row.flags}
    if "partial" in flags:
        refused.append("it scored only a part of the samples (--limit): run it without")
    refused += [f"it is flagged {flag!r}: {INVALID[flag]}" for flag in sorted(flags & set(INVALID))]
    git = info["provenance"]["git"]
    if git["dirty"] is not False and not allow_dirty:
        state = "uncommitted changes" if git["dirty"] else "no known version"
        refused.append(f"the code that made it had {state}: commit and run again, or --allow-dirty")
    if refused:
        raise UsageError(f"run {result.run_id} is not published: {'; '.join(refused)}.")
    return write_record(result, results_dir)
