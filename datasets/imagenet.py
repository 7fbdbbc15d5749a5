"""ILSVRC2012, "ImageNet" (Russakovsky et al. 2015, arXiv:1409.0575): photos of 1,000 classes in folders by wnid.

The number of a class is the place of its wnid among the sorted ones: the order of torchvision's and Keras's networks,
not that of the devkit (ILSVRC2012_ID). Photos are resized straight to the square, as the program of iGOS++ does
(Khorram et al. 2021, arXiv:2012.15783), unless a centre crop is asked for; EXIF rotations are not applied, as in
torchvision's ImageNet.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd

from harness.api import Dataset, Index, MultiClass, UsageError, dataset, read_image, setting

CLASSES = 1000
CROP = 224 / 256  # of the shorter side
WNID = re.compile(r"n\d{8}")
SYNSETS = "synsets.txt"  # a wnid per line, in the order of the classes' numbers
SUFFIXES = (".jpeg", ".jpg", ".png")  # in any case; what a file holds is told by its content


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
        found = photos(root, wnids)
        labels = np.eye(CLASSES, dtype=np.uint8)[found.pop("label").to_numpy(int)]
        return Index(samples=found.assign(patient=found["id"], split="test"), labels=labels, classes=wnids)


def synsets(path: Path) -> tuple[str, ...]:
    """Return the 1,000 wnids in the order of the classes' numbers. `UsageError`: no such list, or another order."""
    expected = f"expected {CLASSES:,} wnids (n01440764), sorted, one per line"
    try:
        lines = path.read_text(encoding="utf-8").split()
    except FileNotFoundError:
        raise UsageError(f"imagenet: {path} is missing; {expected}: they number the classes.") from None
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


def photos(root: Path, wnids: tuple[str, ...]) -> pd.DataFrame:
    """Return id, path and label of every photo in the folders below `root`, each named by the wnid of its class.

    Raises `UsageError` for a folder of another name, one without photos, and no photos at all.
    """
    number = {wnid: i for i, wnid in enumerate(wnids)}
    rows = []
    for folder in sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith(".")):
        if folder.name not in number:
            raise UsageError(
                f"imagenet: {folder} is the folder of an unknown class; expected one of the {len(wnids):,} wnids of "
                f"{SYNSETS}, {wnids[0]} say. Rename it, or take it out."
            )
        files = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
        if not files:
            raise UsageError(
                f"imagenet: {folder} has no photos; expected at least one file ending in {', '.join(SUFFIXES)}. Fetch "
                "them again, or remove the folder."
            )
        names = [f"{folder.name}/{p.name}" for p in files]
        rows += [{"id": name, "path": name, "label": number[folder.name]} for name in names]
    if not rows:
        raise UsageError(
            f"imagenet: {root} has no photos; expected folders by wnid: n01440764/any_name.jpg. Check --root."
        )
    return pd.DataFrame(rows)
