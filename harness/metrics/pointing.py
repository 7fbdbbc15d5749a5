"""Scores of a heat map that need no threshold: pointing game and energy in the box, each beside its chance level."""

import numpy as np

from harness.metrics.cells import Floats, ratio, scorable, with_macro
from harness.metrics.localisation_table import LocalisationTable
from harness.plugins import metric


def _means(table: LocalisationTable, weights: Floats, score: str, kept: np.ndarray) -> Floats:
    """Return the weighted means over the pairs of a class of a score and of its chance level, (R, 2*(V+1))."""
    blocks = []
    for column in (score, f"{score}_chance"):
        values = np.full((len(weights), len(table.classes)), np.nan)
        for c, pairs in enumerate(table.members(score)):
            own = weights[:, pairs]
            values[:, c] = ratio(own @ getattr(table, column)[pairs], own.sum(1))
        blocks.append(with_macro(values, kept))
    return np.concatenate(blocks, axis=1)


@metric("pointing_game", evaluation="localisation", unit="", higher_is_better=True, digits=3,
        source="Zhang 2016 (arXiv:1608.00507), without a margin around the box: protocol 2",
        variants=("", "chance"), needs=("pairs",), score="pointing")  # fmt: skip
def pointing_game(table: LocalisationTable, weights: Floats) -> Floats:
    """Share of the pairs whose map has its maximum in the box, and its level by chance, (R, 2*(V+1)), in [0, 1]."""
    return _means(table, weights, "pointing", scorable(table, pointing_game))


@metric("energy", evaluation="localisation", unit="", higher_is_better=True, digits=3,
        source="Wang 2020 (Score-CAM, arXiv:1910.01279), energy-based pointing game, of the map above its minimum",
        variants=("", "chance"), needs=("pairs",), score="energy")  # fmt: skip
def energy(table: LocalisationTable, weights: Floats) -> Floats:
    """Mean share of the map's mass that is in the box, and its level by chance, (R, 2*(V+1)), in [0, 1]."""
    return _means(table, weights, "energy", scorable(table, energy))
