"""COVIDx (Wang, Lin & Wong 2020, arXiv:2003.09871): radiographs of many sources, normal, pneumonia or COVID-19.

Read as its makers lay it out: train_COVIDx*.txt and test_COVIDx*.txt (or train.txt, test.txt) in the root or in
labels/, lines `patient file class [source]` between spaces; images in data/train and data/test, or train/ and test/.
Classes are normal, pneumonia, COVID-19, or negative, positive in the binary versions (6, 7B and the later B).
The lists say what there is: images that are in a folder but in no list are left out (COVID-Net's issue 78: 1,579 in
the test folder, 300 in the list) and counted by `harness data verify`.

What is known to be odd in them, and what is done: one file listed for two patients (train_COVIDx4.txt: 000001-27.jpg)
is taken once, and the two count as one patient; patients on both sides lose their training images, unless told
otherwise. Validation is drawn from the training list by patient; the makers have none.

A large part of the images without COVID-19 are those of the RSNA challenge, which are ChestX-ray14's under other names:
a network trained on one of the two must not be tested on the other.

Text that is burnt into the test images is a shortcut tied to COVID-19, which iGOS++ found a classifier to use
(Khorram 2021, arXiv:2012.15783, poster, Fig. 4 and Table 4): `--evaluation shortcut` and `shortcut_maps` audit it. It
is found by a detector (harness/data/text.py; docs/covidx.md says how often it is right), or given: text_boxes.csv in
the root, lines `id,x0,y0,x1,y1` in fractions of the image, where an id is test/FILE or train/FILE; an image without a
line has no text.
`covidx_cleaned` is COVIDx with the text filled from its surroundings, in all images: the poster's COVIDx++, whose own
way of removal is not published, nor is which version of COVIDx it is.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd

from harness.api import (
    Dataset,
    Index,
    MultiClass,
    UsageError,
    blanked,
    dataset,
    files_in,
    read_image,
    read_rows,
    setting,
    split_by_patient,
    text_boxes,
)

CLASSES = ("normal", "pneumonia", "COVID-19")
BINARY = ("negative", "positive")  # in version 6, and in 7B and the later B
KNOWN = {*CLASSES, *BINARY}
SIDES = ("train", "test")
TEXT = "text_boxes.csv"
TEXT_COLUMNS = ["id", "x0", "y0", "x1", "y1"]
AGAIN = "Fetch it again from COVID-Net's labels/."
PUBLISHED = {  # images of each class -> version, as docs/COVIDx.md of COVID-Net gives them
    ("train", (7966, 5459, 473)): "4",
    ("train", (13794, 517)): "6",
    ("train", (8085, 5555, 16490)): "9A",
    ("train", (8085, 5555, 15994)): "CXR-3A",
    ("train", (13992, 15994)): "CXR-3B",
    ("test", (100, 100, 100)): "3 to 5",
    ("test", (100, 100)): "6",
    ("test", (100, 100, 200)): "8A to CXR-3A",
    ("test", (200, 200)): "8B to CXR-3B",
}


@dataset("covidx", source="Wang 2020, arXiv:2003.09871; text as a shortcut: Khorram 2021, arXiv:2012.15783", version=1)
@dataclass(frozen=True, kw_only=True)
class Covidx(Dataset):
    """COVIDx: normal, pneumonia or COVID-19; burnt-in text of the test images is a shortcut to audit."""

    size: int = setting(224, unit="px", source="ours: the poster gives none", help="side of the image the model sees")
    train_list: str = setting("", source="ours", help="file name of the training list, where there are several")
    test_list: str = setting("", source="ours", help="file name of the test list, where there are several")
    shared_patients: Literal["drop", "refuse"] = setting(
        "drop", source="ours",
        help="patients in both lists. drop: their training images are left out, and every row says so; refuse: an "
             "error that names them",
    )  # fmt: skip
    subset: bool = setting(
        False, source="ours", help="accept folders that hold only some of the listed images; rows then say 'subset'"
    )
    validation_share: float = setting(0.1, unit="of the training images", source="ours: by patient; COVIDx has none")
    split_seed: int = setting(0, source="ours")

    task = MultiClass()
    channels = 1
    default_model = "densenet121_2block"
    schedule: ClassVar[dict[str, Any]] = {"learning_rate": 0.01, "max_epochs": 30, "augment": "flip"}  # ours
    continuation: ClassVar[dict[str, Any]] = {"max_epochs": 15}
    folders = ("COVIDx", "covidx", "covidx-cxr2", "COVIDx-CXR")
    how_to_get = (
        "To get COVIDx (each source has its own terms; 30 GB for the latest version):\n"
        "  1. download https://www.kaggle.com/andyczhao/covidx-cxr2 (train/, test/ and the lists), or build an older\n"
        "     version: https://github.com/lindawangg/COVID-Net/blob/master/docs/COVIDx.md (data/train, data/test)\n"
        "  2. put the two lists of that version into the same folder, from COVID-Net's labels/: train_COVIDx8A.txt\n"
        "     and test_COVIDx8A.txt, say; or name them: --set train_list=... --set test_list=...\n"
        "  3. give --root FOLDER (COVIDx), or set HARNESS_DATA to the folder above it.\n"
        "Or try the harness without it: --dataset phantom_shortcut."
    )

    def found_at(self, root: Path) -> bool:
        """Return whether the folder holds a list of COVIDx."""
        return any(_lists(root, side) for side in SIDES)

    def index(self, root: Path) -> Index:
        """Return the table of the listed images, checked against the folders; text of the test images as shortcuts."""
        listed = {side: _read_list(self._list(root, side)) for side in SIDES}
        classes = _classes(listed)
        rows, notes = self._rows(root, pd.concat([listed[s].assign(side=s) for s in SIDES], ignore_index=True))
        split = rows["side"].to_numpy(object)
        training = np.flatnonzero(split == "train")
        held_out = split_by_patient(rows["patient"].iloc[training], share=self.validation_share, seed=self.split_seed)
        split[training[held_out]] = "validation"
        samples = rows[["id", "patient", "path", "source"]].assign(split=split)
        text = [(name, classes[-1], *box) for name, box in self._text(root, samples)]
        shortcuts = pd.DataFrame(text, columns=["id", "class_name", *TEXT_COLUMNS[1:]])
        return Index(
            samples=samples,
            labels=np.stack([rows["class"] == c for c in classes], axis=1).astype(np.uint8),
            classes=classes,
            shortcuts=shortcuts.astype(dict.fromkeys(TEXT_COLUMNS[1:], float)),
            notes=notes,
        )

    def _list(self, root: Path, side: str) -> Path:
        """Return the list of one side: the one that is named, or the only one."""
        found, name = _lists(root, side), getattr(self, f"{side}_list")
        chosen = [p for p in found if p.name == name] if name else found
        if len(chosen) == 1:
            return chosen[0]
        there = ", ".join(p.name for p in found) or "none"
        if name or not found:
            raise UsageError(
                f"covidx: expected {name or f'{side}_COVIDx8A.txt, say,'} in {root} or {root / 'labels'}, found "
                f"{there}. Fetch it from COVID-Net's labels/."
            )
        raise UsageError(
            f"covidx: {root} has {len(found)} lists of {side} images: {there}. Say which: --set "
            f"{side}_list={found[0].name}"
        )

    def _rows(self, root: Path, rows: pd.DataFrame) -> tuple[pd.DataFrame, tuple[str, ...]]:
        """Return the rows whose images are here, with id and path, no patient on two sides; and what to say of them."""
        notes = ()
        there = {side: _images(root, side) for side in SIDES}
        found = [there[side].match(file) for file, side in zip(rows["file"], rows["side"], strict=True)]
        here = np.array([f is not None for f in found])
        if not here.all():
            lost = rows[~here].iloc[0]
            if not (self.subset and here.any()):
                raise UsageError(
                    f"covidx: {int((~here).sum()):,} of the {len(rows):,} listed images are missing, the first is "
                    f"{there[lost['side']].path / lost['file']} ({lost['line']}). Fetch them, or take what is there: "
                    "--set subset=true (rows then say so)."
                )
            notes += ("subset",)
        places = [f"{there[s].path.relative_to(root)}/{f}" for s, f in zip(rows["side"], found, strict=True)]
        rows = rows.assign(path=places, id=rows["side"] + "/" + rows["file"], patient=_patients(rows))[here]
        both = set(rows.loc[rows["side"] == "train", "patient"]) & set(rows.loc[rows["side"] == "test", "patient"])
        if both and self.shared_patients == "refuse":
            raise UsageError(
                f"covidx: {len(both)} patients are in both lists, the first is {min(both)!r}. Leave their training "
                "images out: --set shared_patients=drop."
            )
        if both:
            rows = rows[(rows["side"] == "test") | ~rows["patient"].isin(both)]
            notes += ("training images of test patients left out",)
        return rows.drop_duplicates("id").reset_index(drop=True), notes

    def _text(self, root: Path, samples: pd.DataFrame):
        """Yield id and box of each text in the test images; one that cannot be decoded is left to who decodes it."""
        for row in samples[samples["split"] == "test"].to_dict("records"):
            try:
                boxes = _boxes_of(root, row, None)
            except UsageError:
                if _given(root) is not None:
                    raise
                continue
            yield from ((row["id"], box) for box in boxes.tolist())
        if (given := _given(root)) and (stray := sorted(set(given) - set(samples["id"]))):
            raise UsageError(
                f"{root / TEXT}: {stray[0]!r} (one of {len(stray)}) is no image of the lists; expected test/FILE or "
                "train/FILE. Mend the file."
            )

    def read(self, row: Mapping[str, Any], root: Path) -> np.ndarray:
        """Return one radiograph as (H,W) uint8; RGBA and other modes become grey."""
        return read_image(root / row["path"], self.channels)

    def checksums(self, root: Path) -> dict[str, str]:
        """Name the lists: nobody publishes sums of them."""
        return {self._list(root, side).name: "no published sum" for side in SIDES}

    def remarks(self, root: Path) -> list[str]:
        """Return which version the lists are by their counts, and how many images no list names."""
        found = []
        for side in SIDES:
            path = self._list(root, side)
            rows = _read_list(path)
            counts = Counter(rows["class"])
            own = CLASSES if set(counts) <= set(CLASSES) else BINARY
            numbers = tuple(counts[c] for c in own)
            version = PUBLISHED.get((side, numbers))
            told = f"the counts of version {version}" if version else "no published version has these counts"
            found.append(f"{path.name}: {', '.join(f'{n:,} {c}' for c, n in zip(own, numbers, strict=True))}: {told}")
            images = _images(root, side)
            extra = len(images.names - {images.match(f) for f in rows["file"]})
            if extra:
                found.append(f"{images.path}: {len(images.names):,} images, {extra:,} of them in no list: left out")
            repeated = int(rows["file"].duplicated().sum())
            if repeated:
                found.append(f"{path.name}: {repeated:,} files are listed twice: taken once, their patients as one")
        return found


@dataset("covidx_cleaned", source="Khorram 2021, arXiv:2012.15783, Table 4 (COVIDx++); removal: ours", version=1)
@dataclass(frozen=True, kw_only=True)
class CovidxCleaned(Covidx):
    """COVIDx with its burnt-in text filled from the surroundings, in every image: the poster's COVIDx++.

    The shortcuts are those of `covidx`, at the same places: what is left of them is what the audit measures.
    """

    def read(self, row: Mapping[str, Any], root: Path) -> np.ndarray:
        """Return one radiograph as (H,W) uint8 without its text."""
        image = super().read(row, root)
        return blanked(image, _boxes_of(root, row, image))


def _lists(root: Path, side: str) -> list[Path]:
    """Return the lists of one side, in the root or in labels/, sorted by name."""
    folders = (root, root / "labels")
    found = [p for f in folders for pattern in (f"{side}_COVIDx*.txt", f"{side}.txt") for p in f.glob(pattern)]
    return sorted((p for p in found if p.is_file()), key=lambda p: p.name)


def _read_list(path: Path) -> pd.DataFrame:
    """Return line, patient, file, class and source of each line. A file name may hold spaces; a class is known."""
    found = []
    for number, fields in read_rows(path, AGAIN, delimiter=" "):
        place = f"{path}, line {number}"
        if len(fields) < 3:
            raise UsageError(f"{place}: expected `patient file class [source]`, got {len(fields)} fields. {AGAIN}")
        last = 1 if fields[-1] in KNOWN or fields[-2] not in KNOWN or len(fields) < 4 else 2
        if fields[-last] not in KNOWN:
            raise UsageError(
                f"{place}: unknown class {fields[2] if len(fields) < 5 else fields[-1]!r:.60}; expected "
                f"{', '.join(CLASSES)}, or {', '.join(BINARY)}, spelled so, after patient and file. {AGAIN}"
            )
        file = " ".join(fields[1:-last])
        if "/" in file or "\\" in file:
            raise UsageError(f"{place}: expected the name of a file, got the path {file!r:.60}. {AGAIN}")
        source = fields[-1] if last == 2 else ""
        found.append({"line": place, "patient": fields[0], "file": file, "class": fields[-last], "source": source})
    if not found:
        raise UsageError(f"{path}: has no lines. {AGAIN}")
    rows = pd.DataFrame(found)
    classes = rows.groupby("file")["class"].nunique()
    if (classes > 1).any():
        first, second = rows.loc[rows["file"] == classes.index[classes > 1][0], "line"].iloc[:2]
        raise UsageError(f"{second}: the file has another class than at {first}. {AGAIN}")
    return rows


def _classes(listed: Mapping[str, pd.DataFrame]) -> tuple[str, ...]:
    """Return the classes of both lists. `UsageError`: they mix three classes with two."""
    used = {side: set(rows["class"]) for side, rows in listed.items()}
    for classes in (CLASSES, BINARY):
        if all(u <= set(classes) for u in used.values()):
            return classes
    told = "; ".join(f"the {side} list has {', '.join(sorted(u))}" for side, u in used.items())
    raise UsageError(
        f"covidx: {told}. Expected {', '.join(CLASSES)} or {', '.join(BINARY)} in both: take two lists of one version."
    )


@dataclass(frozen=True)
class _Folder:
    """The images of one side: the folder, their names, and each name by its lower case."""

    path: Path
    names: frozenset[str]
    folded: Mapping[str, str]

    def match(self, file: str) -> str | None:
        """Return the name of a listed file, in whatever case it lies here; None where it does not."""
        return file if file in self.names else self.folded.get(file.casefold())


def _images(root: Path, side: str) -> _Folder:
    folder = root / "data" / side if (root / "data" / side).is_dir() else root / side
    names = files_in(folder, advice="Expected data/train and data/test, or train and test. Check --root.")
    return _Folder(folder, frozenset(names), {name.casefold(): name for name in names})


def _patients(rows: pd.DataFrame) -> list[str]:
    """Return a patient for each row: those for whom one file is listed, in either list, count as one, the first."""
    stands_for: dict[str, str] = {}

    def first(name: str) -> str:
        while name in stands_for:
            name = stands_for[name]
        return name

    for _, names in rows[rows["file"].duplicated(keep=False)].groupby("file", sort=False)["patient"]:
        one, *others = dict.fromkeys(first(n) for n in names)
        stands_for |= dict.fromkeys(others, one)
    return [first(name) for name in rows["patient"]]


def _boxes_of(root: Path, row: Mapping[str, Any], image: np.ndarray | None) -> np.ndarray:
    """Return the text of an image, (K,4) fractions: as text_boxes.csv says where it is there, else as detected."""
    given = _given(root)
    if given is not None:
        return np.array(given.get(row["id"], ()), float).reshape(-1, 4)
    return text_boxes(read_image(root / row["path"], 1) if image is None else image)


def _given(root: Path) -> dict[str, list[tuple[float, ...]]] | None:
    path = root / TEXT
    return _read_text(path, path.stat().st_mtime_ns) if path.is_file() else None


@lru_cache(maxsize=2)
def _read_text(path: Path, changed: int) -> dict[str, list[tuple[float, ...]]]:
    advice = f"Mend it: a header {','.join(TEXT_COLUMNS)} and lines of fractions of the image, or remove it."
    lines = read_rows(path, advice)
    if not lines or lines[0][1] != TEXT_COLUMNS:
        raise UsageError(f"{path}: expected the columns {','.join(TEXT_COLUMNS)}. {advice}")
    found: dict[str, list[tuple[float, ...]]] = {}
    for number, fields in lines[1:]:
        try:
            name, *corners = fields
            x0, y0, x1, y1 = map(float, corners)
        except ValueError:
            raise UsageError(f"{path}, line {number}: expected an id and four numbers. {advice}") from None
        if not (0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1):
            raise UsageError(f"{path}, line {number}: expected x0 < x1 and y0 < y1 from 0 to 1. {advice}")
        found.setdefault(name, []).append((x0, y0, x1, y1))
    return found
