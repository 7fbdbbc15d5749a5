"""Memory at its peak, beyond what was there before the work: does it grow with the work, or is it bounded?

Each case is a process of its own, forked before anything was done. Memory is anonymous memory, which the system cannot
take back; polled from /proc every 5 ms, so on Linux alone.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import report
import torch

from harness import listing, stats
from harness.data.batches import feed
from harness.data.cache import Prepared
from harness.data.index import Index
from harness.device import resolve
from harness.fit.loop import train
from harness.metrics.auroc import auroc
from harness.models.woods import resnet44
from harness.plugins import catalogue
from harness.recipe import Supervised
from harness.report.site import build
from harness.tasks import MultiLabel
from paths import evaluations, metrics, store, subject
from paths.turns import Table

TITLE = "Memory"
SAYS = (
    "Anonymous memory at its peak in a process of its own, beyond what that process held before the work (network and "
    "data of the smaller size included there). Bounded paths must not grow with the work."
)
POLL = 0.005  # s
LEAST = 2e6  # bytes: below, growth is the allocator's

Case = Callable[[int], Callable[[], Any]]


def anonymous(process: int) -> int:
    """Return the anonymous memory of a process in bytes, 0 where it has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:")), 0)


def peak(case: Case, size: int) -> int:
    """Return the bytes that the work held at its peak, beyond those before it, in a process of its own."""
    ready, done = os.pipe()
    process = os.fork()
    if not process:
        status = 1
        try:
            work = case(size)
            os.write(done, b"%d" % anonymous(os.getpid()))
            os.close(done)
            work()
            status = 0
        finally:
            os._exit(status)
    os.close(done)
    before = int(os.read(ready, 32) or 0)
    os.close(ready)
    most = 0
    while True:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            break
        most = max(most, anonymous(process))
        time.sleep(POLL)
    if status or not before:
        raise RuntimeError(f"{case}: the process ended with {status}")
    return max(0, most - before)


def training(images: int) -> Callable[[], Any]:
    """An epoch of resnet44, 32 images at once, from a memory map as `data prepare` leaves it."""
    subject.start()
    place = Path(tempfile.mkdtemp())
    rng, n = np.random.default_rng(0), images + 2
    np.save(place / "images.npy", rng.integers(0, 256, (n, 3, 32, 32), np.uint8))
    names = [str(i) for i in range(n)]
    split = pd.DataFrame({"id": names, "patient": names, "split": ["train"] * images + ["validation"] * 2})
    index = Index(split, rng.integers(0, 2, (n, 8), np.uint8), tuple("abcdefgh"))
    prepared = Prepared(place, index, np.load(place / "images.npy", mmap_mode="r"), "drawn")
    compute, task = resolve("cpu", "fp32"), MultiLabel()
    parts = [feed(prepared, index.of_split(s), task, compute) for s in ("train", "validation")]
    model = resnet44(**{**subject.CIFAR, "num_classes": 8})
    return lambda: train(Supervised(max_epochs=1), model, task, *parts, compute=compute, seed=0, folder=place,
                         names=lambda i: [str(j) for j in i.tolist()])  # fmt: skip


def explaining(name: str, settings: dict[str, Any], count: int) -> Callable[[], Any]:
    """An explainer on `count` images at once."""
    subject.start()
    model = subject.network()
    x, y = subject.images(model, count)
    call = catalogue().load("explainer", name)(**settings)
    return lambda: call(model, x, y, seeds=torch.arange(count))


def masked(count: int) -> Callable[[], Any]:
    """RISE of four images with `count` masks."""
    return explaining("rise", {"masks": count}, 4)


def evaluating(name: str, settings: dict[str, Any], count: int) -> Callable[[], Any]:
    """An evaluation of `count` images."""
    subject.start()
    more = {} if name == "localisation" else {"images": count}  # that one takes all pairs there are
    return evaluations.scoring(name, evaluations.asked(count, 56), **settings, **more)


def ranking(images: int) -> Callable[[], Any]:
    """AUROC of 14 findings with 64 resamples."""
    table = metrics.scores(images, 14)
    return lambda: stats.estimate(auroc, table, table.clusters, resamples=64)


def listed(count: int) -> Callable[[], Any]:
    """A first listing of `count` runs."""
    place = Path(tempfile.mkdtemp())
    os.environ["HARNESS_CACHE"] = str(place / "cache")
    store.copies(place / "runs", count)
    return lambda: listing.runs(place / "runs")


def reported(count: int) -> Callable[[], Any]:
    """A report of `count` runs."""
    place = Path(tempfile.mkdtemp())
    report.KINDS = 10
    report.write(place / "runs", count)
    return lambda: build(place / "runs", None, place / "site", cache=place / "cache")


CASES: dict[str, tuple[Case, tuple[int, int], bool, str]] = {  # work, two sizes, whether it must be bounded, of what
    "training, 32 images at once": (training, (64, 256), True, "images"),
    "saliency": (partial(explaining, "saliency", {}), (8, 32), False, "images at once"),
    "rise, 4 images": (masked, (64, 256), True, "masks"),
    "insertion_deletion": (partial(evaluating, "insertion_deletion", {"resolutions": (7,), "batch": 4}), (24, 96), True,
                           "images"),
    "localisation": (partial(evaluating, "localisation", {}), (64, 256), True, "pairs"),
    "sensitivity, 2 draws": (partial(evaluating, "sensitivity", {"draws": 2, "batch": 8}), (16, 64), True, "images"),
    "auroc of 14 findings": (ranking, (6_000, 24_000), False, "images"),
    "`harness list runs`, read anew": (listed, (100, 400), True, "runs"),
    "`harness report`": (reported, (20, 80), False, "runs"),
}  # fmt: skip


def measure(quick: bool) -> list[Table]:
    table = Table(
        "At two sizes", {
            "work": ("text", ""),
            "of": ("text", "what there is more of"),
            "small": ("count", ""),
            "large": ("count", ""),
            "held, small": ("MB", ""),
            "held, large": ("MB", ""),
            "growth": ("ratio", "of memory, where the work grows fourfold; 1: bounded"),
        }, judged="growth",
    )  # fmt: skip
    names = ("localisation",) if quick else tuple(CASES)
    for name in names:
        case, sizes, bounded, of = CASES[name]
        if quick:
            sizes = (4, 8)
        held = [peak(case, size) for size in sizes]
        grown = max(held[1], LEAST) / max(held[0], LEAST)
        table.add(
            name, of, *sizes, *(b / 1e6 for b in held), grown, **({"most": 1.25} if bounded and not quick else {})
        )
    return [table]
