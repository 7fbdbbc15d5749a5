"""A cache that is being filled: which images are in it already, so that a killed prepare goes on where it was.

    <cache>.partial/  images.npy   (N,C,S,S) uint8, written in place
                      done         a byte per image: 0 to do, 1 read, 2 left out
                      digests      16 bytes per image: of its pixels' sha256
                      boot         of which start of the machine the marks above are
Images are written before their marks, and what a killed process wrote stays written. Power that fails keeps no such
order: after another start of the machine every image is compared with its digest once.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

TO_DO, READ, LEFT_OUT = 0, 1, 2
DIGEST = 16  # bytes kept of each image's sha256
BUFFER = 2**20  # bytes
BOOT = Path("/proc/sys/kernel/random/boot_id")


def digest(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the first bytes of the sha256 of an image's pixels."""
    return np.frombuffer(hashlib.sha256(image.tobytes()).digest()[:DIGEST], np.uint8)


@dataclass(frozen=True)
class Unfinished:
    """The folder of a cache that is being filled, and the marks of its images."""

    folder: Path
    shape: tuple[int, ...]  # (N,C,S,S)
    state: NDArray[np.uint8]  # (N,)
    digests: NDArray[np.uint8]  # (N,DIGEST)

    @property
    def images(self) -> Path:
        """Return the file of the images."""
        return self.folder / "images.npy"

    @property
    def done(self) -> int:
        """Return how many images need not be read any more."""
        return int(np.count_nonzero(self.state))

    def record(self, positions: Sequence[int], digests: NDArray[np.uint8], left_out: Iterable[int]) -> None:
        """Mark the images at `positions`, ascending, as read, but those `left_out`."""
        self.digests[positions] = digests
        self.state[positions] = READ
        self.state[list(left_out)] = LEFT_OUT
        span = slice(positions[0], positions[-1] + 1)
        _write(self.folder / "digests", positions[0] * DIGEST, self.digests[span])
        _write(self.folder / "done", positions[0], self.state[span])  # at once, and last: what is marked is whole


def begin(folder: Path, shape: tuple[int, ...]) -> Unfinished:
    """Return the unfinished cache in `folder` for images of `shape`, as an earlier prepare left it, or a new one."""
    found = _earlier(folder, shape)
    if found is not None:
        return found
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    with (folder / "images.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header(shape))
        file.truncate(file.tell() + int(np.prod(shape)))
    made = Unfinished(folder, shape, np.zeros(shape[0], np.uint8), np.zeros((shape[0], DIGEST), np.uint8))
    (folder / "digests").write_bytes(made.digests.data)  # in full, not sparse: there is room for every mark
    (folder / "boot").write_text(_boot())
    (folder / "done").write_bytes(made.state.data)
    return made


def progress(folder: Path) -> tuple[int, int]:
    """Return how many images are in the unfinished cache of another process, and how many there will be; 0, 0: none."""
    try:
        state = np.fromfile(folder / "done", np.uint8)
    except OSError:
        return 0, 0
    return int(np.count_nonzero(state)), len(state)


def header(shape: tuple[int, ...]) -> dict[str, object]:
    """Return the header of an .npy file of uint8."""
    return {"descr": "|u1", "fortran_order": False, "shape": shape}


def write_images(path: Path, images: Iterable[tuple[int, NDArray[np.uint8]]], size: int) -> None:
    """Write images of `size` bytes to their positions in an .npy file. A full disk is an `OSError`, not a signal."""
    with path.open("r+b", buffering=BUFFER) as file:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        first, following = file.tell(), -1
        for position, image in images:
            if position != following:
                file.seek(first + position * size)
            file.write(np.ascontiguousarray(image).data)
            following = position + 1


def allocated(path: Path) -> int:
    """Return the bytes of the disk that a file takes; 0 where there is none or that is not known."""
    try:
        return getattr(path.stat(), "st_blocks", 0) * 512
    except OSError:
        return 0


def _earlier(folder: Path, shape: tuple[int, ...]) -> Unfinished | None:
    """Return what is there of an earlier prepare; None where it is not all there, or is of another shape."""
    try:
        images = np.load(folder / "images.npy", mmap_mode="r")
        state = np.fromfile(folder / "done", np.uint8)
        digests = np.fromfile(folder / "digests", np.uint8)
        boot = (folder / "boot").read_text()
    except (OSError, ValueError):
        return None
    if images.shape != shape or images.dtype != np.uint8 or len(state) != shape[0] or digests.size != DIGEST * shape[0]:
        return None
    digests = digests.reshape(-1, DIGEST)
    if not boot or boot != _boot():
        state[list(_damaged(images, state, digests))] = TO_DO
        _write(folder / "done", 0, state)
        (folder / "boot").write_text(_boot())
    return Unfinished(folder, shape, state, digests)


def _damaged(images: NDArray[np.uint8], state: NDArray[np.uint8], digests: NDArray[np.uint8]) -> Iterator[int]:
    """Yield the positions of images that are marked as read and are not those of their digests."""
    for position in np.flatnonzero(state == READ):
        if not np.array_equal(digest(images[position]), digests[position]):
            yield int(position)


def _write(path: Path, offset: int, content: NDArray[np.uint8]) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(np.ascontiguousarray(content).data)


def _boot() -> str:
    """Return what names the current start of the machine; "" where the system does not say."""
    try:
        return BOOT.read_text().strip()
    except OSError:
        return ""


def synchronise(path: Path) -> None:
    """Wait until the content of a file is on the disk."""
    with path.open("r+b") as file:
        os.fsync(file.fileno())
