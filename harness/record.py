"""Results as the report and the gate read them: runs of the store and published records look the same.

A record is results/<run_id>.json (run.json, stage infos and rows) and results/<run_id>.parquet (the per-sample
scores of all stages, one below the other, told apart by the column `stage`). It holds no images. The JSON names the
SHA-256 of its Parquet, so that two files which do not belong together are no record; the first records lack it.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from pyarrow import parquet

from harness.errors import UsageError
from harness.reading import AGAIN, read_json, read_lines, read_table
from harness.rows import SCHEMA_VERSION, Row, rows_of
from harness.shapes import HISTORY, RUN, STAGE, check
from harness.store import RunFolder, Stage, json_bytes, runs, write_together

RECORD_SCHEMA = 1
RECORD = {"record_schema": int, "run": RUN, "stages": [{"name": str, "info": STAGE, "rows": object, "columns": [str]}],
          "history": HISTORY, "samples_sha256": str}  # fmt: skip
CELLS = 50_000_000  # of a record's table: many times what fits into its few megabytes
RESTORE = "Publish the run again, or restore the record's two files."


@dataclass(frozen=True)
class StageResult:
    """One evaluation of one result."""

    name: str  # folder name of the stage: <evaluation>[-<explainer>]-<key>
    info: dict[str, Any]
    rows: list[Row]
    read_samples: Callable[[], pd.DataFrame] = field(repr=False)
    gallery: list[dict[str, Any]] = field(default_factory=list)
    gallery_folder: Path | None = None

    @property
    def partial(self) -> bool:
        """Return whether only a part of the samples was scored (--limit)."""
        return any("partial" in row.flags for row in self.rows)


def newest(stages: Iterable[StageResult]) -> list[StageResult]:
    """Return the stages in the order in which a later one replaces an earlier one: partial first, then by time."""
    return sorted(stages, key=lambda s: (not s.partial, str(s.info.get("created", "")), s.name))


@dataclass(frozen=True)
class Result:
    """One run or record: info as in run.json, and its stages."""

    info: dict[str, Any]
    stages: list[StageResult]
    source: Path
    published: bool
    history: list[dict[str, Any]] = field(default_factory=list)

    @property
    def run_id(self) -> str:
        """Return the run's id."""
        return str(self.info["run_id"])

    @property
    def rows(self) -> list[Row]:
        """Return the rows of all stages."""
        return [row for stage in newest(self.stages) for row in stage.rows]


def joined(run: Result, record: Result) -> Result:
    """Return a run with the stages that only its record has: measured of the same weights, elsewhere or before.

    A run whose weights are others than its record's, or are not known, comes back as it is.
    """
    if not weights(run) or weights(run) != weights(record):
        return run
    mine = {stage.name for stage in run.stages}
    stages = [*run.stages, *(stage for stage in record.stages if stage.name not in mine)]
    scored = {str(stage.info.get("evaluation")) for stage in stages}
    missing = {k: v for k, v in (run.info.get("missing_evaluations") or {}).items() if k not in scored}
    return replace(run, stages=stages, info={**run.info, "missing_evaluations": missing})


def weights(result: Result) -> list[str]:
    """Return the checksum of the weights, of each fold; [] where one is not known."""
    fit = result.info.get("fit") or {}
    found = [part.get("weights_sha256") for part in fit.get("folds") or [fit]]
    return [str(x) for x in found] if all(found) else []


def from_run(run: RunFolder) -> Result:
    """Return a run of the store as a result."""

    def stage_result(stage: Stage) -> StageResult:
        pictures = stage.folder / "gallery"
        own = run.folder.resolve() / "evaluations" / stage.folder.name / "gallery"  # a link may lead anywhere
        kept = pictures if pictures.is_dir() and pictures.resolve() == own else None
        rows = _upgraded(stage.info, stage.rows())
        return StageResult(stage.folder.name, stage.info, rows, stage.samples, stage.gallery(), kept)

    info = run.info
    if not isinstance(info.get("run_id"), str):
        raise UsageError(f"{run.folder}/run.json: not a run of harness (no run_id). Remove that folder.")
    history = run.fit / "history.jsonl"
    epochs = check(read_lines(history), HISTORY, str(history), AGAIN) if history.exists() else []
    return Result(info, [stage_result(s) for s in run.stages()], run.folder, published=False, history=epochs)


def from_record(path: Path) -> Result:
    """Return a published record; `UsageError` where its files are damaged, of a newer harness, or not its own."""
    content = read_json(path, RESTORE)
    version = content.get("record_schema") if isinstance(content, dict) else None
    if isinstance(version, int) and version > RECORD_SCHEMA:
        raise UsageError(f"{path}: record schema {version}, expected {RECORD_SCHEMA} at most. Update harness.")
    check(content, RECORD, str(path), RESTORE)
    try:
        run, stages, history = content["run"], content["stages"], content["history"]
        parsed = [
            (
                s["name"],
                s["info"],
                _upgraded(s["info"], rows_of(s["rows"], f"{path}, {s['name']:.200}")),
                list(s["columns"]),
            )
            for s in stages
        ]
        if run["run_id"] != path.stem:
            raise UsageError(f"{path}: it is the record of {run['run_id']!r:.200}. Give the file its run's name.")
    except (KeyError, TypeError) as error:
        raise UsageError(f"{path}: not a record of harness (no {error}). {RESTORE}") from None
    for name, _, rows, _ in parsed:
        if stray := next((row.run_id for row in rows if row.run_id != path.stem), None):
            raise UsageError(f"{path}, {name:.200}: expected rows of this run, got one of {stray!r:.200}. {RESTORE}")
    if len({name for name, *_ in parsed}) < len(parsed):
        raise UsageError(f"{path}: expected each stage once, found one twice. {RESTORE}")
    samples = path.with_suffix(".parquet")
    _paired(samples, content.get("samples_sha256"))

    def reader(name: str, columns: list[str]) -> Callable[[], pd.DataFrame]:
        def read() -> pd.DataFrame:
            frame = read_table(samples, RESTORE, columns=columns, filters=[("stage", "==", name)], cells=CELLS)
            return frame.reset_index(drop=True)

        return read

    found = [StageResult(name, stage_info, rows, reader(name, columns)) for name, stage_info, rows, columns in parsed]
    return Result(run, found, path, published=True, history=history)


def _upgraded(info: Mapping[str, Any], rows: list[Row]) -> list[Row]:
    """Return the rows of a stage as the present schema has them. Version 1 left the explainer's settings to `info`."""
    if all(row.schema_version == SCHEMA_VERSION for row in rows):
        return rows
    mine = [s for s in info.get("settings") or () if s.get("component") == f"explainer {info.get('explainer')}"]
    text = ", ".join(f"{s.get('name')}={s.get('value')}" for s in mine if s.get("set_by") in ("config", "--set"))
    return [replace(row, explainer_settings=text, schema_version=SCHEMA_VERSION) for row in rows]


def _paired(samples: Path, digest: str | None) -> None:
    """Raise `UsageError` where a record's Parquet is not the one that its JSON was written with."""
    if digest is None:
        return
    try:
        found = hashlib.sha256(samples.read_bytes()).hexdigest()
    except OSError as error:
        raise UsageError(f"{samples}: cannot be read ({error.strerror}). {RESTORE}") from None
    if found != digest:
        raise UsageError(f"{samples}: expected the file that {samples.stem}.json was written with. {RESTORE}")


def record_files(result: Result, folder: Path) -> dict[Path, bytes]:
    """Return the two files of a result's record, as they are to be written into `folder`; stages by name."""
    path = folder / f"{result.run_id}.json"
    frames = {stage.name: stage.read_samples() for stage in sorted(result.stages, key=lambda s: s.name)}
    table = table_bytes(frames) if frames else b""
    content = {
        "record_schema": RECORD_SCHEMA,
        "run": _ordered(result.info, RUN),
        "stages": [
            {"name": s.name, "info": _ordered(s.info, STAGE), "rows": [r.to_json() for r in s.rows],
             "columns": list(frames[s.name].columns)}
            for s in sorted(result.stages, key=lambda s: s.name)
        ],
        "history": result.history,
        **({"samples_sha256": hashlib.sha256(table).hexdigest()} if frames else {}),
    }  # fmt: skip
    own = {path: json_bytes(content, path)}
    return {path.with_suffix(".parquet"): table, **own} if frames else own


def table_bytes(frames: Mapping[str, pd.DataFrame]) -> bytes:
    """Return the Parquet of some stages' samples."""
    buffer = io.BytesIO()
    parts = [pa.Table.from_pandas(f.assign(stage=name), preserve_index=False) for name, f in frames.items()]
    table = pa.concat_tables(parts, promote_options="permissive")
    repeated = [f.name for f in table.schema if not pa.types.is_list(f.type)]  # of the curves hardly a value is
    parquet.write_table(table, buffer, compression="zstd", compression_level=19, use_dictionary=repeated)  # pyright: ignore[reportArgumentType]
    return buffer.getvalue()


def write_record(result: Result, folder: Path) -> Path:
    """Write a result's record into `folder` and return its JSON file: both files are replaced, or neither."""
    write_together(record_files(result, folder))
    return folder / f"{result.run_id}.json"


def _ordered(info: Mapping[str, Any], shape: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of `info` in the order of `shape`, others by name: however often a run was resumed."""
    return {k: info[k] for k in (*(k for k in shape if k in info), *sorted(set(info) - set(shape)))}


def load_all(runs_dir: Path | None, results_dir: Path | None) -> tuple[list[Result], list[str]]:
    """Return every run and record, and what could not be read.

    A run stands in place of its own record, for it has pictures, and takes over what only the record has measured.
    """
    found: dict[str, Result] = {}
    unreadable: list[str] = []
    for run in runs(runs_dir) if runs_dir else []:
        try:
            result = from_run(run)
            if result.run_id in found:
                raise UsageError(f"{run.folder}: another folder holds run {result.run_id} too. Remove one of them.")
            found[result.run_id] = result
        except UsageError as error:
            unreadable.append(str(error))
    for path in sorted(results_dir.glob("*.json")) if results_dir and results_dir.is_dir() else []:
        try:
            result = from_record(path)
            found[result.run_id] = joined(found[result.run_id], result) if result.run_id in found else result
        except UsageError as error:
            unreadable.append(str(error))
    return list(found.values()), unreadable
