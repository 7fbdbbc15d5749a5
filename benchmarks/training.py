"""Throughput of the training loop against bare forward + backward + step on the same tensors.

    python benchmarks/training.py [--size 96] [--images 384] [--threads 1] [--precision fp32|bf16]

The ratio is what counts (target: at least 0.95); absolute times need an idle machine. Loop and bare passes alternate,
so that both see the same machine. Last, bare bf16 passes against bare fp32 ones.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from harness.data.batches import feed
from harness.data.cache import Prepared
from harness.data.index import Index
from harness.device import resolve
from harness.fit.loop import train
from harness.models.densenet import densenet121_2block
from harness.recipe import Supervised
from harness.tasks import MultiLabel

TASK = MultiLabel()
BATCH = 32


def bare(model, batches, compute) -> float:
    """Return seconds of the plainest possible epoch over tensors that are ready."""
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    model.train()
    began = time.perf_counter()
    for x, y in batches:
        optimiser.zero_grad(set_to_none=True)
        with compute.autocast():
            loss = TASK.loss(model(x), y)
        loss.backward()
        optimiser.step()
    if compute.kind == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--images", type=int, default=384)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    compute = resolve("auto", options.precision)
    n = options.images + 2
    rng = np.random.default_rng(0)
    names = [str(i) for i in range(n)]
    split = ["train"] * options.images + ["validation"] * 2
    index = Index(
        pd.DataFrame({"id": names, "patient": names, "split": split}),
        rng.integers(0, 2, (n, 8), np.uint8),
        tuple("abcdefgh"),
    )
    images = rng.integers(0, 256, (n, 1, options.size, options.size), np.uint8)
    prepared = Prepared(Path(), index, images, "benchmark")
    training, validation = (feed(prepared, index.of_split(s), TASK, compute) for s in ("train", "validation"))
    model = densenet121_2block(num_classes=8, channels=1, mean=(0.5,), std=(0.25,))
    model.to(device=compute.device, memory_format=compute.memory_format)
    ready = [(b.x, b.y) for b in training.batches(BATCH)]
    bare(model, ready[:2], compute)
    ratios = []
    for number in range(options.rounds):
        one = bare(model, ready, compute)
        with tempfile.TemporaryDirectory() as folder:
            result = train(
                Supervised(max_epochs=1, batch_size=BATCH), model, TASK, training, validation, compute=compute,
                seed=number, folder=Path(folder), names=lambda i: [str(j) for j in i.tolist()],
            )  # fmt: skip
        two = bare(model, ready, compute)
        plain = options.images / ((one + two) / 2)
        ratios.append(result.images_per_second / plain)
        print(f"bare {plain:6.1f} img/s   loop {result.images_per_second:6.1f} img/s   ratio {ratios[-1]:.3f}")
    print(f"median ratio {np.median(ratios):.3f} on {compute.device}, {options.threads} thread(s), {options.size} px")
    formats = {p: resolve("auto", p) for p in ("fp32", "bf16")}
    seconds = [{p: bare(model, ready, c) for p, c in formats.items()} for _ in range(options.rounds)]
    gains = [s["fp32"] / s["bf16"] for s in seconds]
    print(f"bare bf16 against bare fp32: {np.median(gains):.2f} times ({min(gains):.2f} to {max(gains):.2f})")


if __name__ == "__main__":
    main()
