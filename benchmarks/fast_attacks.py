"""The set `fast` against Algorithm 1 of the authors' program on the same images: who finds the smaller perturbation.

    HARNESS_DATA=FOLDER OMP_NUM_THREADS=1 python benchmarks/fast_attacks.py [--images 100] [--net resnet44-adv-train] \
        [--goal adv]

Prints the ratio of the mean RMSE (ARA up to the naive accuracy, which both share) with a 95 % interval over the images,
paired, and passes per image. Algorithm 1 has the program's 450 steps and clips to [0,1], as `fast` does. Not a timing:
other work may run meanwhile. Needs the authors' networks and CIFAR-10 under HARNESS_DATA.
"""

import argparse
import os

import numpy as np
import torch
from attacks import NETS, images, network

from harness.attacks.algorithm1 import algorithm1
from harness.attacks.ddn import ddn
from harness.attacks.deepfool import deepfool
from harness.attacks.goals import Adversarial, BetterThanRandom
from harness.attacks.strongest import strongest
from harness.device import resolve

GOALS = {"adv": Adversarial, "btr": BetterThanRandom}
BATCH = 25


def compare(name: str, goal: str, count: int) -> str:
    model, (x, y) = network(name), images(count)
    ours, theirs, passes = [], [], []
    for rows in torch.arange(count).split(BATCH):
        target = GOALS[goal](y[rows])
        fast = strongest(model, x[rows], target, {"deepfool": deepfool, "ddn": ddn})
        program = algorithm1(model, x[rows], target, variant="code", clip=True)
        ours.append(fast.rmse)
        theirs.append(program.rmse)
        passes.append(torch.stack([fast.passes, program.passes], 1).float())
    a, b, cost = torch.cat(ours).double().numpy(), torch.cat(theirs).double().numpy(), torch.cat(passes).mean(0)
    both = np.isfinite(a) & np.isfinite(b)
    a, b = a[both], b[both]
    draws = np.random.default_rng(1776).integers(len(a), size=(1000, len(a)))
    low, high = np.quantile(a[draws].mean(1) / b[draws].mean(1), [0.025, 0.975])
    return (
        f"{name} {goal}: {a.mean() / b.mean():.4f} [{low:.4f}, {high:.4f}] of Algorithm 1 ({b.mean():.5f}), "
        f"n = {both.sum()} of {count}; smaller on {(a < b * 0.9999).sum()}, larger on {(a > b * 1.0001).sum()}; "
        f"{cost[0]:.0f} passes against {cost[1]:.0f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--net", choices=NETS, action="append")
    parser.add_argument("--goal", choices=GOALS, action="append")
    options = parser.parse_args()
    resolve("cpu")
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    for name in options.net or NETS:
        for goal in options.goal or GOALS:
            print(compare(name, goal, options.images), flush=True)


if __name__ == "__main__":
    main()
