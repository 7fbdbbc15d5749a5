"""The prepared dataset: every image once, as uint8 at the working size, in one memory-mapped file.

    <cache home>/<dataset>-<size>-<key>/  images.npy (N,C,S,S) uint8, samples.parquet, labels.npy, boxes.parquet,
                                          shortcuts.parquet, meta.json
Prepare fills a folder that ends in .partial (unfinished.py) and renames it when all is there, so a cache is complete or
absent; a killed prepare goes on where it was.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from harness.config import build
from harness.data import unfinished
from harness.data.dataset import Dataset
from harness.data.decode import channels_of, to_size
from harness.data.index import Index, check
from harness.data.roots import cache_home
from harness.data.unfinished import DIGEST, READ, Unfinished
from harness.data.workers import parallel
from harness.errors import UsageError
from harness.plugins import catalogue
from harness.store import key_of, read_json, write_bytes, write_json, writing

CACHE_VERSION = 1
CHUNK_BYTES = 4 * 2**20  # of decoded images between two marks of progress; at least CHUNK_IMAGES
CHUNK_IMAGES = 64
WAIT = 1.0  # seconds between two looks at what another process has prepared
ELSEWHERE = "Set HARNESS_CACHE to a writable folder."
FILES = {"images.npy", "labels.npy", "manifest.csv", "meta.json", "samples.parquet", "boxes.parquet",
         "shortcuts.parquet"}  # fmt: skip

Progress = Callable[[int, int], None]  # images done, images in all


@dataclass(frozen=True)
class DatasetSpec:
    """What names a prepared dataset: it crosses processes, the dataset object does not."""

    name: str
    settings: tuple[tuple[str, Any], ...]
    plugins: tuple[str, ...] = ()

    def make(self) -> Dataset:
        """Return the dataset object, made once per process."""
        return _make(self)


@lru_cache(maxsize=8)
def _make(spec: DatasetSpec) -> Dataset:
    component = catalogue(spec.plugins).find("dataset", spec.name)
    return build(component.load(), f"dataset {spec.name}", ("--set", dict(spec.settings)))[0]


@dataclass(frozen=True)
class Prepared:
    """A complete cache. `images` is a read-only memory map; nothing is read before it is asked for."""

    folder: Path
    index: Index
    images: NDArray[np.uint8]  # (N,C,S,S)
    fingerprint: str
    corrupt: tuple[str, ...] = ()  # files left out by skip_corrupt, by name
    manifest_sha256: str = ""  # of manifest.csv: id, patient, split(s) of every sample

    def __len__(self) -> int:
        return len(self.index)


def _frame(path: Path) -> pd.DataFrame:
    return pd.read_parquet(path)


def open_cache(folder: Path) -> Prepared:
    """Return a finished cache; `UsageError` where it is damaged."""
    meta = read_json(folder / "meta.json")
    try:
        images = np.load(folder / "images.npy", mmap_mode="r")
        index = Index(
            samples=_frame(folder / "samples.parquet"),
            labels=np.load(folder / "labels.npy", mmap_mode="r"),
            classes=tuple(meta["classes"]),
            boxes=_frame(folder / "boxes.parquet"),
            shortcuts=_frame(folder / "shortcuts.parquet"),
            notes=tuple(meta["notes"]),
        )
        if len(images) != len(index):
            raise ValueError(f"{len(images)} images for {len(index)} samples")
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(
            f"{folder}: the prepared data is damaged ({error}). Remove that folder and run again."
        ) from None
    return Prepared(folder, index, images, meta["fingerprint"], tuple(meta["corrupt"]), meta["manifest_sha256"])


def read_index(spec: DatasetSpec, root: Path) -> Index:
    """Return the dataset's table as its file makes it; what goes wrong in there is an error about the data."""
    try:
        return spec.make().index(root)
    except (OSError, LookupError, ValueError, TypeError) as error:
        raise UsageError(
            f"{spec.name}: no table could be made of the files in {root} ({type(error).__name__}: {error}). Look at "
            "--root and at the label files, or mend the dataset's index()."
        ) from error


def _stamp(root: Path, label_files: Sequence[str] = ()) -> str:
    """Return a digest of what a run checks without hashing: files beside the images, and folders of two levels.

    Names, sizes and times; a folder's time changes when an image is added to it or removed. `label_files` are patterns
    of files that lie deeper and count as well.
    """
    if not root.is_dir() or root == Path():
        return ""
    deeper = [p for pattern in label_files for p in root.glob(pattern)]
    places = [p for p in sorted([*root.glob("*"), *root.glob("*/*/"), *deeper]) if not p.name.startswith(".")]
    entries = [(str(p.relative_to(root)), p.stat().st_size if p.is_file() else 0, p.stat().st_mtime_ns) for p in places]
    return key_of({"root": str(root.resolve()), "entries": entries})


def cache_folder(spec: DatasetSpec, dataset: Dataset, root: Path, identity: dict[str, Any]) -> Path:
    """Return where the cache of a dataset lies: one per settings, plug-in bytes and state of its root's files."""
    key = key_of(
        {
            "cache": CACHE_VERSION,
            "dataset": identity,
            "settings": [[k, v] for k, v in sorted(dataclasses.asdict(dataset).items())],  # pyright: ignore
            "root": _stamp(root, dataset.label_files),
        }
    )
    return cache_home() / f"{spec.name}-{dataset.size}px-{key}"


def _decode(
    dataset: Dataset, rows: list[dict[str, Any]], root: Path, skip: bool
) -> Iterator[tuple[NDArray[np.uint8] | None, str]]:
    for row in rows:
        try:
            image = dataset.read(row, root)
            if channels_of(image) != dataset.channels:
                raise UsageError(
                    f"{row['id']}: read() gave shape {image.shape}; expected {dataset.channels} channel(s)."
                )
            yield to_size(image, dataset.size), ""
        except (UsageError, OSError) as error:
            if not skip:
                raise error if isinstance(error, UsageError) else _unread(row, error) from None
            yield None, f"{row['id']}: {error}"


def _unread(row: dict[str, Any], error: OSError) -> UsageError:
    return UsageError(f"{row['id']}: its file cannot be read ({error}). Fetch it again.")


def chunk_size(dataset: Dataset) -> int:
    """Return how many images are read between two marks of progress."""
    return max(CHUNK_IMAGES, CHUNK_BYTES // (dataset.channels * dataset.size**2))


def rows_of(index: Index, positions: NDArray[np.int64]) -> list[dict[str, Any]]:
    """Return the rows of one chunk as `Dataset.read` takes them."""
    chunk = index.samples.iloc[positions]
    names = list(map(str, chunk.columns))
    return [dict(zip(names, row, strict=True)) for row in zip(*(chunk[c].tolist() for c in chunk), strict=True)]


def _fill(spec: DatasetSpec, root: Path, images: Path, positions: list[int], rows: list[dict[str, Any]], skip: bool):
    """Decode one chunk into its file (in a worker process); return its digests and what was left out, and why."""
    dataset = spec.make()
    digests = np.zeros((len(rows), DIGEST), np.uint8)
    left_out: list[tuple[int, str]] = []

    def good() -> Iterator[tuple[int, NDArray[np.uint8]]]:
        for offset, (image, problem) in enumerate(_decode(dataset, rows, root, skip)):
            if image is None:
                left_out.append((positions[offset], problem))
                continue
            digests[offset] = unfinished.digest(image)
            yield positions[offset], image

    unfinished.write_images(images, good(), dataset.channels * dataset.size**2)
    return positions, digests, left_out


def leave_out(index: Index, kept: NDArray[np.bool_]) -> Index:
    """Return the index without the samples that are not `kept` (N,), nor their boxes and shortcuts."""
    ids = list(index.samples["id"].to_numpy()[kept])
    return dataclasses.replace(
        index,
        samples=index.samples[kept].reset_index(drop=True),
        labels=index.labels_at(np.flatnonzero(kept)),
        boxes=index.boxes[index.boxes["id"].isin(ids)].reset_index(drop=True),
        shortcuts=index.shortcuts[index.shortcuts["id"].isin(ids)].reset_index(drop=True),
    )


def prepare(
    spec: DatasetSpec,
    root: Path,
    identity: dict[str, Any],
    *,
    workers: int | None = None,
    progress: Progress | None = None,
    accept: Callable[[Index], None] | None = None,
) -> Prepared:
    """Return the cache of a dataset, filling it first where it is missing or unfinished.

    Parallel over `workers` processes; resumes after a kill; two processes that start at once do the work once.
    `accept` sees the index before any image is read, and raises where it is of no use to the run.
    Raises `UsageError` for bad index or image files (`skip_corrupt` leaves such images out and counts them), for too
    little disk, and where the files change while they are read.
    """
    dataset = spec.make()
    folder = cache_folder(spec, dataset, root, identity)
    if (folder / "meta.json").exists():
        return open_cache(folder)
    with writing(folder, ELSEWHERE):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _alone(folder, progress):
            if not (folder / "meta.json").exists():
                _build(spec, root, identity, folder, workers=workers, progress=progress, accept=accept)
                _publish(_work(folder), folder)
    return open_cache(folder)


def _work(folder: Path) -> Path:
    """Return where a cache is filled."""
    return folder.with_name(f"{folder.name}.partial")


@contextmanager
def _alone(folder: Path, progress: Progress | None) -> Iterator[None]:
    """Wait until no other process prepares this cache; show meanwhile how far that one is."""
    lock = FileLock(folder.with_name(f".{folder.name}.lock"))
    while True:
        try:
            lock.acquire(timeout=WAIT)
            break
        except Timeout:
            done, of = unfinished.progress(_work(folder))
            if progress and of:
                progress(done, of)
    try:
        yield
    finally:
        lock.release()


def _build(
    spec: DatasetSpec,
    root: Path,
    identity: dict[str, Any],
    folder: Path,
    *,
    workers: int | None,
    progress: Progress | None,
    accept: Callable[[Index], None] | None,
) -> None:
    """Fill the folder beside `folder` that ends in .partial, up to its meta.json."""
    work, dataset = _work(folder), spec.make()
    if (work / "meta.json").exists():  # killed when all but the renaming was done
        return
    index = check(read_index(spec, root), spec.name, dataset.task, dataset.splits)
    if accept:
        accept(index)
    shape = (len(index), dataset.channels, dataset.size, dataset.size)
    _room(spec.name, work, shape, twice=dataset.skip_corrupt)
    cache = unfinished.begin(work, shape)
    left_out: list[str] = []
    size = chunk_size(dataset)
    parts = (start + np.flatnonzero(cache.state[start : start + size] != READ) for start in range(0, len(index), size))
    chunks = [part for part in parts if len(part)]
    jobs = ((spec, root, cache.images, part.tolist(), rows_of(index, part), dataset.skip_corrupt) for part in chunks)
    if progress:
        progress(cache.done, len(index))
    try:
        for positions, digests, problems in parallel(_fill, jobs, len(chunks), workers, spec.name):
            cache.record(positions, digests, [position for position, _ in problems])
            left_out += [problem for _, problem in problems]
            if progress:
                progress(cache.done, len(index))
    except UsageError:
        _still_there(root)
        raise
    _still_there(root)
    if cache_folder(spec, dataset, root, identity) != folder:
        raise UsageError(
            f"{root}: files or folders in there were changed, added or removed while they were read. Give the command "
            "again when they are complete."
        )
    _finish(cache, dataset, index, sorted(left_out), size, spec.name)


def _still_there(root: Path) -> None:
    """Raise `UsageError` where the folder of a dataset is gone: its images are then no corrupt ones."""
    if root != Path() and not root.is_dir():
        raise UsageError(
            f"{root}: the folder of the dataset was there and is gone. Bring it back and give the command again: what "
            "was read is kept."
        ) from None


def _room(name: str, work: Path, shape: tuple[int, ...], *, twice: bool) -> None:
    """Raise `UsageError` where the disk has too little room for what a cache still needs.

    `twice`: images may be left out, and then those that are kept are copied once.
    """
    needed = int(np.prod(shape)) * 1.05 * (2 if twice else 1)
    missing = needed - sum(unfinished.allocated(work / file) for file in ("images.npy", "kept.npy"))
    free = shutil.disk_usage(work.parent).free
    if free < missing:
        raise UsageError(
            f"{work}: the cache of {name} needs {missing / 1e9:.2f} GB{' more' * work.exists()}, {free / 1e9:.2f} GB "
            "are free. Free some space, choose a smaller size, or set HARNESS_CACHE to another disk."
            + (" To leave images out it is copied once, which takes half of that." if twice else "")
        )


def _copy_kept(images: Path, kept: NDArray[np.bool_], size: int) -> Path:
    """Write the images that are kept (N,) to a file beside `images`, `size` of them at a time, and return its path.

    Memory may not hold all of them; the disk holds them twice until prepare has finished. A full disk is an `OSError`.
    """
    every = np.load(images, mmap_mode="r")
    target = images.with_name("kept.npy")
    with target.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, unfinished.header((int(kept.sum()), *every.shape[1:])))
        for start in range(0, len(every), size):
            chunk = slice(start, start + size)
            file.write(every[chunk][kept[chunk]].data)
    return target


def _finish(cache: Unfinished, dataset: Dataset, index: Index, left_out: Sequence[str], size: int, name: str) -> None:
    """Write what belongs to the images, all of it on the disk before meta.json, which says that the cache is whole."""
    work, kept = cache.folder, cache.state == READ
    written = ["images.npy", "labels.npy"]
    if kept.all():
        (work / "kept.npy").unlink(missing_ok=True)  # of an earlier attempt, when files were broken that are not now
    else:
        index = check(leave_out(index, kept), name, dataset.task, dataset.splits)
        written[0] = _copy_kept(cache.images, kept, size).name
    with (work / "labels.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, unfinished.header(index.labels.shape))
        file.write(np.ascontiguousarray(index.labels).data)
    manifest = index.manifest()
    write_bytes(work / "manifest.csv", manifest)  # the split, for other people to repeat
    for table in ("samples", "boxes", "shortcuts"):
        getattr(index, table).to_parquet(work / f"{table}.parquet", index=False)
        written.append(f"{table}.parquet")
    for file in written:
        unfinished.synchronise(work / file)
    meta = {
        "version": CACHE_VERSION,
        "fingerprint": dataset.fingerprint(index, cache.digests[kept]),
        "classes": list(index.classes),
        "notes": list(index.notes),
        "corrupt": list(left_out),
        "manifest_sha256": hashlib.sha256(manifest).hexdigest(),
    }
    write_json(work / "meta.json", meta)


def _publish(work: Path, folder: Path) -> None:
    """Give a filled cache its name. Repeatable: a prepare that is killed in here has only this left to do."""
    kept = work / "kept.npy"
    if kept.exists():
        os.replace(kept, work / "images.npy")
    for scratch in work.iterdir():
        if scratch.name not in FILES:
            scratch.unlink()
    os.replace(work, folder)


def _read_again(
    spec: DatasetSpec, root: Path, images: Path, start: int, rows: list[dict[str, Any]]
) -> tuple[int, list[tuple[int, str]]]:
    """Decode one chunk (in a worker process); return its length and the positions of bad images with what is wrong.

    That is what `Dataset.read` says, or that the image is not the one in the file `images`.
    """
    known = np.load(images, mmap_mode="r")
    found: list[tuple[int, str]] = []
    for position, (image, problem) in enumerate(_decode(spec.make(), rows, root, True), start):
        if image is None:
            found.append((position, problem))
        elif not np.array_equal(image, known[position]):
            found.append((position, "differs from the cache"))
    return len(rows), found


def _bad_images(
    spec: DatasetSpec, root: Path, index: Index, images: Path, workers: int | None, progress: Progress | None
) -> list[tuple[int, str]]:
    """Return position and problem of every image that `_read_again` finds bad, in table order."""
    size = chunk_size(spec.make())
    starts = range(0, len(index), size)
    chunks = (np.arange(s, min(s + size, len(index))) for s in starts)
    jobs = ((spec, root, images, int(chunk[0]), rows_of(index, chunk)) for chunk in chunks)
    done, bad = 0, []
    for count, found in parallel(_read_again, jobs, len(starts), workers, spec.name):
        done += count
        bad += found
        if progress:
            progress(done, len(index))
    return sorted(bad)


def verify_pixels(
    spec: DatasetSpec, root: Path, prepared: Prepared, *, workers: int | None = None, progress: Progress | None = None
) -> list[str]:
    """Decode every image again and compare it with the cache; return the ids that differ or no longer decode."""
    bad = _bad_images(spec, root, prepared.index, prepared.folder / "images.npy", workers, progress)
    ids = prepared.index.samples["id"]
    return [str(ids.iloc[position]) for position, _ in bad]
