"""The pre-activation residual networks of Woods et al. 2019 (arXiv:1906.02494), after He et al. 2016 (1603.05027).

Differs from He 2016: where a block changes shape, its shortcut is a 3x3 convolution fed by the pre-activated input;
the last convolution of every block starts at zero. Bias-free convolutions, kaiming_uniform.
"""

from collections import OrderedDict

from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, conv2d

from harness.models.classifier import Classifier, GlobalAverageLinear, Normalise
from harness.models.pretrained import initialise
from harness.plugins import model

AUTHORS = (  # the names of the authors' published checkpoints
    (r"^pipe\.0\.", "features.stem."), (r"^pipe\.([123])\.", r"features.stage\1."), (r"^pipe\.4\.", "features.norm."),
    (r"^pipe\.5\.", "features.relu."), (r"^pipe\.7\.", "head."), (r"^input_offset$", "normalise.offset"),
)  # fmt: skip


class PreActivationBlock(nn.Module):
    """BN-ReLU-conv-BN-ReLU-conv beside a shortcut: (B,inputs,H,W) to (B,outputs,H/stride,W/stride)."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.pre = nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU())
        self.main = nn.Sequential(
            _conv3x3(inputs, outputs, stride), nn.BatchNorm2d(outputs), nn.ReLU(), _conv3x3(outputs, outputs, 1)
        )
        self.shortcut = _conv3x3(inputs, outputs, stride) if inputs != outputs or stride != 1 else None

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum of both branches; the identity shortcut carries the raw input."""
        active = self.pre(x)
        return self.main(active) + (x if self.shortcut is None else self.shortcut(active))


class PooledConvolution(GlobalAverageLinear):
    """The same layer as its parent computed as the authors do: an average pool and a 1x1 convolution.

    Equal but for the last bit, and on their ReLU networks the paths of attacks hang on it.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Return logits (B,V) of features (B,K,h,w)."""
        pooled = avg_pool2d(features, (features.shape[-2], features.shape[-1]))
        return conv2d(pooled, self.weight[:, :, None, None], self.bias).flatten(1)


@model("resnet44", source="Woods 2019, arXiv:1906.02494; authors' code")
def resnet44(
    *, num_classes: int, channels: int, mean: tuple[float, ...], std: tuple[float, ...], weights: str | None = None
) -> Classifier:
    """Pre-activation ResNet-44 for 32 px: 3 stages of 7 blocks, 16/32/64 maps, 8x8 at the end; exact CAM.

    The authors' head, an 8x8 average and a 1x1 convolution, is a global one at 32 px.
    """
    stem: OrderedDict[str, nn.Module] = OrderedDict(stem=_conv3x3(channels, 16, 1))
    return _build(stem, "features.stem.weight", (16, 32, 64), 7, num_classes, mean, std, weights)


@model("resnet18_preact", source="Woods 2019, arXiv:1906.02494")
def resnet18_preact(
    *, num_classes: int, channels: int, mean: tuple[float, ...], std: tuple[float, ...], weights: str | None = None
) -> Classifier:
    """ResNet-18 for 224 px with ResNet-44's modifications: 64..512 maps, 7x7 at the end; exact CAM.

    The paper says "the same modifications" and no more. Ours: the usual stem (7x7 convolution of stride 2, then
    max pooling) without normalisation, because the first block starts with one; 4 stages of 2 blocks.
    """
    conv = nn.Conv2d(channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
    stem: OrderedDict[str, nn.Module] = OrderedDict(stem=conv, pool=nn.MaxPool2d(3, stride=2, padding=1))
    return _build(stem, "features.stem.weight", (64, 128, 256, 512), 2, num_classes, mean, std, weights)


def _conv3x3(inputs: int, outputs: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel_size=3, stride=stride, padding=1, bias=False)


def _build(
    features: OrderedDict[str, nn.Module],
    first: str,
    widths: tuple[int, ...],
    blocks: int,
    num_classes: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    weights: str | None,
) -> Classifier:
    inputs = widths[0]
    for i, width in enumerate(widths, 1):
        stage: list[nn.Module] = []
        for j in range(blocks):
            stage.append(PreActivationBlock(inputs, width, stride=2 if i > 1 and j == 0 else 1))
            inputs = width
        features[f"stage{i}"] = nn.Sequential(*stage)
    features["norm"] = nn.BatchNorm2d(inputs)
    features["relu"] = nn.ReLU()
    head = PooledConvolution(inputs, num_classes)
    built = Classifier(
        Normalise(mean, std), nn.Sequential(features), head, num_classes=num_classes, foreign_names=AUTHORS
    )
    for m in built.modules():
        if isinstance(m, nn.Conv2d | nn.Linear):
            nn.init.kaiming_uniform_(m.weight)
    nn.init.zeros_(head.bias)
    for m in built.modules():
        if isinstance(m, PreActivationBlock):
            nn.init.zeros_(m.main[3].weight)  # pyright: ignore[reportArgumentType]
    return initialise(built, weights, imagenet=None, first=first)
