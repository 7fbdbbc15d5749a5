"""Insertion and deletion of a set of images: means of the areas of their curves (protocol.md, 4).

Resolutions are conditions, shown beside each other and never compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from harness.metrics.cells import Floats
from harness.metrics.scored import ScoreTable, mean
from harness.metrics.tables import require
from harness.plugins import metric

MAP_CELLS = "map_cells"  # column: the shorter side of the explainer's maps, in cells


class InsertionDeletionTable(ScoreTable):
    """Areas under the curves of N images at each resolution; NaN for a map that is not finite.

    At a resolution finer than the explainer's maps nothing is scored.
    """

    evaluation: ClassVar[str] = "insertion_deletion"
    scores: ClassVar[tuple[str, ...]] = (
        "insertion",
        "deletion",
        "insertion_minus_deletion",
        "normalised_insertion",
        "normalised_deletion",
        "p_original",
        "p_blurred",
    )

    @property
    def unscored(self) -> Mapping[int, str]:
        """Return the resolutions that are finer than the maps, each with the reason."""
        if not len(self.ids):
            return {}
        require(MAP_CELLS in self.extra, "insertion_deletion table", f"a column {MAP_CELLS}", tuple(self.extra),
                "Evaluate the run again.")  # fmt: skip
        side = int(self.extra[MAP_CELLS].min())
        reason = f"the map has {side} cells per side: what it says of finer ones is not known"
        return {c: reason for c, condition in enumerate(self.conditions) if condition["resolution"] > side}


@metric("insertion", evaluation="insertion_deletion", unit="probability", higher_is_better=True, digits=3, per="all",
        source="Khorram 2021, Table 1; Petsiuk 2018 (arXiv:1806.07421): protocol 4", score="insertion")  # fmt: skip
def insertion(table: InsertionDeletionTable, weights: Floats) -> Floats:
    """Mean area under p(class) while the most important cells appear on the blurred image, (R,C), in [0, 1]."""
    return mean(table, insertion, weights)


@metric("deletion", evaluation="insertion_deletion", unit="probability", higher_is_better=False, digits=3, per="all",
        source="Khorram 2021, Table 1; Petsiuk 2018 (arXiv:1806.07421): protocol 4", score="deletion")  # fmt: skip
def deletion(table: InsertionDeletionTable, weights: Floats) -> Floats:
    """Mean area under p(class) while the most important cells are blurred away, (R,C), in [0, 1]."""
    return mean(table, deletion, weights)


@metric("insertion_minus_deletion", evaluation="insertion_deletion", unit="probability", higher_is_better=True,
        digits=3, per="all", source="ours: protocol 4", score="insertion_minus_deletion")  # fmt: skip
def insertion_minus_deletion(table: InsertionDeletionTable, weights: Floats) -> Floats:
    """Mean difference of the two areas, (R,C), in [-1, 1]; an order that knows nothing scores about 0."""
    return mean(table, insertion_minus_deletion, weights)


@metric("normalised_insertion", evaluation="insertion_deletion", unit="of p(original)", higher_is_better=True,
        digits=3, per="all", source="ours: protocol 4", score="normalised_insertion")  # fmt: skip
def normalised_insertion(table: InsertionDeletionTable, weights: Floats) -> Floats:
    """Mean insertion area divided by the image's clean probability, (R,C); large where that one is small."""
    return mean(table, normalised_insertion, weights)


@metric("normalised_deletion", evaluation="insertion_deletion", unit="of p(original)", higher_is_better=False,
        digits=3, per="all", source="ours: protocol 4", score="normalised_deletion")  # fmt: skip
def normalised_deletion(table: InsertionDeletionTable, weights: Floats) -> Floats:
    """Mean deletion area divided by the image's clean probability, (R,C); large where that one is small."""
    return mean(table, normalised_deletion, weights)


@metric("p_original", evaluation="insertion_deletion", unit="probability", higher_is_better=True, digits=3, per="all",
        source="protocol 4", variants=("original",), score="p_original")  # fmt: skip
def p_original(table: InsertionDeletionTable, weights: Floats) -> Floats:
    """Mean probability of the class on the images as they are, (R,C): where insertion ends and deletion begins."""
    return mean(table, p_original, weights)


@metric("p_blurred", evaluation="insertion_deletion", unit="probability", higher_is_better=False, digits=3, per="all",
        source="protocol 4", variants=("blurred",), score="p_blurred")  # fmt: skip
def p_blurred(table: InsertionDeletionTable, weights: Floats) -> Floats:
    """Mean probability of the class on the blurred images, (R,C): what nothing but the blur leaves to be seen."""
    return mean(table, p_blurred, weights)
