"""DenseNet-121 (Huang et al. 2017, arXiv:1608.06993), whole and cut after its second dense block (Khakzar 2019).

The layers are torchvision's and keep its parameter names below `features`.
"""

from torch import Tensor, nn
from torchvision.models import DenseNet121_Weights
from torchvision.models.densenet import DenseNet

from harness.models.classifier import Classifier, GlobalAverageLinear, Normalise, without_inplace
from harness.models.pretrained import initialise
from harness.plugins import model

TORCHVISION = (
    (r"^classifier\.", "head."),
    # Its ImageNet file predates the ban on dots in module names: norm.1 is norm1 today.
    (r"(denselayer\d+\.(?:norm|conv))\.(\d)\.", r"\1\2."),
)


@model("densenet121_2block", source="Khakzar 2019, 3.2; Huang 2017")
def densenet121_2block(
    *, num_classes: int, channels: int, mean: tuple[float, ...], std: tuple[float, ...], weights: str | None = None
) -> Classifier:
    """DenseNet-121 without dense blocks 3 and 4 and transitions 2 and 3: 512 maps, 28x28 at 224 px; exact CAM.

    The paper does not say what follows block 2. Ours: batch normalisation and ReLU, as after the last block of
    the whole network; from weights of the whole network they are transition 2's, which follow block 2 there.
    """
    return _build((6, 12), num_classes, channels, mean, std, weights)


@model("densenet121", source="Huang 2017, arXiv:1608.06993; torchvision")
def densenet121(
    *, num_classes: int, channels: int, mean: tuple[float, ...], std: tuple[float, ...], weights: str | None = None
) -> Classifier:
    """torchvision's DenseNet-121: 1024 maps, 7x7 at 224 px; exact CAM.

    The ReLU that torchvision calls as a function after the last normalisation is a module of `features` here.
    """
    return _build((6, 12, 24, 16), num_classes, channels, mean, std, weights)


def _build(
    blocks: tuple[int, ...],
    num_classes: int,
    channels: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    weights: str | None,
) -> Classifier:
    net = DenseNet(block_config=blocks)  # pyright: ignore[reportArgumentType] - works for any number of blocks
    features = net.features
    if channels != 3:
        conv = nn.Conv2d(channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(conv.weight)
        features.conv0 = conv
    features.add_module("relu5", nn.ReLU())
    head = GlobalAverageLinear(net.classifier.in_features, num_classes)
    nn.init.zeros_(head.bias)
    built = Classifier(
        Normalise(mean, std), without_inplace(features), head, num_classes=num_classes, foreign_names=TORCHVISION
    )
    return initialise(
        built,
        weights,
        imagenet=DenseNet121_Weights.IMAGENET1K_V1,
        first="features.conv0.weight",
        adapt=cut if len(blocks) == 2 else dict,
    )


def cut(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the part of the whole network's weights that the cut one has; weights of a cut one stay as they are."""
    if "features.transition2.norm.weight" not in state:
        return state
    left_out = tuple(f"features.{m}." for m in ("transition2", "denseblock3", "transition3", "denseblock4", "norm5"))
    kept = {k: v for k, v in state.items() if not k.startswith((*left_out, "head."))}
    transition = "features.transition2.norm."
    after = {k.replace(transition, "features.norm5."): v for k, v in state.items() if k.startswith(transition)}
    return kept | after
