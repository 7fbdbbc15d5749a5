"""JSRT (Shiraishi et al. 2000, AJR 174:71-74): 154 chest radiographs with one lung nodule each, 93 without.

Read as downloaded: JPCLN001.IMG ... JPCLN154.IMG and JPCNN001.IMG ... JPCNN093.IMG in All247images/ or in
Nodule154images/ and NonNodule93images/ (nested once more, or all in one folder; any case of the ending), with
CLNDAT_EN.txt and CNNDAT_EN.TXT beside them or in Clinical_Information/.

An .IMG is 2048 x 2048 numbers of 16 bits, big-endian, of which 12 are used, without a header: 0.175 mm per pixel
(db.jsrt.or.jp/eng.php). In the files the lungs are bright, as dense on film: common programs turn them over.
The tables hold other columns than the official guide says (Nickollee/radiology-cv): CLNDAT file, subtlety, size in mm,
age, sex, x, y, malignant or benign, place, diagnosis, between tabs; CNNDAT file, age, sex, "non-nodule", between
spaces. An age may be "?". Nothing is known of two images of one patient: every image counts as a patient.

There is no official split. Here: seeded, stratified by class and subtlety, in the published numbers of 172/25/50 (Gaal
2020, arXiv:2003.10304, who does not say which images); for so few images `split=cross_fitted` tests on all of them.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd

from harness.api import Dataset, Index, MultiClass, UsageError, crossfit, dataset, read_rows, rng_for, setting

CLASSES = ("non-nodule", "nodule")  # in this order: class 1 is the nodule, Woods' P(LN)
PUBLISHED = {"non-nodule": 93, "nodule": 154}
SIDE = 2048  # px
BYTES = 2 * SIDE * SIDE  # of an .IMG
MM = 0.175  # per px
GREATEST = 4095  # of 12 bits
OBVIOUS = 5  # subtlety 1 is extremely subtle, 5 obvious
OLDEST = 120  # years
IMAGE = re.compile(r"(JPC[LN]N\d{3})\.IMG", re.IGNORECASE)
NODULES, OTHERS = "CLNDAT_EN.txt", "CNNDAT_EN.TXT"
NODULE_COLUMNS = ("file", "subtlety", "size in mm", "age", "sex", "x", "y", "malignant or benign", "place", "diagnosis")
NODULE_FIELDS = 8  # that a line must have: place and diagnosis are words
OTHER_COLUMNS = ("file", "age", "sex", "non-nodule")
AGAIN = "Unpack it again from Clinical_Information.zip; one that was saved anew must be UTF-8."


@dataset("jsrt", source="Shiraishi 2000, AJR 174:71-74; Woods 2019, arXiv:1906.02494, Fig. 2; split: ours")
@dataclass(frozen=True, kw_only=True)
class Jsrt(Dataset):
    """JSRT: 247 chest radiographs, with a lung nodule (and its box) or without."""

    size: int = setting(
        256, unit="px", source="ours: Woods 2019 gives none",
        help="side of the square image the model sees; the median nodule, 15 mm, is 11 px wide at 256",
    )  # fmt: skip
    inverted: bool = setting(
        True, source="ours: as the images of ChestX-ray14 are, and as JSRT is commonly shown",
        help="turn the grey over: bones and nodules bright, air dark; false: as stored, lungs bright",
    )  # fmt: skip
    min_subtlety: int = setting(
        1, unit="1 to 5", source="ours",
        help="leave out the nodules that are harder to see: 1 keeps all, 4 the relatively obvious and the obvious",
    )  # fmt: skip
    subset: bool = setting(
        False, source="ours", help="accept a folder that holds only some of the images; every row then says 'subset'"
    )
    split: Literal["shares", "cross_fitted"] = setting(
        "shares", source="ours: there is no official split; cross_fitted: protocol.md, 1",
        help="shares: train, validation and test at random; cross_fitted: five folds, five models, all images tested",
    )  # fmt: skip
    validation_share: float = setting(
        0.1012, unit="of each class", source="25 of 247: Gaal 2020, arXiv:2003.10304",
        help="cross_fitted: of the images that are not in the fold",
    )  # fmt: skip
    test_share: float = setting(0.2024, unit="of each class", source="50 of 247: Gaal 2020, arXiv:2003.10304")
    split_seed: int = setting(0, source="ours")

    task = MultiClass()
    channels = 1
    default_model = "densenet121_2block"  # ours: 1 million weights, and maps of 32 x 32 cells for a nodule of 11 px
    schedule: ClassVar[dict[str, Any]] = {
        "learning_rate": 0.01, "batch_size": 16, "max_epochs": 60, "patience": 15, "augment": "flip",
        "weight_decay": 1e-4,
    }  # fmt: skip  # ours: an epoch is 11 steps, and a validation loss of 25 images is noisy
    continuation: ClassVar[dict[str, Any]] = {"learning_rate": 0.005, "max_epochs": 30}
    folders = ("JSRT", "jsrt", "JSRT_DB")
    how_to_get = (
        "To get JSRT (2 GB; registration, research use, no redistribution):\n"
        "  1. register at http://db.jsrt.or.jp/eng.php\n"
        "  2. download All247images.zip (or Nodule154images.zip and NonNodule93images.zip) and\n"
        "     Clinical_Information.zip\n"
        "  3. unpack them into one folder JSRT/: JSRT/All247images/JPCLN001.IMG, JSRT/Clinical_Information/"
        "CLNDAT_EN.txt ...\n"
        "  4. give --root FOLDER, or set HARNESS_DATA to the folder above it.\n"
        "Or try the harness without it: --dataset phantom."
    )

    def __post_init__(self) -> None:
        """Check the settings; raises `UsageError`."""
        if not 1 <= self.min_subtlety <= OBVIOUS:
            raise UsageError(f"jsrt.min_subtlety: expected 1 to {OBVIOUS}, got {self.min_subtlety}.")
        if min(self.validation_share, self.test_share) <= 0 or self.validation_share + self.test_share >= 1:
            raise UsageError(
                "jsrt: expected a validation_share and a test_share above 0 that leave something to train on, got "
                f"{self.validation_share} and {self.test_share}."
            )

    def found_at(self, root: Path) -> bool:
        """Return whether the folder holds a table or an image of JSRT."""
        return any(IMAGE.fullmatch(p.name) or p.name.casefold() == NODULES.casefold() for p in _files(root))

    def index(self, root: Path) -> Index:
        """Return the table of all images, checked against both tables; nodules with their boxes."""
        files = _files(root)
        rows = pd.DataFrame([*_nodules(_table(root, files, NODULES)), *_others(_table(root, files, OTHERS))])
        _refuse_repeated(rows)
        rows = self._here(root, _images(files, root), rows)
        found = dict(rows["class"].value_counts())
        part = any(found.get(name, 0) != count for name, count in PUBLISHED.items())
        rows = rows[(rows["class"] == "non-nodule") | (rows["subtlety"] >= self.min_subtlety)].reset_index(drop=True)
        labels = np.stack([rows["class"] == name for name in CLASSES], axis=1).astype(np.uint8)
        columns = ["id", "path", "subtlety", "size_mm", "age", "sex", "malignancy", "diagnosis"]
        return Index(
            samples=rows[columns].assign(patient=rows["id"]).join(self._splits(rows, labels)),
            labels=labels,
            classes=CLASSES,
            boxes=_boxes(rows),
            notes=("subset",) if part or self.min_subtlety > 1 else (),
        )

    def _here(self, root: Path, images: dict[str, str], rows: pd.DataFrame) -> pd.DataFrame:
        """Return the rows with the `path` of their images; those without one are an error, or left out."""
        stray = sorted(set(images) - set(rows["id"]))
        if stray:
            raise UsageError(
                f"jsrt: {root / images[stray[0]]} is in neither {NODULES} nor {OTHERS} (one of {len(stray)} images): "
                "the tables are truncated. Unpack them again, or take the image out."
            )
        known = rows["id"].isin(images)
        if not known.all() and not (self.subset and known.any()):
            lost = rows.loc[~known, "id"]
            raise UsageError(
                f"jsrt: {len(lost)} of the {len(rows)} images of the tables are missing in {root}, the first is "
                f"{lost.iloc[0]}.IMG. Unpack them again, or take what is there: --set subset=true (rows then say so)."
            )
        rows = rows[known].sort_values("id").reset_index(drop=True)
        return rows.assign(path=[images[name] for name in rows["id"]])

    def _splits(self, rows: pd.DataFrame, labels: np.ndarray) -> pd.DataFrame:
        if self.split == "cross_fitted":
            return crossfit(rows["id"], labels, share=self.validation_share, seed=self.split_seed)
        split = np.full(len(rows), "train", object)
        for name in CLASSES:
            members = np.flatnonzero(rows["class"] == name)
            order = rng_for(self.split_seed, "jsrt split", name).permutation(len(members))
            members = members[order][np.argsort(rows["subtlety"].to_numpy()[members[order]], kind="stable")]
            split[members] = _dealt(len(members), self.validation_share, self.test_share)
        return pd.DataFrame({"split": split})

    def read(self, row: Mapping[str, Any], root: Path) -> np.ndarray:
        """Return one radiograph as (2048,2048) uint8: the upper 8 of the 12 bits, turned over unless told not to."""
        path = root / row["path"]
        try:
            length = path.stat().st_size
            if length != BYTES:
                raise UsageError(
                    f"{path}: has {length:,} bytes, expected {BYTES:,} ({SIDE} x {SIDE} numbers of 16 bits): it is "
                    "truncated or no JSRT image. Unpack it again."
                )
            deep = np.fromfile(path, dtype=">u2").reshape(SIDE, SIDE)
        except OSError as error:
            raise UsageError(f"{path}: cannot be read ({error.strerror}). Unpack it again.") from None
        if (top := int(deep.max())) > GREATEST:
            raise UsageError(
                f"{path}: holds the value {top:,}, expected 0 to {GREATEST:,}, 12 bits of a big-endian number: it is "
                "damaged, or its bytes were swapped. Unpack it again."
            )
        grey = (deep >> 4).astype(np.uint8)
        return 255 - grey if self.inverted else grey

    def checksums(self, root: Path) -> dict[str, str]:
        """Name the tables: no sums of them are published."""
        return {_table(root, _files(root), name).name: "no published sum" for name in (NODULES, OTHERS)}


def _files(root: Path) -> list[Path]:
    """Return the files in a folder and in the folders of two levels below it, sorted."""
    return [p for depth in ("*", "*/*", "*/*/*") for p in sorted(root.glob(depth)) if p.is_file()]


def _images(files: list[Path], root: Path) -> dict[str, str]:
    """Return name without ending -> path below `root` of every image. `UsageError`: one of them is there twice."""
    found: dict[str, str] = {}
    for path in files:
        if match := IMAGE.fullmatch(path.name):
            name = match[1].upper()
            if name in found:
                raise UsageError(
                    f"jsrt: {root / found[name]} and {path} are the same image. Keep one of them: All247images, or "
                    "Nodule154images and NonNodule93images."
                )
            found[name] = str(path.relative_to(root))
    return found


def _table(root: Path, files: list[Path], name: str) -> Path:
    found = [p for p in files if p.name.casefold() == name.casefold()]
    if not found:
        raise UsageError(f"jsrt: {root} has no {name}. It comes in Clinical_Information.zip: unpack it there.")
    if len(found) > 1:
        raise UsageError(f"jsrt: {' and '.join(map(str, found))}: two tables of one name. Keep one of them.")
    return found[0]


class _Line:
    """The fields of one line of a table, and the `UsageError` that names it."""

    def __init__(self, path: Path, number: int, fields: list[str], columns: tuple[str, ...]) -> None:
        self.place, self.fields, self.columns = f"{path}, line {number}", fields, columns

    def wrong(self, what: str) -> UsageError:
        return UsageError(
            f"{self.place}: {what}. Expected the columns {', '.join(self.columns)}: are they in another order? {AGAIN}"
        )

    def name(self, kind: str) -> str:
        match = IMAGE.fullmatch(self.fields[0])
        if not match or not match[1].upper().startswith(kind):
            raise self.wrong(f"expected the name of an image, {kind}001.IMG say, got {self.fields[0]!r:.60}")
        return match[1].upper()

    def number(self, column: int, low: float, high: float) -> float:
        text = self.fields[column]
        try:
            value = float(text)
        except ValueError:
            value = np.nan
        if not low <= value <= high:
            raise self.wrong(f"expected {low:g} to {high:g} as {self.columns[column]}, got {text!r:.60}")
        return value

    def age(self, column: int) -> float:
        return np.nan if self.fields[column] == "?" else self.number(column, 0, OLDEST)

    def word(self, column: int, known: tuple[str, ...]) -> str:
        text = self.fields[column].casefold()
        if text not in known:
            wanted = " or ".join(known)
            raise self.wrong(f"expected {wanted} as {self.columns[column]}, got {self.fields[column]!r:.60}")
        return text


def _nodules(path: Path) -> list[dict[str, Any]]:
    """Return a row for each image with a nodule."""
    found = []
    for number, fields in read_rows(path, AGAIN, delimiter="\t"):
        line = _Line(path, number, fields, NODULE_COLUMNS)
        if len(fields) < NODULE_FIELDS:
            raise line.wrong(f"expected at least {NODULE_FIELDS} fields between tabs, got {len(fields)}")
        found.append(
            {
                "id": line.name("JPCLN"),
                "line": line.place,
                "class": "nodule",
                "subtlety": int(line.number(1, 1, OBVIOUS)),
                "size_mm": line.number(2, 1, 0.5 * SIDE * MM),
                "age": line.age(3),
                "sex": line.word(4, ("male", "female")),
                "x": line.number(5, 0, SIDE - 1),
                "y": line.number(6, 0, SIDE - 1),
                "malignancy": line.word(7, ("malignant", "benign")),
                "diagnosis": "; ".join(f for f in fields[8:] if f),
            }
        )
    return found


def _others(path: Path) -> list[dict[str, Any]]:
    """Return a row for each image without a nodule. Fields stand between spaces; tabs are taken as well."""
    found = []
    for number, fields in read_rows(path, AGAIN, delimiter="\t"):
        line = _Line(path, number, " ".join(fields).split(), OTHER_COLUMNS)
        if len(line.fields) != len(OTHER_COLUMNS):
            raise line.wrong(f"expected {len(OTHER_COLUMNS)} fields, got {len(line.fields)}")
        sex = line.word(2, ("male", "female"))
        name, age = line.name("JPCNN"), line.age(1)
        line.word(3, ("non-nodule",))
        nothing = {"subtlety": 0, "size_mm": np.nan, "x": np.nan, "y": np.nan, "malignancy": "", "diagnosis": ""}
        found.append({"id": name, "line": line.place, "class": "non-nodule", "age": age, "sex": sex, **nothing})
    return found


def _refuse_repeated(rows: pd.DataFrame) -> None:
    if rows.empty:
        raise UsageError(f"jsrt: {NODULES} and {OTHERS} have no lines. {AGAIN}")
    repeated = rows[rows["id"].duplicated()]
    if len(repeated):
        again = repeated.iloc[0]
        first = rows.loc[rows["id"] == again["id"], "line"].iloc[0]
        raise UsageError(f"{again['line']}: {again['id']} was given before, at {first}. {AGAIN}")


def _dealt(count: int, validation: float, test: float) -> np.ndarray:
    """Return train, validation or test for each of `count` images in order, spread evenly over it, (count,)."""
    parts = np.full(count, "train", object)
    for name, share in (("test", test), ("validation", validation)):
        free = np.flatnonzero(parts == "train")
        wanted = max(1, round(share * count))
        parts[free[((np.arange(wanted) + 0.5) * len(free) / wanted).astype(int)]] = name
    return parts


def _boxes(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the squares as wide as the nodules around their centres, clipped to the image, in its fractions."""
    nodules = rows[rows["class"] == "nodule"]
    reach = 0.5 * nodules["size_mm"] / MM
    corners = {
        f"{axis}{i}": ((nodules[axis] + 0.5 + side * reach) / SIDE).clip(0.0, 1.0)
        for i, side in enumerate((-1.0, 1.0))
        for axis in "xy"
    }
    return pd.DataFrame({"id": nodules["id"], "class_name": "nodule", **corners}).reset_index(drop=True)
