"""ILSVRC2012, "ImageNet" (Russakovsky et al. 2015, arXiv:1409.0575): photos of 1,000 classes, whole or a sample.

The number of a class is the place of its wnid among the sorted ones: the order of torchvision's and Keras's networks,
not that of the devkit (ILSVRC2012_ID). Photos are resized straight to the square, as the program of iGOS++ does
(Khorram et al. 2021, arXiv:2012.15783), unless a centre crop is asked for; EXIF rotations are not applied, as in
torchvision's ImageNet.

Known of the files as published, from memory: about 20 photos of train are CMYK, one is a PNG that is called .JPEG
(n02105855_2933), some are grey, and a few have damaged or rotating EXIF data. All are read, as RGB. md5 sums of the
archives: torchvision, datasets/imagenet.py.
"""

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd

from harness.api import (
    Dataset,
    Index,
    MultiClass,
    UsageError,
    against,
    dataset,
    files_in,
    one_hot,
    read_image,
    read_rows,
    rng_for,
    setting,
)

CLASSES = 1000
TRAIN, VAL, PER_CLASS = 1_281_167, 50_000, 50  # photos; of val in each class
CROP = 224 / 256  # of the shorter side
WNID = re.compile(r"n\d{8}")
OWN = re.compile(r"(n\d{8})_\d+\.")  # a photo of train carries the wnid of its class
NUMBERED = re.compile(r"ILSVRC2012_val_(\d{8})\.jpe?g", re.IGNORECASE)
SYNSETS = "synsets.txt"  # a wnid per line, in the order of the classes' numbers
SUFFIXES = (".jpeg", ".jpg", ".png")  # in any case; what a file holds is told by its content
DEVKIT = "ILSVRC2012_devkit_t12/data"
TRUTH, META = f"{DEVKIT}/ILSVRC2012_validation_ground_truth.txt", f"{DEVKIT}/meta.mat"
ALL_WNIDS = "385e0240499426c022b773be1ae4da780f057b89c9694c7f47199f62746b6edd"  # sha256 of the sorted list, \n between
MD5 = {
    "ILSVRC2012_img_train.tar": "1d675b47d978889d74fa0da5fadfb00e",
    "ILSVRC2012_img_val.tar": "29b22e2961454d5413ddabcf34fc5622",
    "ILSVRC2012_devkit_t12.tar.gz": "fa75699e90414af021442c21a62c3abf",
}
UNPACK_DEVKIT = "Unpack ILSVRC2012_devkit_t12.tar.gz beside val/."


@dataclass(frozen=True, kw_only=True)
class Photos(Dataset):
    """What every part of ILSVRC2012 has in common: 1,000 classes, colour, ImageNet's mean and deviation."""

    size: int = setting(224, unit="px", source="iGOS++, arXiv:2012.15783, code")
    crop: Literal["none", "centre"] = setting(
        "none", source="iGOS++, arXiv:2012.15783, code: resized straight to 224 x 224",
        help="centre: the square in the middle, 7/8 of the shorter side, as networks are usually tested (resized to "
             "256, cropped to 224): proportions are kept, the borders are lost",
    )  # fmt: skip

    task = MultiClass()
    channels = 3
    default_model = "resnet50"
    mean: ClassVar[tuple[float, ...]] = (0.485, 0.456, 0.406)
    std: ClassVar[tuple[float, ...]] = (0.229, 0.224, 0.225)

    def read(self, row: Mapping[str, Any], root: Path) -> np.ndarray:
        """Return one photo as (H,W,3) uint8; grey, CMYK, RGBA and palettes become RGB."""
        image = read_image(root / row["path"], self.channels)
        if self.crop == "none":
            return image
        side = round(CROP * min(image.shape[:2]))
        top, left = ((n - side) // 2 for n in image.shape[:2])
        return image[top : top + side, left : left + side]


@dataset("imagenet_sample", source="arXiv:1409.0575; size and resizing: iGOS++, arXiv:2012.15783, code")
@dataclass(frozen=True, kw_only=True)
class ImagenetSample(Photos):
    """A handful of ImageNet photos to test on, a folder per wnid: for networks that are trained already.

    They may be among the photos that ImageNet's networks were trained on, so accuracy on them is not comparable with
    published validation accuracy; comparing explainers on them is not touched by that.
    """

    splits = ("test",)
    folders = ("imagenet_sample",)
    how_to_get = (
        "To make an imagenet_sample (ImageNet: https://image-net.org, free for research, registration):\n"
        "  1. put some of its photos into folders by wnid: imagenet_sample/n01440764/any_name.jpg and so on\n"
        f"  2. list all 1,000 wnids, sorted, one per line, in imagenet_sample/{SYNSETS}\n"
        "  3. give --root FOLDER (imagenet_sample), or set HARNESS_DATA to the folder above it."
    )

    def found_at(self, root: Path) -> bool:
        """Return whether the folder has the list of classes, or folders by wnid."""
        return (root / SYNSETS).exists() or any(WNID.fullmatch(p.name) for p in root.glob("n*/"))

    def index(self, root: Path) -> Index:
        """Return the table of all photos that are here, all of them to test on."""
        wnids = synsets(root / SYNSETS)
        names, numbers = photos(root, wnids, "any_name.jpg")
        samples = pd.DataFrame({"id": names, "path": names, "patient": names, "split": "test"})
        return Index(samples=samples, labels=one_hot(numbers, CLASSES), classes=wnids)


@dataset("imagenet", source="arXiv:1409.0575; size and resizing: iGOS++, arXiv:2012.15783, code")
@dataclass(frozen=True, kw_only=True)
class Imagenet(Photos):
    """ILSVRC2012: the official validation photos are the test split, a seeded part of train is for validation."""

    part: Literal["all", "val"] = setting(
        "all", source="ours", help="val: the official validation photos alone, for networks that are trained already"
    )
    subset: bool = setting(
        False, source="ours", help="accept folders that hold only some of the photos; every row then says 'subset'"
    )
    n_validation: int = setting(
        10_000, unit="photos of train", source="ours: ten of a class on average; the official set is for testing here"
    )
    split_seed: int = setting(0, source="ours")

    schedule: ClassVar[dict[str, Any]] = {
        "learning_rate": 0.1, "weight_decay": 1e-4, "batch_size": 256, "max_epochs": 90, "patience": 90,
        "decay_at": (30, 60), "augment": "flip",
    }  # fmt: skip
    label_files = (f"{DEVKIT}/*",)
    folders = ("imagenet", "ImageNet", "ILSVRC2012")
    how_to_get = (
        "To get ImageNet (ILSVRC2012, about 145 GB, free for research, registration):\n"
        "  1. register at https://image-net.org and download ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar and\n"
        "     ILSVRC2012_devkit_t12.tar.gz into one folder imagenet/\n"
        "  2. unpack there: mkdir train val; tar xf ILSVRC2012_img_train.tar -C train;\n"
        "     for f in train/*.tar; do mkdir ${f%.tar}; tar xf $f -C ${f%.tar} && rm $f; done;\n"
        "     tar xf ILSVRC2012_img_val.tar -C val; tar xf ILSVRC2012_devkit_t12.tar.gz\n"
        "  3. give --root FOLDER (imagenet), or set HARNESS_DATA to the folder above it.\n"
        "To test networks that are trained already val and the devkit are enough (6.5 GB): --set part=val."
    )

    @property
    def splits(self) -> tuple[str, ...]:
        """Return all three parts, or test alone where only the official validation photos are read."""
        return ("test",) if self.part == "val" else ("train", "validation", "test")

    def found_at(self, root: Path) -> bool:
        """Return whether the folder has val/ or train/ of ILSVRC2012."""
        return (root / DEVKIT).is_dir() or any(_wnid_folders(root / part) for part in ("train", "val"))

    def index(self, root: Path) -> Index:
        """Return the table of all photos, checked against the devkit and the published counts."""
        wnids = self._wnids(root)
        paths, numbers, split = [], [], []
        if self.part == "all":
            names, found = self._train(root, wnids)
            held_out = self._held_out(found)
            paths += names
            numbers.append(found)
            split.append(np.where(held_out, "validation", "train"))
        names, found = self._val(root, wnids)
        paths += names
        numbers.append(found)
        split.append(np.full(len(found), "test"))
        ids = [p[p.rfind("/") + 1 : p.rfind(".")] for p in paths]
        samples = pd.DataFrame({"id": ids, "path": paths, "split": np.concatenate(split)})
        _unique(samples, root)
        return Index(
            samples=samples.assign(patient=samples["id"]),
            labels=one_hot(np.concatenate(numbers), CLASSES),
            classes=wnids,
            notes=("subset",) * self.subset,
        )

    def _wnids(self, root: Path) -> tuple[str, ...]:
        """Return the sorted wnids: the devkit's, those of synsets.txt, or the names of the folders."""
        listed = synsets(root / SYNSETS) if (root / SYNSETS).exists() else ()
        if (root / META).exists():
            wnids = tuple(sorted(devkit_ids(root / META).values()))
            if listed and listed != wnids:
                raise UsageError(
                    f"imagenet: {root / SYNSETS} does not list the classes of {root / META}. Remove one of them."
                )
        else:
            folder = root / ("val" if self.part == "val" else "train")
            wnids = listed or tuple(_wnid_folders(folder))
            if len(wnids) != CLASSES:
                raise UsageError(
                    f"imagenet: {folder} has {len(wnids):,} folders by wnid and {META} is missing; expected 1,000 "
                    f"folders or the devkit: they number the classes. {UNPACK_DEVKIT}"
                )
        if not self.subset and hashlib.sha256("\n".join(wnids).encode()).hexdigest() != ALL_WNIDS:
            raise UsageError(
                f"imagenet: the classes in {root}, {wnids[0]} to {wnids[-1]}, are not those of ILSVRC2012. Check "
                "--root, or take another choice of 1,000 classes as it is: --set subset=true."
            )
        return wnids

    def _train(self, root: Path, wnids: tuple[str, ...]) -> tuple[list[str], np.ndarray]:
        """Return paths and class numbers of the photos in train/."""
        if not (root / "train").is_dir():
            raise UsageError(
                f"imagenet: {root / 'train'} is missing. Unpack ILSVRC2012_img_train.tar there, or test alone, with "
                "networks that are trained already: --set part=val."
            )
        names, numbers = photos(root / "train", wnids, "n01440764_18.JPEG")
        for name, number in zip(names, numbers, strict=True):
            own = OWN.match(name, 10)
            if own and own[1] != wnids[number]:
                raise UsageError(
                    f"imagenet: {root / 'train' / name} lies in the folder of {wnids[number]}, its name is {own[1]}'s. "
                    "Unpack the archives of the classes again, each into its own folder."
                )
        self._count("train", root, len(names), TRAIN)
        empty = np.setdiff1d(np.arange(CLASSES), numbers)
        if len(empty):
            raise UsageError(
                f"imagenet: {root / 'train'} has photos of {CLASSES - len(empty):,} of 1,000 classes, none of "
                f"{wnids[empty[0]]}: it cannot be learned. Fetch the others, or test alone: --set part=val."
            )
        return [f"train/{name}" for name in names], numbers

    def _held_out(self, numbers: np.ndarray) -> np.ndarray:
        """Return which of the training photos are for validation, (n,) bool."""
        if not 0 < self.n_validation < len(numbers):
            raise UsageError(
                f"imagenet: n_validation is {self.n_validation}; expected 1 to {len(numbers) - 1:,} photos of train."
            )
        held_out = np.zeros(len(numbers), bool)
        rng = rng_for(self.split_seed, "imagenet validation")
        held_out[rng.choice(len(numbers), self.n_validation, replace=False)] = True
        return held_out

    def _val(self, root: Path, wnids: tuple[str, ...]) -> tuple[list[str], np.ndarray]:
        """Return paths and class numbers of the photos in val/, by name: flat as downloaded, or in folders by wnid."""
        folder = root / "val"
        flat = files_in(folder, SUFFIXES, advice="Unpack ILSVRC2012_img_val.tar there.")
        sorted_in = _wnid_folders(folder)
        if flat and sorted_in:
            raise UsageError(
                f"imagenet: {folder} has photos, {flat[0]} say, and folders by wnid, {sorted_in[0]} say; expected one "
                "or the other. Move the photos into their folders, or all of them out."
            )
        truth = _truth(root, wnids) if (root / DEVKIT).exists() or flat else None
        if flat:
            paths = [f"val/{name}" for name in flat]
            assert truth is not None
            numbers = truth[_val_numbers(folder, flat) - 1]
        else:
            names, numbers = photos(folder, wnids, "ILSVRC2012_val_00000293.JPEG")
            order = sorted(range(len(names)), key=lambda i: names[i].partition("/")[2])
            paths, numbers = [f"val/{names[i]}" for i in order], numbers[order]
            if truth is not None:
                _agree(root, paths, numbers, truth, wnids)
        self._count("val", root, len(paths), VAL)
        return paths, numbers

    def _count(self, part: str, root: Path, found: int, published: int) -> None:
        if found != published and not self.subset:
            raise UsageError(
                f"imagenet: {root / part} has {found:,} photos, expected {published:,}. Unpack its archive again, or "
                "take what is there: --set subset=true (rows then say so)."
            )

    def checksums(self, root: Path) -> dict[str, str]:
        """Compare the archives, where they lie there, with the published md5 sums; the classes with ILSVRC2012's."""
        found = against(root, MD5)
        if (root / META).exists():
            wnids = "\n".join(sorted(devkit_ids(root / META).values()))
            same = hashlib.sha256(wnids.encode()).hexdigest() == ALL_WNIDS
            found[f"classes of {META}"] = "as published" if same else "differs"
        if (root / TRUTH).exists():
            found[TRUTH] = "no published sum"
        return found


def synsets(path: Path) -> tuple[str, ...]:
    """Return the 1,000 wnids in the order of the classes' numbers. `UsageError`: no such list, or another order."""
    expected = f"expected {CLASSES:,} wnids (n01440764), sorted, one per line"
    try:
        lines = path.read_text(encoding="utf-8").split()
    except FileNotFoundError:
        raise UsageError(f"imagenet: {path} is missing; {expected}: they number the classes.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"imagenet: {path} cannot be read ({error}); {expected}. Fetch it again.") from None
    strange = next((w for w in lines if not WNID.fullmatch(w)), None)
    if strange is not None:
        raise UsageError(f"imagenet: {path} has {strange!r}; {expected}.")
    for before, wnid in pairwise(lines):
        if wnid <= before:
            what = "is repeated" if wnid == before else f"follows {before}"
            raise UsageError(
                f"imagenet: {path}: {wnid} {what}; {expected}. Networks number the classes so; the devkit's "
                "ILSVRC2012_ID is another order. Sort the list: sort -u."
            )
    if len(lines) != CLASSES:
        raise UsageError(f"imagenet: {path} has {len(lines):,} wnids; {expected}. It is truncated: fetch it again.")
    return tuple(lines)


def devkit_ids(path: Path) -> dict[int, str]:
    """Return ILSVRC2012_ID 1 ... 1,000 -> wnid from the devkit's meta.mat; nothing in such a file is executed."""
    from scipy.io import loadmat

    expected = "expected the synsets 1 to 1,000 without children, each with a wnid of its own"
    if not path.is_file():
        raise UsageError(f"imagenet: {path} is missing; {expected}. {UNPACK_DEVKIT}")
    try:
        table = loadmat(path, squeeze_me=True, appendmat=False, variable_names=["synsets"])["synsets"]
        leaves = table[table["num_children"].astype(int) == 0]
        numbers = [int(n) for n in leaves["ILSVRC2012_ID"]]
        wnids = [str(w) for w in leaves["WNID"]]
    except MemoryError:
        raise
    except Exception as error:  # what scipy raises over a damaged file is not its to promise
        raise UsageError(
            f"imagenet: {path} cannot be read ({type(error).__name__}: {' '.join(str(error).split())[:200]}); "
            f"{expected}. {UNPACK_DEVKIT}"
        ) from None
    if sorted(numbers) != list(range(1, CLASSES + 1)):
        strange = next((n for n in numbers if not 0 < n <= CLASSES or numbers.count(n) > 1), "too few")
        raise UsageError(f"imagenet: {path} has {len(numbers):,} such synsets ({strange}); {expected}. {UNPACK_DEVKIT}")
    strange = next((w for w in wnids if not WNID.fullmatch(w) or wnids.count(w) > 1), None)
    if strange is not None:
        raise UsageError(f"imagenet: {path} has the wnid {strange!r}; {expected}. {UNPACK_DEVKIT}")
    return dict(zip(numbers, wnids, strict=True))


def _truth(root: Path, wnids: tuple[str, ...]) -> np.ndarray:
    """Return the class number of each of the 50,000 validation photos, in the order of their numbers."""
    path, expected = root / TRUTH, f"expected {VAL:,} lines, each an ILSVRC2012_ID from 1 to 1,000"
    number = {w: i for i, w in enumerate(wnids)}
    ids = {str(i): number[w] for i, w in devkit_ids(root / META).items()}
    rows = read_rows(path, UNPACK_DEVKIT, delimiter=" ")
    for line, fields in rows:
        if len(fields) != 1 or fields[0] not in ids:
            raise UsageError(f"imagenet: {path}, line {line} is {' '.join(fields)!r:.60}; {expected}. {UNPACK_DEVKIT}")
    if len(rows) != VAL:
        raise UsageError(f"imagenet: {path} has {len(rows):,} lines; {expected}. It is truncated. {UNPACK_DEVKIT}")
    truth = np.array([ids[fields[0]] for _, fields in rows])
    uneven = np.flatnonzero(np.bincount(truth, minlength=CLASSES) != PER_CLASS)
    if len(uneven):
        raise UsageError(
            f"imagenet: {path} names {wnids[uneven[0]]} {int((truth == uneven[0]).sum())} times, expected {PER_CLASS} "
            f"of every class: it is another list. {UNPACK_DEVKIT}"
        )
    return truth


def _val_numbers(folder: Path, names: list[str]) -> np.ndarray:
    """Return the numbers 1 ... 50,000 in the names of validation photos, (n,)."""
    found = [NUMBERED.fullmatch(name) for name in names]
    numbers = np.array([int(m[1]) if m else 0 for m in found])
    strange = np.flatnonzero((numbers < 1) | (numbers > VAL))
    if len(strange):
        raise UsageError(
            f"imagenet: {folder / names[strange[0]]} is no validation photo: expected ILSVRC2012_val_00000001.JPEG to "
            "..._00050000.JPEG. Take it out, or put the photos into folders by wnid."
        )
    return numbers


def _agree(root: Path, paths: list[str], numbers: np.ndarray, truth: np.ndarray, wnids: tuple[str, ...]) -> None:
    """Raise `UsageError` for a photo in another folder than the devkit says; those of other names are let be."""
    for path, number in zip(paths, numbers, strict=True):
        found = NUMBERED.fullmatch(path.rpartition("/")[2])
        if found and 0 < int(found[1]) <= VAL and truth[int(found[1]) - 1] != number:
            right = wnids[truth[int(found[1]) - 1]]
            raise UsageError(
                f"imagenet: {root / path} is a photo of {right} by {TRUTH}. Sort val/ again: networks number classes "
                "by sorted wnids, the devkit's ILSVRC2012_ID is another order."
            )


def _unique(samples: pd.DataFrame, root: Path) -> None:
    """Raise `UsageError` where two files have one name: in two folders, or with two endings."""
    again = samples["id"].duplicated()
    if again.any():
        name = samples["id"][again].iloc[0]
        first, second = samples["path"][samples["id"] == name].iloc[:2]
        raise UsageError(f"imagenet: {root / first} and {second} are two files of one name. Take one of them out.")


def _wnid_folders(folder: Path) -> list[str]:
    """Return the sorted names of the folders in `folder` that are named by a wnid; none where it is missing."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if WNID.fullmatch(e.name) and e.is_dir())


def photos(root: Path, wnids: tuple[str, ...], example: str) -> tuple[list[str], np.ndarray]:
    """Return paths below `root` and class numbers of all photos in its folders, each named by the wnid of its class.

    Raises `UsageError` for a folder of another name, one without photos, and no photos at all.
    """
    number = {wnid: i for i, wnid in enumerate(wnids)}
    with os.scandir(root) as entries:
        folders = sorted(e.name for e in entries if not e.name.startswith(".") and e.is_dir())
    names: list[str] = []
    numbers: list[np.ndarray] = []
    for folder in folders:
        if folder not in number:
            raise UsageError(
                f"imagenet: {root / folder} is the folder of an unknown class; expected one of the {len(wnids):,} "
                f"wnids, {wnids[0]} say. Rename it, or take it out."
            )
        files = files_in(root / folder, SUFFIXES, advice="Fetch it again.")
        if not files:
            raise UsageError(
                f"imagenet: {root / folder} has no photos; expected at least one file ending in {', '.join(SUFFIXES)}. "
                "Fetch them again, or remove the folder."
            )
        names += [f"{folder}/{name}" for name in files]
        numbers.append(np.full(len(files), number[folder]))
    if not names:
        raise UsageError(
            f"imagenet: {root} has no photos; expected folders by wnid: n01440764/{example}. Check --root."
        )
    return names, np.concatenate(numbers)
