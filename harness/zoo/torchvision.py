"""torchvision's classifiers with its ImageNet weights, each behind the normalisation that it was trained with."""

from __future__ import annotations

import re
from collections import OrderedDict
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models import ResNet, WeightsEnum
from torchvision.models.densenet import DenseNet

from harness.models import checkpoint, densenet, resnet
from harness.models.classifier import Classifier, GlobalAverageLinear, Normalise, without_inplace
from harness.zoo.external import External
from harness.zoo.files import WeightFiles, zoo_home
from harness.zoo.network import Network

HASH = re.compile(r"-([0-9a-f]{8,64})\.pth$")  # the beginning of the file's sha256, in its name


def weights_of() -> dict[tuple[str, str], WeightsEnum]:
    """Return (architecture, weights) -> torchvision's entry, of each architecture the oldest weights first."""
    return {
        (name, weights.name): weights
        for name in models.list_models(module=models)
        for weights in models.get_model_weights(name)
        if weights.meta["categories"]  # one of VGG is without a head
    }


def network(name: str, parts: tuple[str, ...]) -> Network:
    """Return the network of architecture and weights."""
    architecture, _ = parts
    entry = weights_of()[parts[0], parts[1]]
    file = entry.url.rpartition("/")[2]
    found = HASH.search(file)

    def build() -> Classifier:
        return wrapped(architecture, entry)

    def read(root: Path) -> dict[str, Tensor]:
        state = checkpoint.read_state(root / file)
        model = build()
        state = checkpoint.translate(state, model.foreign_names)
        if isinstance(model, External):
            state = {f"net.{k}": v for k, v in state.items()}
        return state | {k: v for k, v in model.state_dict().items() if k.startswith("normalise.")}

    weights = WeightFiles(
        network=name,
        roots=(zoo_home() / "torchvision", Path(torch.hub.get_dir(), "checkpoints")),
        names=(file,),
        how_to_get=f"Download {entry.url} ({entry.meta['_file_size']:.1f} MB).",
        read=read,
        sha256=found[1] if found else "",
    )
    return Network(name, architecture, len(entry.meta["categories"]), "torchvision", build, weights)


def wrapped(architecture: str, entry: WeightsEnum) -> Classifier:
    """Return the architecture, untrained; ResNets and DenseNets as features and a head with exact CAM."""
    num_classes, transforms = len(entry.meta["categories"]), entry.transforms()
    mean, std = tuple(transforms.mean), tuple(transforms.std)
    extra = {"init_weights": False} if architecture in ("googlenet", "inception_v3") else {}
    with torch.random.fork_rng(devices=[]):
        net = models.get_model(architecture, weights=None, num_classes=num_classes, **extra)
    if isinstance(net, ResNet):
        features: nn.Module = nn.Sequential(OrderedDict((n, getattr(net, n)) for n in resnet.FEATURES))
        return _split(features, net.fc, mean, std, resnet.TORCHVISION)
    if isinstance(net, DenseNet):
        net.features.add_module("relu5", nn.ReLU())
        return _split(net.features, net.classifier, mean, std, densenet.TORCHVISION)
    return External(net, num_classes=num_classes, size=transforms.crop_size[0], mean=mean, std=std)


def _split(
    features: nn.Module, last: nn.Linear, mean: tuple[float, ...], std: tuple[float, ...],
    names: tuple[tuple[str, str], ...],
) -> Classifier:  # fmt: skip
    head = GlobalAverageLinear(last.in_features, last.out_features)
    normalise = Normalise(mean, std)
    return Classifier(normalise, without_inplace(features), head, num_classes=last.out_features, foreign_names=names)
