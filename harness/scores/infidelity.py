"""Does the map say by how much the output falls when a part of the image is taken away? (Yeh 2019, arXiv:1901.09392).

captum has both measures and is the oracle of the tests. It draws for a repeated batch and takes no seed per image, so
that what it says of an image depends on the batch; these take what was measured.
"""

import torch
from torch import Tensor

from harness.plugins import score


@score(
    "infidelity", unit="logits squared", higher_is_better=False, source="Yeh 2019, arXiv:1901.09392, def. 2.1; captum"
)
def infidelity(predicted: Tensor, change: Tensor, *, scaled: bool = True) -> Tensor:
    """Return the mean over D draws of (b * predicted - change)^2, (B,) float64; `predicted` and `change` (B,D).

    `predicted` is the sum of the map over what was taken away, `change` by how much the output fell. With `scaled`, b
    is the scale of each map that fits best (captum's normalize=True), else 1: a heat map has no unit. A map of zeros
    predicts no change, with any scale. NaN where an entry is.
    """
    p, c = predicted.double(), change.double()
    scale = torch.ones_like(p[:, :1])
    if scaled:
        size = p.square().sum(1, keepdim=True)
        scale = torch.where(size > 0, (p * c).sum(1, keepdim=True) / size, size)
    return (scale * p - c).square().mean(1)


@score("max_sensitivity", unit="of the map's norm", higher_is_better=False,
       source="Yeh 2019, arXiv:1901.09392, def. 4.1; captum")  # fmt: skip
def max_sensitivity(heat: Tensor, others: Tensor) -> Tensor:
    """Return the largest norm of a map's change, by its own norm, (B,) float64; `heat` (B,h,w), `others` (D,B,h,w).

    Differs from captum: a map of zeros has no norm to compare with and is NaN; there it would be the least sensitive
    of all. NaN for maps with NaN or infinity.
    """
    norm = heat.double().flatten(1).norm(dim=1)
    change = (others.double() - heat.double()).flatten(2).norm(dim=2)  # (D,B)
    found = change.amax(0) / norm
    return found.where((norm > 0) & change.isfinite().all(0) & norm.isfinite(), torch.nan)
