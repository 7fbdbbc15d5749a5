"""How far explanations can be trusted (protocol.md, 5): randomised networks, perturbed images, other explainers."""

from __future__ import annotations

from typing import ClassVar

from harness.metrics.cells import Floats
from harness.metrics.scored import ScoreTable, mean
from harness.plugins import metric

RANDOM, EDGES = "two_random_networks", "edge_detector"  # variants of the references


class RandomisationTable(ScoreTable):
    """Correlation of the map of each of N images with that of randomised networks, and two references.

    A condition's variant is the last stage that is random, "" where all are, or the name of a reference.
    """

    evaluation: ClassVar[str] = "randomisation"
    scores: ClassVar[tuple[str, ...]] = ("size", "rank")  # mean over the draws of |rho|, and of rho


@metric("randomisation", evaluation="randomisation", unit="", higher_is_better=False, digits=3, per="all",
        source="Adebayo 2018 (arXiv:1810.03292, 3.1): protocol 5", score="size")  # fmt: skip
def randomisation(table: ScoreTable, weights: Floats) -> Floats:
    """Mean |rho| of the map with those of randomised networks, (R,C), in [0, 1]: what does not hang on the weights.

    A map that turns into its opposite still follows the image and not the weights, hence the absolute value. It is
    above 0 by chance alone, the more so for coarse maps: `two_random_networks` says by how much.
    """
    return mean(table, randomisation, weights)


@metric("randomisation_rank", evaluation="randomisation", unit="", higher_is_better=False, digits=3, per="all",
        source="Adebayo 2018 (arXiv:1810.03292, 3.1): protocol 5", score="rank")  # fmt: skip
def randomisation_rank(table: ScoreTable, weights: Floats) -> Floats:
    """The same with its sign, (R,C), in [-1, 1]; chance is 0."""
    return mean(table, randomisation_rank, weights)
