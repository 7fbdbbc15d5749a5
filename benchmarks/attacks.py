"""What attacks cost: passes per image, and seconds against the same number of bare passes.

    HARNESS_DATA=FOLDER OMP_NUM_THREADS=1 python benchmarks/attacks.py [--images 20] [--rounds 7] [--net resnet44-all] \
        [--attack fast]

The bare pass is a forward and an input gradient of the same images, dtype and memory format, at the fastest batch
size of 1 to 128; it and the attacks take turns, medians are compared (target: at most 1.15). A bare pass takes no look
at the goal and keeps nothing. Besides, a whole training step of resnet44 with half-Huber ReLUs against its ReLU twin
(target: at most 1.5). Nothing else may run meanwhile. Needs the authors' networks and CIFAR-10 under HARNESS_DATA.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from harness.attacks.algorithm1 import algorithm1
from harness.attacks.ddn import ddn
from harness.attacks.deepfool import deepfool
from harness.attacks.goals import Adversarial, BetterThanRandom
from harness.attacks.strongest import strongest
from harness.data.roots import find_root
from harness.device import resolve
from harness.models.activations import with_half_huber
from harness.models.checkpoint import load_into, read_state
from harness.models.woods import resnet44
from harness.plugins import catalogue

NETS = {"resnet44-standard": False, "resnet44-adv-train": False, "resnet44-all": True, "resnet44-robust": True}
CIFAR = {"num_classes": 10, "channels": 3, "mean": (0.5,) * 3, "std": (0.25,) * 3}


def network(name: str) -> nn.Module:
    model = resnet44(**CIFAR)
    if NETS[name]:
        with_half_huber(model)
    path = Path(os.environ["HARNESS_DATA"]) / "woods2019" / f"{name}.pt"
    load_into(model, read_state(path), path)
    return model.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def images(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    data = catalogue().load("dataset", "cifar10")()
    root = find_root(data, "cifar10")
    index = data.index(root)
    order = torch.randperm(10_000, generator=torch.Generator().manual_seed(1776))[:count].numpy()
    chosen = index.of_split("test")[order]
    found = [torch.from_numpy(data.read(r, root).copy()) for r in index.samples.iloc[chosen].to_dict("records")]
    x = torch.stack(found).permute(0, 3, 1, 2) / 255
    return x.to(memory_format=torch.channels_last), torch.from_numpy(index.labels[chosen].argmax(1))


def seconds(function) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def bare(model: nn.Module, x: torch.Tensor) -> None:
    leaf = x.detach().requires_grad_(True)
    torch.autograd.grad(model(leaf).sum(), leaf)


def fastest_batch(model: nn.Module, x: torch.Tensor, once: Callable = bare) -> tuple[int, float]:
    """Return the batch size of 1 to 128 at which `once` takes the fewest seconds per image, and those seconds."""
    found = {}
    for size in (1, 2, 4, 8, 16, 32, 64, 128):
        part = x.repeat(-(-size // len(x)), 1, 1, 1)[:size].contiguous(memory_format=torch.channels_last)
        once(model, part)
        found[size] = min(seconds(lambda part=part: once(model, part)) for _ in range(5)) / size
    best = min(found, key=found.__getitem__)
    return best, found[best]


def attacks(name: str, count: int, rounds: int, only: list[str] | None) -> None:
    model, (x, y) = network(name), images(count)
    size, _ = fastest_batch(model, x)
    part = x.repeat(-(-size // len(x)), 1, 1, 1)[:size].contiguous(memory_format=torch.channels_last)
    for goal in (Adversarial(y), BetterThanRandom(y)):
        for title, call in {
            "deepfool": lambda goal=goal: deepfool(model, x, goal),
            "ddn": lambda goal=goal: ddn(model, x, goal),
            "fast": lambda goal=goal: strongest(model, x, goal, {"deepfool": deepfool, "ddn": ddn}),
            "algorithm1": lambda goal=goal: algorithm1(model, x, goal, variant="code", steps=50),
        }.items():
            if only and title not in only:
                continue
            passes = call().passes
            times, ratios = [], []
            for _ in range(rounds):
                pass_time = statistics.median(seconds(lambda: bare(model, part)) for _ in range(3)) / size
                times.append(seconds(call))
                ratios.append(times[-1] / (pass_time * int(passes.sum())))
            print(
                f"{name} {type(goal).__name__:16} {title:20} passes {passes.float().mean():6.1f} (most "
                f"{int(passes.max())})  {statistics.median(times) / count * 1000:7.1f} ms per image  "
                f"{statistics.median(ratios):.2f} x bare passes (batch {size})",
                flush=True,
            )


def training_step(rounds: int) -> None:
    """Print the ratio of a training step (forward, backward, SGD) with half-Huber ReLUs to that with ReLUs."""
    x, y = torch.rand(64, 3, 32, 32).to(memory_format=torch.channels_last), torch.randint(10, (64,))
    models = [resnet44(**CIFAR), with_half_huber(resnet44(**CIFAR))]
    models = [m.to(memory_format=torch.channels_last).train() for m in models]
    steps = [torch.optim.SGD(m.parameters(), lr=0.01, momentum=0.9) for m in models]

    def step(model: nn.Module, optimiser: torch.optim.Optimizer) -> None:
        optimiser.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(model(x), y).backward()
        optimiser.step()

    times: list[list[float]] = [[], []]
    for _ in range(rounds + 1):
        for k, (model, optimiser) in enumerate(zip(models, steps, strict=True)):
            times[k].append(seconds(lambda m=model, o=optimiser: step(m, o)))
    relu, half_huber = (statistics.median(t[1:]) for t in times)
    print(f"training step of resnet44, 64 images: ReLU {relu:.3f} s, half-Huber {half_huber:.3f} s, ratio "
          f"{half_huber / relu:.2f}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--net", choices=NETS, action="append")
    parser.add_argument("--attack", choices=("deepfool", "ddn", "fast", "algorithm1"), action="append")
    options = parser.parse_args()
    resolve("cpu")
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    training_step(options.rounds)
    for name in options.net or NETS:
        attacks(name, options.images, options.rounds, options.attack)


if __name__ == "__main__":
    main()
