"""What travels between the layers: batches of images, cases to explain, explanations."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Images and what belongs to them."""

    x: Tensor  # (B,C,H,W) float in [0,1], on the device
    y: Tensor  # targets as the task encodes them: (B,V) float or (B,) long
    index: Tensor  # (B,) long, on the CPU: positions in the dataset's table of samples

    def __len__(self) -> int:
        return len(self.x)

    def moved(self, chosen: Tensor, x: Tensor) -> Batch:
        """Return the batch with the images at `chosen`, places (k,) or a mask (B,) bool, replaced by `x`."""
        changed = self.x.clone()
        changed[chosen] = x
        return replace(self, x=changed)


@dataclass(frozen=True)
class Explanation:
    """What an explainer says about one batch of (image, class) pairs."""

    heat: Tensor  # (B,h,w) float, larger = more important, at the map's native resolution
    forwards: float = 0.0  # model passes per image: forward only
    backwards: float = 0.0  # model passes per image: forward and backward
    image: Tensor | None = None  # (B,C,H,W): the explanation itself, where it is an image (adversarial); else None
