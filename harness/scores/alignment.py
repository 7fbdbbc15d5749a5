"""How much of an attack falls on what a heat map calls important, each beside what chance gives.

Woods 2019 (arXiv:1906.02494) says that attacks on networks that are not robust do not align with heat maps and shows
it in a supplement that is not public: the definitions are ours.
"""

import torch
from torch import Tensor

from harness.plugins import score


def energy_of(delta: Tensor) -> Tensor:
    """Return the attack's energy at each pixel, the sum over channels of delta^2, (B,C,H,W) to (B,H,W) float64."""
    return delta.double().square().sum(1)


def chance(pixels: int, top: float) -> float:
    """Return the share of the image that `alignment` calls important: a map that knows nothing scores it."""
    return _count(pixels, top) / pixels


def _count(pixels: int, top: float) -> int:
    return max(1, round(top * pixels))


@score("alignment", unit="share of the energy", higher_is_better=True, source="ours: protocol.md, 3, after Woods 2019")
def alignment(heat: Tensor, energy: Tensor, *, top: float) -> Tensor:
    """Return the share of the energy on the `top` share of the pixels with the largest heat, (B,) float64 in [0,1].

    `heat` and `energy` (B,H,W). Pixels that tie for the last places count by the share of them that has a place, so
    that a constant map scores chance. NaN where there is no energy and for a map with NaN or infinity.
    """
    flat, mass = heat.flatten(1), energy.flatten(1)
    count = _count(flat.shape[1], top)
    last = flat.topk(count, dim=1).values[:, -1:]
    above, tied = flat > last, flat == last
    places = count - above.sum(1, keepdim=True)
    weight = above.double() + tied.double() * places / tied.sum(1, keepdim=True)
    total = mass.sum(1)
    return ((weight * mass).sum(1) / total).where((total > 0) & torch.isfinite(flat).all(1), torch.nan)


@score("alignment_rank", unit="", higher_is_better=True, source="Spearman 1904; ours: protocol.md, 3, after Woods 2019")
def alignment_rank(heat: Tensor, energy: Tensor) -> Tensor:
    """Return Spearman's correlation of heat and energy over the pixels, (B,) float64 in [-1,1]; chance is 0.

    `heat` and `energy` (B,H,W). Tied pixels have their mean rank. |delta| has the ranks of its energy. NaN where either
    is constant and for a map with NaN or infinity.
    """
    found = rank_correlation(*(centred_ranks(values.flatten(1)) for values in (heat, energy)))
    return found.where(torch.isfinite(heat).flatten(1).all(1), torch.nan)


def rank_correlation(a: Tensor, b: Tensor) -> Tensor:
    """Return the correlation of two sets of centred ranks (B,P), (B,) float64; NaN where either is constant."""
    size = a.square().sum(1) * b.square().sum(1)
    return ((a * b).sum(1) / size.sqrt()).where(size > 0, torch.nan)


def centred_ranks(values: Tensor) -> Tensor:
    """Return the ranks of each row, (B,P) float64, less their mean; ties share the mean of their places."""
    count = values.shape[1]
    ordered, pixel = values.sort(1)
    place = torch.arange(count, device=values.device).expand_as(pixel)
    differs = ordered[:, 1:] != ordered[:, :-1]
    edge = differs.new_ones(len(values), 1)
    first = place.where(torch.cat([edge, differs], 1), 0).cummax(1).values  # of those that tie
    end = (place + 1).where(torch.cat([differs, edge], 1), count).flip(1).cummin(1).values.flip(1)
    ranks = (first + end).double() / 2 - count / 2
    return torch.empty_like(ranks).scatter_(1, pixel, ranks)
