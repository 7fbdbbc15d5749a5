"""Algorithm 1, variant=code, against the distances that the authors' program found (golden/ara_woods_lossless.csv).

On resnet44-all the program's distances come back. On resnet44-standard they cannot: noise of 1e-7 on the images changes
single distances by up to a third, in either direction, so only the mean of many is compared.
"""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from woods_networks import network_of

from harness.attacks.algorithm1 import algorithm1
from harness.attacks.goals import Adversarial, BetterThanRandom
from harness.data.roots import find_root
from harness.plugins import catalogue

GOLDEN = Path(os.environ.get("HARNESS_DATA", "/nowhere")) / "golden" / "ara_woods_lossless.csv"
pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(not GOLDEN.exists(), reason="HARNESS_DATA has no golden/: the authors' distances are not here"),
]
N = 10  # images of each net and goal: 40 searches of 451 passes, about two minutes


def theirs(net: str, goal: str) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """Return images, labels and the program's distances of the first N images that needed an attack."""
    table = pd.read_csv(GOLDEN)
    rows = table[(table.net == f"resnet44-{net}") & (table.goal == goal) & (table.rmse > 0)].iloc[:N]
    data = catalogue().load("dataset", "cifar10")()
    root = find_root(data, "cifar10")
    index = data.index(root)
    test = index.of_split("test")[rows.test_index.to_numpy()]
    found = [torch.from_numpy(data.read(row, root).copy()) for row in index.samples.iloc[test].to_dict("records")]
    x = torch.stack(found).permute(0, 3, 1, 2).contiguous() / 255
    return x, torch.from_numpy(index.labels[test].argmax(1)), rows.rmse.to_numpy()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "goal"), [("attack", Adversarial), ("btr", BetterThanRandom)])
def test_the_programs_distances_come_back(name, goal):
    x, y, expected = theirs("all", name)
    found = algorithm1(network_of("all").requires_grad_(False), x, goal(y), variant="code").rmse.numpy()
    close = np.abs(found / expected - 1) < 0.05
    assert close.mean() >= 0.9, (found / expected).round(3)  # 95 % of a hundred; of ten one may stray
    assert found.mean() == pytest.approx(expected.mean(), rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "goal"), [("attack", Adversarial), ("btr", BetterThanRandom)])
def test_a_relu_network_agrees_in_the_mean(name, goal):
    x, y, expected = theirs("standard", name)
    found = algorithm1(network_of("standard").requires_grad_(False), x, goal(y), variant="code").rmse.numpy()
    assert np.exp(np.log(found / expected).mean()) == pytest.approx(1, abs=0.25)


@pytest.mark.slow
def test_noise_that_no_image_holds_moves_a_relu_network_s_distances():
    """Why no more is asked of it above: 1e-7 on the images, a forty-thousandth of a level of 8 bits."""
    x, y, _ = theirs("standard", "attack")
    noise = 1e-7 * torch.randn(x[:5].shape, generator=torch.Generator().manual_seed(0))
    model = network_of("standard").requires_grad_(False)
    plain, noisy = (algorithm1(model, x[:5] + n, Adversarial(y[:5]), variant="code").rmse for n in (0, noise))
    assert (noisy / plain - 1).abs().max() > 0.05
