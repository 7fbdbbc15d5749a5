"""What every model of this harness looks like: normalisation, features, head (protocol.md, 0).

Images come in as [0,1]; the first layer normalises, so every magnitude of a perturbation is in [0,1] pixel units.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from harness.errors import UsageError


class Normalise(nn.Module):
    """Subtract the mean and divide by the standard deviation, per channel; buffers `mean`, `std` (C,1,1).

    Both are saved with the weights: a checkpoint brings the normalisation that it was trained with.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        if len(mean) != len(std) or not all(s > 0 for s in std):
            raise UsageError(
                f"normalisation: expected one mean and one positive std per channel, got mean {tuple(mean)} and "
                f"std {tuple(std)}. Mend the dataset's mean and std."
            )
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(-1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return (x - mean) / std, (B,C,H,W). Raises `UsageError` where x has another number of channels."""
        if x.ndim != 4 or x.shape[1] != len(self.mean):  # (B,1,H,W) would broadcast silently to three channels
            raise UsageError(
                f"the model expects images (B,{len(self.mean)},H,W), got {tuple(x.shape)}. "
                f"Build it with the dataset's number of channels."
            )
        return (x - self.mean) / self.std


class GlobalAverageLinear(nn.Linear):
    """Global average of each feature map, then a linear layer: (B,K,h,w) -> (B,V); `weight` (V,K), `bias` (V,).

    A model with this head has an exact class activation map (Zhou et al. 2016, arXiv:1512.04150): the map averages
    to the logit minus its bias.
    """

    def forward(self, features: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return logits (B,V) of features (B,K,h,w)."""
        return super().forward(features.mean((2, 3)))


class Classifier(nn.Module):
    """`head(features(normalise(x)))`: images (B,C,H,W) in [0,1] to logits (B,V).

    `foreign_names` are (regular expression, replacement) pairs that turn another library's parameter names into
    ours, so that its checkpoints load.
    """

    def __init__(
        self,
        normalise: Normalise,
        features: nn.Module,
        head: nn.Module,
        *,
        num_classes: int,
        foreign_names: Sequence[tuple[str, str]] = (),
    ):
        super().__init__()
        self.normalise = normalise
        self.features = features
        self.head = head
        self.num_classes = num_classes
        self.exclusive = True  # one class rules the others out (softmax); the task's, set where a run builds its model
        self.foreign_names = tuple(foreign_names)

    @property
    def channels(self) -> int:
        """Return the number of channels of the images that the model takes."""
        return len(self.normalise.mean)

    @property
    def exact_cam(self) -> bool:
        """Return whether the head is a global average and a linear layer, so that CAM is exact."""
        return isinstance(self.head, GlobalAverageLinear)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B,V) of images (B,C,H,W) in [0,1]."""
        return self.head(self.features(self.normalise(x)))


def without_inplace(module: nn.Module) -> nn.Module:
    """Switch off in-place activations below `module`: hooks and input gradients read what they would overwrite."""
    for m in module.modules():
        if getattr(m, "inplace", False):
            m.inplace = False  # pyright: ignore[reportArgumentType]
    return module
