"""The store: runs/<run_id>/ with run.json, fit/ and evaluations/. A stage is complete or absent, never half there.

runs/<run_id>/run.json                             spec, settings, status, provenance
              fit/                                 model.safetensors, history.jsonl, fit.json, resume state
              evaluations/<name>[-<explainer>]-<key>/   stage.json, rows.json, samples.parquet, gallery/
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from harness.errors import UsageError, closest
from harness.reading import AGAIN, read_json, read_table
from harness.rows import Row, rows_of
from harness.shapes import GALLERY, RUN, STAGE, check

if TYPE_CHECKING:
    import pandas as pd

RUN_SCHEMA = 1
KEY_LENGTH = 12
TEMPORARY = ".tmp"  # ends the name of a file that is being written
SHARDS = ".shards"  # ends the name of a folder of the parts of a stage that is being made


def key_of(inputs: Mapping[str, Any]) -> str:
    """Return the key of a stage: a hash of everything that can change its result.

    >>> key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1})
    True
    """
    canonical = json.dumps(inputs, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:KEY_LENGTH]


def name_of(method: str, dataset: str, seed: int, key: str) -> str:
    """Return the id of a run, which is the name of its folder; colons and slashes become hyphens.

    >>> name_of("zoo:torchvision/resnet50", "imagenet", 0, "0a1b")
    'zoo-torchvision-resnet50-imagenet-s0-0a1b'
    """
    return f"{re.sub(r'[:/]+', '-', f'{method}-{dataset}')}-s{seed}-{key}"


@contextmanager
def writing(path: Path, advice: str = "Choose a writable folder, for runs by --runs-dir.") -> Iterator[None]:
    """Turn a full or read-only disk into one clear error; nothing that was there before is lost."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UsageError(
                f"{path}: the disk is full. Free some space and give the same command again: finished work is kept."
            ) from error
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise UsageError(f"{path}: cannot be written ({error.strerror}). {advice}") from error
        if error.errno in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR):
            raise UsageError(f"{path}: expected a folder; a file is in the way. Move it, or choose another.") from error
        raise


@contextmanager
def locking(folder: Path) -> Iterator[None]:
    """Turn a file system without locks, or a folder that cannot be written, into one clear error."""
    try:
        with writing(folder):
            yield
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP):
            raise
        raise UsageError(
            f"{folder}: expected a file system with locks, which keep two processes from making the same thing, got "
            f"'{error.strerror}'. Choose another by --runs-dir, a local disk say, or have the locks of this one "
            "switched on (NFS: its lock service, and no `nolock` among the options of the mount)."
        ) from error


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file by a temporary name in the same folder, flushed and renamed."""
    write_together({path: content})


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Write files that belong together: all of them lie flushed beside their places before the first is renamed.

    An error or Ctrl-C between two of them puts the first one's earlier content back.
    """
    flushed: dict[Path, Path] = {}
    try:
        for path, content in contents.items():
            flushed[path] = _flushed(path, content)
        _replace(flushed)
    finally:
        for name in flushed.values():
            name.unlink(missing_ok=True)


def _flushed(path: Path, content: bytes) -> Path:
    """Write `content` under a temporary name beside `path`, and return that."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}.", suffix=TEMPORARY)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o644)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    return Path(name)


def _replace(flushed: Mapping[Path, Path]) -> None:
    """Give each file its place, all or none of them."""
    before = {path: path.read_bytes() if path.is_file() else None for path in list(flushed)[:-1]}
    done: list[Path] = []
    try:
        for path, name in flushed.items():
            with writing(path):
                done.append(path)
                os.replace(name, path)
    except BaseException:
        for path in done:
            if path in before and (content := before[path]) is not None:
                os.replace(_flushed(path, content), path)
            elif path in before:
                path.unlink(missing_ok=True)
        raise


def write_json(path: Path, content: Any) -> None:
    """Write JSON, indented, full precision; NaN is refused (missing values are null)."""
    write_bytes(path, json_bytes(content, path))


def json_bytes(content: Any, path: Path) -> bytes:
    """Return JSON as `write_json` writes it to `path`; `UsageError` for text that UTF-8 does not have."""
    try:
        return (json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n").encode()
    except UnicodeEncodeError as error:
        said = ascii(error.object[max(0, error.start - 30) : error.end + 30])
        raise UsageError(f"{path}: expected names and paths in UTF-8, got {said}. Rename what it names.") from None


@dataclass(frozen=True)
class Stage:
    """One finished evaluation of one run."""

    folder: Path

    @property
    def info(self) -> dict[str, Any]:
        """Return stage.json: evaluation, explainer, settings, key, inputs, cost, device."""
        place = self.folder / "stage.json"
        return check(read_json(place), STAGE, str(place), AGAIN)

    def rows(self) -> list[Row]:
        """Return the rows of the stage."""
        place = self.folder / "rows.json"
        return rows_of(read_json(place), str(place))

    def samples(self) -> pd.DataFrame:
        """Return the per-sample scores."""
        return read_table(self.folder / "samples.parquet")

    def gallery(self) -> list[dict[str, Any]]:
        """Return the entries of gallery/gallery.json; [] where the evaluation makes no pictures."""
        place = self.folder / "gallery" / "gallery.json"
        return check(read_json(place), GALLERY, str(place), AGAIN) if place.exists() else []


@dataclass(frozen=True)
class RunFolder:
    """One run on disk."""

    folder: Path

    @property
    def run_id(self) -> str:
        """Return <method>-<dataset>-s<seed>-<fit key>."""
        return self.folder.name

    @property
    def fit(self) -> Path:
        """Return the folder of the fit stage."""
        return self.folder / "fit"

    @property
    def info(self) -> dict[str, Any]:
        """Return run.json; `UsageError` for one of a newer harness."""
        place = self.folder / "run.json"
        info = check(read_json(place), RUN, str(place), AGAIN)
        if (version := info.get("schema") or RUN_SCHEMA) > RUN_SCHEMA:
            raise UsageError(f"{place}: schema {version}, expected {RUN_SCHEMA} at most. Update harness.")
        return info

    def update(self, **changes: Any) -> None:
        """Replace top-level entries of run.json."""
        path = self.folder / "run.json"
        before = read_json(path) if path.exists() else {"schema": RUN_SCHEMA, "run_id": self.run_id}
        write_json(path, {**before, **changes})

    @contextmanager
    def lock(self, *, wait: bool = False) -> Iterator[None]:
        """Keep other processes away from this run; where one is at work, wait for it or raise `UsageError` at once."""
        with locking(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.folder / ".lock")
            try:
                lock.acquire(timeout=-1 if wait else 0)
            except Timeout:
                raise UsageError(
                    f"another process is working on run {self.run_id}. Wait for it, or choose another --runs-dir."
                ) from None
        try:
            for left in self.folder.rglob(f".*{TEMPORARY}"):  # by a killed process; the lock is ours
                if left.parent.suffix != SHARDS:  # an assistant may be writing it
                    left.unlink(missing_ok=True)
            yield
        finally:
            lock.release()

    def stage_folder(self, name: str, key: str) -> Path:
        """Return where a stage lies, or will lie."""
        return self.folder / "evaluations" / f"{name}-{key}"

    @contextmanager
    def new_stage(self, name: str, key: str) -> Iterator[Path]:
        """Give a temporary folder that becomes the stage when the block ends without an error."""
        final = self.stage_folder(name, key)
        with writing(final):
            final.parent.mkdir(parents=True, exist_ok=True)
            for old in final.parent.glob(f".{name}-*.partial"):  # left by a killed process; the lock is ours
                shutil.rmtree(old, ignore_errors=True)
            work = final.parent / f".{name}-{key}.partial"
            work.mkdir()
            try:
                yield work
                if final.exists():
                    shutil.rmtree(final)
                os.replace(work, final)
            finally:
                shutil.rmtree(work, ignore_errors=True)

    def has_stage(self, name: str, key: str) -> bool:
        """Return whether a stage is finished."""
        return (self.stage_folder(name, key) / "rows.json").exists()

    def shards_folder(self, name: str, key: str) -> Path:
        """Return where the parts of a stage lie while it is being made (shards.py)."""
        return self.folder / "evaluations" / f".{name}-{key}{SHARDS}"

    def forget_shards(self, name: str, key: str) -> None:
        """Remove the parts of a finished stage."""
        shutil.rmtree(self.shards_folder(name, key), ignore_errors=True)

    def stages(self) -> list[Stage]:
        """Return the finished evaluations, by name."""
        place = self.folder / "evaluations"
        found = sorted(p for p in place.glob("*") if p.is_dir() and not p.name.startswith("."))
        return [Stage(p) for p in found if (p / "rows.json").exists()]


def runs(runs_dir: Path) -> list[RunFolder]:
    """Return all runs of a folder by name; [] where there is none. run.json is the truth, there is no index."""
    return [RunFolder(p.parent) for p in sorted(runs_dir.glob("*/run.json"))]


def find_run(runs_dir: Path, name: str) -> RunFolder:
    """Return the run called `name`: its id, a unique beginning of it, or its folder."""
    if not name or "\0" in name:
        raise UsageError(f"run {name!r}: expected a name. `harness list runs` shows all of them.")
    try:
        if (Path(name) / "run.json").exists():
            return RunFolder(Path(name).resolve())
    except OSError:
        pass  # too long for a folder, or not to be looked into
    known = {run.run_id: run for run in runs(runs_dir)}
    matches = [run for run_id, run in known.items() if run_id.startswith(name)]
    if name in known:
        return known[name]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise UsageError(f"run {name!r} is not unique: {', '.join(r.run_id for r in matches)}. Write more of it.")
    raise UsageError(
        f"no run {name!r} in {runs_dir}.{closest(name, known)} `harness list runs` shows all {len(known)} of them."
    )


def write_stage(folder: Path, info: Mapping[str, Any], rows: Sequence[Row], samples: pd.DataFrame | None) -> None:
    """Write stage.json, rows.json and samples.parquet into the folder that `new_stage` gave."""
    write_json(folder / "stage.json", dict(info))
    write_json(folder / "rows.json", [row.to_json() for row in rows])
    if samples is not None:
        with writing(folder):
            samples.to_parquet(folder / "samples.parquet", compression="zstd", index=False)
