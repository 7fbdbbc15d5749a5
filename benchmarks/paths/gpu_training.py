"""Training on a GPU: the loop against bare steps and the ceiling of the device, and an epoch of every method."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import training
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from harness.data.batches import feed
from harness.data.cache import Prepared
from harness.data.index import Index
from harness.device import Compute
from harness.fit.loop import train
from harness.models.densenet import densenet121_2block
from harness.models.woods import resnet44
from harness.plugins import catalogue
from harness.recipe import Supervised
from harness.tasks import MultiClass
from harness.types import Batch
from paths import gpu, subject
from paths.gpu import machine as machine
from paths.training import stepper
from paths.turns import Table, spread

TITLE = "Training on a GPU"
SAYS = "Networks with drawn weights on drawn images that lie in the GPU's memory, channels_last, fp32 without TF32."
PHOTOS = 50_000  # of an epoch of CIFAR-10
METHODS = ("baseline", "robust_fgsm", "lipschitz", "lipschitz_hhrelu", "adversarial_training",
           "lipschitz_hhrelu_adversarial", "noise_training")  # fmt: skip


def drawn(images: int, classes: int, channels: int, size: int) -> Prepared:
    """Return drawn images with two more for validation."""
    rng = np.random.default_rng(0)
    names = [str(i) for i in range(images + 2)]
    table = pd.DataFrame({"id": names, "patient": names, "split": ["train"] * images + ["validation"] * 2})
    labels = rng.integers(0, 2, (len(names), classes), np.uint8)
    pixels = rng.integers(0, 256, (len(names), channels, size, size), np.uint8)
    return Prepared(Path(), Index(table, labels, tuple("abcdefghij"[:classes])), pixels, "drawn")


def operations(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor], compute: Compute) -> float:
    """Return the operations of a step for each image, as torch counts those of convolutions and products."""
    with FlopCounterMode(display=False) as counter:
        training.bare(model, [batch], compute)
    return counter.get_total_flops() / len(batch[0])


def loop(table: Table, label: str, made: Callable[..., nn.Module], net: dict[str, Any], size: int, batch: int,
         images: int, precision: str, quick: bool, most: float) -> None:  # fmt: skip
    compute = gpu.compute(quick, precision)
    prepared = drawn(images, net["num_classes"], net["channels"], size)
    parts = [feed(prepared, prepared.index.of_split(s), training.TASK, compute) for s in ("train", "validation")]
    torch.manual_seed(0)
    model = made(**net).to(compute.device, memory_format=compute.memory_format)
    ready = [(b.x, b.y) for b in parts[0].batches(batch)]
    per_image = operations(model, ready[0], compute)
    training.bare(model, ready[:2], compute)
    bare, looped, ratios = [], [], []
    for number in range(1 if quick else 5):
        bare.append(images / training.bare(model, ready, compute))
        with tempfile.TemporaryDirectory() as folder:
            result = train(Supervised(max_epochs=1, batch_size=batch), model, training.TASK, *parts, compute=compute,
                           seed=number, folder=Path(folder), names=lambda i: [str(j) for j in i.tolist()])  # fmt: skip
        looped.append(result.images_per_second)
        ratios.append(looped[-1] / bare[-1])
    share = spread(looped)[0] * per_image / most
    table.add(label, precision, batch, spread(looped)[0], share, spread(ratios), least=0.95)


def epochs(table: Table, batch: int, precision: str, quick: bool) -> None:
    compute = gpu.compute(quick, precision)
    x = subject.smooth(batch, 3, 32).to(compute.device, memory_format=compute.memory_format)
    y = (torch.arange(batch) % 10).to(compute.device)
    photos = Batch(x, y, torch.arange(batch))
    plain: float | None = None
    for name in METHODS[: 3 if quick else None]:
        torch.manual_seed(0)
        method = catalogue().load("method", name)()
        step = stepper(resnet44(**subject.CIFAR), method, MultiClass(), photos, compute)
        many = partial(_repeat, step, 1 if quick else 10)
        took = [s / (1 if quick else 10) for s in gpu.rounds(many, 1 if quick else 3)]
        plain = spread(took)[0] if plain is None else plain
        each = spread(took)[0]
        table.add(name, precision, batch, 1000 * each, each * PHOTOS / batch, each / plain)


def _repeat(work: Callable[[], None], count: int) -> None:
    for _ in range(count):
        work()


def measure(quick: bool) -> list[Table]:
    most = gpu.ceiling(quick)
    loops = Table(
        "The loop against bare forward + backward + step", {
            "network": ("text", ""),
            "precision": ("text", ""),
            "batch": ("count", "images of a step"),
            "images/s": ("count", "of the loop, median of the rounds"),
            "of the ceiling": ("ratio", "operations of forward and backward per second, over the ceiling"),
            "loop / bare": ("ratio", "images per second, over those of the plainest loop over the same tensors"),
        }, judged="loop / bare",
        says=f"Ceiling: a product of large bf16 matrices, {most / 1e12:,.0f} TFLOP/s.",
    )  # fmt: skip
    dense = (densenet121_2block, subject.CHEST, 48 if quick else 224, 4 if quick else 256, 8 if quick else 4096)
    small = (resnet44, subject.CIFAR, 32, 4 if quick else 512, 8 if quick else PHOTOS)
    for precision in gpu.PRECISIONS:
        loop(loops, f"densenet121_2block, grey, {dense[2]} px", *dense, precision, quick, most)
        loop(loops, "resnet44, colour, 32 px", *small, precision, quick, most)
    each = Table(
        "An epoch of CIFAR-10 for each method", {
            "method": ("text", ""),
            "precision": ("text", ""),
            "batch": ("count", "images of a step"),
            "step": ("ms", "median of the rounds"),
            "epoch": ("s", "so many steps as 50,000 images take"),
            "plain steps": ("ratio", "over a step of clean training"),
        },
    )  # fmt: skip
    for precision in gpu.PRECISIONS:
        epochs(each, 4 if quick else 128, precision, quick)
    return [loops, each]
