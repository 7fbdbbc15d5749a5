"""ResNet-50 (He et al. 2016, arXiv:1512.03385), torchvision's."""

from collections import OrderedDict
from typing import Literal

from torch import nn
from torchvision.models import ResNet50_Weights
from torchvision.models import resnet50 as torchvision_resnet50

from harness.models.classifier import Classifier, GlobalAverageLinear, Normalise, without_inplace
from harness.models.pretrained import initialise
from harness.plugins import model

TORCHVISION = ((r"^(conv1|bn1|layer\d)\.", r"features.\1."), (r"^fc\.", "head."))
FEATURES = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")


@model("resnet50", source="He 2016, arXiv:1512.03385; torchvision")
def resnet50(
    *,
    num_classes: int,
    channels: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    weights: str | None = None,
    last_stride: Literal[1, 2] = 2,
) -> Classifier:
    """torchvision's ResNet-50: 2048 maps, 7x7 at 224 px; exact CAM.

    With last_stride 1 the last stage is not downsampled: 14x14 maps at 224 px, the same weights.

    "imagenet" is IMAGENET1K_V1, the recipe of the original paper and what the explanation papers of 2019-2021 used.
    """
    net = torchvision_resnet50(weights=None)
    if channels != 3:
        net.conv1 = nn.Conv2d(channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
    if last_stride == 1:  # torchvision gives a stage's stride to its first block: to a convolution and the shortcut
        for conv in (net.layer4.get_submodule("0.conv2"), net.layer4.get_submodule("0.downsample.0")):
            assert isinstance(conv, nn.Conv2d)
            conv.stride = (1, 1)
    features = nn.Sequential(OrderedDict((name, getattr(net, name)) for name in FEATURES))
    built = Classifier(
        Normalise(mean, std),
        without_inplace(features),
        GlobalAverageLinear(net.fc.in_features, num_classes),
        num_classes=num_classes,
        foreign_names=TORCHVISION,
    )
    return initialise(built, weights, imagenet=ResNet50_Weights.IMAGENET1K_V1, first="features.conv1.weight")
