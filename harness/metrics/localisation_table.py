"""Scores of P pairs (image, class) at every threshold of a heat map: what every metric of localisation reads."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.errors import UsageError
from harness.metrics.cells import MINIMUM_PER_FOLD, MINIMUM_SCORED, NOWHERE, Floats, Metric, cells
from harness.metrics.tables import require, rows_of_ids, too_few
from harness.reading import understood

THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)  # T(IoU) of protocol.md, 2
FOLDS = 5
LEVELS = 256  # thresholds t = 0..255 of a heat map
SCALE = 65530  # a multiple of 10, so that q > 6553 * k exactly where IoU > k/10
MISSING = 65535  # in place of a quantised share: the pair could not be scored


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
        rows = np.concatenate([*rows_of_ids(self.ids, ids, "localisation table"), np.zeros(0, dtype=np.intp)])
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
