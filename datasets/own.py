"""A user's own images: a folder per class (`folder`), or a table beside the images (`csv`). See docs/own_data.md.

    folder:  ROOT/<class>/*                   parts are drawn by a seed, a share of each class, whole patients
             ROOT/<part>/<class>/*            parts train, validation (or val) and test, as they are given
             ROOT/boxes.csv                   optional: image, class, x0, y0, x1, y1
             ROOT/patients.csv                optional: image, patient
    csv:     ROOT/labels.csv                  image, and label (one class per image), or a column of 0 and 1 per class;
                                              optional: patient, split
             ROOT/boxes.csv                   optional, as above

An image is named by its path below ROOT, with / between folders, and that is its id. Paths never leave ROOT; nor do
links, unless `links` allows them. Nothing is left out silently: what is no image, is listed twice, or has no label is
an error. Images stand upright, as their EXIF orientation says. Patients are the images themselves where none are given.
"""

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import ClassVar, Literal

import numpy as np
import pandas as pd

from harness.api import (
    Dataset,
    Index,
    MultiClass,
    MultiLabel,
    Task,
    UsageError,
    closest,
    crossfit,
    dataset,
    image_header,
    read_image,
    read_rows,
    seed_for,
    setting,
    stratified_part,
)

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".gif")  # in any case
LITTER = ("thumbs.db", "desktop.ini")  # what file managers leave behind; hidden files are passed over as well
PARTS = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}
RESERVED = ("image", "patient", "split", "label")
OF_ROWS = ("all", "macro")  # what rows call all classes together
FEWEST = 3  # patients of each class that a seeded split needs: to train, to validate, to test
LONGEST = 100  # characters of a class
LOOKED_THROUGH = 10_000  # images, for one that is meant by a mistyped name
BOX_FIELDS = ("image", "class", "x0", "y0", "x1", "y1")
GUIDE = "docs/own_data.md shows the layouts."


@dataclass(frozen=True, kw_only=True)
class Own(Dataset):
    """What both layouts have in common: settings, parts, boxes."""

    name: str = setting("", source="ours", help="what boards call these data: required, another for each folder")
    size: int = setting(224, unit="px", source="ours", help="side of the square image the model sees")
    channels: Literal[1, 3] = setting(1, source="ours", help="1: grey, colours become grey; 3: colour")  # pyright: ignore
    pixel_mean: tuple[float, ...] = setting(
        (0.5,), unit="[0,1] pixels", source="ours",
        help="what the model's first layer subtracts: one number, or one per channel",
    )  # fmt: skip
    pixel_std: tuple[float, ...] = setting(
        (0.25,), unit="[0,1] pixels", source="ours",
        help="what it divides by: one number, or one per channel",
    )  # fmt: skip
    bits: int | None = setting(
        None, source="ours", help="bits that 16-bit grey files use, 9 to 16; to be said where values end below 4,096"
    )
    links: bool = setting(False, source="ours", help="follow symbolic links that lead out of the folder")
    split: Literal["as_given", "cross_fitted", "test_only"] = setting(
        "as_given", source="ours; cross_fitted: protocol.md, 1",
        help="as_given: the parts that folders or the column split name, else drawn by the seed; cross_fitted: for few "
             "images, five models, each image scored by the one that did not see its patient; test_only: nothing to "
             "train on, for networks that are loaded",
    )  # fmt: skip
    test_share: float = setting(0.2, unit="of each class", source="ours", help="for tests, where no parts are given")
    validation_share: float = setting(0.1, unit="of each class not tested", source="ours",
                                      help="for validation, where no such part is given")  # fmt: skip
    split_seed: int = setting(0, source="ours")
    boxes: Literal["pixels", "fractions"] = setting(
        "pixels",
        source="ours",
        help="what the corners in boxes.csv are: pixels of the upright file, or fractions",
    )

    default_model = "densenet121_2block"
    named_by = "name"

    def __post_init__(self) -> None:
        """Raise `UsageError` for settings that no data could have."""
        for name, low, high in (("test_share", 0, 0.5), ("validation_share", 0, 0.5)):
            if not low < getattr(self, name) <= high:
                raise UsageError(f"{name}: expected more than {low}, at most {high}; got {getattr(self, name):g}.")
        if self.bits is not None and not 9 <= self.bits <= 16:
            raise UsageError(f"bits: expected 9 to 16, got {self.bits}. Leave it out for 8-bit files.")
        for name, low in (("pixel_mean", 0.0), ("pixel_std", 1e-3)):
            values = getattr(self, name)
            if len(values) not in (1, self.channels) or not all(low <= v <= 1 for v in values):
                got = ", ".join(map(str, values))
                raise UsageError(
                    f"{name}: expected 1 or {self.channels} numbers in [{low:g}, 1], got {got}. Pixels are in [0,1]."
                )

    @property
    def mean(self) -> tuple[float, ...]:
        """Return the mean of each channel."""
        return self.pixel_mean if len(self.pixel_mean) == self.channels else self.pixel_mean * self.channels

    @property
    def std(self) -> tuple[float, ...]:
        """Return the standard deviation of each channel."""
        return self.pixel_std if len(self.pixel_std) == self.channels else self.pixel_std * self.channels

    @property
    def splits(self) -> tuple[str, ...]:
        """Return the parts that these data have."""
        return ("test",) if self.split == "test_only" else ("train", "validation", "test")

    @property
    def folders(self) -> tuple[str, ...]:
        """Return the folder's name where only the one above it is given."""
        return (self.name,) if self.name else ()

    @property
    def split_rule(self) -> str:
        """Return how the parts are made."""
        held_out = f"{self.validation_share:g} of each class not tested for validation"
        return {
            "as_given": f"as folders or the column split say; what they leave open is drawn by seed {self.split_seed}, "
                        f"whole patients: {self.test_share:g} of each class for tests, {held_out}",
            "cross_fitted": f"five folds by seed {self.split_seed}, whole patients; {held_out}",
            "test_only": "every image is a test image",
        }[self.split]  # fmt: skip

    def decode(self, path: Path) -> np.ndarray:
        """Return an image file upright, (H,W) or (H,W,3) uint8."""
        return read_image(path, self.channels, upright=True, bits=self.bits)

    def made(
        self, root: Path, samples: pd.DataFrame, labels: np.ndarray, classes: tuple[str, ...], given: str
    ) -> Index:
        """Return the index of `samples` (id, patient, part "" where none is given); `given` says what gives parts."""
        parts = samples.pop("part")
        if self.split == "cross_fitted":
            if parts.any():
                raise UsageError(
                    f"{root}: {given} gives parts, cross_fitted makes its own, with the images of test among those "
                    f"trained on. Take {given} out, or leave split=cross_fitted out."
                )
            _enough(samples["patient"], labels, classes, 2, root)
            split = crossfit(samples["patient"], labels, share=self.validation_share, seed=self.split_seed)
        else:
            split = pd.DataFrame({"split": self._parts(root, samples["patient"], parts, labels, classes, given)})
        made = samples.assign(path=samples["id"]).join(split)
        return Index(made, labels, classes, boxes=self._boxes(root, samples["id"], classes))

    def _parts(
        self,
        root: Path,
        patients: pd.Series,
        parts: pd.Series,
        labels: np.ndarray,
        classes: tuple[str, ...],
        given: str,
    ) -> np.ndarray:
        """Return the part of each image: as given, with what is missing drawn by the seed, (N,)."""
        have = set(parts)
        if self.split == "test_only":
            if have - {"", "test"}:
                raise UsageError(
                    f"{root}: {given} gives images of {', '.join(sorted(have - {'', 'test'}))}, test_only has none. "
                    "Leave split=test_only out: a network that is loaded is scored on the test images alone."
                )
            return np.full(len(parts), "test", object)
        if have == {"test"}:
            raise UsageError(
                f"{root}: {given} gives test images alone, there is nothing to train on. For a network that is loaded "
                "give --set split=test_only; else add images of train."
            )
        found = parts.to_numpy(object)
        if have == {""}:
            _enough(patients, labels, classes, FEWEST, root)
            tested = stratified_part(patients, labels, share=self.test_share, seed=seed_for(self.split_seed, "test"))
            found = np.where(tested, "test", "train").astype(object)
        elif "test" not in have or "train" not in have:
            lacking = " and ".join(sorted({"test", "train"} - have))
            raise UsageError(
                f"{root}: {given} gives no images of {lacking}; expected train and test, and validation perhaps. Add "
                "them, or give no parts at all: they are then drawn by a seed."
            )
        if "validation" not in have:
            rest = np.flatnonzero(found == "train")
            seed = seed_for(self.split_seed, "validation")
            held_out = stratified_part(patients.iloc[rest], labels[rest], share=self.validation_share, seed=seed)
            found[rest[held_out]] = "validation"
        return found

    def _boxes(self, root: Path, ids: pd.Series, classes: tuple[str, ...]) -> pd.DataFrame:
        """Return the boxes of boxes.csv as fractions of their upright images; an empty table where there is no file."""
        path, known, rows = root / "boxes.csv", set(ids), []
        sizes: dict[str, tuple[int, int]] = {}
        for line, fields in _table(path, BOX_FIELDS) if os.path.lexists(path) else ():
            where, image = f"{path}, line {line}", _path(fields["image"], f"{path}, line {line}")
            if image not in known:
                raise UsageError(f"{where}: a box of an unknown image, {image!r:.120}.{_near(image, known)} Mend it.")
            if fields["class"] not in classes:
                raise UsageError(
                    f"{where}: unknown class {fields['class']!r:.60}.{closest(fields['class'], classes)} Known: "
                    f"{', '.join(classes)}."
                )
            corners = [_number(fields[c], c, where) for c in BOX_FIELDS[2:]]
            if self.boxes == "pixels":
                if image not in sizes:
                    sizes[image] = image_header(root / image).size
                _meant_as(corners, where)
                corners = [x / side for x, side in zip(corners, sizes[image] * 2, strict=True)]
            x0, y0, x1, y1 = corners
            if not (0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1):
                frame = "1 x 1" if self.boxes == "fractions" else "{} x {} px".format(*sizes[image])
                raise UsageError(
                    f"{where}: the box {', '.join(fields[c] for c in BOX_FIELDS[2:])} leaves the image ({frame}) or is "
                    f"empty; expected 0 <= x0 < x1 and 0 <= y0 < y1 from the top left, in {self.boxes} (--set "
                    "boxes=...). Mend the line."
                )
            rows.append({"id": image, "class_name": fields["class"], "x0": x0, "y0": y0, "x1": x1, "y1": y1})
        columns = ["id", "class_name", *BOX_FIELDS[2:]]
        return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(BOX_FIELDS[2:], float))


@dataset("folder", source="your own images, a folder per class; docs/own_data.md")
@dataclass(frozen=True, kw_only=True)
class Folder(Own):
    """Your own images in a folder per class: exactly one class per image."""

    task = MultiClass()
    how_to_get: ClassVar[str] = (
        "To score your own images, one class each:\n"
        "  1. put them into a folder per class: FOLDER/effusion/any name.png, FOLDER/normal/..., or into parts first:\n"
        "     FOLDER/train/effusion/..., FOLDER/test/effusion/...\n"
        "  2. FOLDER/patients.csv (image,patient) keeps a patient's images on one side of the split, FOLDER/boxes.csv\n"
        "     (image,class,x0,y0,x1,y1) has localisation scored\n"
        "  3. give --root FOLDER and --set folder.name=NAME.\n" + GUIDE
    )

    def found_at(self, root: Path) -> bool:
        """Return whether a folder in it, or in one of its parts, holds images."""
        try:
            tops = [p for p in root.iterdir() if p.is_dir()]
            return any(_holds_images(f) for p in tops for f in (p.iterdir() if p.name in PARTS else (p,)))
        except OSError:
            return True  # what is wrong with it is said by index()

    def index(self, root: Path) -> Index:
        """Return the table of all images in the class folders, with their parts, patients and boxes."""
        real = root.resolve()
        tops, loose = self._inside(root, real)
        stray = [name for name in loose if name.lower().endswith(SUFFIXES)]
        if stray:
            raise UsageError(f"{root / stray[0]}: an image outside of any class folder. Move it into one. {GUIDE}")
        parted = [name for name in tops if name in PARTS]
        if parted and len(parted) < len(tops):
            other = next(name for name in tops if name not in PARTS)
            raise UsageError(
                f"{root}: {parted[0]} is the folder of a part, {other} is none; expected {', '.join(PARTS)} alone, or "
                f"classes alone. Move {other} into the parts, or out. {GUIDE}"
            )
        if {"val", "validation"} <= set(parted):
            raise UsageError(f"{root}: val and validation are the same part. Put their images into one of them.")
        rows = []
        for top in parted or [""]:
            names = self._inside(root / top, real)[0] if top else tops
            for name in names:
                place = PurePosixPath(top, name)
                rows += [{"id": str(place / file), "part": PARTS.get(top, ""), "class": name}
                         for file in self._images(root / place, real)]  # fmt: skip
            if top and not names:
                raise UsageError(f"{root / top}: expected a folder per class in it, found none. {GUIDE}")
        if not rows:
            raise UsageError(f"{root}: expected a folder of images per class, found none. {GUIDE}")
        table = pd.DataFrame(rows)
        classes = _classes(sorted(set(table["class"])), str(root))
        labels = np.eye(len(classes), dtype=np.uint8)[[classes.index(c) for c in table.pop("class")]]
        table["patient"] = self._patients(root, table["id"])
        return self.made(root, table, labels, classes, f"the folder {parted[0]}" if parted else "")

    def _inside(self, folder: Path, real: Path) -> tuple[list[str], list[str]]:
        """Return the names of folders and of files in a folder, each sorted; hidden ones are passed over."""
        try:
            with os.scandir(folder) as entries:
                found = [e for e in entries if not e.name.startswith(".") and e.name.lower() not in LITTER]
                is_folder = {e.name: e.is_dir() for e in found}
                linked = [e.name for e in found if e.is_symlink()]
        except OSError as error:
            raise UsageError(
                f"{error.filename or folder}: cannot be read ({error.strerror}). Mend its permissions or links, or "
                "take it out."
            ) from None
        for name in is_folder:
            _readable(name, str(folder))
        for name in linked:
            _stays(folder / name, real, self.links)
        return sorted(n for n in is_folder if is_folder[n]), sorted(n for n in is_folder if not is_folder[n])

    def _images(self, folder: Path, real: Path) -> list[str]:
        """Return the names of the images of a class; `UsageError` for anything else in its folder, or no image."""
        inner, files = self._inside(folder, real)
        if inner:
            raise UsageError(f"{folder / inner[0]}: a folder in that of a class; expected images alone. {GUIDE}")
        stray = next((name for name in files if not name.lower().endswith(SUFFIXES)), None)
        if stray is not None:
            raise UsageError(
                f"{folder / stray}: expected a file ending in {', '.join(SUFFIXES)}. Convert it, or take it out."
            )
        if not files:
            raise UsageError(f"{folder}: expected at least one image in it, found none. Take the folder out.")
        return files

    def _patients(self, root: Path, ids: pd.Series) -> list[str]:
        """Return the patient of each image, from patients.csv; the image itself where there is no such file."""
        path = root / "patients.csv"
        if not os.path.lexists(path):
            return list(ids)
        known, found = set(ids), {}
        for line, fields in _table(path, ("image", "patient")):
            where, image = f"{path}, line {line}", _path(fields["image"], f"{path}, line {line}")
            if image not in known:
                raise UsageError(f"{where}: there is no image {image!r:.120}.{_near(image, known)} Mend it.")
            if image in found:
                raise UsageError(f"{where}: {image!r:.120} has a patient already. Leave one of the lines.")
            found[image] = _named(fields["patient"], "a patient", where)
        lacking = next((image for image in ids if image not in found), None)
        if lacking is not None:
            raise UsageError(f"{path}: it has no patient for {lacking!r:.120}. Name one for every image.")
        return [found[image] for image in ids]


@dataset("csv", source="your own images, in a table beside them; docs/own_data.md")
@dataclass(frozen=True, kw_only=True)
class Table(Own):
    """Your own images in a table: one class per image, or any number of findings."""

    table: str = setting("labels.csv", source="ours", help="file of the table, in the folder itself")
    labels: Literal["single", "multi"] = setting(
        "single", source="ours", help="single: the column label names one class; multi: a column of 0 and 1 per class"
    )
    classes: str = setting(
        "", source="ours",
        help="a|b|c: these classes alone, in this order; default: every label, sorted, or every column not reserved",
    )  # fmt: skip

    how_to_get: ClassVar[str] = (
        "To score your own images from a table:\n"
        "  1. write FOLDER/labels.csv: image (its path below FOLDER), then label (one class per image), or a column\n"
        "     of 0 and 1 per class (--set labels=multi); patient and split (train, validation, test) if you have them\n"
        "  2. FOLDER/boxes.csv (image,class,x0,y0,x1,y1) has localisation scored\n"
        "  3. give --root FOLDER and --set csv.name=NAME.\n" + GUIDE
    )

    @property
    def task(self) -> Task:
        """Return what the labels mean."""
        return MultiClass() if self.labels == "single" else MultiLabel()

    def found_at(self, root: Path) -> bool:
        """Return whether the table is there."""
        return os.path.lexists(root / _path(self.table, "table"))

    def index(self, root: Path) -> Index:
        """Return the rows of the table, each checked, with their parts, patients and boxes."""
        path = root / _path(self.table, "table")
        rows = _table(path, ("image",))
        columns = list(rows[0][1])
        if self.labels == "single" and "label" not in columns:
            raise UsageError(
                f"{path}: expected a column label, found {', '.join(columns)}. Name it so, or, where each class has a "
                "column of 0 and 1, give --set labels=multi."
            )
        if self.labels == "multi" and "label" in columns:
            raise UsageError(f"{path}: it has a column label, labels=multi expects none. Leave labels=multi out.")
        ids = self._images(root, path, rows)
        classes = self._classes(path, columns, rows)
        labels = np.array([self._labels(fields, classes, f"{path}, line {line}") for line, fields in rows], np.uint8)
        patients = [
            _named(fields["patient"], "a patient", f"{path}, line {line}") if "patient" in fields else image
            for image, (line, fields) in zip(ids, rows, strict=True)
        ]
        parts = [_part(fields["split"], f"{path}, line {line}") if "split" in fields else "" for line, fields in rows]
        samples = pd.DataFrame({"id": ids, "patient": patients, "part": parts})
        return self.made(root, samples, labels, classes, "the column split")

    def _images(self, root: Path, path: Path, rows: list[tuple[int, dict[str, str]]]) -> list[str]:
        """Return the path of each row's image; `UsageError` for one listed twice, missing, or not below the root."""
        real, first, missing, places = root.resolve(), {}, [], {}
        for line, fields in rows:
            where = f"{path}, line {line}"
            image = _path(fields["image"], where)
            if image in first:
                raise UsageError(f"{where}: {image!r:.120} is in line {first[image]} already. Leave one of the lines.")
            first[image] = line
            file = root / image
            try:
                if file.parent not in places:
                    places[file.parent] = _stays(file.parent, real, self.links)
                if file.is_symlink():
                    _stays(file, real, self.links)
                there = os.path.lexists(file)
            except OSError as error:
                raise UsageError(f"{where}: {image!r:.120} cannot be looked at ({error.strerror}). Mend it.") from None
            if not there:
                missing.append(where)
        if missing:
            image = next(i for i, line in first.items() if missing[0] == f"{path}, line {line}")
            raise UsageError(
                f"{missing[0]}: there is no image {image!r:.120} in {root} ({len(missing):,} of {len(rows):,} are "
                "missing). Write paths as seen from that folder, with / between folders, or take the rows out."
            )
        return list(first)

    def _classes(self, path: Path, columns: list[str], rows: list[tuple[int, dict[str, str]]]) -> tuple[str, ...]:
        """Return the classes: those that are set, else every label, or every column that is not reserved."""
        chosen = [name.strip() for name in self.classes.split("|")] if self.classes else []
        if self.labels == "single":
            return _classes(chosen or sorted({f["label"] for _, f in rows} - {""}), str(path))
        own = [c for c in columns if c not in RESERVED]
        for name in chosen:
            if name not in own:
                known = ", ".join(own)
                raise UsageError(f"{path}: it has no column {name!r:.60}.{closest(name, own)} Its columns: {known}.")
        return _classes(chosen or own, str(path), fewest=1)

    def _labels(self, fields: Mapping[str, str], classes: tuple[str, ...], where: str) -> list[int]:
        if self.labels == "multi":
            return [_flag(fields[c], c, where) for c in classes]
        label = _named(fields["label"], "a label", where)
        if label not in classes:
            known = ", ".join(classes)
            raise UsageError(f"{where}: unknown label {label!r:.60}.{closest(label, classes)} Known: {known}.")
        return [int(label == c) for c in classes]


def _table(path: Path, needed: Iterable[str]) -> list[tuple[int, dict[str, str]]]:
    """Return line number and fields by column of each row of a CSV file. `UsageError`: it is not such a table."""
    lines = read_rows(path, f"Save it as CSV in UTF-8, with commas. {GUIDE}")
    header = lines[0][1] if lines else []
    if len(header) == 1 and any(mark in header[0] for mark in (";", "\t")):
        mark = "tabs" if "\t" in header[0] else ";"
        raise UsageError(f"{path}: its columns are parted by {mark}, expected commas. Save it with commas.")
    lacking = [name for name in needed if name not in header]
    if lacking:
        have = ", ".join(header) or "(none)"
        raise UsageError(f"{path}: it has the columns {have}; expected {', '.join(needed)}. {GUIDE}")
    twice = next((name for name in header if header.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"{path}: two columns are called {twice!r:.60}. Rename one of them, or take it out.")
    rows = []
    for line, fields in lines[1:]:
        if len(fields) != len(header):
            raise UsageError(
                f"{path}, line {line}: {len(fields)} fields, expected {len(header)}. A comma within a field needs "
                "quotes around it; else the file is truncated."
            )
        rows.append((line, dict(zip(header, fields, strict=True))))
    if not rows:
        raise UsageError(f"{path}: it has no rows, expected one per image. Fill it in.")
    return rows


def _path(text: str, where: str) -> str:
    """Return a path below the root as it is written everywhere; `UsageError` for one that leaves it, or is none."""
    _readable(text, where)
    path = PurePosixPath(text)
    if not path.parts or path.is_absolute() or ".." in path.parts or "\\" in text or text[1:2] == ":":
        raise UsageError(
            f"{where}: {text!r:.120} is no path below the folder; expected one like images/a.png, with / between "
            "folders, no .. in it, and nothing before it. Mend it."
        )
    return str(path)


def _holds_images(folder: Path) -> bool:
    return folder.is_dir() and any(p.suffix.lower() in SUFFIXES for p in folder.iterdir())


def _near(name: str, known: set[str]) -> str:
    """Return the closest of the known images, where there are so few that looking is quick."""
    return closest(name, known) if len(known) <= LOOKED_THROUGH else ""


def _readable(name: str, where: str) -> None:
    """Raise `UsageError` for a name that no table could hold: control characters, bytes that are not UTF-8."""
    if any(ord(c) < 32 or c == "\x7f" or "\ud800" <= c <= "\udfff" for c in name):
        raise UsageError(f"{where}: {name!a:.120} has control characters in it, or is no UTF-8. Rename it.")


def _stays(path: Path, real: Path, links: bool) -> bool:
    """Return True for a place below the real root, or one that links may lead to; else raise `UsageError`."""
    if not (links or Path(os.path.realpath(path)).is_relative_to(real)):
        raise UsageError(
            f"{path}: a link that leads out of the folder. Copy the files, or let links be followed: --set links=true."
        )
    return True


def _classes(names: list[str], where: str, fewest: int = 2) -> tuple[str, ...]:
    """Return the names of classes; `UsageError` for too few, or names that cannot be told apart."""
    if len(names) < fewest:
        raise UsageError(f"{where}: expected {fewest} classes at least, got {', '.join(names) or 'none'}. {GUIDE}")
    folded: dict[str, str] = {}
    for name in names:
        if not name or len(name) > LONGEST or name in OF_ROWS or name.casefold() == "nan":
            raise UsageError(
                f"{where}: {name!r:.120} is no name of a class; expected 1 to {LONGEST} characters, none of "
                f"{', '.join(OF_ROWS)}, nan. Rename it."
            )
        other = folded.setdefault(name.casefold(), name)
        if other is not name:
            raise UsageError(f"{where}: the classes {other!r} and {name!r} differ in capitals at most. Rename one.")
    return tuple(names)


def _enough(patients: pd.Series, labels: np.ndarray, classes: tuple[str, ...], needed: int, root: Path) -> None:
    """Raise `UsageError` where a class has too few patients for all of them to be parted."""
    names = patients.to_numpy(str)
    for name, column in zip(classes, labels.T, strict=True):
        count = len(set(names[column == 1]))
        if count < needed:
            raise UsageError(
                f"{root}: class {name!r} has {int(column.sum())} images of {count} patients, expected {needed} "
                "patients at least, so that each part can have one. Add images, take the class out, or give the parts "
                "yourself."
            )


def _named(text: str, what: str, where: str) -> str:
    if not text or text.casefold() == "nan":
        raise UsageError(f"{where}: expected {what}, got {text or 'nothing'}. Fill it in.")
    _readable(text, where)
    return text


def _part(text: str, where: str) -> str:
    if text not in PARTS:
        got = f"{text!r:.60}" if text else "nothing"
        raise UsageError(f"{where}: expected train, validation or test as split, got {got}. Mend it.")
    return PARTS[text]


def _flag(text: str, column: str, where: str) -> int:
    if text not in ("0", "1", "0.0", "1.0"):
        raise UsageError(
            f"{where}: expected 0 or 1 in column {column!r}, got {text[:60] or 'nothing'}. Mend it, or, where that is "
            "no class, name the classes: --set 'classes=a|b'."
        )
    return int(text[0])


def _number(text: str, column: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UsageError(f"{where}: expected a number as {column}, got {text[:60] or 'nothing'}. Mend it.")
    return value


def _meant_as(corners: list[float], where: str) -> None:
    """Raise `UsageError` for corners that cannot be meant as pixels: fractions of the image."""
    if all(0 <= x <= 1 for x in corners) and any(x != int(x) for x in corners):
        raise UsageError(
            f"{where}: {', '.join(f'{x:g}' for x in corners)} look like fractions, expected pixels. Give --set "
            "boxes=fractions."
        )
