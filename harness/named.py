"""A result by its name: a run of the store, or a published record."""

from __future__ import annotations

from pathlib import Path

from harness.errors import UsageError, closest
from harness.record import Result, from_record, from_run, joined
from harness.store import RunFolder, runs


def find_result(name: str, runs_dir: Path | None, results_dir: Path) -> Result:
    """Return the run or record called `name`: its id, a unique beginning of it, or the path of its folder or file.

    A run stands in place of its own record and takes over what only the record has measured. Raises `UsageError` for
    a name that is unknown, with the closest ones, or not unique. `runs_dir` None: records alone.
    """
    path = Path(name)
    if path.suffix == ".json" and path.is_file():
        return from_record(path)
    if (path / "run.json").is_file():
        return from_run(RunFolder(path.resolve()))
    mine = {run.run_id: run for run in (runs(runs_dir) if runs_dir else [])}
    records = {p.stem: p for p in sorted(results_dir.glob("*.json"))}
    known = sorted({*mine, *records})
    found = [name] if name in known else [i for i in known if name and i.startswith(name)]
    if len(found) > 1:
        raise UsageError(f"run {name!r} is not unique: {', '.join(found)}. Write more of it.")
    if not found:
        where = (
            f"run or record {name!r} in {runs_dir} and {results_dir}"
            if runs_dir
            else f"record {name!r} in {results_dir}"
        )
        raise UsageError(
            f"no {where}.{closest(name, known)} {len(mine)} runs and {len(records)} records are there; name one by its "
            "id, the beginning of it, or its path."
        )
    record = from_record(records[found[0]]) if found[0] in records else None
    if found[0] not in mine:
        assert record is not None
        return record
    run = from_run(mine[found[0]])
    return joined(run, record) if record else run
