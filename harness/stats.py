"""The only estimator: a statistic of per-sample scores, resampled by cluster (protocol.md, 0).

A statistic is a function `(samples, weights) -> values`: `weights` (R, N) holds one row of sample weights per
replicate, `values` is (R,) or (R, K). The point value uses weights of one; the bootstrap changes the weights and
calls the same function again. Whatever a statistic chooses (a threshold, say) is therefore chosen anew in every
replicate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Statistic = Callable[[Any, Floats], Floats]

RESAMPLES = 1000
CONFIDENCE = 0.95
NORMAL = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)  # standard errors from the value to the ends of its interval
MAX_UNDEFINED = 0.05  # above this share of undefined replicates the interval is NaN
SEED = 20190510  # fixed, so that any two runs are resampled alike and their intervals repeat
CHUNK = 64  # replicates handed to a statistic at once; bounds memory, changes no draw


@dataclass(frozen=True)
class Estimate:
    """Value, 95 % percentile interval and standard error: arrays of shape (K,), or () for a scalar statistic."""

    value: Floats
    low: Floats
    high: Floats
    standard_error: Floats
    undefined: Floats  # share of the replicates in which the statistic was undefined

    def __getitem__(self, part: Any) -> Estimate:
        """Return the estimate of some of the K values."""
        arrays = (self.value, self.low, self.high, self.standard_error, self.undefined)
        return Estimate(*(a[part] for a in arrays))


def cluster_weights(clusters: NDArray[Any], resamples: int = RESAMPLES, seed: int = SEED) -> Iterator[Floats]:
    """Yield sample weights (r, N), r <= CHUNK: how often each sample's cluster was drawn.

    Clusters are drawn with replacement, as many as there are. Their order is that of their sorted names, so two
    runs over the same clusters are resampled identically whatever the order of their samples. A sample's weights
    lie together in memory (the array is the transpose of an (N, r) one), as running sums over samples want it.
    """
    names, member = np.unique(clusters, return_inverse=True)
    if not len(names):
        return
    rng = np.random.default_rng(seed)
    for start in range(0, resamples, CHUNK):
        draws = np.empty((len(names), min(CHUNK, resamples - start)))
        for r in range(draws.shape[1]):
            draws[:, r] = np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))
        yield draws[member].T


def replicates(statistic: Statistic, samples: Any, clusters: NDArray[Any], *, resamples: int = RESAMPLES) -> Floats:
    """Return the statistic in every bootstrap replicate, (R, K) or (R,)."""
    return np.concatenate([np.asarray(statistic(samples, w), float) for w in cluster_weights(clusters, resamples)])


def point(statistic: Statistic, samples: Any, n: int) -> Floats:
    """Return the statistic on the samples as they are, (K,) or ()."""
    return np.asarray(statistic(samples, np.ones((1, n))), float)[0]


def estimate(statistic: Statistic, samples: Any, clusters: NDArray[Any], *, resamples: int = RESAMPLES) -> Estimate:
    """Return value and clustered percentile interval of a statistic of N samples.

    `clusters` (N,) names the patient of each sample (the sample itself where there are none). Replicates in which
    a value is undefined are dropped and counted; above 5 % of them the interval is NaN. So it is where there are
    fewer than two clusters: resampling one says nothing.
    """
    value = point(statistic, samples, len(clusters))
    if len(np.unique(clusters)) < 2:
        return summarise(value, np.full((1, *value.shape), np.nan))
    return summarise(value, replicates(statistic, samples, clusters, resamples=resamples))


def summarise(value: Floats, draws: Floats) -> Estimate:
    """Turn a value and its replicates (R, ...) into an `Estimate`. What is not finite is undefined."""
    draws = np.where(np.isfinite(draws), draws, np.nan)
    undefined = np.isnan(draws).mean(axis=0)
    unusable = (undefined > MAX_UNDEFINED) | ~np.isfinite(value)
    masked = np.where(unusable, 0.0, draws)  # numpy warns where nothing or one number is left
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.nanpercentile(masked, [tail, 100 - tail], axis=0)
    error = np.nanstd(masked, axis=0, ddof=1) if len(draws) > 1 else np.full(value.shape, np.nan)
    low, high, error = (np.where(unusable, np.nan, a) for a in (low, high, error))
    return Estimate(value, low, high, error, undefined)


def over_seeds(values: Floats, draws: Floats) -> tuple[Floats, Floats]:
    """Return value (K,) and replicates (R,K) of the mean over S seeds, from (S,K) and (S,R,K).

    Seeds and clusters are resampled together: replicate r draws S seeds with replacement and takes their mean on its
    own clusters, which are the same for every seed. With one seed nothing is added to the sampling noise. The spread
    among the seeds at hand enters with their own variance, (S-1)/S of the unbiased one: with three seeds the share of
    the standard error that is training noise is 0.82 of what it should be.
    """
    count = len(values)
    chosen = np.random.default_rng([SEED, count]).integers(count, size=(draws.shape[1], count))
    weight = (chosen[:, :, None] == np.arange(count)).mean(axis=1)  # (R,S)
    return values.mean(axis=0), np.einsum("rs,srk->rk", weight, draws)


def paired(
    statistic: Statistic, a: Any, b: Any, clusters: NDArray[Any], *, resamples: int = RESAMPLES
) -> tuple[Estimate, Floats]:
    """Return the estimate of statistic(a) - statistic(b) on the same samples, and its two-sided p-value.

    Both are resampled by the same clusters. p comes from the normal tail on the bootstrap standard error: 1,000
    replicates cannot count far enough for Holm's correction.
    """

    def difference(_: Any, weights: Floats) -> Floats:
        return np.asarray(statistic(a, weights)) - np.asarray(statistic(b, weights))

    found = estimate(difference, None, clusters, resamples=resamples)
    return found, normal_p(found.value, found.standard_error)


def normal_p(value: Floats, standard_error: Floats) -> Floats:
    """Return the two-sided p-value of value/standard_error under a normal; 1 where both are zero."""

    def one(v: float, s: float) -> float:
        if math.isnan(v) or math.isnan(s):
            return math.nan
        if s == 0:
            return 1.0 if v == 0 else 0.0
        return math.erfc(abs(v / s) / math.sqrt(2))

    return np.vectorize(one, otypes=[float])(value, standard_error)


def holm(p: Floats) -> Floats:
    """Return Holm-adjusted p-values (m,), NaN kept and not counted. Holm 1979.

    >>> holm(np.array([0.01, 0.04, 0.03])).round(4).tolist()
    [0.03, 0.06, 0.06]
    """
    adjusted = np.full(p.shape, np.nan)
    order = [i for i in np.argsort(p) if not np.isnan(p[i])]
    running = 0.0
    for rank, i in enumerate(order):
        running = max(running, min(1.0, (len(order) - rank) * p[i]))
        adjusted[i] = running
    return adjusted
