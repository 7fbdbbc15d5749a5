"""The operating point of each finding: where a decision is made, chosen on validation images (protocol.md, 3)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.evaluations.subject import Subject

MINIMUM = 10  # positives (and negatives) where something is chosen (protocol.md, 0)


def youden(score: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """Return the point p at which {score > p} has the largest sensitivity + specificity (Youden's J), or NaN.

    Half-way between two neighbouring scores, so that rounding moves no decision; of several points with the same J
    the highest. NaN where there are fewer than ten positives or negatives, or a score is not finite.

    >>> youden(np.arange(20.0), np.arange(20) >= 10)
    9.5
    """
    if min(positive.sum(), (~positive).sum()) < MINIMUM or not np.isfinite(score).all():
        return float("nan")
    order = np.argsort(-score, kind="stable")
    ordered, hits = score[order], positive[order]
    j = np.cumsum(hits) / hits.sum() - np.cumsum(~hits) / (~hits).sum()  # of deciding for the first 1, 2, ... n
    ends = np.flatnonzero(np.diff(ordered) < 0)  # after these a lower score follows
    if not len(ends):
        return float("nan")
    best = ends[np.argmax(j[ends])]
    return float((ordered[best] + ordered[best + 1]) / 2)


def points(subject: Subject, classes: NDArray[np.int64], batch: int) -> NDArray[np.float64]:
    """Return the operating points of each fold's model, as logits, (folds, len(classes)); NaN where there is none."""
    index = subject.prepared.index
    found = np.full((len(subject.models), len(classes)), np.nan)
    for fold, model in enumerate(subject.models):
        positions = index.of_split("validation", fold)
        if not len(positions):  # test images alone: there is nothing to choose a point on
            continue
        logits = [subject.logits_of(model, b) for b in subject.feed(positions).batches(batch)]
        scores = np.concatenate([part.double().cpu().numpy() for part in logits])
        for k, c in enumerate(classes):
            found[fold, k] = youden(scores[:, c], index.labels[positions, c] == 1)
    return found
