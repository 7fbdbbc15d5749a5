"""Tables of per-sample scores: what an evaluation measures once and every metric reads.

As a frame a table is one line per sample (or pair) with plain columns, so that samples.parquet can be read by any
program; constant columns hold what belongs to the whole table. Arrays are never changed after construction.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.errors import UsageError
from harness.metrics.cells import MINIMUM_PER_FOLD, MINIMUM_PER_MODEL, MINIMUM_SCORED, NOWHERE, Metric, cells
from harness.metrics.ranking import Ranking, rank
from harness.reading import understood

Floats = NDArray[np.float64]

THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)  # T(IoU) of protocol.md, 2
FOLDS = 5
LEVELS = 256  # thresholds t = 0..255 of a heat map
SCALE = 65530  # a multiple of 10, so that q > 6553 * k exactly where IoU > k/10
MISSING = 65535  # in place of a quantised share: the pair could not be scored


def require(condition: object, table: str, expected: str, got: object, advice: str) -> None:
    """Raise `UsageError` where a table is not as it must be."""
    if not condition:
        raise UsageError(f"{table}: expected {expected}, got {got}. {advice}")


def _gathered(frame: pd.DataFrame, prefix: str, classes: tuple[str, ...], kind: type[np.generic]) -> NDArray[Any]:
    """Return the columns `prefix` + class as one matrix (N,V), by columns in memory.

    Where they lie side by side it is the frame's own memory: of a thousand classes there is no room for two.
    """
    wanted = [f"{prefix}{c}" for c in classes]
    first = frame.columns.get_loc(wanted[0])
    if isinstance(first, int) and list(frame.columns[first : first + len(wanted)]) == wanted:
        return np.asfortranarray(frame.iloc[:, first : first + len(wanted)].to_numpy(dtype=kind))
    return np.asfortranarray(frame[wanted].to_numpy(dtype=kind))


def too_few(count: int, thing: str, minimum: int, where: str = "") -> str:
    """Return `7 positives, fewer than 20`, or "" where there are enough."""
    return f"{count} {thing}{'' if count == 1 else 's'}{where}, fewer than {minimum}" if count < minimum else ""


def _positions(ids: NDArray[Any], wanted: Iterable[str], table: str) -> list[NDArray[np.intp]]:
    """Return the rows of each wanted id, in table order; raises `UsageError` for one that is not there."""
    order = np.argsort(ids, kind="stable")
    names, start = np.unique(ids[order], return_index=True)
    rows = dict(zip(names.tolist(), np.split(order, start[1:]), strict=True)) if len(ids) else {}
    wanted = list(wanted)
    lost = [i for i in wanted if i not in rows]
    if lost:
        raise UsageError(
            f"{table}: {len(lost)} of {len(wanted)} ids are not in the table, the first is {lost[0]!r}. "
            f"Compare runs that scored the same samples."
        )
    return [rows[i] for i in wanted]


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
        require(np.isin(self.label, (0, 1)).all(), name, "labels 0 or 1", "others", "Give the 0/1 matrix.")
        one = self.task != "multiclass" or (self.label.sum(1) == 1).all()
        require(one, name, "one label per sample (multiclass)", "others", "Give one-hot labels.")
        p = self.probability
        inside = (np.isnan(p) | ((p >= -1e-6) & (p <= 1 + 1e-6))).all()  # rounding of a float32 softmax
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
        """Return the frame that `from_frame` reads."""
        frame = {"id": self.ids.astype(object), "patient": self.clusters.astype(object), "task": self.task}
        frame |= {} if self.fold is None else {"fold": self.fold}
        frame |= {f"label:{c}": self.label[:, i] for i, c in enumerate(self.classes)}
        frame |= {f"probability:{c}": self.probability[:, i] for i, c in enumerate(self.classes)}
        return pd.DataFrame(frame, index=pd.RangeIndex(len(self.ids)))

    def select(self, ids: Iterable[str]) -> ClassificationTable:
        """Return the table of these samples, in this order; raises `UsageError` for an unknown id."""
        rows = np.concatenate([*_positions(self.ids, ids, "classification table"), np.zeros(0, dtype=np.intp)])
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
    def predicted(self) -> NDArray[np.bool_]:
        """Return the most probable class of each sample, the first among equals, one-hot, (N,V); none where NaN."""
        known = np.isfinite(self.probability).all(1)
        chosen = np.zeros(self.probability.shape, dtype=bool)
        rows = np.flatnonzero(known)
        chosen[rows, self.probability.argmax(1)[rows]] = True
        return chosen

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
            return ["never predicted" if not n else "" for n in self.predicted.sum(0)]
        raise UsageError(f"unknown need {need!r} of a classification metric. Known: positives, negatives, predictions.")


@dataclass(frozen=True, eq=False)
class _Fold(ClassificationTable):
    """The samples of one fold. Which classes are scored is decided on the whole table, once."""

    whole: ClassificationTable | None = None

    def lacking(self, need: str, score: str = "") -> list[str]:
        """Return what the whole table lacks."""
        assert self.whole is not None
        return self.whole.lacking(need, score)


def quantise(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[np.uint16]:
    """Return the share part/whole of whole numbers (pixel counts) as ceil(65530 * part / whole); 0 where whole is 0.

    Exact: q > 6553 * k if and only if part/whole > k/10.
    """
    part, whole = np.asarray(part).astype(np.int64), np.asarray(whole).astype(np.int64)
    return np.where(whole > 0, -((-part * SCALE) // np.maximum(whole, 1)), 0).astype(np.uint16)


@dataclass(frozen=True, eq=False)
class LocalisationTable:
    """Scores of P pairs (image, class) of one explainer (protocol.md, 2). What could not be scored is missing.

    iou and iobb hold a share for each of the 256 thresholds of the map as `quantise` gives it, and 65535 throughout
    where there is no map; the floats are NaN there.
    """

    evaluation: ClassVar[str] = "localisation"
    ids: NDArray[Any]  # (P,) str: the image
    clusters: NDArray[Any]  # (P,) str: the patient, else the image
    class_names: NDArray[Any]  # (P,) str
    classes: tuple[str, ...]  # V names in the dataset's order; one without pairs has a NaN row
    fold: NDArray[np.int8]  # (P,) 0..4, of the dataset
    iou: NDArray[np.uint16]  # (P,256) region against box: intersection / union
    iobb: NDArray[np.uint16]  # (P,256) intersection / region; an empty region has 0
    pointing: Floats  # (P,) 1 where the map's maximum is inside the box
    pointing_chance: Floats  # (P,)
    energy: Floats  # (P,) share of the map's mass above its minimum that is inside the box
    energy_chance: Floats  # (P,)
    box_area: Floats  # (P,) share of the image that the box covers

    FLOATS: ClassVar[tuple[str, ...]] = ("pointing", "pointing_chance", "energy", "energy_chance", "box_area")

    @property
    def conditions(self) -> tuple[dict[str, Any], ...]:
        """Return the one condition under which everything was scored."""
        return (NOWHERE,)

    def parts(self) -> list[tuple[slice, LocalisationTable]]:
        """Return the table itself: a map is scaled and scored for itself, whichever model it is of."""
        return [(slice(None), self)]

    @property
    def task(self) -> str:
        """Return "": a pair has one class, whatever the task."""
        return ""

    def __post_init__(self) -> None:
        """Check shapes, folds and classes; raises `UsageError`."""
        name, p = "localisation table", len(self.ids)
        for field in (*self.FLOATS, "clusters", "class_names", "fold"):
            shape = getattr(self, field).shape
            require(shape == (p,), name, f"{field} of shape {(p,)}", shape, "Give one per pair.")
        for field in ("iou", "iobb"):
            array = getattr(self, field)
            sound = array.shape == (p, LEVELS) and array.dtype == np.uint16
            require(sound, name, f"{field} of shape {(p, LEVELS)} uint16", f"{array.shape} {array.dtype}",
                     "Quantise it with `quantise`.")  # fmt: skip
        lost = [(getattr(self, field) == MISSING) for field in ("iou", "iobb")]
        whole = (lost[0] == lost[1]).all() and (lost[0].all(1) == lost[0].any(1)).all()
        require(whole, name, f"{MISSING} in all of a missing pair's iou and iobb", "it in a part of them",
                 "Mark the whole pair.")  # fmt: skip
        stray = sorted(set(self.class_names.tolist()) - set(self.classes))
        require(not stray, name, f"classes {', '.join(self.classes)}", stray, "Name all classes.")
        require(np.isin(self.fold, range(FOLDS)).all(), name, f"folds 0..{FOLDS - 1}", np.unique(self.fold),
                 "Take the folds of the dataset.")  # fmt: skip
        pairs = set(zip(self.ids.tolist(), self.class_names.tolist(), strict=True))
        require(len(pairs) == p, name, "each (image, class) once", f"{p - len(pairs)} again", "Join its boxes first.")

    @classmethod
    @understood("samples", "they cannot be understood", "Evaluate the run again.")
    def from_frame(cls, frame: pd.DataFrame) -> Self:
        """Return the table of a frame: columns id, patient, class_name, classes (JSON), fold and one per score."""
        wanted = ["id", "patient", "class_name", "classes", "fold", "iou", "iobb", *cls.FLOATS]
        lost = [c for c in wanted if c not in frame.columns]
        require(not lost, "localisation frame", "columns " + ", ".join(wanted), f"none named {', '.join(lost)}",
                 "Evaluate the run again.")  # fmt: skip
        lists = frame["classes"].unique()
        require(len(lists) <= 1, "localisation frame", "one list of classes", list(lists), "Select one run's pairs.")

        def levels(column: str) -> NDArray[np.uint16]:
            rows = [np.asarray(row, dtype=np.uint16) for row in frame[column]]
            return np.stack(rows) if rows else np.zeros((0, LEVELS), dtype=np.uint16)

        return cls(
            ids=frame["id"].to_numpy(dtype=str),
            clusters=frame["patient"].to_numpy(dtype=str),
            class_names=frame["class_name"].to_numpy(dtype=str),
            classes=tuple(json.loads(lists[0])) if len(lists) else (),
            fold=frame["fold"].to_numpy(dtype=np.int8),
            iou=levels("iou"),
            iobb=levels("iobb"),
            **{c: frame[c].to_numpy(dtype=np.float64) for c in cls.FLOATS},
        )

    def to_frame(self) -> pd.DataFrame:
        """Return the frame that `from_frame` reads; iou and iobb are lists of 256 integers of 16 bits."""
        frame = {
            "id": self.ids.astype(object),
            "patient": self.clusters.astype(object),
            "class_name": self.class_names.astype(object),
            "classes": json.dumps(self.classes),
            "fold": self.fold.astype(np.int8),
            "iou": pd.Series(list(self.iou), dtype=object),
            "iobb": pd.Series(list(self.iobb), dtype=object),
        }
        frame |= {c: getattr(self, c) for c in self.FLOATS}
        return pd.DataFrame(frame, index=pd.RangeIndex(len(self.ids)))

    def select(self, ids: Iterable[str]) -> Self:
        """Return all pairs of these images, images in this order; raises `UsageError` for an unknown image."""
        rows = np.concatenate([*_positions(self.ids, ids, "localisation table"), np.zeros(0, dtype=np.intp)])
        arrays = {f: getattr(self, f)[rows]
                  for f in ("ids", "clusters", "class_names", "fold", "iou", "iobb", *self.FLOATS)}  # fmt: skip
        return type(self)(classes=self.classes, **arrays)

    def cells(self, metric: Metric) -> list[dict[str, Any]]:
        """Return variant, threshold and class_name of each of the metric's K values."""
        return cells(self, metric)

    @cached_property
    def memo(self) -> dict[Any, Any]:
        """Return a place for what several metrics compute from the same weights."""
        return {}

    def present(self, score: str) -> NDArray[np.bool_]:
        """Return which pairs have the score (iou, iobb, pointing, energy), (P,)."""
        array = getattr(self, score)
        return (array != MISSING).all(1) if array.ndim == 2 else np.isfinite(array)

    def members(self, score: str) -> list[NDArray[np.intp]]:
        """Return per class the positions of the pairs that have the score, V arrays."""
        present = self.present(score)
        return [np.flatnonzero(present & (self.class_names == c)) for c in self.classes]

    def counted(self, score: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return per class how many pairs have the score and how many do not, (V,) and (V,)."""
        scored = np.array([len(m) for m in self.members(score)], dtype=np.int64)
        every = np.array([(self.class_names == c).sum() for c in self.classes], dtype=np.int64)
        return scored, every - scored

    def rests_on(self, kept: NDArray[np.bool_], score: str) -> int:
        """Return how many pairs a value over these classes (V,) rests on."""
        return int(self.counted(score)[0][kept].sum())

    def lacking(self, need: str, score: str) -> list[str]:
        """Return per class why it cannot be scored, "" where nothing is lacking, (V,).

        A missing pair is left out and counted (`counted`), it does not make its class missing.
        """
        members = self.members(score)
        if need == "finite":
            return ["no pairs" if not len(m) else "" for m in members]
        if need == "pairs":
            return [too_few(len(m), "pair", MINIMUM_SCORED) for m in members]
        if need == "folds":
            counts = [np.bincount(self.fold[m], minlength=FOLDS) for m in members]
            return [too_few(n.min(), "pair", MINIMUM_PER_FOLD, f" in fold {n.argmin()}") for n in counts]
        raise UsageError(f"unknown need {need!r} of a localisation metric. Known: pairs, folds.")
