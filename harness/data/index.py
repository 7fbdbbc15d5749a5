"""The table a dataset makes: which images there are, their labels, boxes, patients and splits."""

from __future__ import annotations

import hashlib
import math
import re
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.errors import UsageError
from harness.rng import seed_for
from harness.tasks import Task

SPLITS = ("train", "validation", "test")
BOX_COLUMNS = ("id", "class_name", "x0", "y0", "x1", "y1")
HELD = 64 * 2**20  # bytes of labels that are held in memory: a million photos of 1,000 classes are 1.3 GB
PART = 4 * 2**20  # bytes of labels that are looked at together


def no_boxes() -> pd.DataFrame:
    """Return an empty table of boxes."""
    return pd.DataFrame({"id": pd.Series(dtype=str), "class_name": pd.Series(dtype=str)}
                        | {c: pd.Series(dtype=float) for c in BOX_COLUMNS[2:]})  # fmt: skip


@dataclass(frozen=True)
class Index:
    """All samples of a dataset. Rows of `samples` and `labels` correspond; sample i is row i, everywhere.

    samples: columns id (unique), patient (the id itself where there are none), split (train, validation, test),
        and any others that `Dataset.read` wants (path, offset, seed, ...). A cross-fitted split (protocol.md, 1) has
        split_0, split_1, ... instead, one for each model: every sample is in the test part of exactly one of them.
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

    @property
    def split_columns(self) -> tuple[str, ...]:
        """Return the columns that say which part a sample is in, one for each model that is to be trained."""
        if "split" in self.samples:
            return ("split",)
        numbered = [c for c in map(str, self.samples.columns) if re.fullmatch(r"split_\d+", c)]
        return tuple(sorted(numbered, key=lambda c: int(c.removeprefix("split_"))))

    @property
    def folds(self) -> int:
        """Return how many models the split asks for: 1, or one for each fold of a cross-fitted split."""
        return len(self.split_columns)

    @property
    def crossfitted(self) -> bool:
        """Return whether each sample is scored by the one of several models that did not see its patient."""
        return "split" not in self.samples

    def of_split(self, split: str, fold: int = 0) -> NDArray[np.int64]:
        """Return the positions of the samples that are in `split` for the model of `fold`, in table order, (n,)."""
        return np.flatnonzero(self.samples[self.split_columns[fold]].to_numpy() == split)

    def scored(self) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
        """Return the positions of all test samples, fold by fold in table order, and their folds, (n,) and (n,)."""
        parts = [self.of_split("test", k) for k in range(self.folds)]
        return np.concatenate(parts), np.repeat(np.arange(self.folds, dtype=np.int8), [len(p) for p in parts])

    def ids(self, positions: NDArray[np.int64]) -> NDArray[Any]:
        """Return the ids of the samples at `positions`, (n,) str."""
        return self.samples["id"].iloc[positions].to_numpy(str)

    def patients(self, positions: NDArray[np.int64]) -> NDArray[Any]:
        """Return the patients of the samples at `positions`, each itself where there are none, (n,) str."""
        return self.samples["patient"].iloc[positions].to_numpy(str)

    def labels_at(self, positions: NDArray[np.int64]) -> NDArray[Any]:
        """Return the labels of the samples at `positions`, (n,V); many of them lie in a file, see `gathered`."""
        return gathered((part for _, part in _in_parts(self.labels, positions)), (len(positions), len(self.classes)))

    def positives(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return how many of the samples at `positions` have each class, (V,)."""
        found = np.zeros(len(self.classes), np.int64)
        for _, part in _in_parts(self.labels, positions):
            found += part.sum(0).astype(np.int64)
        return found

    def manifest(self) -> bytes:
        """Return id, patient and split of every sample as CSV: what another person needs to repeat the split."""
        columns = self.samples.loc[:, ["id", "patient", *self.split_columns]]
        return columns.to_csv(index=False, lineterminator="\n").encode()

    def digest(self) -> str:
        """Return a sha256 over ids, patients, splits, labels, boxes and shortcuts: the data but for its pixels."""
        h = hashlib.sha256()
        for column in ("id", "patient", *self.split_columns):
            h.update("\x1f".join(map(str, self.samples[column])).encode())
        for _, part in _in_parts(self.labels):
            h.update(part.tobytes())
        h.update("\x1f".join(self.classes).encode())
        for table in (self.boxes, self.shortcuts):
            h.update(table[list(BOX_COLUMNS)].round(9).to_csv(index=False).encode())
        return h.hexdigest()


def _in_parts(labels: NDArray[Any], positions: NDArray[np.int64] | None = None) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield the place of the first and the labels of a few rows at a time: all of them, or those at `positions`."""
    rows = max(1, PART // max(1, labels[:1].nbytes))
    for start in range(0, len(labels if positions is None else positions), rows):
        yield start, labels[start : start + rows] if positions is None else labels[positions[start : start + rows]]


def gathered(parts: Iterable[NDArray[np.uint8]], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the rows of all parts as one array of `shape`; above `HELD` bytes it is the map of a nameless file."""
    if math.prod(shape) <= HELD:
        return np.concatenate([np.zeros((0, shape[1]), np.uint8), *parts])
    with tempfile.TemporaryFile() as file:  # written, not filled through the map: a full disk is an error that way
        for part in parts:
            file.write(part.data)
        file.flush()
        return np.memmap(file, np.uint8, mode="r", shape=shape)


def one_hot(numbers: NDArray[np.integer[Any]], classes: int) -> NDArray[np.uint8]:
    """Return the labels (N,V) of samples that have one class each, from the classes' numbers (N,)."""
    rows = max(1, PART // classes)
    eye = np.eye(classes, dtype=np.uint8)
    parts = (eye[numbers[start : start + rows]] for start in range(0, len(numbers), rows))
    return gathered(parts, (len(numbers), classes))


def problems(index: Index, task: Task, parts: tuple[str, ...] = SPLITS) -> list[str]:
    """Return everything that makes an index unusable, one sentence each; an empty list when it is sound.

    `parts` are those that the dataset says it has (`Dataset.splits`): all three, or test images alone.
    """
    found: list[str] = []
    ids = index.samples["id"]
    repeated = ids.to_numpy()[ids.duplicated().to_numpy()]
    if len(repeated):
        found.append(f"{len(repeated)} sample ids occur twice, the first is {repeated[0]!r}")
    found += [problem for fold in range(index.folds) for problem in _split_problems(index, fold, parts)]
    if not index.folds:
        found.append("the samples have no column split")
    elif index.crossfitted:
        tested = sum((index.samples[c].to_numpy() == "test").astype(int) for c in index.split_columns)
        if not np.all(tested == 1):
            found.append(
                f"{int(np.sum(tested != 1))} samples are not in the test part of exactly one fold, the first is "
                f"{ids.iloc[int(np.flatnonzero(tested != 1)[0])]!r}"
            )
    if index.labels.shape != (len(index), len(index.classes)):
        found.append(f"labels have shape {index.labels.shape}, expected {(len(index), len(index.classes))}")
        return found
    if strange := _strange_labels(index):
        return [*found, strange]
    if task.name == "multiclass":
        found += _several_classes(index)
    nameless = samples_without_name(index)
    if nameless:
        found.append(f"{nameless} samples have no id or no patient; without patients give the id itself")
    for fold in range(index.folds):
        training = index.of_split("train", fold)
        for name, positives in zip(index.classes, index.positives(training), strict=True):
            if len(training) and positives == 0:
                part = f"train split{_of_fold(index, fold)}"
                found.append(f"class {name!r} has no positive image in the {part}: it cannot be learned")
    known = set(ids)
    for label, table in (("box", index.boxes), ("shortcut", index.shortcuts)):
        lost = [name for name in table["id"] if name not in known]
        if lost:
            found.append(f"{len(lost)} rows give a {label} for an unknown image, the first is {lost[0]!r}")
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
    stray = sorted(set(index.shortcuts["class_name"]) - {*index.classes, ""})
    if stray:
        found.append(f"shortcuts are tied to unknown classes {', '.join(map(repr, stray))}")
    return found


def _strange_labels(index: Index) -> str:
    """Return what is wrong with labels that are not 0 or 1, "" where there are none."""
    count, first = 0, (0, 0)
    for start, part in _in_parts(index.labels):
        strange = part > 1 if part.dtype == np.uint8 else ~np.isin(part, (0, 1))
        if not count and strange.any():
            row, column = np.argwhere(strange)[0]
            first = int(start + row), int(column)
        count += int(strange.sum())
    if not count:
        return ""
    return (
        f"{count} labels are not 0 or 1, the first is {index.labels[first]} for class {index.classes[first[1]]!r} of "
        f"{index.samples['id'].iloc[first[0]]!r}"
    )


def _several_classes(index: Index) -> list[str]:
    """Return what is wrong with samples that have no class, or several."""
    for start, part in _in_parts(index.labels):
        counts = part.sum(1)
        if not (counts == 1).all():
            row = int(np.flatnonzero(counts != 1)[0])
            return [f"{index.samples['id'].iloc[start + row]!r} has {counts[row]} classes, expected exactly one"]
    return []


def _of_fold(index: Index, fold: int) -> str:
    return f" of fold {fold}" if index.crossfitted else ""


def patients_on_two_sides(index: Index, fold: int = 0) -> list[str]:
    """Return the patients who have images in two of the parts of one model."""
    sides = index.samples.groupby("patient")[index.split_columns[fold]].nunique()
    return [str(patient) for patient in sides.index[sides.to_numpy() > 1]]


def _split_problems(index: Index, fold: int, parts: tuple[str, ...]) -> list[str]:
    """Return what is wrong with the parts of one model: unknown or empty ones, patients on two sides."""
    split, where = index.samples[index.split_columns[fold]], _of_fold(index, fold)
    found = []
    strange = sorted(set(split) - set(parts))
    if strange:
        found.append(f"unknown splits {', '.join(map(repr, strange))}{where}; expected {', '.join(parts)}")
    counts = split.value_counts()
    found += [f"the {s} split{where} is empty: expected at least one image" for s in parts if not counts.get(s, 0)]
    torn = patients_on_two_sides(index, fold)
    if torn:
        sides = sorted(set(split[index.samples["patient"] == torn[0]]))
        found.append(f"{len(torn)} patients are in two splits{where}, the first is {torn[0]!r} ({' and '.join(sides)})")
    return found


def samples_without_name(index: Index) -> int:
    """Return how many samples have an empty id or patient."""
    named = index.samples[["id", "patient"]]
    return int((named.isna() | (named.astype(str) == "")).to_numpy().any(1).sum())


def check(index: Index, dataset: str, task: Task, parts: tuple[str, ...] = SPLITS) -> Index:
    """Return the index, labels as uint8, if it is sound; else raise `UsageError` with everything that is wrong."""
    found = problems(index, task, parts)
    if found:
        listing = "; ".join(found)
        raise UsageError(f"{dataset}: the index is not usable: {listing}. Mend the label and split files.")
    return replace(index, labels=index.labels.astype(np.uint8, copy=False))


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


def stratified_part(patients: pd.Series, labels: NDArray[np.uint8], *, share: float, seed: int) -> NDArray[np.bool_]:
    """Return which samples fall into a held-out part of about `share` of every class, whole patients only, (N,) bool.

    The class with the fewest positives goes first. Of its patients without a place, in a seeded order, those are held
    out whose positives still fit into the share of the class; where that is none of them, and it has two or more, the
    one with the fewest. The others stay. Patients without any positive follow, by their images.
    """
    names, member = np.unique(patients.to_numpy(str), return_inverse=True)
    sizes = np.bincount(member)
    positives = np.zeros((len(names), labels.shape[1]), np.int64)
    np.add.at(positives, member, labels)
    shuffled = np.random.default_rng(seed).permutation(len(names))
    part = np.full(len(names), -1, np.int8)  # no place yet; 0 stays, 1 is held out
    for c in [*np.argsort(labels.sum(0), kind="stable"), -1]:
        count = sizes if c < 0 else positives[:, c]
        room = round(share * int(count.sum())) - int(count[part == 1].sum())
        waiting = shuffled[(part[shuffled] < 0) & (count[shuffled] > 0)]
        for patient in waiting:
            part[patient] = count[patient] <= room
            room -= count[patient] * part[patient]
        if c >= 0 and len(waiting) and not count[part == 1].any() and (count[part == 0] > 0).sum() > 1:
            part[waiting[np.argmin(count[waiting])]] = 1
    return part[member] == 1


def crossfit(
    patients: pd.Series, labels: NDArray[np.uint8], *, share: float, seed: int, folds: int = 5
) -> pd.DataFrame:
    """Return the columns split_0 ... of a cross-fitted split (protocol.md, 1), (N,folds).

    Sample i is in the test part of its own fold; of the other patients, `share` (of the images) is validation and the
    rest training, drawn anew for each model.
    """
    names = patients.to_numpy(str)
    fold = stratified_folds(names, labels, folds=folds, seed=seed)
    columns = {}
    for k in range(folds):
        split = np.where(fold == k, "test", "train").astype(object)
        rest = np.flatnonzero(fold != k)
        held_out = split_by_patient(patients.iloc[rest], share=share, seed=seed_for(seed, "crossfit", k))
        split[rest[held_out]] = "validation"
        columns[f"split_{k}"] = split
    return pd.DataFrame(columns)


def stratified_folds(
    patients: NDArray[np.str_], labels: NDArray[np.uint8], *, folds: int, seed: int
) -> NDArray[np.int8]:
    """Return a fold for each of N samples with labels (N,V), whole patients together, (N,).

    The class with the fewest positives goes first, as in iterative stratification (Sechidis 2011): each of its
    patients, those with the most positives first, goes to the fold with the fewest positives of that class (ties:
    fewest samples, then lowest number). Patients without any positive follow, to the fold with the fewest samples.
    Order among equals is a seeded shuffle. So the rarest class, if 5 patients have it, is in every one of five folds;
    of the others a patient may have been placed for a rarer class before.
    """
    names, member = np.unique(patients, return_inverse=True)
    sizes = np.bincount(member)
    positives = np.zeros((len(names), labels.shape[1]), np.int64)
    np.add.at(positives, member, labels)
    shuffled = np.random.default_rng(seed).permutation(len(names))
    fold = np.full(len(names), -1, np.int8)
    filled = np.zeros(folds, np.int64)
    for c in [*np.argsort(labels.sum(0), kind="stable"), -1]:
        count = sizes if c < 0 else positives[:, c]
        held = np.bincount(fold[fold >= 0], count[fold >= 0], folds)  # of the class; of all samples at the end
        waiting = shuffled[(fold[shuffled] < 0) & (count[shuffled] > 0)]
        for patient in waiting[np.argsort(-count[waiting], kind="stable")]:
            best = min(range(folds), key=lambda f: (held[f], filled[f], f))
            fold[patient] = best
            held[best] += count[patient]
            filled[best] += sizes[patient]
    return fold[member]


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
