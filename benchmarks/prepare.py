"""Images per second of `data prepare` against a bare loop of decode + resize over the same files.

    HARNESS_DATA=FOLDER OMP_NUM_THREADS=1 python benchmarks/prepare.py [chestxray14] [--size 224] [--workers 2]

The ratio is what counts (target: at least 0.85). Bare is the least that could be done: as many processes, each with its
share of the same rows, `read` and the resize, and nothing kept. Both begin when the table is made. They are measured
twice: with the start of the processes, as a user waits for it, and from where the processes of the bare loop run
already. Bare and prepare alternate, so that both see the same machine.
"""

import argparse
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from harness.config import build
from harness.data import cache
from harness.data.cache import DatasetSpec
from harness.data.decode import to_size
from harness.data.roots import find_root
from harness.data.workers import cores
from harness.plugins import catalogue

SETTINGS: dict[str, dict[str, Any]] = {"chestxray14": {"subset": True}}


def bare(spec: DatasetSpec, root: Path, rows: list[dict[str, Any]]) -> int:
    """Decode and resize every row, as plainly as can be."""
    dataset = spec.make()
    for row in rows:
        to_size(dataset.read(row, root), dataset.size)
    return len(rows)


def ready(spec: DatasetSpec) -> None:
    """Load what reading needs; long enough that each process gets one of these."""
    spec.make()
    time.sleep(0.3)


def bare_seconds(
    spec: DatasetSpec, root: Path, rows: list[dict[str, Any]], workers: int, size: int
) -> tuple[float, float]:
    """Return seconds of the bare loop: with the start of its processes, and without."""
    chunks = [rows[i : i + size] for i in range(0, len(rows), size)]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        began = time.perf_counter()
        done = sum(pool.map(bare, [spec] * len(chunks), [root] * len(chunks), chunks))
        cold = time.perf_counter() - began
        assert done == len(rows)
        list(pool.map(ready, [spec] * workers))
        began = time.perf_counter()
        list(pool.map(bare, [spec] * len(chunks), [root] * len(chunks), chunks))
        return cold, time.perf_counter() - began


def prepare_seconds(spec: DatasetSpec, root: Path, identity: dict[str, Any], workers: int) -> tuple[float, float]:
    """Return seconds of prepare: of its reading, from the table to the last image; and of all of it."""
    marks: list[float] = []
    with tempfile.TemporaryDirectory() as place:
        os.environ["HARNESS_CACHE"] = place
        began = time.perf_counter()
        cache.prepare(spec, root, identity, workers=workers, progress=lambda *_: marks.append(time.perf_counter()))
        return marks[-1] - marks[0], time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("dataset", nargs="?", default="chestxray14")
    parser.add_argument("--size", type=int)
    parser.add_argument("--workers", type=int, default=cores())
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    component = catalogue().find("dataset", options.dataset)
    given = SETTINGS.get(options.dataset, {}) | ({"size": options.size} if options.size else {})
    dataset, settings = build(component.load(), options.dataset, ("benchmark", given))
    spec = DatasetSpec(options.dataset, tuple(sorted((s.name, s.value) for s in settings)))
    root = find_root(dataset, options.dataset)
    rows = dataset.index(root).samples.to_dict("records")
    size = cache.chunk_size(dataset)
    found = []
    for _ in range(options.rounds):
        cold, warm = bare_seconds(spec, root, rows, options.workers, size)
        reading, whole = prepare_seconds(spec, root, component.identity(), options.workers)
        again = bare_seconds(spec, root, rows, options.workers, size)
        cold, warm = (cold + again[0]) / 2, (warm + again[1]) / 2
        found.append((cold / reading, warm / reading))
        rates = [
            f"{name} {len(rows) / s:7,.0f}" for name, s in (("bare", cold), ("bare, warm", warm), ("prepare", reading))
        ]
        print(f"images/s: {'   '.join(rates)}   ratios {found[-1][0]:.2f} {found[-1][1]:.2f}   in all {whole:.1f} s")
    for name, ratios in zip(
        ("with the start of the processes", "against running ones"), zip(*found, strict=True), strict=True
    ):
        print(f"{name}: median ratio {np.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    print(f"{len(rows):,} images of {options.dataset}, {dataset.size} px, {options.workers} processes")


if __name__ == "__main__":
    main()
