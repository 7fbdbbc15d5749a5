"""How much of the attacks falls on what a heat map calls important, against chance and another image's map."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from harness.metrics.cells import Floats
from harness.metrics.scored import ScoreTable, mean, means
from harness.plugins import metric


class AlignmentTable(ScoreTable):
    """Alignment of the map and the attack of each of N images; NaN without an attack or a usable map."""

    evaluation: ClassVar[str] = "alignment"
    scores: ClassVar[tuple[str, ...]] = (
        "share",
        "chance",
        "other_share",
        "rank",
        "other_rank",
    )  # other_: the map of another image


@metric("alignment", evaluation="alignment", unit="", higher_is_better=True, digits=3, per="all",
        source="ours: protocol 3, after Woods 2019 (arXiv:1906.02494)", variants=("", "chance"),
        score="share")  # fmt: skip
def alignment(table: AlignmentTable, weights: Floats) -> Floats:
    """Mean share of the attack's energy on the map's most important pixels, and their share of the image, (R,C*2)."""
    both = mean(table, alignment, weights), means(table.values["chance"], weights)
    return np.stack(both, axis=2).reshape(len(weights), -1)


@metric("alignment_other_map", evaluation="alignment", unit="", higher_is_better=False, digits=3, per="all",
        source="ours: protocol 3, control", score="other_share")  # fmt: skip
def alignment_other_map(table: AlignmentTable, weights: Floats) -> Floats:
    """The same with the map of another image, (R,C): what comes of where attacks and maps always are."""
    return mean(table, alignment_other_map, weights)


@metric("alignment_rank", evaluation="alignment", unit="", higher_is_better=True, digits=3, per="all",
        source="Spearman 1904; ours: protocol 3, after Woods 2019 (arXiv:1906.02494)", score="rank")  # fmt: skip
def alignment_rank(table: AlignmentTable, weights: Floats) -> Floats:
    """Mean over the images of Spearman's correlation of |delta| and heat over the pixels, (R,C), in [-1, 1]."""
    return mean(table, alignment_rank, weights)


@metric("alignment_rank_other_map", evaluation="alignment", unit="", higher_is_better=False, digits=3, per="all",
        source="ours: protocol 3, control", score="other_rank")  # fmt: skip
def alignment_rank_other_map(table: AlignmentTable, weights: Floats) -> Floats:
    """The same with the map of another image, (R,C)."""
    return mean(table, alignment_rank_other_map, weights)
