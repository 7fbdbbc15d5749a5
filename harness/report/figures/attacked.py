"""Accuracy over the size of the perturbation, as a step function, from the minima that runs store (protocol.md, 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness import stats
from harness.metrics.ara import accuracy_at, balanced
from harness.metrics.cells import ALL, MACRO, Floats, with_macro
from harness.metrics.robustness import RobustnessTable

GRID = 128  # radii at which a band is drawn, at most
ROUNDING = 1e-12  # of a sum of shares

Place = tuple[str, str]  # goal, class


@dataclass(frozen=True, eq=False)
class Steps:
    """accuracy(r), a step function: `share` (K,) from each of `radii` (K,) on, the first of which is 0."""

    radii: Floats
    share: Floats

    def at(self, radii: Floats) -> Floats:
        """Return accuracy at each of some radii, (M,)."""
        return self.share[np.searchsorted(self.radii, radii, side="right") - 1]

    def meets(self, naive: float) -> float:
        """Return the smallest radius from which on the accuracy is not above `naive`."""
        below = self.share <= naive + ROUNDING
        return float(self.radii[np.argmax(below)] if below.any() else self.radii[-1])


@dataclass(frozen=True, eq=False)
class Band:
    """Two step functions around a curve, (K,) each; `bar` says what they are."""

    radii: Floats
    low: Floats
    high: Floats
    bar: str


def steps(distance: Floats, weights: Floats) -> Steps:
    """Return the weighted share of `distance` (n,) above each radius."""
    radii, place = np.unique(np.append(0.0, distance), return_inverse=True)
    mass = np.bincount(place[1:], weights=weights, minlength=len(radii))
    return Steps(radii, np.maximum(0.0, 1 - np.cumsum(mass) / mass.sum()))


def mean(curves: Sequence[Steps]) -> Steps:
    """Return the mean of several step functions, exactly."""
    radii = np.unique(np.concatenate([c.radii for c in curves]))
    return Steps(radii, np.mean([c.at(radii) for c in curves], axis=0))


def curves_of(table: RobustnessTable) -> dict[Place, Steps]:
    """Return the curve of each goal and class that has one: "all" of images; of pairs each finding, balanced, and
    their macro mean."""
    found: dict[Place, Steps] = {}
    for goal, distance in table.rmse.items():
        kept = _kept(table, goal)
        if table.positive is None:
            found |= {(goal, ALL): steps(distance, np.ones(len(distance)))} if kept.all() else {}
            continue
        for c in np.flatnonzero(kept):
            rows = table.members[c]
            weights = balanced(table.positive[rows], np.ones((1, len(rows))))[0]
            found[goal, table.classes[c]] = steps(distance[rows], weights)
        if kept.any():
            found[goal, MACRO] = mean([found[goal, table.classes[c]] for c in np.flatnonzero(kept)])
    return found


def bands_of(table: RobustnessTable, resamples: int) -> dict[Place, Band]:
    """Return the pointwise 95 % band of each curve: patients resampled, all goals and classes alike."""
    found: dict[Place, Band] = {}
    for goal, distance in table.rmse.items():
        kept = _kept(table, goal)
        if not kept.any():
            continue
        radii = thinned(np.unique(np.append(0.0, distance[np.isfinite(distance)])))
        names = [ALL] if table.positive is None else [*table.classes, MACRO]

        def shares(
            table: RobustnessTable, weights: Floats, goal: str = goal, radii: Floats = radii, kept: Floats = kept
        ) -> Floats:
            return _shares(table, goal, weights, radii, kept)

        e = stats.estimate(shares, table, table.clusters, resamples=resamples)
        low, high = e.low.reshape(len(radii), -1), e.high.reshape(len(radii), -1)
        found |= {(goal, name): Band(radii, low[:, k], high[:, k], "95 % interval") for k, name in enumerate(names)
                  if np.isfinite(low[:, k]).all()}  # fmt: skip
    return found


def range_of(curves: Sequence[Steps]) -> Band:
    """Return the lowest and the highest of the curves of several seeds."""
    radii = thinned(np.unique(np.concatenate([c.radii for c in curves])))
    each = np.array([c.at(radii) for c in curves])
    return Band(radii, each.min(axis=0), each.max(axis=0), "range of the seeds")


def thinned(radii: Floats) -> Floats:
    """Return at most `GRID` of sorted radii, with the first and the last."""
    return radii[np.unique(np.linspace(0, len(radii) - 1, GRID).round().astype(int))]


def _kept(table: RobustnessTable, goal: str) -> np.ndarray:
    return np.array([not why for why in table.lacking("finite", goal)], dtype=bool)


def _shares(table: RobustnessTable, goal: str, weights: Floats, radii: Floats, kept: np.ndarray) -> Floats:
    """Return the accuracy at each radius, by class and then macro where there are findings, (R, K*(V+1)) or (R,K)."""
    if table.positive is None:
        return accuracy_at(table.rmse[goal], weights, radii)
    found = np.full((len(radii), len(weights), len(table.classes)), np.nan)
    for c in np.flatnonzero(kept):
        rows = table.members[c]
        found[:, :, c] = accuracy_at(table.rmse[goal][rows], balanced(table.positive[rows], weights[:, rows]), radii).T
    return np.concatenate([with_macro(block, kept) for block in found], axis=1)
