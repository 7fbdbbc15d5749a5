"""Labels and probabilities of N samples and V classes: what every metric of classification reads."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.errors import UsageError
from harness.metrics.cells import MINIMUM_PER_MODEL, MINIMUM_SCORED, NOWHERE, Floats, Metric, cells
from harness.metrics.ranking import Ranking, rank
from harness.metrics.tables import require, rows_of_ids, too_few
from harness.reading import understood

ROWS = 4096  # samples at once: of a thousand classes there is no room for a second matrix


def _gathered(frame: pd.DataFrame, prefix: str, classes: tuple[str, ...], kind: type[np.generic]) -> NDArray[Any]:
    """Return the columns `prefix` + class as one matrix (N,V), by columns in memory.

    Where they lie side by side it is the frame's own memory: of a thousand classes there is no room for two.
    """
    wanted = [f"{prefix}{c}" for c in classes]
    first = frame.columns.get_loc(wanted[0])
    if isinstance(first, int) and list(frame.columns[first : first + len(wanted)]) == wanted:
        return np.asfortranarray(frame.iloc[:, first : first + len(wanted)].to_numpy(dtype=kind))
    return np.asfortranarray(frame[wanted].to_numpy(dtype=kind))


@dataclass(frozen=True, eq=False)
class ClassificationTable:
    """Labels and probabilities of N samples and V classes. NaN probability: the sample could not be scored.

    Of a cross-fitted split each fold is scored by a model of its own: values are computed per fold and averaged.
    """

    evaluation: ClassVar[str] = "classification"

    ids: NDArray[Any]  # (N,) str, unique
    clusters: NDArray[Any]  # (N,) str: the patient, else the id
    classes: tuple[str, ...]  # V names, in the dataset's order
    task: str  # "multilabel" or "multiclass"
    label: NDArray[np.uint8]  # (N,V) 0 or 1; one 1 per row for multiclass
    probability: Floats  # (N,V) in [0, 1] or NaN
    fold: NDArray[np.int8] | None = None  # (N,) number of the model that scored each sample; None: one scored all

    def __post_init__(self) -> None:
        """Check shapes and ranges; raises `UsageError`."""
        name, n, v = "classification table", len(self.ids), len(self.classes)
        if self.fold is not None:
            require(self.fold.shape == (n,), name, f"{n} folds", self.fold.shape, "Give one per sample.")
            if len(np.unique(self.fold)) < 2:
                object.__setattr__(self, "fold", None)
        object.__setattr__(self, "probability", np.asarray(self.probability, dtype=np.float64))
        require(self.task in ("multilabel", "multiclass"), name, "task multilabel or multiclass", self.task,
                 "Give the dataset's task.")  # fmt: skip
        require(self.clusters.shape == (n,), name, f"{n} clusters", self.clusters.shape, "Give one per sample.")
        for array, what in ((self.label, "labels"), (self.probability, "probabilities")):
            require(array.shape == (n, v), name, f"{what} of shape {(n, v)}", array.shape, "Give N rows, V columns.")
        require(len(np.unique(self.ids)) == n, name, "unique ids", "repeated ones", "Score each sample once.")
        known = all(np.isin(column, (0, 1)).all() for column in self.label.T)  # by columns: no matrix in passing
        require(known, name, "labels 0 or 1", "others", "Give the 0/1 matrix.")
        one = self.task != "multiclass" or (self.label.sum(1) == 1).all()
        require(one, name, "one label per sample (multiclass)", "others", "Give one-hot labels.")
        rounding = 1e-6  # of a float32 softmax
        inside = all((np.isnan(p) | ((p >= -rounding) & (p <= 1 + rounding))).all() for p in self.probability.T)
        require(inside, name, "probabilities in [0, 1]", "others", "Give probabilities, not logits.")

    @classmethod
    @understood("samples", "they cannot be understood", "Evaluate the run again.")
    def from_frame(cls, frame: pd.DataFrame) -> Self:
        """Return the table of a frame with columns id, patient, task, label:<class>, probability:<class>.

        Classes keep the order of the label columns. Raises `UsageError` for missing columns.
        """
        columns = [str(c) for c in frame.columns]
        classes = tuple(c.removeprefix("label:") for c in columns if c.startswith("label:"))
        wanted = ["id", "patient", "task", *(f"probability:{c}" for c in classes)]
        lost = [c for c in wanted if c not in columns]
        require(classes and not lost, "classification frame", "columns label:<class> and " + ", ".join(wanted),
                 columns, "Evaluate the run again.")  # fmt: skip
        tasks = frame["task"].unique()
        require(len(tasks) == 1, "classification frame", "one task", list(tasks), "Evaluate the run again.")
        return cls(
            ids=frame["id"].to_numpy(dtype=str),
            clusters=frame["patient"].to_numpy(dtype=str),
            classes=classes,
            task=str(tasks[0]),
            label=_gathered(frame, "label:", classes, np.uint8),
            probability=_gathered(frame, "probability:", classes, np.float64),
            fold=frame["fold"].to_numpy(dtype=np.int8) if "fold" in columns else None,
        )

    def to_frame(self) -> pd.DataFrame:
        """Return the frame that `from_frame` reads; its probabilities are the table's own memory."""
        frame = {"id": self.ids.astype(object), "patient": self.clusters.astype(object), "task": self.task}
        frame |= {} if self.fold is None else {"fold": self.fold}
        rows = pd.RangeIndex(len(self.ids))
        labels = pd.DataFrame(self.label, index=rows, columns=[f"label:{c}" for c in self.classes])
        known = [f"probability:{c}" for c in self.classes]
        probabilities = pd.DataFrame(self.probability, index=rows, columns=known, copy=False)
        return pd.concat([pd.DataFrame(frame, index=rows), labels, probabilities], axis=1)

    def select(self, ids: Iterable[str]) -> ClassificationTable:
        """Return the table of these samples, in this order; raises `UsageError` for an unknown id."""
        rows = np.concatenate([*rows_of_ids(self.ids, ids, "classification table"), np.zeros(0, dtype=np.intp)])
        return self._rows(rows)

    def _rows(self, rows: NDArray[np.intp]) -> ClassificationTable:
        fold = None if self.fold is None else self.fold[rows]
        return ClassificationTable(self.ids[rows], self.clusters[rows], self.classes, self.task, self.label[rows],
                                   self.probability[rows], fold)  # fmt: skip

    @property
    def conditions(self) -> tuple[dict[str, Any], ...]:
        """Return the one condition under which everything was scored."""
        return (NOWHERE,)

    def parts(self) -> list[tuple[slice | NDArray[np.intp], ClassificationTable]]:
        """Return each fold's samples and table, whose classes are scored or not as those of the whole are."""
        return self._parts

    @cached_property
    def _parts(self) -> list[tuple[slice | NDArray[np.intp], ClassificationTable]]:
        if self.fold is None:
            return [(slice(None), self)]
        members = [np.flatnonzero(self.fold == k) for k in np.unique(self.fold)]
        return [
            (m, _Fold(**{f.name: getattr(self._rows(m), f.name) for f in fields(self)}, whole=self)) for m in members
        ]

    def cells(self, metric: Metric) -> list[dict[str, Any]]:
        """Return variant, threshold and class_name of each of the metric's K values."""
        return cells(self, metric)

    @cached_property
    def rankings(self) -> tuple[Ranking, ...]:
        """Return the V classes' rankings: sorted once, used by every replicate."""
        scores = self.probability.size
        return tuple(rank(self.probability[:, c], self.label[:, c], scores) for c in range(len(self.classes)))

    @cached_property
    def predicted(self) -> NDArray[np.intp]:
        """Return the number of each sample's most probable class, the first among equals, (N,); -1 where NaN."""
        found = np.full(len(self.ids), -1, np.intp)
        for start in range(0, len(self.ids), ROWS):  # numpy's argmax along a row copies what it is given
            part = self.probability[start : start + ROWS]
            known = np.flatnonzero(np.isfinite(part).all(1))
            found[start + known] = part.argmax(1)[known]
        return found

    @cached_property
    def true(self) -> NDArray[np.intp]:
        """Return the number of each sample's class, of several the first, (N,)."""
        starts = range(0, max(1, len(self.ids)), ROWS)
        return np.concatenate([self.label[start : start + ROWS].argmax(1) for start in starts])

    @cached_property
    def right(self) -> NDArray[np.bool_]:
        """Return whether each sample's most probable class is among its labels, (N,)."""
        rows = np.arange(len(self.ids))
        return (self.predicted >= 0) & (self.label[rows, self.predicted] == 1)

    def counted(self, score: str = "") -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return per class how many samples have a probability and how many do not, (V,) and (V,)."""
        absent = ~np.isfinite(self.probability)
        if self.task == "multiclass":
            absent = np.broadcast_to(absent.any(1, keepdims=True), absent.shape)  # the classes of a sample compete
        return (~absent).sum(0), absent.sum(0)

    def rests_on(self, kept: NDArray[np.bool_], score: str = "") -> int:
        """Return how many samples a value over these classes (V,) rests on: every class has all samples."""
        return int(self.counted(score)[0][kept].max(initial=0))

    def lacking(self, need: str, score: str = "") -> list[str]:
        """Return per class why it cannot be scored, "" where nothing is lacking, (V,).

        A class with a probability that is not a number has no value: leaving the sample out would reward a failure.
        """
        if need == "finite":
            if not len(self.ids):
                return ["no samples"] * len(self.classes)
            return [f"not a number in {n} of {len(self.ids)} samples" if n else "" for n in self.counted()[1]]
        positives = self.label.sum(0, dtype=int)
        if need == "positives":
            found = [too_few(n, "positive", MINIMUM_SCORED) for n in positives]
            for k, (_, part) in enumerate(self.parts() if self.fold is not None else []):
                where = f" in fold {k}"
                few = [too_few(n, "positive", MINIMUM_PER_MODEL, where) for n in part.label.sum(0, dtype=int)]
                found = [a or b for a, b in zip(found, few, strict=True)]
            return found
        if need == "negatives":
            return ["no negatives" if n == len(self.ids) else "" for n in positives]
        if need == "predictions":
            counts = np.bincount(self.predicted[self.predicted >= 0], minlength=len(self.classes))
            return ["never predicted" if not n else "" for n in counts]
        raise UsageError(f"unknown need {need!r} of a classification metric. Known: positives, negatives, predictions.")


@dataclass(frozen=True, eq=False)
class _Fold(ClassificationTable):
    """The samples of one fold. Which classes are scored is decided on the whole table, once."""

    whole: ClassificationTable | None = None

    def lacking(self, need: str, score: str = "") -> list[str]:
        """Return what the whole table lacks."""
        assert self.whole is not None
        return self.whole.lacking(need, score)
