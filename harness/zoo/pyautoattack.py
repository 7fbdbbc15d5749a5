"""The network that AutoAttack's wheel carries as its example: a ResNet-18 for CIFAR-10 (arXiv:2003.01690).

It takes images in [0,1] without normalisation. Measured here: right on 95 % of the images, and ten steps of PGD within
Linf 8/255 or L2 0.5 leave none of 24: it is trained ordinarily, not adversarially.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from harness.errors import UsageError
from harness.models import checkpoint
from harness.models.classifier import Classifier, GlobalAverageLinear, Normalise
from harness.plugins import load_file
from harness.zoo.external import NORMALISING
from harness.zoo.files import WeightFiles, zoo_home
from harness.zoo.network import Network

SHA256 = "399f52da9f914c323fa5a6096d60f460a3449a59b64a6405200c1e629f8425a7"
NAMES = ((r"^(conv1|bn1|layer\d)\.", r"features.\1."), (r"^linear\.", "head."))
CLASSES = 10


class Features(nn.Module):
    """What its ResNet does in front of the average and the last layer: (B,3,H,W) to (B,512,H/8,W/8)."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.conv1, self.bn1 = net.get_submodule("conv1"), net.get_submodule("bn1")
        for i in range(1, 5):
            self.add_module(f"layer{i}", net.get_submodule(f"layer{i}"))

    def forward(self, x: Tensor) -> Tensor:
        """Return the last feature maps."""
        x = relu(self.bn1(self.conv1(x)))
        for i in range(1, 5):
            x = self.get_submodule(f"layer{i}")(x)
        return x


def examples() -> Path:
    """Return the folder of the wheel's examples. Raises `UsageError` where it is not installed."""
    try:
        return Path(str(distribution("pyautoattack").locate_file("pyautoattack/examples")))
    except PackageNotFoundError:
        raise UsageError("zoo:pyautoattack: expected the package pyautoattack. Install it.") from None


def build() -> Classifier:
    """Return the architecture, untrained: exact CAM, its head being an average over 4x4 and a linear layer at 32 px."""
    with torch.random.fork_rng(devices=[]):
        net = load_file(examples() / "resnet.py").ResNet18()
    head = GlobalAverageLinear(net.linear.in_features, CLASSES)
    return Classifier(Normalise(*NORMALISING), Features(net), head, num_classes=CLASSES, foreign_names=NAMES)


def network(name: str) -> Network:
    """Return the network."""

    def read(root: Path) -> dict[str, Tensor]:
        return checkpoint.translate(checkpoint.read_state(root / "model_test.pt"), NAMES)

    weights = WeightFiles(
        network=name,
        roots=(examples(), zoo_home() / "pyautoattack"),
        names=("model_test.pt",),
        how_to_get="It is part of the wheel of pyautoattack 0.2.0 (44.8 MB): install that again.",
        read=read,
        sha256=SHA256,
    )
    return Network(name, "resnet18", CLASSES, "pyautoattack 0.2.0, arXiv:2003.01690", build, weights)
