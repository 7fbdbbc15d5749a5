"""What the data of a column cannot separate: all pairs of its lines, by paired differences (protocol.md, 0)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness import stats

ALPHA = 0.05
DEVIATES = 1.96  # of a normal, for 95 %
NAMED = 4  # members of the first group that the sentence names before it counts the others
ROUNDING = 1e-12  # a variance below this share of the largest one is that of equal numbers


@dataclass(frozen=True)
class Apart:
    """How many pairs of a column's lines the data cannot tell apart, and the difference it would take."""

    lines: int
    pairs: int
    together: int  # pairs that are not significant at 0.05, Holm over all pairs
    smallest: float  # 1.96 x median standard error of the paired differences; NaN where there is none


def errors(replicates: stats.Floats) -> stats.Floats:
    """Return the standard errors (m, m) of the paired differences of m lines, from replicates (R, m).

    The same numbers as the standard deviation of the differences, one pair at a time; NaN where too many replicates
    are undefined (`stats.summarise`).
    """
    if np.isfinite(replicates).all():
        if len(replicates) < 2:
            return np.full((replicates.shape[1],) * 2, np.nan)
        covariance = np.atleast_2d(np.cov(replicates, rowvar=False))
        own = np.diag(covariance)
        variance = own[:, None] + own[None, :] - 2 * covariance
        return np.sqrt(np.where(variance > ROUNDING * max(own.max(), 0.0), variance, 0.0))
    columns = replicates.T
    return np.stack([stats.summarise(np.zeros(len(columns)), replicates[:, [i]] - replicates).standard_error
                     for i in range(len(columns))])  # fmt: skip


def apart(values: stats.Floats, error: stats.Floats) -> Apart:
    """Return what the data cannot separate among m lines, from values (m,) and `errors` (m, m)."""
    first, second = np.triu_indices(len(values), 1)
    spread = error[first, second]
    p = stats.normal_p(values[first] - values[second], spread)
    known = spread[np.isfinite(spread)]
    smallest = DEVIATES * float(np.median(known)) if len(known) else math.nan
    return Apart(len(values), len(p), len(p) - _significant(p), smallest)


def _significant(p: stats.Floats) -> int:
    """Return how many p-values Holm's correction leaves below 0.05: as `stats.holm`, for 100,000 of them."""
    known = np.sort(p[np.isfinite(p)])
    adjusted = np.maximum.accumulate(known * np.arange(len(known), 0, -1))
    return int((adjusted < ALPHA).sum())


def sentence(found: Apart, label: str, first_group: Sequence[str], n: int, digits: int) -> str:
    """Return in words what a column cannot separate; `first_group` names its best lines, best first."""
    if found.lines < 2:
        return f"One line alone has {label}: there is nothing to compare it with."
    data = f"These data (n = {n:,})"
    if not found.together:
        said = f"{data} tell {'both' if found.lines == 2 else f'all {found.lines}'} lines apart in {label}"
    else:
        pairs = f"{found.together:,} of {found.pairs:,} pairs of lines" if found.lines > 2 else "the two lines"
        said = f"{data} cannot tell apart {pairs} in {label}"
        if len(first_group) > 1:
            said += f": {_listed(first_group)} share rank group 1, so their order means nothing"
    if math.isfinite(found.smallest) and found.smallest > 0:
        said += f"; a difference would have to exceed about {_rounded(found.smallest, digits)}"
    return said + "."


def _listed(names: Sequence[str]) -> str:
    shown, more = list(names[:NAMED]), len(names) - NAMED
    if more > 0:
        return f"{', '.join(shown)} and {more} more"
    return f"{', '.join(shown[:-1])} and {shown[-1]}"


def _rounded(value: float, digits: int) -> str:
    """Return a difference with the digits of its metric, or two significant ones where those say nothing."""
    text = f"{value:.{digits}f}"
    return text if float(text) else f"{value:.2g}"
