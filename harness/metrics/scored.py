"""Tables of plain per-sample scores, under one condition or several (an attack, a radius), and their means.

What an evaluation measures of each sample is a number; what it reports is the mean over the samples. Each such
evaluation has a subclass of `ScoreTable` that names it and its scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.errors import UsageError
from harness.metrics.cells import (
    MINIMUM_SCORED,
    NOWHERE,
    Floats,
    is_per_class,
    ratio,
    registration,
    scorable,
    with_macro,
)
from harness.metrics.tables import require, too_few
from harness.reading import understood

FIELDS = {
    "attack": str,
    "variant": str,
    "resolution": int,
    "radius": float,
}  # what a condition may name, and how it is read


@dataclass(frozen=True, eq=False)
class ScoreTable:
    """Scores of N samples under C conditions. NaN: the sample could not be scored, under none of the conditions.

    A condition under which no sample at all can be scored is named by `unscored`. As a frame: a line per sample with
    its scores side by side, `<score>` or `<score>|attack=pgd|radius=0.5`.
    """

    evaluation: ClassVar[str]
    scores: ClassVar[tuple[str, ...]]

    ids: NDArray[Any]  # (N,) str
    clusters: NDArray[Any]  # (N,) str: the patient, else the image
    values: dict[str, Floats]  # each (N,C)
    conditions: Sequence[dict[str, Any]] = (NOWHERE,)  # C times some of FIELDS
    class_names: NDArray[Any] | None = None  # (N,) str: the class that a sample was scored for, where there is one
    classes: tuple[str, ...] = ()  # their names, in the dataset's order
    task: str = ""
    extra: Mapping[str, NDArray[Any]] = field(default_factory=dict)  # (N,) each: further columns of the frame

    def __post_init__(self) -> None:
        """Check shapes and what is missing; raises `UsageError`."""
        name, shape = f"{self.evaluation} table", (len(self.ids), len(self.conditions))
        require(set(self.values) == set(self.scores), name, f"scores {self.scores}", tuple(self.values), "Name all.")
        for score, array in self.values.items():
            require(array.shape == shape, name, f"{score} of shape {shape}", array.shape, "Give samples x conditions.")
            lost = np.isnan(array[:, self._scored_under()])
            require((lost.any(1) == lost.all(1)).all(), name, f"{score} under all conditions or none", "gaps",
                    "Mark the whole sample.")  # fmt: skip
        if self.class_names is not None:
            stray = sorted(set(self.class_names.tolist()) - set(self.classes))
            require(not stray, name, f"classes {', '.join(self.classes)}", stray, "Name all classes.")

    @classmethod
    @understood("samples", "they cannot be understood", "Evaluate the run again.")
    def from_frame(cls, frame: pd.DataFrame) -> Self:
        """Return the table of a frame as `to_frame` writes it; raises `UsageError` for missing columns."""
        columns = [str(c) for c in frame.columns]
        found = {s: [c for c in columns if c.partition("|")[0] == s] for s in cls.scores}
        lost = [c for c in ("id", "patient", "task") if c not in columns] + [s for s, mine in found.items() if not mine]
        require(not lost, f"{cls.evaluation} frame", "id, patient, task and all scores", f"no {', '.join(lost)}",
                "Evaluate the run again.")  # fmt: skip
        first = found[cls.scores[0]]
        classes = str(frame["classes"].iloc[0]).split("\t") if "classes" in columns and len(frame) else []
        known = {"id", "patient", "task", "class_name", "classes", *(c for mine in found.values() for c in mine)}
        return cls(
            ids=frame["id"].to_numpy(dtype=str),
            clusters=frame["patient"].to_numpy(dtype=str),
            values={s: frame[mine].to_numpy(dtype=np.float64) for s, mine in found.items()},
            conditions=[_condition(c) for c in first],
            class_names=frame["class_name"].to_numpy(dtype=str) if "class_name" in columns else None,
            classes=tuple(classes),
            task=str(frame["task"].iloc[0]) if len(frame) else "",
            extra={c: frame[c].to_numpy() for c in columns if c not in known},
        )

    def to_frame(self) -> pd.DataFrame:
        """Return the frame that `from_frame` reads."""
        frame: dict[str, Any] = {"id": self.ids.astype(object), "patient": self.clusters.astype(object)}
        frame["task"] = self.task
        if self.class_names is not None:
            frame |= {"class_name": self.class_names.astype(object), "classes": "\t".join(self.classes)}
        for score, array in self.values.items():
            frame |= {f"{score}{suffix(c)}": array[:, i] for i, c in enumerate(self.conditions)}
        return pd.DataFrame({**frame, **self.extra}, index=pd.RangeIndex(len(self.ids)))

    @property
    def unscored(self) -> Mapping[int, str]:
        """Return the numbers of the conditions under which nothing can be scored, each with the reason."""
        return {}

    def _scored_under(self) -> list[int]:
        """Return the numbers of the conditions that count: of all, where nothing can be scored under any."""
        every = range(len(self.conditions))
        return [c for c in every if c not in self.unscored] or list(every)

    def parts(self) -> list[tuple[slice, Self]]:
        """Return the table itself: a sample is scored for itself, whichever model it is of."""
        return [(slice(None), self)]

    def counted(self, score: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return per class (one, where samples have none) how many samples have the score and how many do not."""
        lost = np.isnan(self.values[score][:, self._scored_under()]).any(1)
        if self.class_names is None:
            return np.array([(~lost).sum()]), np.array([lost.sum()])
        members = [self.class_names == c for c in self.classes]
        return np.array([(m & ~lost).sum() for m in members]), np.array([(m & lost).sum() for m in members])

    def rests_on(self, kept: NDArray[np.bool_], score: str) -> int:
        """Return how many samples a value over these classes rests on."""
        return int(self.counted(score)[0][kept].sum())

    def lacking(self, need: str, score: str) -> list[str]:
        """Return per class (one, where samples have none) why it cannot be scored, "" where nothing is lacking."""
        counts = self.counted(score)[0]
        if need == "finite":
            return ["no samples that could be scored" if not n else "" for n in counts]
        if need == "samples":
            return [too_few(int(n), "sample", MINIMUM_SCORED) for n in counts]
        raise UsageError(f"unknown need {need!r} of a {self.evaluation} metric. Known: samples.")


def suffix(condition: Mapping[str, Any]) -> str:
    """Return what follows a score's name in a column of the frame, "" without conditions."""
    return "".join(f"|{k}={condition[k]}" for k in FIELDS if condition.get(k) not in (None, ""))


def _condition(column: str) -> dict[str, Any]:
    parts = (part.partition("=") for part in column.split("|")[1:])
    return {name: FIELDS[name](text) for name, _, text in parts}


def mean(table: ScoreTable, metric: Any, weights: Floats, score: str = "") -> Floats:
    """Return the weighted mean of the metric's score under each condition, (R,C) or with classes (R,C*(V+1)).

    Samples without the score are left out; they are counted in the row. `score` names another one, missing where the
    metric's is missing, for a metric whose variants read several.
    """
    array = table.values[score or registration(metric)["score"]]  # (N,C)
    if not is_per_class(table, metric):
        return means(array, weights)
    assert table.class_names is not None
    known, filled = _known(array)
    kept = scorable(table, metric)
    members = np.stack([table.class_names == c for c in table.classes]).astype(float)  # (V,N)
    blocks = [
        with_macro(ratio((weights * filled[:, c]) @ members.T, (weights * known[:, c]) @ members.T), kept)
        for c in range(filled.shape[1])
    ]
    return np.concatenate(blocks, axis=1)


def means(array: Floats, weights: Floats) -> Floats:
    """Return the weighted mean of a score (N,C) over the samples that have it, (R,C); NaN where none has."""
    known, filled = _known(array)
    return ratio(weights @ filled, weights @ known)


def _known(array: Floats) -> tuple[Floats, Floats]:
    """Return where there is a score, (N,C) of 0 and 1, and the scores with 0 where there is none."""
    known = ~np.isnan(array)
    return known.astype(float), np.where(known, array, 0.0)
