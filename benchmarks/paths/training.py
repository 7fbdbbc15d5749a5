"""The training loop against a bare one, and what a step of each method costs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import training
from torch import nn

from harness.data.batches import feed
from harness.data.cache import Prepared
from harness.data.index import Index
from harness.device import Compute, resolve
from harness.fit.loop import train
from harness.models.densenet import densenet121_2block
from harness.models.woods import resnet44
from harness.plugins import catalogue
from harness.recipe import Supervised
from harness.tasks import MultiClass, MultiLabel, Task
from harness.types import Batch
from paths import subject
from paths.turns import Table, ratio, spread, turns

TITLE = "Training"
SAYS = "Networks with drawn weights on drawn images that lie in memory."
STEPS: dict[str, tuple[str, dict[str, Any], float | None]] = {  # label -> method, settings, most plain steps
    "robust_fgsm: FGSM on half the batch": ("robust_fgsm", {}, 1.5),
    "lipschitz: input-gradient penalty": ("lipschitz", {}, 3.2),
    "lipschitz_hhrelu: the same with half-Huber ReLUs": ("lipschitz_hhrelu", {}, None),
    "adversarial_training, l2, 7 steps": ("adversarial_training", {"norm": "l2"}, 6.5),
    "adversarial_training, l2min, 7 steps": ("adversarial_training", {"norm": "l2min"}, None),
    "adversarial_training, linf, 7 steps": ("adversarial_training", {"norm": "linf", "epsilon": 0.031}, None),
    "lipschitz_hhrelu_adversarial": ("lipschitz_hhrelu_adversarial", {}, None),
    "noise_training": ("noise_training", {}, None),
}


def loop(table: Table, label: str, made: Callable[..., nn.Module], net: dict[str, Any], size: int, batch: int,
         images: int, rounds: int) -> None:  # fmt: skip
    compute = resolve("cpu", "fp32")
    rng = np.random.default_rng(0)
    n, classes = images + 2, net["num_classes"]
    names = [str(i) for i in range(n)]
    split = pd.DataFrame({"id": names, "patient": names, "split": ["train"] * images + ["validation"] * 2})
    index = Index(split, rng.integers(0, 2, (n, classes), np.uint8), tuple("abcdefghij"[:classes]))
    pixels = rng.integers(0, 256, (n, net["channels"], size, size), np.uint8)
    prepared = Prepared(Path(), index, pixels, "drawn")
    parts = [feed(prepared, index.of_split(s), training.TASK, compute) for s in ("train", "validation")]
    torch.manual_seed(0)
    model = made(**net).to(memory_format=compute.memory_format)
    ready = [(b.x, b.y) for b in parts[0].batches(batch)]
    training.bare(model, ready[:1], compute)
    rates, ratios = [], []
    for number in range(rounds):
        one = training.bare(model, ready, compute)
        with tempfile.TemporaryDirectory() as folder:
            result = train(Supervised(max_epochs=1, batch_size=batch), model, training.TASK, *parts, compute=compute,
                           seed=number, folder=Path(folder), names=lambda i: [str(j) for j in i.tolist()])  # fmt: skip
        two = training.bare(model, ready, compute)
        rates.append(result.images_per_second)
        ratios.append(result.images_per_second * (one + two) / 2 / images)
    table.add(label, batch, spread(rates)[0], spread(ratios), least=0.95)


def stepper(
    model: nn.Module, method: Supervised, task: Task, batch: Batch, compute: Compute | None = None
) -> Callable[[], None]:
    """Return one whole step of a method: gradients to zero, its own passes, backward, SGD."""
    compute = compute or resolve("cpu", "fp32")
    adapted = method.adapt(model).to(compute.device, memory_format=compute.memory_format).train()
    optimiser = torch.optim.SGD(adapted.parameters(), lr=1e-4, momentum=0.9)
    memory, rng = {k: v.to(compute.device) for k, v in method.memory().items()}, torch.Generator().manual_seed(0)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        with compute.autocast():
            loss = method.step(adapted, batch, task, rng, memory)
        loss.backward()
        optimiser.step()

    return step


def steps(table: Table, label: str, made: Callable[[], nn.Module], task: Task, batch: Batch, chosen: list[str],
          rounds: int) -> None:  # fmt: skip
    def of(name: str, settings: dict[str, Any]) -> Callable[[], None]:
        torch.manual_seed(0)
        return stepper(made(), catalogue().load("method", name)(**settings), task, batch)

    works = {"plain": of("baseline", {})} | {k: of(*STEPS[k][:2]) for k in chosen}
    found = turns(works, rounds)
    for name in chosen:
        row = (label, name, spread(found[name])[0], ratio(found[name], found["plain"]))
        table.add(*row, most=STEPS[name][2])
    table.add(label, "baseline: the plain step", spread(found["plain"])[0], None)


def measure(quick: bool) -> list[Table]:
    loops = Table(
        "The loop against bare forward + backward + step", {
            "network": ("text", ""),
            "batch": ("count", "images of a step"),
            "images/s": ("count", "of the loop"),
            "loop / bare": ("ratio", "images per second, over those of the plainest loop over the same tensors"),
        }, judged="loop / bare",
    )  # fmt: skip
    rounds = 1 if quick else 5
    dense = (densenet121_2block, subject.CHEST, 48 if quick else 96, 4 if quick else 32, 8 if quick else 96, rounds)
    loop(loops, f"densenet121_2block, grey, {dense[2]} px", *dense)
    loop(
        loops, "resnet44, colour, 32 px", resnet44, subject.CIFAR, 32, 8 if quick else 128, 8 if quick else 256, rounds
    )
    each = Table(
        "A step of each method", {
            "network": ("text", ""),
            "method": ("text", ""),
            "time": ("s", "median of the rounds"),
            "plain steps": ("ratio", "over a step of clean training of the same network on the same batch"),
        }, judged="plain steps",
    )  # fmt: skip
    n = 4 if quick else 32
    x = subject.smooth(n, 3, 32)
    colour = Batch(x, torch.arange(n) % 10, torch.arange(n))
    chosen = list(STEPS)[:2] if quick else list(STEPS)
    steps(each, f"resnet44, 32 px, {n} images", lambda: resnet44(**subject.CIFAR), MultiClass(), colour, chosen, rounds)
    if not quick:
        grey = replace(colour, x=subject.smooth(n, 1, 96), y=(torch.rand(n, 8) < 0.3).float())
        label = f"densenet121_2block, 96 px, {n} images"
        steps(each, label, lambda: densenet121_2block(**subject.CHEST), MultiLabel(), grey, chosen[:1], rounds)
    return [loops, each]
