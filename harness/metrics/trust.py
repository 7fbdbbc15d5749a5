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


class InfidelityTable(ScoreTable):
    """Infidelity of the maps of N images, and its share of what a map of zeros has; NaN for maps with NaN.

    The share is missing where the output never changed.
    """

    evaluation: ClassVar[str] = "infidelity"
    scores: ClassVar[tuple[str, ...]] = ("unexplained", "infidelity")


@metric("unexplained_change", evaluation="infidelity", unit="share of the mean square", higher_is_better=False,
        source="Yeh 2019 (arXiv:1901.09392, def. 2.1): protocol 5", digits=3, per="all",
        score="unexplained")  # fmt: skip
def unexplained_change(table: ScoreTable, weights: Floats) -> Floats:
    """Mean share of the logit's changes that the map, at its best scale, does not account for, (R,1), in [0, 1].

    Infidelity by the mean square of the changes: models whose logits move more are not worse for it.
    """
    return mean(table, unexplained_change, weights)


@metric("infidelity", evaluation="infidelity", unit="logits squared", higher_is_better=False,
        source="Yeh 2019 (arXiv:1901.09392, def. 2.1); captum: protocol 5", digits=4, per="all",
        score="infidelity")  # fmt: skip
def infidelity(table: ScoreTable, weights: Floats) -> Floats:
    """Mean infidelity over the images, (R,1), each map at its best scale (captum's normalize)."""
    return mean(table, infidelity, weights)


class SensitivityTable(ScoreTable):
    """Max-sensitivity of the maps of N images; NaN for maps of zeros and maps with NaN."""

    evaluation: ClassVar[str] = "sensitivity"
    scores: ClassVar[tuple[str, ...]] = ("sensitivity",)


@metric("max_sensitivity", evaluation="sensitivity", unit="of the map's norm", higher_is_better=False,
        source="Yeh 2019 (arXiv:1901.09392, def. 4.1); captum: protocol 5", digits=3, per="all",
        score="sensitivity")  # fmt: skip
def max_sensitivity(table: ScoreTable, weights: Floats) -> Floats:
    """Mean over the images of the map's largest relative change nearby, (R,1). An explainer that sees nothing has 0."""
    return mean(table, max_sensitivity, weights)


class AgreementTable(ScoreTable):
    """Agreement of the maps of N images, by pair of explainers: NaN for images of which one map has no order.

    A condition's variant names the two explainers, its resolution the grid on which they are compared.
    """

    evaluation: ClassVar[str] = "agreement"
    scores: ClassVar[tuple[str, ...]] = ("rank", "top")


@metric("explainer_agreement", evaluation="agreement", unit="", higher_is_better=True, digits=3, per="all",
        source="Spearman 1904; ours: protocol 5", score="rank")  # fmt: skip
def explainer_agreement(table: ScoreTable, weights: Floats) -> Floats:
    """Mean Spearman correlation of two explainers' maps of an image, (R,C), in [-1, 1]; chance is 0."""
    return mean(table, explainer_agreement, weights)


@metric("explainer_overlap", evaluation="agreement", unit="share of the cells", higher_is_better=True, digits=3,
        per="all", source="ours: protocol 5", score="top")  # fmt: skip
def explainer_overlap(table: ScoreTable, weights: Floats) -> Floats:
    """Mean share of one map's highest cells that are among the other's, (R,C); chance is the share that counts, 0.1."""
    return mean(table, explainer_overlap, weights)
