"""The table a dataset makes: which images there are, their labels, boxes, patients and splits."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.errors import UsageError
from harness.tasks import Task

SPLITS = ("train", "validation", "test")
BOX_COLUMNS = ("id", "class_name", "x0", "y0", "x1", "y1")


def no_boxes() -> pd.DataFrame:
    """Return an empty table of boxes."""
    return pd.DataFrame({"id": pd.Series(dtype=str), "class_name": pd.Series(dtype=str)}
                        | {c: pd.Series(dtype=float) for c in BOX_COLUMNS[2:]})  # fmt: skip


@dataclass(frozen=True)
class Index:
    """All samples of a dataset. Rows of `samples` and `labels` correspond; sample i is row i, everywhere.

    samples: columns id (unique), patient (the id itself where there are none), split (train, validation, test),
        and any others that `Dataset.read` wants (path, offset, seed, ...).
    labels: (N,V) numbers in {0,1}, uint8 once checked; columns in the order of `classes`; for MultiClass exactly
        one 1 per row.
    boxes: columns id, class_name, x0, y0, x1, y1 as fractions of the image, [0,1], top left to bottom right.
    shortcuts: the same columns, for regions that a model should not look at; class_name is the tied class or "".
    notes: what every row of a run on this data must say ("subset").
    """

    samples: pd.DataFrame
    labels: NDArray[Any]
    classes: tuple[str, ...]
    boxes: pd.DataFrame = field(default_factory=no_boxes)
    shortcuts: pd.DataFrame = field(default_factory=no_boxes)
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.samples)

    def of_split(self, split: str) -> NDArray[np.int64]:
        """Return the positions of one split's samples, in table order, (n,)."""
        return np.flatnonzero(self.samples["split"].to_numpy() == split)

    def digest(self) -> str:
        """Return a sha256 over ids, patients, splits, labels, boxes and shortcuts: the data but for its pixels."""
        h = hashlib.sha256()
        for column in ("id", "patient", "split"):
            h.update("\x1f".join(map(str, self.samples[column])).encode())
        h.update(np.ascontiguousarray(self.labels).tobytes())
        h.update("\x1f".join(self.classes).encode())
        for table in (self.boxes, self.shortcuts):
            h.update(table[list(BOX_COLUMNS)].round(9).to_csv(index=False).encode())
        return h.hexdigest()


def problems(index: Index, task: Task) -> list[str]:
    """Return everything that makes an index unusable, one sentence each; an empty list when it is sound."""
    found: list[str] = []
    ids = index.samples["id"]
    repeated = ids.to_numpy()[ids.duplicated().to_numpy()]
    if len(repeated):
        found.append(f"{len(repeated)} sample ids occur twice, the first is {repeated[0]!r}")
    strange = sorted(set(index.samples["split"]) - set(SPLITS))
    if strange:
        found.append(f"unknown splits {', '.join(map(repr, strange))}; expected {', '.join(SPLITS)}")
    counts = index.samples["split"].value_counts()
    found += [f"the {s} split is empty: expected at least one image" for s in SPLITS if not counts.get(s, 0)]
    sides = index.samples.groupby("patient")["split"].nunique()
    torn = list(sides.index[sides.to_numpy() > 1])
    if len(torn):
        where = sorted(set(index.samples.loc[index.samples["patient"] == torn[0], "split"]))
        found.append(f"{len(torn)} patients are in two splits, the first is {torn[0]!r} ({' and '.join(where)})")
    if index.labels.shape != (len(index), len(index.classes)):
        found.append(f"labels have shape {index.labels.shape}, expected {(len(index), len(index.classes))}")
        return found
    binary = np.isin(index.labels, (0, 1))
    if not binary.all():
        row, column = np.argwhere(~binary)[0]
        found.append(
            f"{int((~binary).sum())} labels are not 0 or 1, the first is {index.labels[row, column]} for class "
            f"{index.classes[column]!r} of {ids.iloc[row]!r}"
        )
        return found
    if task.name == "multiclass" and not (index.labels.sum(1) == 1).all():
        row = int(np.flatnonzero(index.labels.sum(1) != 1)[0])
        found.append(f"{ids.iloc[row]!r} has {index.labels[row].sum()} classes, expected exactly one")
    nameless = samples_without_name(index)
    if nameless:
        found.append(f"{nameless} samples have no id or no patient; without patients give the id itself")
    in_training = index.labels[index.of_split("train")].sum(0)
    for name, positives in zip(index.classes, in_training, strict=True):
        if counts.get("train", 0) and positives == 0:
            found.append(f"class {name!r} has no positive image in the train split: it cannot be learned")
    known = list(ids)
    for label, table in (("box", index.boxes), ("shortcut", index.shortcuts)):
        lost = table.loc[~table["id"].isin(known), "id"]
        if len(lost):
            found.append(f"{len(lost)} rows give a {label} for an unknown image, the first is {lost.iloc[0]!r}")
        corners = table[["x0", "y0", "x1", "y1"]].to_numpy(float)
        wrong = ~((corners[:, :2] < corners[:, 2:]).all(1) & (corners >= -1e-9).all(1) & (corners <= 1 + 1e-9).all(1))
        if wrong.any():
            row = table.iloc[int(np.flatnonzero(wrong)[0])]
            found.append(
                f"{int(wrong.sum())} {label}es leave the image or are empty, the first belongs to {row['id']!r}"
            )
    stray = sorted(set(index.boxes["class_name"]) - set(index.classes))
    if stray:
        found.append(f"boxes name unknown classes {', '.join(map(repr, stray))}")
    return found


def samples_without_name(index: Index) -> int:
    """Return how many samples have an empty id or patient."""
    named = index.samples[["id", "patient"]]
    return int((named.isna() | (named.astype(str) == "")).to_numpy().any(1).sum())


def check(index: Index, dataset: str, task: Task) -> Index:
    """Return the index, labels as uint8, if it is sound; else raise `UsageError` with everything that is wrong."""
    found = problems(index, task)
    if found:
        listing = "; ".join(found)
        raise UsageError(f"{dataset}: the index is not usable: {listing}. Mend the label and split files.")
    return replace(index, labels=np.asarray(index.labels).astype(np.uint8))


def unlabelled_boxes(index: Index) -> pd.DataFrame:
    """Return the boxes whose class is not among the labels of their image: suspicious, not fatal."""
    position = {name: i for i, name in enumerate(index.samples["id"])}
    column = {name: i for i, name in enumerate(index.classes)}
    keep = [
        i in position and c in column and index.labels[position[i], column[c]] == 0
        for i, c in zip(index.boxes["id"], index.boxes["class_name"], strict=True)
    ]
    return index.boxes.iloc[np.flatnonzero(keep)]


def split_by_patient(patients: pd.Series, *, share: float, seed: int) -> NDArray[np.bool_]:
    """Return which samples fall into a held-out part of about `share`, whole patients only, (N,) bool.

    Patients are shuffled once by `seed`; whole patients are taken until the share of images is reached.
    """
    names, member, sizes = np.unique(patients.to_numpy(str), return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(names))
    taken = np.cumsum(sizes[order]) <= round(share * len(patients))
    chosen = np.zeros(len(names), dtype=bool)
    chosen[order[taken]] = True
    return chosen[member]


def folds_by_patient(
    patients: NDArray[np.str_], labels: NDArray[np.str_], *, folds: int = 5, seed: int = 0
) -> NDArray[np.int8]:
    """Return a fold for each of P (image, class) pairs, whole patients together, balanced per class, (P,).

    Patients with the most pairs are placed first, each into the fold that then has the fewest pairs of its
    classes (ties: fewest pairs, then lowest number); order among equals is a seeded shuffle.
    """
    names, member = np.unique(patients, return_inverse=True)
    classes, label = np.unique(labels, return_inverse=True)
    table = np.zeros((len(names), len(classes)), dtype=np.int64)
    np.add.at(table, (member, label), 1)
    shuffled = np.random.default_rng(seed).permutation(len(names))
    order = shuffled[np.argsort(-table[shuffled].sum(1), kind="stable")]
    filled = np.zeros((folds, len(classes)), dtype=np.int64)
    fold = np.zeros(len(names), dtype=np.int8)
    for patient in order:
        load = (filled * (table[patient] > 0)).sum(1)
        best = min(range(folds), key=lambda f: (load[f], filled[f].sum(), f))
        fold[patient] = best
        filled[best] += table[patient]
    return fold[member]
