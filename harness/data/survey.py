"""A look at every image of a dataset: which cannot be read, which are equal, and what their files are."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.data.cache import DatasetSpec, Progress, chunk_size, rows_of
from harness.data.decode import channels_of, image_header, to_size
from harness.data.index import Index
from harness.data.unfinished import DIGEST
from harness.data.workers import parallel
from harness.errors import UsageError

UNPACKED = "no file of its own"  # drawn, or read out of a larger file


@dataclass(frozen=True)
class Survey:
    """What was found of the N images of an index, in table order; 32 bytes are kept of each, whatever its size."""

    broken: list[str]  # what is wrong with those that cannot be read
    readable: NDArray[np.bool_]  # (N,)
    content: NDArray[np.uint8]  # (N,16) digest of the decoded pixels, at the size they have
    working: NDArray[np.uint8]  # (N,16) digest of the image at the working size, as prepare keeps it
    sizes: NDArray[np.int32]  # (N,2) width and height of the upright file, px
    kinds: dict[str, int]  # format and mode of the files -> images


@dataclass(frozen=True)
class Duplicates:
    """Images of equal pixels, as groups of positions; `apart` holds those that are not all in the same part."""

    groups: list[NDArray[np.int64]]
    apart: list[NDArray[np.int64]]
    mislabelled: list[NDArray[np.int64]]  # equal images whose labels differ

    @property
    def repeated(self) -> int:
        """Return how many images could go without an image being lost."""
        return sum(len(group) - 1 for group in self.groups)


def survey(
    spec: DatasetSpec, root: Path, index: Index, *, workers: int | None = None, progress: Progress | None = None
) -> Survey:
    """Decode every image once, in `workers` processes (None: one per core), and return what was found."""
    size, n = chunk_size(spec.make()), len(index)
    starts = range(0, n, size)
    jobs = ((spec, root, s, rows_of(index, np.arange(s, min(s + size, n)))) for s in starts)
    content, working = (np.zeros((n, DIGEST), np.uint8) for _ in range(2))
    readable, sizes = np.ones(n, bool), np.zeros((n, 2), np.int32)
    kinds: Counter[str] = Counter()
    problems: dict[int, str] = {}
    done = 0
    for start, digests, chunk_sizes, chunk_kinds, bad in parallel(_look, jobs, len(starts), workers, spec.name):
        part = slice(start, start + len(digests))
        content[part], working[part] = digests[:, :DIGEST], digests[:, DIGEST:]
        sizes[part] = chunk_sizes
        kinds += chunk_kinds
        problems |= bad
        done += len(digests)
        if progress:
            progress(done, n)
    readable[list(problems)] = False
    broken = [problems[position] for position in sorted(problems)]
    return Survey(broken, readable, content, working, sizes, dict(sorted(kinds.items())))


def _look(spec: DatasetSpec, root: Path, start: int, rows: list[dict[str, Any]]):
    """Look at one chunk (in a worker process): two digests, size and kind of each image, and what is wrong with it."""
    dataset = spec.make()
    digests = np.zeros((len(rows), 2 * DIGEST), np.uint8)
    sizes = np.zeros((len(rows), 2), np.int32)
    kinds: Counter[str] = Counter()
    bad: dict[int, str] = {}
    for i, row in enumerate(rows):
        try:
            image = dataset.read(row, root)
            if channels_of(image) != dataset.channels:
                raise UsageError(f"read() gave shape {image.shape}; expected {dataset.channels} channel(s).")
        except UsageError as error:
            bad[start + i] = f"{row['id']}: {error}"
            continue
        digests[i] = np.concatenate([_digest(image, str(image.shape)), _digest(to_size(image, dataset.size))])
        kind, sizes[i] = _file(row, root, image)
        kinds[kind] += 1
    return start, digests, sizes, kinds, bad


def _digest(image: NDArray[np.uint8], shape: str = "") -> NDArray[np.uint8]:
    found = hashlib.sha256(shape.encode() + image.tobytes()).digest()
    return np.frombuffer(found[:DIGEST], np.uint8)


def _file(row: Mapping[str, Any], root: Path, image: NDArray[np.uint8]) -> tuple[str, tuple[int, int]]:
    """Return kind and size of the file of a row; where it is no image file, the size that was read."""
    if "path" in row:
        try:
            header = image_header(root / str(row["path"]))
        except UsageError:
            pass
        else:
            return header.kind, header.size
    return UNPACKED, (image.shape[1], image.shape[0])


def duplicates(index: Index, found: Survey) -> Duplicates:
    """Return the groups of images whose decoded pixels are equal, in table order."""
    positions = np.flatnonzero(found.readable)
    first, second = np.ascontiguousarray(found.content[positions]).view(np.uint64).T
    order = np.lexsort((second, first))  # stable: within a group in table order
    first, second, positions = first[order], second[order], positions[order]
    starts = np.flatnonzero(np.r_[True, (first[1:] != first[:-1]) | (second[1:] != second[:-1])])
    sizes = np.diff(np.r_[starts, len(positions)])
    groups = [positions[s : s + size] for s, size in zip(starts, sizes, strict=True) if size > 1]
    groups.sort(key=lambda group: int(group[0]))
    parts = index.samples.loc[:, list(index.split_columns)].to_numpy(str)  # (N,folds)
    return Duplicates(
        groups=groups,
        apart=[g for g in groups if (parts[g] != parts[g[0]]).any()],
        mislabelled=[g for g in groups if (index.labels[g] != index.labels[g[0]]).any()],
    )
