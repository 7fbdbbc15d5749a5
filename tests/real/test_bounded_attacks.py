"""PGD, DDN and DeepFool against foolbox's on the authors' networks (Woods 2019) and CIFAR-10."""

import importlib.util
import math
import os
from pathlib import Path

import pytest
import torch

from harness.attacks.goals import Adversarial, BetterThanRandom
from harness.data.roots import find_root
from harness.plugins import catalogue

ROOT = Path(os.environ.get("HARNESS_DATA", "/nowhere")) / "woods2019"
pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(not ROOT.is_dir(), reason="HARNESS_DATA has no woods2019: the authors' networks are not here"),
]
FOUND = catalogue()


def network(name: str):
    spec = importlib.util.spec_from_file_location("woods_networks", Path(__file__).parent / "test_woods_networks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.network_of(name).requires_grad_(False)


def sample(n: int):
    """The first n of the authors' order."""
    data = FOUND.load("dataset", "cifar10")()
    root = find_root(data, "cifar10")
    index = data.index(root)
    test = index.of_split("test")[torch.randperm(10_000, generator=torch.Generator().manual_seed(1776))[:n].numpy()]
    rows = index.samples.iloc[test].to_dict("records")
    images = torch.stack([torch.from_numpy(data.read(row, root)) for row in rows]).permute(0, 3, 1, 2) / 255
    return images, torch.from_numpy(index.labels[test].argmax(1))


@pytest.mark.parametrize(("norm", "radius", "left"), [("linf", 8 / 255, 5), ("l2", 0.5 / math.sqrt(3072), 9)])
def test_pgd_agrees_with_foolbox(norm, radius, left):
    """On 16 images of resnet44-all: at most one is decided otherwise, and ours never leaves more."""
    model, (x, y) = network("all"), sample(16)
    kept = []
    for name in ("pgd", "foolbox_pgd"):
        moved = FOUND.load("attack", name)(
            model, x, Adversarial(y), norm=norm, radius=radius, steps=10, start_at_random=False
        )
        with torch.no_grad():
            kept.append((model(x).argmax(1) == y) & (model(moved).argmax(1) == y))
    assert (kept[0] != kept[1]).sum() <= 1
    assert kept[0].sum() <= kept[1].sum()
    assert abs(int(kept[0].sum()) - left) <= 1


@pytest.mark.parametrize("goal", [Adversarial, BetterThanRandom])
def test_minimal_attacks_agree_with_foolbox(goal):
    """On 4 images of resnet44-standard: neither of ours is longer by more than a step of DDN's radius (5 %)."""
    model, (x, y) = network("standard"), sample(4)
    found = {
        n: FOUND.load("attack", n)(model, x, goal(y)).rmse
        for n in ("ddn", "foolbox_ddn", "deepfool", "foolbox_deepfool")
    }
    moved = found["ddn"] > 0
    assert moved.sum() == 4
    assert all(rmse.isfinite().all() for rmse in found.values())
    ddn, deepfool = ((found[n] / found[f"foolbox_{n}"])[moved] for n in ("ddn", "deepfool"))
    assert (ddn < 1.06).all(), "ours begins near the boundary and its steps fall: shorter on near images"
    assert (deepfool < 1.05).all(), "ours has the boundaries of all classes, foolbox's here one"
    if goal is BetterThanRandom:
        assert ((deepfool - 1).abs() < 0.02).all(), "one boundary for both"
