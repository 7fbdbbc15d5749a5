"""From the cache to batches on the device: order, augmentation and placement."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from harness.data.cache import Prepared
from harness.device import Compute, sent
from harness.rng import rng_for
from harness.tasks import Task
from harness.types import Batch

GPU_SHARE = 0.5  # of the free GPU memory: above it the images stay on the host
PART_BYTES = 64 * 2**20  # of images on their way to the GPU at once
BUFFERS = 4  # batches read ahead for a GPU: one that is being copied, one that waits, one that is being read, one spare


@dataclass(frozen=True)
class Feed:
    """One part of a prepared dataset, ready to be drawn from. Holds the images on the GPU where they fit."""

    images: NDArray[np.uint8] | Tensor  # (M,C,S,S): the whole memory map, or on the device the n images alone
    y: Tensor  # targets of the n samples, on the device
    positions: NDArray[np.int64]  # (n,) position of each sample in the dataset's table
    compute: Compute

    def __len__(self) -> int:
        return len(self.positions)

    def batch(self, chosen: NDArray[np.int64]) -> Batch:
        """Return the images at `chosen` (0..n-1) as one batch, floats in [0,1]."""
        if isinstance(self.images, Tensor):
            return self.of(self.images[sent(torch.from_numpy(chosen), self.compute.device)], chosen)
        return self.of(_taken(self.images, self.positions[chosen]).to(self.compute.device), chosen)

    def of(self, images: Tensor, chosen: NDArray[np.int64]) -> Batch:
        """Return the batch of images that are on the device already, uint8: its floats are a copy of them."""
        x = images.to(torch.float32).div_(255).contiguous(memory_format=self.compute.memory_format)
        rows = sent(torch.from_numpy(chosen), self.compute.device)
        return Batch(x, self.y[rows], torch.from_numpy(self.positions[chosen]))

    def batches(self, size: int) -> Iterator[Batch]:
        """Yield all images in order, `size` at a time."""
        starts = range(0, len(self), size)
        return self.stream(np.arange(start, min(start + size, len(self))) for start in starts)

    def stream(self, choices: Iterable[NDArray[np.int64]]) -> Iterator[Batch]:
        """Yield a batch for each of `choices` (as `batch` takes them), the same whichever way the images come.

        For a GPU that does not hold them they are read ahead while it works.
        """
        if isinstance(self.images, Tensor) or self.compute.kind == "cpu":
            yield from map(self.batch, choices)
            return
        with closing(ahead(self, list(choices), pinned=True)) as batches:
            yield from batches


def _taken(images: NDArray[np.uint8], positions: NDArray[np.int64]) -> Tensor:
    """Return the images at `positions`, (B,C,S,S) uint8: consecutive ones are the memory map's own bytes, no copy."""
    first = int(positions[0]) if len(positions) else 0
    if not len(positions) or not np.array_equal(positions, np.arange(first, first + len(positions))):
        return torch.from_numpy(images[positions])
    return torch.from_numpy(np.asarray(_Lent(images[first : first + len(positions)])))


class _Lent:
    """A read-only array as torch takes it without a warning or a copy. Nothing may write to it."""

    def __init__(self, array: NDArray[np.uint8]) -> None:
        self.array = array  # kept alive as long as what is made of it
        interface = array.__array_interface__
        self.__array_interface__ = {**interface, "data": (interface["data"][0], False)}


def ahead(feed: Feed, choices: list[NDArray[np.int64]], *, pinned: bool) -> Generator[Batch, None, None]:
    """Yield the batches of `choices`; a thread reads the next ones from the memory map meanwhile.

    It fills a few buffers of (page-locked) memory in turn, from which a GPU copies while it computes.
    """
    assert not isinstance(feed.images, Tensor)
    images, largest = feed.images, max(map(len, choices), default=0)
    buffers = [torch.empty((largest, *images.shape[1:]), dtype=torch.uint8, pin_memory=pinned) for _ in range(BUFFERS)]
    free: SimpleQueue[Tensor | None] = SimpleQueue()
    filled: SimpleQueue[Tensor | BaseException] = SimpleQueue()
    for buffer in buffers:
        free.put(buffer)
    stopped = threading.Event()

    def fill() -> None:
        try:
            for chosen in choices:
                buffer = free.get()
                if buffer is None or stopped.is_set():
                    return
                np.take(images, feed.positions[chosen], axis=0, out=buffer.numpy()[: len(chosen)], mode="clip")
                filled.put(buffer)
        except BaseException as error:
            filled.put(error)

    thread = threading.Thread(target=fill, daemon=True)
    thread.start()
    copying: deque[tuple[Tensor, Any]] = deque()
    try:
        for chosen in choices:
            buffer = filled.get()
            if isinstance(buffer, BaseException):
                raise buffer
            batch = feed.of(buffer[: len(chosen)].to(feed.compute.device, non_blocking=pinned), chosen)
            copying.append((buffer, _copied(feed.compute.device)))
            if len(copying) > 1:
                earlier, copied = copying.popleft()
                if copied is not None:
                    copied.synchronize()
                free.put(earlier)
            yield batch
    finally:
        stopped.set()
        free.put(None)
        thread.join()


def _copied(device: torch.device) -> Any:
    """Return an event that passes when the device has done all it was asked to; None where it works at once."""
    if device.type != "cuda":
        return None
    event = torch.cuda.Event()
    event.record(torch.cuda.current_stream(device))
    return event


def feed(prepared: Prepared, positions: NDArray[np.int64], task: Task, compute: Compute) -> Feed:
    """Return the samples at `positions` of a prepared dataset as a feed on `compute`'s device."""
    device = compute.device
    images: NDArray[np.uint8] | Tensor = prepared.images
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        if len(positions) * prepared.images[0].size < GPU_SHARE * free:
            images = on_device(prepared.images, positions, device)
    y = encoded(prepared.index.labels, positions, task).to(device)
    return Feed(images, y, np.asarray(positions, np.int64), compute)


def encoded(labels: NDArray[np.uint8], positions: NDArray[np.int64], task: Task) -> Tensor:
    """Return the targets of the n samples at `positions`, on the host, in parts: labels may be more than it holds."""
    count = max(1, PART_BYTES // max(1, labels.shape[1]))
    starts = range(0, max(1, len(positions)), count)
    return torch.cat([task.encode(torch.from_numpy(labels[positions[start : start + count]])) for start in starts])


def on_device(images: NDArray[np.uint8], positions: NDArray[np.int64], device: torch.device) -> Tensor:
    """Return the n images at `positions` on the device, (n,C,S,S), copied in parts: the host may not hold them all."""
    found = torch.empty((len(positions), *images.shape[1:]), dtype=torch.uint8, device=device)
    count = max(1, PART_BYTES // int(np.prod(images.shape[1:])))
    for start in range(0, len(positions), count):
        found[start : start + count] = torch.from_numpy(images[positions[start : start + count]])
    return found


def epoch_order(n: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Return the order of an epoch, a permutation of n that follows from seed and epoch alone."""
    return rng_for(seed, "order", epoch).permutation(n)


def augment(x: Tensor, how: str, rng: torch.Generator) -> Tensor:
    """Return x (B,C,H,W) augmented on its device: `none`, `flip` (horizontal), `pad_crop_flip`.

    pad_crop_flip is replicate padding by 4, a flip, and a random crop back, per image (Woods 2019, code).
    """
    if how == "none":
        return x
    b, _, height, width = x.shape
    flip = sent(torch.rand(b, generator=rng).lt(0.5), x.device)
    x = torch.where(flip[:, None, None, None], x.flip(3), x)
    if how == "flip":
        return x
    pad = 4
    padded = F.pad(x, (pad, pad, pad, pad), mode="replicate")
    dy, dx = (sent(torch.randint(0, 2 * pad + 1, (b, 1), generator=rng), x.device) for _ in range(2))
    rows = dy + torch.arange(height, device=x.device)  # (B,H)
    columns = dx + torch.arange(width, device=x.device)  # (B,W)
    picked = padded.permute(0, 2, 3, 1)[
        torch.arange(b, device=x.device)[:, None, None], rows[:, :, None], columns[:, None]
    ]
    return picked.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
