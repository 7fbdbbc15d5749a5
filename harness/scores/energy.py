"""How much of the map lies in the box (Wang et al. 2020, arXiv:1910.01279: the energy-based pointing game)."""

import torch
from torch import Tensor

from harness.plugins import score


@score("energy", unit="share of the mass", higher_is_better=True, source="Wang 2020, arXiv:1910.01279, 4.3")
def energy(heat: Tensor, mask: Tensor) -> Tensor:
    """Return the share of the map's mass above its minimum that lies inside the box, (B,) float64 in [0,1].

    `heat` (B,H,W) at the mask's size, `mask` (B,H,W) bool. The chance level is the box's share of the image
    (`harness.scores.pointing.chance`). NaN for a constant map, which has no mass, and for NaN or infinity.
    """
    flat = heat.flatten(1).double()
    mass = flat - flat.amin(1, keepdim=True)
    total = mass.sum(1)
    share = (mass * mask.flatten(1)).sum(1) / total
    return share.where(total > 0, torch.nan)
