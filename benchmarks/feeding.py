"""The training loop fed from the cache against the same loop on floats that are there already, and the feed alone.

    OMP_NUM_THREADS=1 python benchmarks/feeding.py [--rounds 5] [--images 128] [--case 224]

The ratio is what counts (target: at least 0.95): an epoch whose batches come from the memory map, uint8 to float, and
one whose batches lie in memory as floats, in alternation, so that both see the same machine. Networks and sizes are
those of the datasets. Then the feed alone, in images per second: in the epoch's order (indexed), and in table order,
where images that follow each other are not copied. Last what numpy takes to gather an indexed batch, and to copy as
many images in a row. On a GPU the images are held there, and a fourth case reads them ahead from the map.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from harness.data.batches import Feed, epoch_order, feed
from harness.data.cache import Prepared
from harness.data.index import Index
from harness.device import Compute, resolve
from harness.fit.loop import train
from harness.models.densenet import densenet121_2block
from harness.models.woods import resnet44
from harness.recipe import Supervised
from harness.tasks import MultiLabel
from harness.types import Batch

TASK = MultiLabel()
CLASSES = 8


@dataclass(frozen=True)
class Case:
    """A network and the images that it is trained on."""

    name: str
    model: Callable[..., Any]
    channels: int
    size: int
    batch: int
    augment: str


CASES = (
    Case("densenet121_2block, grey, 112 px", densenet121_2block, 1, 112, 32, "flip"),
    Case("resnet44, colour, 32 px", resnet44, 3, 32, 128, "pad_crop_flip"),
    Case("densenet121_2block, colour, 224 px", densenet121_2block, 3, 224, 16, "flip"),
)


class Ready(Feed):
    """Batches as floats, in memory before the training begins."""

    def stream(self, choices: Any) -> Iterator[Batch]:
        for chosen in choices:
            rows = torch.from_numpy(chosen)
            yield Batch(READY[rows], self.y[rows], torch.from_numpy(self.positions[chosen]))


READY = torch.empty(0)


def written(case: Case, images: int, folder: Path) -> Prepared:
    """Return a cache of noise as `data prepare` leaves it: a read-only memory map, of which training is a part."""
    n = 2 * images + 2
    rng = np.random.default_rng(0)
    np.save(folder / "images.npy", rng.integers(0, 256, (n, case.channels, case.size, case.size), np.uint8))
    names = [str(i) for i in range(n)]
    split = ["test", "train"] * images + ["validation"] * 2
    table = pd.DataFrame({"id": names, "patient": names, "split": split})
    labels = rng.integers(0, 2, (n, CLASSES), np.uint8)
    return Prepared(
        folder, Index(table, labels, tuple("abcdefgh")), np.load(folder / "images.npy", mmap_mode="r"), "noise"
    )


def epoch(case: Case, training: Feed, validation: Feed, compute: Compute, seed: int) -> float:
    """Return images per second of one epoch of the training loop."""
    torch.manual_seed(0)
    model = case.model(
        num_classes=CLASSES, channels=case.channels, mean=(0.5,) * case.channels, std=(0.25,) * case.channels
    )
    recipe = Supervised(max_epochs=1, batch_size=case.batch, augment=case.augment)
    with tempfile.TemporaryDirectory() as folder:
        found = train(recipe, model, TASK, training, validation, compute=compute, seed=seed, folder=Path(folder),
                      names=lambda i: [str(j) for j in i.tolist()])  # fmt: skip
    return found.images_per_second


def rate(batches: Iterator[Batch]) -> float:
    """Return images per second of a feed alone."""
    began, seen = time.perf_counter(), 0
    for batch in batches:
        seen += len(batch)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return seen / (time.perf_counter() - began)


def milliseconds(work: Callable[[], object]) -> float:
    """Return the median of 30 calls."""
    took = []
    for _ in range(30):
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)
    return 1e3 * float(np.median(took))


def measure(case: Case, images: int, rounds: int, compute: Compute) -> None:
    """Print what one case takes."""
    global READY
    with tempfile.TemporaryDirectory() as folder:
        prepared = written(case, images, Path(folder))
        parts = [feed(prepared, prepared.index.of_split(s), TASK, compute) for s in ("train", "validation")]
        training, validation = parts
        READY = torch.cat([b.x for b in training.batches(case.batch)])
        READY = READY.contiguous(memory_format=compute.memory_format)
        ready = Ready(training.images, training.y, training.positions, compute)
        order = np.array_split(epoch_order(images, 0, 0), max(1, images // case.batch))
        ratios, rates = [], []
        epoch(case, ready, validation, compute, 0)
        for number in range(rounds):
            one = epoch(case, ready, validation, compute, number)
            fed = epoch(case, training, validation, compute, number)
            two = epoch(case, ready, validation, compute, number)
            ratios.append(fed / (2 / (1 / one + 1 / two)))
            rates.append(fed)
        spread = f"{np.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
        print(f"{case.name}: fed {np.median(rates):.0f} img/s, median ratio {spread}")
        whole = replace(training, positions=np.arange(images))
        alone = {"indexed": [rate(training.stream(order)) for _ in range(9)],
                 "in a row": [rate(whole.batches(case.batch)) for _ in range(9)]}  # fmt: skip
        gathered = milliseconds(lambda: prepared.images[training.positions[order[0]]])
        copied = milliseconds(lambda: np.array(prepared.images[: len(order[0])]))
        print(
            f"  the feed alone: {', '.join(f'{k} {np.median(v):,.0f} img/s' for k, v in alone.items())}; numpy, "
            f"{len(order[0])} images: indexed {gathered:.2f} ms, in a row {copied:.2f} ms"
        )
        if compute.kind == "cuda":
            read = replace(training, images=prepared.images)
            fed = [epoch(case, read, validation, compute, n) for n in range(rounds)]
            print(f"  read ahead from the map: {np.median(fed):.0f} img/s")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--case", default="", help="only cases whose name has this in it")
    options = parser.parse_args()
    torch.set_num_threads(1)
    compute = resolve("auto", "fp32")
    for case in (c for c in CASES if options.case in c.name):
        measure(
            case,
            max(2 * case.batch, options.images if case.size < 200 else options.images // 4),
            options.rounds,
            compute,
        )


if __name__ == "__main__":
    main()
