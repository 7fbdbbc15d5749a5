"""Localisation with a cross-fitted threshold per class (protocol.md, 2; Khakzar 2019, 3.3, after Li 2018).

Khakzar et al. and Li et al. tell neither how nor on what the threshold of the map is chosen. Here each class's is
chosen on one fold of five and scored on the other four; the value averages the five choices.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.metrics.cells import Floats, ratio, scorable, with_macro
from harness.metrics.localisation_table import FOLDS, SCALE, THRESHOLDS, LocalisationTable
from harness.plugins import metric

TENTHS = SCALE // 10
NONE = -1  # in place of a threshold: the fold has no weight, so nothing can be chosen


def hits(iou: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Return which pairs are correct, IoU > T, from quantised IoU (P,256): (P,256,7) of 0 and 1.

    float32 is exact here: sums of whole weights stay far below 2**24.
    """
    return (iou[:, :, None] > TENTHS * np.arange(1, len(THRESHOLDS) + 1)).astype(np.float32)


def _by_fold(table: LocalisationTable, pairs: NDArray[np.intp], weights: Floats, scores: NDArray[Any]) -> NDArray[Any]:
    """Return the weighted sum over each fold's pairs of `scores` (p,...), (5,R,...)."""
    flat = scores.reshape(len(pairs), -1)
    mine = weights[:, pairs].astype(scores.dtype)
    sums = [mine[:, of] @ flat[of] for of in (table.fold[pairs] == f for f in range(FOLDS))]
    return np.stack(sums).reshape(FOLDS, len(weights), *scores.shape[1:])


def choose(correct: Floats, iou: Floats) -> NDArray[np.intp]:
    """Return the threshold with the most correct, then the largest IoU, then the lowest, from (...,256) each: (...,).

    Both are weighted sums over the pairs of a fold, of whole numbers: exact, so that ties are ties.
    """
    best = correct == correct.max(-1, keepdims=True)
    return np.where(best, iou, -1.0).argmax(-1)


@dataclass(frozen=True, eq=False)
class Folds:
    """Weighted sums over one class's pairs in each fold, for R weightings, and the choices that follow from them."""

    weight: Floats  # (5,R)
    correct: Floats  # (5,R,256,7)
    iou: Floats  # (5,R,256) in 1/65530

    @cached_property
    def chosen(self) -> NDArray[np.intp]:
        """Return the threshold chosen on each fold for all T together, (5,R,1)."""
        return np.where(self.weight > 0, choose(self.correct.sum(3), self.iou), NONE)[:, :, None]

    @cached_property
    def chosen_per_t(self) -> NDArray[np.intp]:
        """Return the threshold chosen on each fold for each T, (5,R,7)."""
        chosen = choose(np.moveaxis(self.correct, 3, 2), self.iou[:, :, None])
        return np.where(self.weight[:, :, None] > 0, chosen, NONE)


def _folds(table: LocalisationTable, c: int, weights: Floats) -> Folds:
    """Return the sums of one class's pairs; kept as long as the weights are the same, for the next metric."""
    held = table.memo
    if held.get("weights") is not weights:
        held.clear()
        held["weights"] = weights
    if c not in held:
        held[c] = _sums(table, table.members("iou")[c], weights)
    return held[c]


def _sums(table: LocalisationTable, pairs: NDArray[np.intp], weights: Floats) -> Folds:
    iou = table.iou[pairs]
    return Folds(
        _by_fold(table, pairs, weights, np.ones(len(pairs))),
        _by_fold(table, pairs, weights, hits(iou)),
        _by_fold(table, pairs, weights, iou.astype(float)),
    )


def _others(sums: Floats, weight: Floats, chosen: NDArray[np.intp]) -> Floats:
    """Return the mean at each fold's threshold over the other four folds, averaged over the folds, (R,D).

    `sums` (5,R,256,D), `weight` (5,R), `chosen` (5,R,1) or (5,R,D). A choice that could not be made, or has nothing to
    be scored on, is skipped; NaN where that is true of all five.
    """
    replicate = np.arange(weight.shape[1])[:, None]
    column = np.arange(sums.shape[3])
    means = []
    for f in range(FOLDS):
        rest = [g for g in range(FOLDS) if g != f]
        at_choice = np.sum([sums[g][replicate, chosen[f], column] for g in rest], axis=0)
        found = ratio(at_choice.astype(float), weight[rest].sum(0)[:, None])
        means.append(np.where(chosen[f] == NONE, np.nan, found))
    stacked = np.stack(means)
    known = np.isfinite(stacked)
    return ratio(np.where(known, stacked, 0.0).sum(0), known.sum(0))


def _classes(table: LocalisationTable, kept: NDArray[np.bool_],
             score: str = "iou") -> Iterator[tuple[int, NDArray[np.intp]]]:  # fmt: skip
    members = table.members(score)
    yield from ((int(c), members[c]) for c in np.flatnonzero(kept))


def _accuracy(table: LocalisationTable, weights: Floats, kept: NDArray[np.bool_]) -> Floats:
    """Return localisation accuracy in both variants, (R,2,7,V)."""
    values = np.full((len(weights), 2, len(THRESHOLDS), len(table.classes)), np.nan)
    for c, _ in _classes(table, kept):
        folds = _folds(table, c, weights)
        for variant, chosen in enumerate((folds.chosen, folds.chosen_per_t)):
            values[:, variant, :, c] = _others(folds.correct, folds.weight, chosen)
    return values


@metric("localisation_accuracy", evaluation="localisation", unit="", higher_is_better=True,
        source="Khakzar 2019 (arXiv:1905.03767, 3.3), Li 2018 (arXiv:1711.06373); threshold: protocol 2", digits=3,
        thresholds=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7), variants=("", "per_t"), needs=("pairs", "folds"),
        score="iou")  # fmt: skip
def localisation_accuracy(table: LocalisationTable, weights: Floats) -> Floats:
    """Share of the pairs whose region has IoU > T with the box, (R, 2*7*(V+1)), in [0, 1].

    The region's threshold is chosen per class on one fold, for all T together (variant "") or for each (`per_t`),
    scored on the other four folds and averaged over the five choices; in a replicate it is chosen anew.
    """
    kept = scorable(table, localisation_accuracy)
    values = _accuracy(table, weights, kept)
    return with_macro(values.reshape(-1, len(kept)), kept).reshape(len(weights), -1)


@metric("mean_localisation_accuracy", evaluation="localisation", unit="", higher_is_better=True,
        source="mean of localisation_accuracy over T = 0.1 ... 0.7: protocol 2", digits=3, variants=("", "per_t"),
        needs=("pairs", "folds"), score="iou")  # fmt: skip
def mean_localisation_accuracy(table: LocalisationTable, weights: Floats) -> Floats:
    """Localisation accuracy averaged over the seven T, (R, 2*(V+1)), in [0, 1]: one number per explainer."""
    kept = scorable(table, mean_localisation_accuracy)
    values = _accuracy(table, weights, kept).mean(2)
    return with_macro(values.reshape(-1, len(kept)), kept).reshape(len(weights), -1)


def _at_choice(table: LocalisationTable, weights: Floats, kept: NDArray[np.bool_], score: str) -> Floats:
    """Return the mean of a quantised share at the thresholds of localisation accuracy, (R,V+1)."""
    values = np.full((len(weights), len(table.classes)), np.nan)
    for c, pairs in _classes(table, kept, score):
        folds = _folds(table, c, weights)
        shares = getattr(table, score)[pairs].astype(float)[:, :, None]
        values[:, c] = _others(_by_fold(table, pairs, weights, shares), folds.weight, folds.chosen)[:, 0] / SCALE
    return with_macro(values, kept)


@metric("iou", evaluation="localisation", unit="", higher_is_better=True, digits=3, needs=("pairs", "folds"),
        source="mean intersection over union at the threshold of localisation_accuracy: protocol 2",
        score="iou")  # fmt: skip
def iou(table: LocalisationTable, weights: Floats) -> Floats:
    """Mean IoU of region and box at the thresholds chosen for localisation accuracy, (R,V+1), in [0, 1].

    From IoU rounded up to 1/65530: at most 1.6e-5 too large.
    """
    return _at_choice(table, weights, scorable(table, iou), "iou")


@metric("iobb", evaluation="localisation", unit="", higher_is_better=True, digits=3, needs=("pairs", "folds"),
        source="after Wang 2017 (arXiv:1705.02315), of the region: share of it inside the box: protocol 2",
        score="iobb")  # fmt: skip
def iobb(table: LocalisationTable, weights: Floats) -> Floats:
    """Mean share of the region that lies in the box, at the thresholds chosen for localisation accuracy, (R,V+1)."""
    return _at_choice(table, weights, scorable(table, iobb), "iobb")


def chosen_thresholds(table: LocalisationTable) -> dict[str, list[int]]:
    """Return per class that can be scored the threshold t (0..255) chosen on each of the five folds."""
    kept = scorable(table, localisation_accuracy)
    ones = np.ones((1, len(table.ids)))
    return {table.classes[c]: _folds(table, c, ones).chosen[:, 0, 0].tolist() for c, _ in _classes(table, kept)}


def pair_iou(table: LocalisationTable) -> Floats:
    """Return each pair's mean IoU over the four thresholds chosen on the folds it is not in, (P,); NaN if missing."""
    found = np.full(len(table.ids), np.nan)
    members = table.members("iou")
    for name, chosen in chosen_thresholds(table).items():
        pairs = members[table.classes.index(name)]
        at = table.iou[pairs][:, chosen] / SCALE  # (p,5)
        other = table.fold[pairs][:, None] != np.arange(FOLDS)
        found[pairs] = np.where(other, at, 0.0).sum(1) / (FOLDS - 1)
    return found


def skipped_choices(table: LocalisationTable, weights: Floats) -> NDArray[np.int64]:
    """Return how many of the five choices of each class could not be made under these weights, (R,V)."""
    count = np.zeros((len(weights), len(table.classes)), dtype=np.int64)
    for c, _ in _classes(table, scorable(table, localisation_accuracy)):
        count[:, c] = (_folds(table, c, weights).weight == 0).sum(0)
    return count
