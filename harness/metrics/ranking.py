"""Positives and negatives of a class in the order of their score: sorted once, summed in every replicate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Positions = NDArray[np.intp] | NDArray[np.int32]
MANY = 10**7  # scores of a table: above, positions take half the room, at a little time for each use


@dataclass(frozen=True, eq=False)
class Ranking:
    """One class: n1 positives and n0 negatives, both by ascending score."""

    positives: Positions  # (n1,) sample positions
    negatives: Positions  # (n0,)
    below: Positions  # (n1,) how many negatives score lower than this positive
    upto: Positions  # (n1,) how many negatives score lower or the same
    positives_below: Positions  # (n1,) how many positives score lower than this one

    def summed(self, weights: Floats) -> tuple[Floats, Floats, Floats]:
        """Return the positives' weights (n1,R) and the running sums of both, (n1+1,R) and (n0+1,R).

        `weights` is (N,R): a sample's weights lie together, so that gathering and summing run along memory. Entry i
        of a running sum is the weight of the first i samples.
        """
        own = weights[self.positives]
        return own, running(own), running(weights[self.negatives])


def running(weights: Floats) -> Floats:
    """Return the running sums of (n,R) along n, starting with zero, (n+1,R)."""
    total = np.empty((len(weights) + 1, weights.shape[1]))
    total[0] = 0.0
    np.cumsum(weights, axis=0, out=total[1:])
    return total


def rank(score: Floats, label: NDArray[np.uint8], scores: int = 0) -> Ranking:
    """Return the ranking of one class from scores and 0/1 labels, both (N,), of a table with so many `scores`."""
    order = np.argsort(score, kind="stable")
    positives, negatives = order[label[order] == 1], order[label[order] == 0]
    of_positives, of_negatives = score[positives], score[negatives]
    found = (
        positives,
        negatives,
        np.searchsorted(of_negatives, of_positives, "left"),
        np.searchsorted(of_negatives, of_positives, "right"),
        np.searchsorted(of_positives, of_positives, "left"),
    )
    return Ranking(*(f.astype(np.int32) for f in found) if scores > MANY else found)
