"""A network of another library behind the interface of ours (harness/models/classifier.py)."""

from __future__ import annotations

import copy
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from harness.errors import UsageError
from harness.models.classifier import Classifier, Normalise, without_inplace

NORMALISING = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))  # mean and std before a network that normalises itself
LAYERS_AFTER = 3  # linear layers of a head (those of AlexNet and VGG)


class External(Classifier):
    """`net(normalise(x))`: images (B,3,H,W) in [0,1] to logits (B,V). CAM is not exact: the head is not looked into.

    `features` is the module inside the network that gives its last feature maps, so that Grad-CAM works; a network
    without any, a vision transformer say, has none.
    """

    def __init__(
        self, net: nn.Module, *, num_classes: int, size: int,
        mean: tuple[float, ...] = NORMALISING[0], std: tuple[float, ...] = NORMALISING[1],
    ):  # fmt: skip
        nn.Module.__init__(self)
        self.normalise = Normalise(mean, std)
        self.net = without_inplace(net)
        self.num_classes = num_classes
        self.foreign_names = ()
        self.size = size  # of the images that it was trained on

    @property
    def exact_cam(self) -> bool:
        """Return False."""
        return False

    @property
    def features(self) -> nn.Module:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Return the module that gives the last feature maps (B,K,h,w). Raises `UsageError` where there is none."""
        if not self._maps:
            raise UsageError(
                "this network has no feature maps in front of its head: Grad-CAM is for convolutional networks. Use "
                "an explainer of gradients, saliency say."
            )
        return self.net.get_submodule(self._maps)

    @property
    def head(self) -> nn.Module:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Raise `UsageError`: what follows the feature maps is the other library's."""
        raise UsageError("the head of this network is not known. Use what looks at the whole network.")

    @cached_property
    def _maps(self) -> str:
        weight = next(self.parameters())
        return last_maps(self.net, torch.zeros(1, 3, self.size, self.size, device=weight.device, dtype=weight.dtype))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B,V) of images (B,C,H,W) in [0,1]."""
        return self.net(self.normalise(x))


def last_maps(net: nn.Module, x: Tensor) -> str:
    """Return the name of the last module whose output for x is maps (B,K,h,w) of more than a pixel; "": there is none.

    Only a few linear layers and normalisations may have weights behind it: else what follows is no head.
    """
    watched = copy.deepcopy(net).eval()
    found, after = "", 0
    handles = []

    def look(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            nonlocal found, after
            if isinstance(output, Tensor) and output.ndim == 4 and min(output.shape[2:]) > 1:
                found, after = name, 0
            elif not any(True for _ in module.children()) and any(True for _ in module.parameters()):
                after += 1 if isinstance(module, nn.Linear) or "Norm" in type(module).__name__ else LAYERS_AFTER + 1

        return hook

    for name, module in watched.named_modules():
        if name:
            handles.append(module.register_forward_hook(look(name)))
    with torch.no_grad():
        watched(x)
    for handle in handles:
        handle.remove()
    return found if after <= LAYERS_AFTER else ""
