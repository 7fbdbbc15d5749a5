"""What a known shortcut does to probabilities, and how much of heat maps lies on it (protocol.md, 5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from harness.metrics.cells import Floats
from harness.metrics.scored import ScoreTable, mean
from harness.plugins import metric


class GroupedTable(ScoreTable):
    """A table of which some scores are those of a part of the samples: the others are not missing, they have none."""

    groups: ClassVar[Mapping[str, tuple[str, bool]]] = {}  # score -> column of `extra`, and its value in the group

    def counted(self, score: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return how many samples of the score's group have it and how many do not, (1,) each."""
        column, value = self.groups.get(score, ("", True))
        group = np.asarray(self.extra[column], bool) == value if column else np.ones(len(self.ids), bool)
        lost = np.isnan(self.values[score]).any(1)
        return np.array([(group & ~lost).sum()]), np.array([(group & lost).sum()])


class ShortcutTable(GroupedTable):
    """Probability of the tied class on N images with a shortcut, by whether the class is there.

    Before and after the shortcut is blurred away, of the shortcut alone on the blurred image, of the blurred image.
    """

    evaluation: ClassVar[str] = "shortcut"
    scores: ClassVar[tuple[str, ...]] = ("before_absent", "erased_absent", "before_present", "erased_present",
                                         "revealed", "blurred")  # fmt: skip
    groups: ClassVar[Mapping[str, tuple[str, bool]]] = {
        f"{when}_{group}": ("positive", group == "present")
        for when in ("before", "erased")
        for group in ("absent", "present")
    }


def _difference(table: ScoreTable, of: Any, weights: Floats, first: str, second: str) -> Floats:
    """Return the mean of first - second, of first, and of second, (R,3)."""
    one, two = (mean(table, of, weights, name) for name in (first, second))
    return np.stack([one - two, one, two], axis=2).reshape(len(weights), -1)


@metric("shortcut_effect", evaluation="shortcut", unit="probability", higher_is_better=False, digits=3, per="all",
        source="Khorram 2021 (arXiv:2012.15783, COVIDx): protocol 5", variants=("", "before", "erased"),
        score="before_absent")  # fmt: skip
def shortcut_effect(table: ScoreTable, weights: Floats) -> Floats:
    """Probability of the class that the shortcut adds where the class is not: before - erased, and both, (R,3)."""
    return _difference(table, shortcut_effect, weights, "before_absent", "erased_absent")


@metric("shortcut_effect_present", evaluation="shortcut", unit="probability", higher_is_better=False, digits=3,
        per="all", source="Khorram 2021 (arXiv:2012.15783, COVIDx): protocol 5", variants=("", "before", "erased"),
        score="before_present")  # fmt: skip
def shortcut_effect_present(table: ScoreTable, weights: Floats) -> Floats:
    """The same where the class is: what the model sees of it without the shortcut is `erased`, (R,3)."""
    return _difference(table, shortcut_effect_present, weights, "before_present", "erased_present")


@metric("shortcut_alone", evaluation="shortcut", unit="probability", higher_is_better=False, digits=3, per="all",
        source="Khorram 2021 (arXiv:2012.15783, COVIDx): protocol 5", variants=("", "revealed", "blurred"),
        score="revealed")  # fmt: skip
def shortcut_alone(table: ScoreTable, weights: Floats) -> Floats:
    """Probability that the shortcut alone adds to the blurred image: revealed - blurred, and both, (R,3)."""
    return _difference(table, shortcut_alone, weights, "revealed", "blurred")


class ShortcutMapsTable(GroupedTable):
    """Share of the mass of the maps of N images on the shortcut, and of the area; on the lesion where it has a box."""

    evaluation: ClassVar[str] = "shortcut_maps"
    scores: ClassVar[tuple[str, ...]] = ("shortcut", "area", "erased", "revealed", "lesion", "lesion_area")
    groups: ClassVar[Mapping[str, tuple[str, bool]]] = {"lesion": ("boxed", True), "lesion_area": ("boxed", True)}


def _beside(table: ScoreTable, of: Any, weights: Floats, names: tuple[str, ...]) -> Floats:
    return np.stack([mean(table, of, weights, n) for n in names], axis=2).reshape(len(weights), -1)


@metric("shortcut_mass", evaluation="shortcut_maps", unit="share of the mass", higher_is_better=False, digits=3,
        per="all", source="Khorram 2021 (arXiv:2012.15783); Wang 2020 (arXiv:1910.01279): protocol 5",
        variants=("", "area", "erased", "revealed"), score="shortcut")  # fmt: skip
def shortcut_mass(table: ScoreTable, weights: Floats) -> Floats:
    """Mean share of the map's mass on the shortcut, and of the area: what a map that knows nothing has, (R,4).

    `erased`: of the map of the image without it, at the same place; `revealed`: of the shortcut alone. Lower is better
    for a model by one explainer. An explainer is good where it is high when the model uses the shortcut.
    """
    return _beside(table, shortcut_mass, weights, ("shortcut", "area", "erased", "revealed"))


@metric("shortcut_lesion_mass", evaluation="shortcut_maps", unit="share of the mass", higher_is_better=True, digits=3,
        per="all", source="Khorram 2021 (arXiv:2012.15783); Wang 2020 (arXiv:1910.01279): protocol 5",
        variants=("", "area"), score="lesion")  # fmt: skip
def shortcut_lesion_mass(table: ScoreTable, weights: Floats) -> Floats:
    """Mean share of the map's mass on the lesion of images that carry the shortcut as well, and of the area, (R,2)."""
    return _beside(table, shortcut_lesion_mass, weights, ("lesion", "lesion_area"))
