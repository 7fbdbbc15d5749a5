"""Accuracy-robustness area and accuracy under attack (Woods et al. 2019, arXiv:1906.02494, Methods; protocol.md, 3)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from harness.metrics.cells import Floats, Metric, registration, scorable, with_macro
from harness.metrics.robustness import RobustnessTable
from harness.plugins import metric

BINS = 1000  # of the authors' program


def accuracy_at(distance: Floats, weights: Floats, radii: Floats) -> Floats:
    """Return the weighted share of `distance` (n,) above each of `radii` (K,), for weights (R,n): (R,K)."""
    return weights @ (distance[:, None] > radii).astype(float) / weights.sum(1, keepdims=True)


def area(distance: Floats, weights: Floats, naive: float) -> Floats:
    """Return the integral over r of max(0, accuracy(r) - naive), exact for the step function, (R,).

    `distance` (n,) is each image's smallest RMSE, `weights` (R,n); accuracy(r) is the weighted share above r.
    """
    order = np.argsort(distance, kind="stable")
    ordered, weighing = distance[order], weights[:, order]
    total = weighing.sum(1, keepdims=True)
    before = np.cumsum(weighing, axis=1) - weighing  # of the images below each
    widths = np.diff(ordered, prepend=0.0)
    return np.maximum(0.0, 1 - before / total - naive) @ widths


def histogram_area(distance: Floats, weights: Floats, naive: float) -> Floats:
    """Return the area as the authors' program has it, (R,): 1,000 bins up to the largest, heights at their right ends.

    It is low by up to one bin's width.
    """
    values = np.zeros(len(weights))
    for r, mine in enumerate(weights):
        top = distance[mine > 0].max(initial=0.0)
        if top > 0:
            bins = np.minimum((distance / top * BINS).astype(int), BINS - 1)
            counts = np.bincount(bins, weights=mine, minlength=BINS)[:BINS]
            values[r] = np.maximum(0.0, 1 - np.cumsum(counts) / mine.sum() - naive).sum() * top / BINS
    return values


def balanced(positive: np.ndarray, weights: Floats) -> Floats:
    """Return weights (R,n) scaled so that positives and negatives weigh half each; NaN where a side has none."""
    with np.errstate(invalid="ignore", divide="ignore"):
        sides = [weights * side / (weights * side).sum(1, keepdims=True) for side in (positive, ~positive)]
    return (sides[0] + sides[1]) / 2


def _images(table: RobustnessTable, goal: str, weights: Floats, value: Callable[[Floats, Floats], Floats]) -> Floats:
    """Return `value(distance, weights)` (R,K) of a multi-class table, NaN where an image has no value."""
    if any(table.lacking("finite", goal)):
        return np.full((len(weights), value(np.zeros(1), np.ones((1, 1))).shape[1]), np.nan)
    return value(table.rmse[goal], weights)


def _findings(
    table: RobustnessTable, goal: str, weights: Floats, value: Callable[[Floats, Floats], Floats], kept: np.ndarray
) -> Floats:
    """Return the balanced `value` of each finding and their mean, each (R,K): concatenated (R,K*(V+1)), K outside."""
    assert table.positive is not None
    width = value(np.zeros(1), np.ones((1, 1))).shape[1]
    found = np.full((width, len(weights), len(table.classes)), np.nan)
    for c in np.flatnonzero(kept):
        rows = table.members[c]
        found[:, :, c] = value(table.rmse[goal][rows], balanced(table.positive[rows], weights[:, rows])).T
    return np.concatenate([with_macro(block, kept) for block in found], axis=1)


@metric("attack_ara", evaluation="robustness", tasks=("multiclass",), unit="RMSE", higher_is_better=True, digits=4,
        source="Woods 2019, arXiv:1906.02494, Methods", per="all", score="adv", variants=("", "histogram"))  # fmt: skip
def attack_ara(table: RobustnessTable, weights: Floats) -> Floats:
    """Attack ARA: area above the naive accuracy until another class is more probable, (R,2): exact, and in bins."""
    return _images(table, "adv", weights, _both(table.naive))


@metric("btr_ara", evaluation="robustness", tasks=("multiclass",), unit="RMSE", higher_is_better=True, digits=4,
        source="Woods 2019, arXiv:1906.02494, Methods", per="all", score="btr", variants=("", "histogram"))  # fmt: skip
def btr_ara(table: RobustnessTable, weights: Floats) -> Floats:
    """BTR ARA: area above the naive accuracy until the true class is below chance, (R,2): exact, and in bins."""
    return _images(table, "btr", weights, _both(table.naive))


def _both(naive: float) -> Callable[[Floats, Floats], Floats]:
    return lambda d, w: np.stack([area(d, w, naive), histogram_area(d, w, naive)], axis=1)


@metric("flip_ara", evaluation="robustness", tasks=("multilabel",), unit="RMSE", higher_is_better=True, digits=5,
        source="protocol.md, 3, MultiLabel (ours)", per="class", score="flip")  # fmt: skip
def flip_ara(table: RobustnessTable, weights: Floats) -> Floats:
    """ARA of the decision at each finding's operating point, balanced, above 1/2, and macro, (R,V+1)."""
    return _findings(table, "flip", weights, _one(table.naive), scorable(table, flip_ara))


@metric("flip_ara_at_half", evaluation="robustness", tasks=("multilabel",), unit="RMSE", higher_is_better=True,
        digits=5, source="Woods 2019: for two classes BTR is adv at probability 1/2", per="class", score="at_half",
        variants=("at_half",))  # fmt: skip
def flip_ara_at_half(table: RobustnessTable, weights: Floats) -> Floats:
    """As flip_ara at probability 1/2 for every finding, (R,V+1): never ranked, since it measures calibration."""
    return _findings(table, "at_half", weights, _one(table.naive), scorable(table, flip_ara_at_half))


def _one(naive: float) -> Callable[[Floats, Floats], Floats]:
    return lambda d, w: area(d, w, naive)[:, None]


def _shares(metric: Metric) -> Callable[[Floats, Floats], Floats]:
    radii = np.array(registration(metric)["radii"])
    return lambda d, w: accuracy_at(d, w, radii)


@metric("attack_accuracy", evaluation="robustness", tasks=("multiclass",), unit="", higher_is_better=True, digits=3,
        source="Woods 2019, arXiv:1906.02494, Methods", per="all", score="adv",
        radii=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1))  # fmt: skip
def attack_accuracy(table: RobustnessTable, weights: Floats) -> Floats:
    """Share of images that no perturbation of this RMSE was found to fool, at eight radii, (R,8)."""
    return _images(table, "adv", weights, _shares(attack_accuracy))


@metric("btr_accuracy", evaluation="robustness", tasks=("multiclass",), unit="", higher_is_better=True, digits=3,
        source="Woods 2019, arXiv:1906.02494, Methods", per="all", score="btr",
        radii=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1))  # fmt: skip
def btr_accuracy(table: RobustnessTable, weights: Floats) -> Floats:
    """Share of images whose class no perturbation of this RMSE was found to bring below chance, (R,8)."""
    return _images(table, "btr", weights, _shares(btr_accuracy))


@metric("flip_accuracy", evaluation="robustness", tasks=("multilabel",), unit="", higher_is_better=True, digits=3,
        source="protocol.md, 3, MultiLabel (ours)", per="class", score="flip",
        radii=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1))  # fmt: skip
def flip_accuracy(table: RobustnessTable, weights: Floats) -> Floats:
    """Balanced share of decisions that no perturbation of this RMSE was found to flip, (R,8*(V+1))."""
    return _findings(table, "flip", weights, _shares(flip_accuracy), scorable(table, flip_accuracy))


@metric("robust_auroc", evaluation="robustness", tasks=("multilabel",), unit="", higher_is_better=True, digits=3,
        source="protocol.md, 3, MultiLabel (ours)", per="class", score="probability", attack="pgd",
        radii=(0.0, 0.001, 0.005))  # fmt: skip
def robust_auroc(table: RobustnessTable, weights: Floats) -> Floats:
    """AUROC after each image was moved against its own label, at three radii (0: as it is), (R,3*(V+1)).

    Over the sampled pairs: as many positives as negatives, so at radius 0 it is not the test split's AUROC.
    """
    assert table.positive is not None
    kept = scorable(table, robust_auroc)
    blocks = []
    for radius in registration(robust_auroc)["radii"]:
        found = np.full((len(weights), len(table.classes)), np.nan)
        for c in np.flatnonzero(kept):
            rows = table.members[c]
            found[:, c] = _auroc(table.probability[f"{radius:g}"][rows], table.positive[rows], weights[:, rows])
        blocks.append(with_macro(found, kept))
    return np.concatenate(blocks, axis=1)


def _auroc(score: Floats, positive: np.ndarray, weights: Floats) -> Floats:
    """Return the weighted share of pairs (positive, negative) in the right order, ties half, (R,)."""
    own, rest = weights[:, positive], weights[:, ~positive]
    difference = score[positive][:, None] - score[~positive]
    won = (difference > 0) + 0.5 * (difference == 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.einsum("rp,pn,rn->r", own, won, rest) / (own.sum(1) * rest.sum(1))
