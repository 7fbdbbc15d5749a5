"""The prepared dataset: every image once, as uint8 at the working size, in one memory-mapped file.

    <cache home>/<dataset>-<size>-<key>/  images.npy (N,C,S,S) uint8, samples.parquet, labels.npy, boxes.parquet,
                                          shortcuts.parquet, meta.json
Prepare fills a folder that ends in .partial and renames it when all is there, so a cache is complete or absent;
a killed prepare goes on where it was.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, as_completed, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from filelock import FileLock
from numpy.typing import NDArray

from harness.config import build
from harness.data.dataset import Dataset
from harness.data.decode import channels_of, to_size
from harness.data.index import Index, check
from harness.data.roots import cache_home
from harness.errors import UsageError
from harness.plugins import catalogue
from harness.store import key_of, read_json, write_bytes, write_json, writing

CACHE_VERSION = 1
CHUNK_BYTES = 4 * 2**20  # of decoded images between two marks of progress; at least CHUNK_IMAGES
CHUNK_IMAGES = 64
DIGEST = 16  # bytes kept of each image's sha256
AHEAD = 4  # chunks per worker that are handed out at once: the table is not copied to the workers' queue as a whole

Progress = Callable[[int, int], None]  # images done, images in all
T = TypeVar("T")


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
            labels=np.load(folder / "labels.npy"),
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


def _stamp(root: Path) -> str:
    """Return a digest of what a run checks without hashing: files beside the images, and folders of two levels.

    Names, sizes and times; a folder's time changes when an image is added to it or removed.
    """
    if not root.is_dir() or root == Path():
        return ""
    places = [p for p in sorted([*root.glob("*"), *root.glob("*/*/")]) if not p.name.startswith(".")]
    entries = [(str(p.relative_to(root)), p.stat().st_size if p.is_file() else 0, p.stat().st_mtime_ns) for p in places]
    return key_of({"root": str(root.resolve()), "entries": entries})


def cache_folder(spec: DatasetSpec, dataset: Dataset, root: Path, identity: dict[str, Any]) -> Path:
    """Return where the cache of a dataset lies: one per settings, plug-in bytes and state of its root's files."""
    key = key_of(
        {
            "cache": CACHE_VERSION,
            "dataset": identity,
            "settings": [[k, v] for k, v in sorted(dataclasses.asdict(dataset).items())],  # pyright: ignore
            "root": _stamp(root),
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
        except UsageError as error:
            if not skip:
                raise
            yield None, f"{row['id']}: {error}"


def _chunk_size(dataset: Dataset) -> int:
    """Return how many images are read between two marks of progress."""
    return max(CHUNK_IMAGES, CHUNK_BYTES // (dataset.channels * dataset.size**2))


def _rows(index: Index, start: int, size: int) -> list[dict[str, Any]]:
    """Return the rows of one chunk as `Dataset.read` takes them."""
    return index.samples.iloc[start : start + size].to_dict("records")


def _fill(spec: DatasetSpec, root: Path, images: Path, start: int, rows: list[dict[str, Any]], skip: bool):
    """Decode one chunk into the memory map (in a worker process); return its digests and what was skipped."""
    dataset = spec.make()
    target = np.load(images, mmap_mode="r+")
    digests = np.zeros((len(rows), DIGEST), np.uint8)
    skipped: list[tuple[int, str]] = []
    for offset, (image, problem) in enumerate(_decode(dataset, rows, root, skip)):
        if image is None:
            skipped.append((offset, problem))
            continue
        target[start + offset] = image
        digests[offset] = np.frombuffer(hashlib.sha256(image.tobytes()).digest()[:DIGEST], np.uint8)
    target.flush()
    return start, digests, skipped


def _leave_out(index: Index, kept: NDArray[np.bool_]) -> Index:
    ids = list(index.samples["id"].to_numpy()[kept])
    return dataclasses.replace(
        index,
        samples=index.samples[kept].reset_index(drop=True),
        labels=index.labels[kept],
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
) -> Prepared:
    """Return the cache of a dataset, filling it first where it is missing or unfinished.

    Parallel over `workers` processes; resumes after a kill; two processes that start at once do the work once.
    Raises `UsageError` for bad index or image files (`skip_corrupt` leaves such images out and counts them).
    """
    dataset = spec.make()
    folder = cache_folder(spec, dataset, root, identity)
    if (folder / "meta.json").exists():
        return open_cache(folder)
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f".{folder.name}.lock")):
            if not (folder / "meta.json").exists():
                _build(spec, dataset, root, folder, workers=workers, progress=progress)
    return open_cache(folder)


def _build(
    spec: DatasetSpec,
    dataset: Dataset,
    root: Path,
    folder: Path,
    *,
    workers: int | None,
    progress: Progress | None,
) -> None:
    index = check(read_index(spec, root), spec.name, dataset.task, dataset.splits)
    shape = (len(index), dataset.channels, dataset.size, dataset.size)
    needed = int(np.prod(shape))
    work = folder.with_name(f"{folder.name}.partial")
    work.mkdir(exist_ok=True)
    images = work / "images.npy"
    marks = work / "done.npy"
    if not marks.exists() or np.load(marks, mmap_mode="r").shape != (len(index),):
        free = shutil.disk_usage(work).free
        if free < needed * 1.05:
            raise UsageError(
                f"{work}: the cache of {spec.name} needs {needed / 1e9:.2f} GB, {free / 1e9:.2f} GB are free. "
                "Free some space, choose a smaller size, or set HARNESS_CACHE to another disk."
            )
        np.lib.format.open_memmap(images, mode="w+", dtype=np.uint8, shape=shape).flush()
        np.lib.format.open_memmap(work / "digests.npy", mode="w+", dtype=np.uint8, shape=(len(index), DIGEST)).flush()
        np.lib.format.open_memmap(marks, mode="w+", dtype=np.uint8, shape=(len(index),)).flush()
    done = np.load(marks, mmap_mode="r+")  # 0 to do, 1 read, 2 left out
    digests = np.load(work / "digests.npy", mmap_mode="r+")
    skipped: list[str] = []
    size = _chunk_size(dataset)
    starts = [s for s in range(0, len(index), size) if not (done[s : s + size] == 1).all()]
    if progress:
        progress(int((done > 0).sum()), len(index))
    jobs = ((spec, root, images, s, _rows(index, s, size), dataset.skip_corrupt) for s in starts)
    for start, found, problems in _parallel(_fill, jobs, len(starts), workers, spec.name):
        digests[start : start + len(found)] = found
        digests.flush()  # before the mark: a chunk that is marked is whole
        mark = np.ones(len(found), np.uint8)
        mark[[offset for offset, _ in problems]] = 2
        done[start : start + len(found)] = mark  # at once: a kill between two assignments would keep a black image
        done.flush()
        skipped += [problem for _, problem in problems]
        if progress:
            progress(int((done > 0).sum()), len(index))
    kept = np.asarray(done) == 1
    if not kept.all():
        index = check(_leave_out(index, kept), spec.name, dataset.task, dataset.splits)
        images = _copy_kept(images, kept, size)
    _finish(work, folder, dataset, index, images, np.asarray(digests)[kept], sorted(skipped))


def _copy_kept(images: Path, kept: NDArray[np.bool_], size: int) -> Path:
    """Write the images that are kept (N,) to a file beside `images`, `size` of them at a time, and return its path.

    Memory may not hold all of them; the disk holds them twice until prepare has finished. A full disk is an `OSError`.
    """
    every = np.load(images, mmap_mode="r")
    target = images.with_name("kept.npy")
    header = {"descr": "|u1", "fortran_order": False, "shape": (int(kept.sum()), *every.shape[1:])}
    with target.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, len(every), size):
            chunk = slice(start, start + size)
            file.write(every[chunk][kept[chunk]].data)
    return target


def _finish(
    work: Path,
    folder: Path,
    dataset: Dataset,
    index: Index,
    images: Path,
    digests: NDArray[np.uint8],
    skipped: Sequence[str],
) -> None:
    np.save(work / "labels.npy", index.labels)
    manifest = index.manifest()
    write_bytes(work / "manifest.csv", manifest)  # the split, for other people to repeat
    for name in ("samples", "boxes", "shortcuts"):
        getattr(index, name).to_parquet(work / f"{name}.parquet", index=False)
    meta = {
        "version": CACHE_VERSION,
        "fingerprint": dataset.fingerprint(index, digests),
        "classes": list(index.classes),
        "notes": list(index.notes),
        "corrupt": list(skipped),
        "manifest_sha256": hashlib.sha256(manifest).hexdigest(),
    }
    write_json(work / "meta.json", meta)
    for scratch in ("done.npy", "digests.npy"):  # first: a prepare that is killed from here on starts anew
        (work / scratch).unlink()
    os.replace(images, work / "images.npy")
    (work / "kept.npy").unlink(missing_ok=True)  # of an earlier attempt, when files were broken that are not now
    os.replace(work, folder)


def _parallel(
    work: Callable[..., T], jobs: Iterable[tuple[Any, ...]], count: int, workers: int | None, name: str
) -> Iterator[T]:
    """Yield the result of each of `count` jobs, as they are done, from `workers` processes (None: one per core).

    Jobs are made only when a worker is about to need them. Raises `UsageError` where a worker is killed.
    """
    workers = min(workers or os.cpu_count() or 1, count)
    if workers <= 1:
        yield from itertools.starmap(work, jobs)
        return
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
    waiting: set[Future[T]] = set()
    try:
        for job in jobs:
            waiting.add(pool.submit(work, *job))
            if len(waiting) == AHEAD * workers:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        yield from (future.result() for future in as_completed(waiting))
    except BrokenProcessPool:
        raise UsageError(
            f"a worker that reads {name} was killed, perhaps for want of memory. Give the command again: "
            "what was read is kept."
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


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
    size = _chunk_size(spec.make())
    starts = range(0, len(index), size)
    jobs = ((spec, root, images, s, _rows(index, s, size)) for s in starts)
    done, bad = 0, []
    for count, found in _parallel(_read_again, jobs, len(starts), workers, spec.name):
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
