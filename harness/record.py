"""Results as the report and the gate read them: runs of the store and published records look the same.

A record is results/<run_id>.json (run.json, stage infos and rows) and results/<run_id>.parquet (the per-sample
scores of all stages, one below the other, told apart by the column `stage`). It holds no images.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from pyarrow import parquet

from harness.errors import UsageError
from harness.rows import SCHEMA_VERSION, Row, from_json
from harness.store import RunFolder, Stage, read_json, runs, write_bytes, write_json

RECORD_SCHEMA = 1


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
        return StageResult(stage.folder.name, stage.info, _upgraded(stage.info, stage.rows()), stage.samples,
                           stage.gallery(), pictures if pictures.is_dir() else None)  # fmt: skip

    history = run.fit / "history.jsonl"
    lines = history.read_text().splitlines() if history.exists() else []
    try:
        epochs = [json.loads(line) for line in lines]
    except ValueError as error:
        raise UsageError(f"{history}: cannot be read ({error}). Remove the run and make it again.") from None
    info = run.info
    if not isinstance(info, dict) or not isinstance(info.get("run_id"), str):
        raise UsageError(f"{run.folder}/run.json: not a run of harness (no run_id). Remove that folder.")
    return Result(info, [stage_result(s) for s in run.stages()], run.folder, published=False, history=epochs)


def from_record(path: Path) -> Result:
    """Return a published record; `UsageError` where its files are damaged."""
    content = read_json(path)
    try:
        if content["record_schema"] != RECORD_SCHEMA:
            raise UsageError(
                f"{path}: record schema {content['record_schema']!r}, expected {RECORD_SCHEMA}. Update harness."
            )
        run, stages, history = content["run"], content["stages"], content["history"]
        str(run["run_id"])
        parsed = [
            (s["name"], s["info"], _upgraded(s["info"], [from_json(r) for r in s["rows"]]), list(s["columns"]))
            for s in stages
        ]
    except (KeyError, TypeError) as error:
        raise UsageError(f"{path}: not a record of harness (no {error}). Publish the run again.") from None

    def reader(name: str, columns: list[str]) -> Callable[[], pd.DataFrame]:
        def read() -> pd.DataFrame:
            samples = path.with_suffix(".parquet")
            try:
                frame = pd.read_parquet(samples, columns=columns, filters=[("stage", "==", name)])
            except (OSError, ValueError, KeyError) as error:
                raise UsageError(f"{samples}: cannot be read ({error}). Publish the run again.") from None
            return frame.reset_index(drop=True)

        return read

    found = [StageResult(name, stage_info, rows, reader(name, columns)) for name, stage_info, rows, columns in parsed]
    return Result(run, found, path, published=True, history=history)


def _upgraded(info: Mapping[str, Any], rows: list[Row]) -> list[Row]:
    """Return the rows of a stage as the present schema has them. Version 1 left the explainer's settings to `info`."""
    if all(row.schema_version == SCHEMA_VERSION for row in rows):
        return rows
    mine = [s for s in info["settings"] if s["component"] == f"explainer {info['explainer']}"]
    text = ", ".join(f"{s['name']}={s['value']}" for s in mine if s["set_by"] in ("config", "--set"))
    return [replace(row, explainer_settings=text, schema_version=SCHEMA_VERSION) for row in rows]


def write_record(result: Result, folder: Path) -> Path:
    """Write a result's record into `folder` and return its JSON file. The Parquet is written first."""
    path = folder / f"{result.run_id}.json"
    frames = {stage.name: stage.read_samples() for stage in result.stages}
    if frames:
        buffer = io.BytesIO()
        parts = [pa.Table.from_pandas(f.assign(stage=name), preserve_index=False) for name, f in frames.items()]
        table = pa.concat_tables(parts, promote_options="permissive")
        repeated = [f.name for f in table.schema if not pa.types.is_list(f.type)]  # of the curves hardly a value is
        parquet.write_table(table, buffer, compression="zstd", compression_level=19, use_dictionary=repeated)  # pyright: ignore[reportArgumentType]
        write_bytes(path.with_suffix(".parquet"), buffer.getvalue())
    stages = [
        {"name": s.name, "info": s.info, "rows": [r.to_json() for r in s.rows], "columns": list(frames[s.name].columns)}
        for s in result.stages
    ]
    write_json(
        path,
        {"record_schema": RECORD_SCHEMA, "run": result.info, "stages": stages, "history": result.history},
    )
    return path


def load_all(runs_dir: Path | None, results_dir: Path | None) -> tuple[list[Result], list[str]]:
    """Return every run and record, and what could not be read.

    A run stands in place of its own record, for it has pictures, and takes over what only the record has measured.
    """
    found: dict[str, Result] = {}
    unreadable: list[str] = []
    for run in runs(runs_dir) if runs_dir else []:
        try:
            result = from_run(run)
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
