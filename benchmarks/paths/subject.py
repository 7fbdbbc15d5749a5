"""Networks and images to measure on: the authors' of Woods et al. 2019 where HARNESS_DATA has them, else drawn ones."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from harness.data.cache import Prepared
from harness.data.index import Index
from harness.device import resolve
from harness.models.densenet import densenet121_2block
from harness.models.woods import resnet44
from paths.turns import seconds

CIFAR = {"num_classes": 10, "channels": 3, "mean": (0.5,) * 3, "std": (0.25,) * 3}
CHEST = {"num_classes": 8, "channels": 1, "mean": (0.5,), "std": (0.25,)}
NET = "resnet44-all"
SIZES = (1, 2, 4, 8, 16, 32, 64)


def start() -> None:
    """Use one thread, and memory as every command of harness does."""
    torch.set_num_threads(1)
    resolve("cpu")


def known() -> bool:
    """Return whether the authors' network and CIFAR-10 are there."""
    place = Path(os.environ.get("HARNESS_DATA") or "/nonexistent")
    return (place / "woods2019" / f"{NET}.pt").exists() and (place / "cifar-10-batches-bin").exists()


def said() -> str:
    """Return in words what is measured on."""
    if known():
        return f"{NET} of Woods et al. 2019 (resnet44 with half-Huber ReLUs) on photos of CIFAR-10, 32 px"
    return "a resnet44 with drawn weights on drawn images of 32 px, each of the class that the network gives it"


def smooth(count: int, channels: int, size: int, seed: int = 0) -> Tensor:
    """Return drawn images without sharp edges, (count,channels,size,size) in [0,1]."""
    rng = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, channels, 6, 6, generator=rng)
    return nn.functional.interpolate(coarse, size=(size, size), mode="bilinear").contiguous(
        memory_format=torch.channels_last
    )


def network() -> nn.Module:
    """Return the small colour network, in eval mode."""
    if known():
        import attacks

        return attacks.network(NET)
    torch.manual_seed(0)
    model = resnet44(**CIFAR)
    with torch.no_grad():
        for _ in range(3):  # the batch norms see images before they are asked about some
            model.train()(smooth(32, 3, 32))
    return model.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def images(model: nn.Module, count: int) -> tuple[Tensor, Tensor]:
    """Return colour images (count,3,32,32) and their classes (count,)."""
    if known():
        import attacks

        return attacks.images(count)
    x = smooth(count, 3, 32, 1)
    with torch.no_grad():
        return x, model(x).argmax(1)


def chest(drawn: int = 0) -> nn.Module:
    """Return the densenet of the radiographs with drawn weights, in eval mode."""
    torch.manual_seed(drawn)
    model = densenet121_2block(**CHEST)
    return model.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def radiographs(count: int, size: int, split: str = "test") -> Prepared:
    """Return drawn grey images of 8 findings with a box for the first finding of each, `count` of them in `split`."""
    rng = np.random.default_rng(0)
    names = [f"i{i:05d}" for i in range(count)]
    labels = rng.integers(0, 2, (count, 8)).astype(np.uint8)
    labels[:, 0] = 1
    table = pd.DataFrame({"id": names, "patient": names, "split": [split] * count})
    boxes = pd.DataFrame({"id": names, "class_name": "a", "x0": 0.2, "y0": 0.3, "x1": 0.6, "y1": 0.7})
    pixels = (smooth(count, 1, size) * 255).to(torch.uint8).numpy()
    return Prepared(Path(), Index(table, labels, tuple("abcdefgh"), boxes=boxes), np.ascontiguousarray(pixels), "drawn")


def forward(model: nn.Module, x: Tensor) -> None:
    """Do a bare forward pass."""
    with torch.no_grad():
        model(x)


def backward(model: nn.Module, x: Tensor) -> None:
    """Do a bare forward pass and an input gradient."""
    leaf = x.detach().requires_grad_(True)
    torch.autograd.grad(model(leaf).sum(), leaf)


def fastest(model: nn.Module, x: Tensor, once: Callable[[nn.Module, Tensor], None], rounds: int = 3) -> Tensor:
    """Return images in the batch of 1 to 64 at which a bare pass takes the fewest seconds per image."""
    found = {}
    for size in SIZES:
        part = x.repeat(-(-size // len(x)), 1, 1, 1)[:size].contiguous(memory_format=torch.channels_last)
        once(model, part)
        found[size] = min(seconds(lambda part=part: once(model, part)) for _ in range(rounds)) / size, part
    return min(found.values(), key=lambda pair: pair[0])[1]


class Bare:
    """The least that passes can cost: one forward, or one forward and backward, per image."""

    def __init__(self, model: nn.Module, x: Tensor):
        self.model, self.one, self.two = model, fastest(model, x, forward), fastest(model, x, backward)

    def seconds(self, forwards: float, backwards: float) -> float:
        """Return what so many passes take now: the median of three of each kind."""
        total = 0.0
        for count, part, once in ((forwards, self.one, forward), (backwards, self.two, backward)):
            if count:
                took = sorted(seconds(lambda part=part, once=once: once(self.model, part)) for _ in range(3))[1]
                total += count * took / len(part)
        return total
