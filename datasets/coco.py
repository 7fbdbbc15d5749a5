"""COCO 2017 (Lin et al. 2014, arXiv:1405.0312): 118,287 + 5,000 photos, 80 kinds of object with boxes, as classes.

Read as downloaded: train2017/, val2017/ and annotations/instances_{train,val}2017.json (the format:
cocodataset.org/#format-data). val2017 is the test split, a seeded part of train2017 is for validation. The classes are
the 80 categories in the order of their ids, which have gaps (1 to 90). `coco` asks which of them are in a photo;
`coco_single` has one class per photo, by a rule that is ours: how Woods et al. 2019 (arXiv:1906.02494) made a
classification of COCO is not published, so numbers on it are not comparable with theirs.

A region that is annotated as a crowd (iscrowd) says that its class is in the photo, but its box encloses what lies
between: a photo and class with one have no box, as COCO's own evaluation neither counts nor blames what is found there.
Boxes are those of the test photos, several of one class as their union. md5 sums of the archives: readers of others
(several agree); numbers of photos and categories: from memory, so that others than these need subset=true.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd

from harness.api import (
    Dataset,
    Index,
    MultiClass,
    MultiLabel,
    UsageError,
    against,
    dataset,
    files_in,
    one_hot,
    read_members,
    rng_for,
    setting,
)

PHOTOS = {"train2017": 118_287, "val2017": 5000}
CATEGORIES = 80
MD5 = {
    "train2017.zip": "cced6f7f71b7629ddf16f17bbcfab6b2",
    "val2017.zip": "442b8da7639aecaf257c1dceb8ba8c80",
    "annotations_trainval2017.zip": "f4bbac642086de4f52a3fdda2de5fa2c",
}
AGAIN = "Unpack annotations_trainval2017.zip again."
LARGEST = 2**53  # of an id or a length: whole numbers beyond are not exact as float64
EDGE = 1.0  # px that a box may reach beyond its photo by rounding; it is cut there


@dataclass(frozen=True, eq=False)
class Instances:
    """One instances_*.json: n photos, m annotations whose `photo` and `category` are places in the other tables."""

    names: list[str]  # (n,) of the files
    width: np.ndarray  # (n,) px
    height: np.ndarray
    photo: np.ndarray  # (m,) of n
    category: np.ndarray  # (m,) of 80
    crowd: np.ndarray  # (m,) bool
    area: np.ndarray  # (m,) px of the segment, not of its box
    box: np.ndarray  # (m,4) x, y, w, h in px
    classes: tuple[str, ...]  # names of the categories in the order of their ids

    @property
    def present(self) -> np.ndarray:
        """Return which categories are in which photo, (n,80) uint8."""
        found = np.zeros((len(self.names), CATEGORIES), np.uint8)
        found[self.photo, self.category] = 1
        return found


@dataclass(frozen=True, kw_only=True)
class Photos(Dataset):
    """What both have in common: photos, annotations, splits and boxes."""

    size: int = setting(224, unit="px", source="ours", help="side of the square image the model sees, not cropped")
    subset: bool = setting(
        False, source="ours", help="accept folders that hold only some of the photos; every row then says 'subset'"
    )
    n_validation: int = setting(
        5000, unit="photos of train2017", source="ours: as many as val2017, which is for testing"
    )
    split_seed: int = setting(0, source="ours")

    channels = 3
    default_model = "resnet50"
    schedule: ClassVar[dict[str, Any]] = {"augment": "flip"}
    mean: ClassVar[tuple[float, ...]] = (0.485, 0.456, 0.406)  # ImageNet's
    std: ClassVar[tuple[float, ...]] = (0.229, 0.224, 0.225)
    label_files = ("annotations/instances_*2017.json",)
    folders = ("coco", "COCO", "coco2017", "COCO2017", "mscoco")
    how_to_get = (
        "To get COCO 2017 (25 GB, free, no registration):\n"
        "  1. download train2017.zip and val2017.zip from http://images.cocodataset.org/zips/ and\n"
        "     annotations_trainval2017.zip from http://images.cocodataset.org/annotations/ into one folder coco/\n"
        "  2. unpack them there: for f in *.zip; do unzip -q $f; done\n"
        "  3. give --root FOLDER (coco), or set HARNESS_DATA to the folder above it."
    )

    def found_at(self, root: Path) -> bool:
        """Return whether the folder has photos or annotations of COCO 2017."""
        return any((root / part).is_dir() for part in PHOTOS) or (root / _file("val2017")).exists()

    def chosen(self, found: Instances) -> tuple[np.ndarray, np.ndarray, str]:
        """Return which photos are taken (n,) bool, their labels (n,80), and what the others are, as a note or ""."""
        raise TypeError(f"{type(self).__name__} does not define chosen(instances)")

    def index(self, root: Path) -> Index:
        """Return the table of all photos, checked against the annotations and the published counts."""
        tables, labels, boxes, notes, classes = [], [], [], {}, ()
        for part, split in (("train2017", "train"), ("val2017", "test")):
            found = instances(root / _file(part))
            here = self._here(root / part, found)
            if classes and found.classes != classes:
                raise UsageError(f"coco: {root / _file(part)} has other categories than {_file('train2017')}. {AGAIN}")
            classes = found.classes
            taken, own, note = self.chosen(found)
            if note:
                notes[note] = notes.get(note, 0) + int((here & ~taken).sum())
            kept = np.flatnonzero(here & taken)
            names = [found.names[i] for i in kept]
            tables.append(pd.DataFrame({"id": [n.rpartition(".")[0] for n in names], "split": split,
                                        "path": [f"{part}/{n}" for n in names]}))  # fmt: skip
            labels.append(own[kept])
            if split == "test":
                boxes.append(_boxes(found, kept, own, root / _file(part)))
        samples = pd.concat(tables, ignore_index=True)
        again = samples["id"][samples["id"].duplicated()]
        if len(again):
            raise UsageError(f"coco: photo {again.iloc[0]} is in both train2017 and val2017. {AGAIN}")
        return Index(
            samples=self._with_validation(samples).assign(patient=samples["id"]),
            labels=np.concatenate(labels),
            classes=classes,
            boxes=pd.concat(boxes, ignore_index=True),
            notes=("subset",) * self.subset + tuple(f"{n:,} {note}" for note, n in notes.items() if n),
        )

    def _here(self, folder: Path, found: Instances) -> np.ndarray:
        """Return which of the n photos lie in the folder, (n,) bool: all of them, but for a subset."""
        files = set(files_in(folder, advice="Unpack its archive there."))
        here = np.array([name in files for name in found.names])
        if self.subset:
            return here
        if len(here) != PHOTOS[folder.name]:
            raise UsageError(
                f"coco: {_file(folder.name)} lists {len(here):,} photos, expected {PHOTOS[folder.name]:,}. {AGAIN} Or "
                "take what is there: --set subset=true (rows then say so)."
            )
        if not here.all():
            lost = found.names[int(np.flatnonzero(~here)[0])]
            raise UsageError(
                f"coco: {int((~here).sum()):,} of {len(here):,} photos are missing in {folder}, the first is {lost}. "
                "Unpack its archive again, or take what is there: --set subset=true (rows then say so)."
            )
        return here

    def _with_validation(self, samples: pd.DataFrame) -> pd.DataFrame:
        """Return the table with a seeded part of the training photos held out."""
        training = np.flatnonzero(samples["split"] == "train")
        if not 0 < self.n_validation < len(training):
            raise UsageError(
                f"coco: n_validation is {self.n_validation}; expected 1 to {len(training) - 1:,} photos of train2017."
            )
        held_out = rng_for(self.split_seed, "coco validation").choice(training, self.n_validation, replace=False)
        split = samples["split"].to_numpy(object)
        split[held_out] = "validation"
        return samples.assign(split=split)

    def checksums(self, root: Path) -> dict[str, str]:
        """Compare the archives, where they lie there, with the md5 sums; the unpacked files have no published ones."""
        unknown = {_file(part): "no published sum" for part in PHOTOS if (root / _file(part)).exists()}
        return against(root, MD5) | unknown


@dataset("coco", source="Lin 2014, arXiv:1405.0312, the 2017 split; validation: ours")
@dataclass(frozen=True, kw_only=True)
class Coco(Photos):
    """COCO 2017, multi-label: which of 80 kinds of object are in the photo; boxes of all of them on val2017."""

    task = MultiLabel()

    def chosen(self, found: Instances) -> tuple[np.ndarray, np.ndarray, str]:
        """Return every photo; one without instances has no label."""
        return np.ones(len(found.names), bool), found.present, ""


@dataset("coco_single", source="Lin 2014, arXiv:1405.0312, the 2017 split; one class per photo: our rule")
@dataclass(frozen=True, kw_only=True)
class CocoSingle(Photos):
    """COCO 2017, one class per photo: that of its largest object, or photos whose objects are all of one class."""

    label: Literal["largest", "only"] = setting(
        "largest", source="ours: Woods 2019 does not publish its rule",
        help="largest: the class of the segment with the largest area, crowds included; only: photos with objects of "
             "one class alone. Photos without a class by this rule are left out and counted",
    )  # fmt: skip

    task = MultiClass()

    def chosen(self, found: Instances) -> tuple[np.ndarray, np.ndarray, str]:
        """Return the photos that have a class by the rule."""
        present = found.present
        if self.label == "only":
            return present.sum(1) == 1, present, "photos without objects of one class alone left out"
        order = np.lexsort((-found.category, found.area))  # the last of a photo wins: of equal areas the first class
        number = np.full(len(found.names), -1)
        number[found.photo[order]] = found.category[order]
        return number >= 0, one_hot(np.maximum(number, 0), CATEGORIES), "photos without objects left out"


def _file(part: str) -> str:
    return f"annotations/instances_{part}.json"


def _boxes(found: Instances, kept: np.ndarray, labels: np.ndarray, path: Path) -> pd.DataFrame:
    """Return the boxes of the photos `kept` as fractions of them: of their labels (n,80), no pairs with a crowd."""
    taken = np.zeros(len(found.names), bool)
    taken[kept] = True
    pair = found.photo * CATEGORIES + found.category
    chosen = np.flatnonzero(
        taken[found.photo] & (labels[found.photo, found.category] == 1) & ~np.isin(pair, pair[found.crowd])
    )
    photo = found.photo[chosen]
    x, y, w, h = found.box[chosen].T
    width, height = found.width[photo], found.height[photo]
    outside = (x < -EDGE) | (y < -EDGE) | (x + w > width + EDGE) | (y + h > height + EDGE) | (w <= 0) | (h <= 0)
    if outside.any():
        bad = int(np.flatnonzero(outside)[0])
        raise UsageError(
            f"coco: {path}: the box {found.box[chosen[bad]].tolist()} of {found.names[photo[bad]]} is empty or leaves "
            f"the photo of {width[bad]:.0f} x {height[bad]:.0f}; expected [x, y, width, height] in pixels. {AGAIN}"
        )
    return pd.DataFrame(
        {
            "id": [found.names[i].rpartition(".")[0] for i in photo],
            "class_name": [found.classes[c] for c in found.category[chosen]],
            "x0": np.clip(x / width, 0, 1),
            "y0": np.clip(y / height, 0, 1),
            "x1": np.clip((x + w) / width, 0, 1),
            "y1": np.clip((y + h) / height, 0, 1),
        }
    )


def instances(path: Path) -> Instances:
    """Return the photos and annotations of an instances_*.json, read one after the other: train's are 470 MB."""
    images: dict[int, int] = {}  # id -> place
    names: list[str] = []
    sides, numbers, measures = _Column(2), _Column(4), _Column(5)
    categories: dict[int, str] = {}
    for entry, member in _entries(path):
        if entry == "images":
            number = _whole(path, member, "id")
            _new(path, images, number, "images")
            images[number] = len(names)
            names.append(_name(path, member, "file_name"))
            sides.add((_whole(path, member, "width", least=1), _whole(path, member, "height", least=1)))
        elif entry == "categories":
            number = _whole(path, member, "id")
            _new(path, categories, number, "categories")
            categories[number] = _name(path, member, "name")
        else:
            keys = ("id", "image_id", "category_id", "iscrowd")
            numbers.add(tuple(_whole(path, member, key) for key in keys))
            measures.add((*_box(path, member), _number(path, member, "area")))
    _complete(path, names, categories)
    ids, photo, category, crowd = numbers.table().astype(np.int64).T
    if len(ids) != len(np.unique(ids)):
        raise UsageError(f"coco: {path} has an id twice among its annotations. {AGAIN}")
    ordered = sorted(categories)
    return Instances(
        names=names,
        width=sides.table()[:, 0],
        height=sides.table()[:, 1],
        photo=_places(path, photo, images, ids, "image_id"),
        category=_places(path, category, {c: i for i, c in enumerate(ordered)}, ids, "category_id"),
        crowd=crowd != 0,
        area=measures.table()[:, 4],
        box=measures.table()[:, :4],
        classes=tuple(categories[c] for c in ordered),
    )


class _Column:
    """Rows of `width` numbers, kept as 8 bytes each."""

    def __init__(self, width: int):
        self.width, self.full, self.rows = width, [np.zeros((0, width))], []

    def add(self, row: tuple[float, ...]) -> None:
        self.rows.append(row)
        if len(self.rows) == 10_000:
            self._pack()

    def _pack(self) -> None:
        self.full.append(np.array(self.rows, np.float64).reshape(-1, self.width))
        self.rows = []

    def table(self) -> np.ndarray:
        self._pack()
        self.full = [np.concatenate(self.full)]
        return self.full[0]


def _entries(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the members of the lists images, annotations and categories, each an object."""
    for entry, member in read_members(path, AGAIN):
        if entry in ("images", "annotations", "categories"):
            if not isinstance(member, dict):
                raise UsageError(f"coco: {path} has {member!r:.60} among its {entry}, expected an object. {AGAIN}")
            yield entry, member


def _wrong(path: Path, member: dict[str, Any], key: str, expected: str) -> UsageError:
    got = f"{member[key]!r:.60}" if key in member else "none"
    shown = ", ".join(f"{k} {member[k]!r:.40}" for k in ("id", "image_id", "file_name") if k in member)
    return UsageError(
        f"coco: {path}: {key} of the entry with {shown or 'no id'} is {got}, expected {expected}. {AGAIN}"
    )


def _whole(path: Path, member: dict[str, Any], key: str, least: int = 0) -> int:
    value = member.get(key)
    if type(value) is not int or not least <= value < LARGEST:
        raise _wrong(path, member, key, f"a whole number from {least} on")
    return value


def _number(path: Path, member: dict[str, Any], key: str) -> float:
    value = member.get(key)
    if type(value) not in (int, float):
        raise _wrong(path, member, key, "a number")
    return float(value)  # pyright: ignore[reportArgumentType]


def _box(path: Path, member: dict[str, Any]) -> list[float]:
    value = member.get("bbox")
    if type(value) is not list or len(value) != 4 or any(type(v) not in (int, float) for v in value):
        raise _wrong(path, member, "bbox", "four numbers [x, y, width, height]")
    return value


def _name(path: Path, member: dict[str, Any], key: str) -> str:
    value = member.get(key)
    if not isinstance(value, str) or not value.isprintable() or not value or set(value) & set("/\\") or value[0] == ".":
        raise _wrong(path, member, key, "a name")
    return value


def _new(path: Path, known: dict[int, Any], number: int, entry: str) -> None:
    if number in known:
        raise UsageError(f"coco: {path} has the id {number} twice among its {entry}. {AGAIN}")


def _complete(path: Path, names: list[str], categories: dict[int, str]) -> None:
    """Raise `UsageError` for no photos, two of one name, and other categories than 80 of different names."""
    if not names:
        raise UsageError(f"coco: {path} lists no photos, expected a list images. {AGAIN}")
    stems = pd.Series([name.rpartition(".")[0] for name in names])
    if stems.duplicated().any():
        raise UsageError(f"coco: {path} lists the photo {stems[stems.duplicated()].iloc[0]!r} twice. {AGAIN}")
    if len(set(categories.values())) != CATEGORIES or len(categories) != CATEGORIES:
        raise UsageError(
            f"coco: {path} has {len(categories)} categories, expected {CATEGORIES} of different names. {AGAIN}"
        )


def _places(path: Path, numbers: np.ndarray, places: dict[int, int], ids: np.ndarray, key: str) -> np.ndarray:
    """Return the place of each id (m,). Raises `UsageError` for an unknown one."""
    known = np.array(sorted(places), np.int64)
    at = np.searchsorted(known, numbers)
    strange = np.flatnonzero((at == len(known)) | (known[np.minimum(at, len(known) - 1)] != numbers))
    if len(strange):
        raise UsageError(
            f"coco: {path}: annotation {ids[strange[0]]} has the {key} {numbers[strange[0]]}, which is not listed "
            f"there. {AGAIN}"
        )
    return np.array([places[int(n)] for n in known])[at]
