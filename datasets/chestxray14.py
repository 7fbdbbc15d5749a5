"""NIH ChestX-ray14 (Wang et al. 2017, arXiv:1705.02315): 112,120 radiographs, 14 findings, 984 boxes.

Read as downloaded: images/*.png in one folder or in images_001 ... images_012, Data_Entry_2017*.csv,
BBox_List_2017.csv, train_val_list.txt and test_list.txt. The official test list is the test split; the rest is split
90/10 into training and validation by patient. For parts of the data there is also a cross-fitted split over all
images, on boards of its own. Boxes are in pixels of the 1024 x 1024 originals, whatever size the
images are stored at.
"""

import csv
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd

from harness.api import (
    Dataset,
    Download,
    Index,
    MultiLabel,
    UsageError,
    crossfit,
    dataset,
    read_image,
    setting,
    split_by_patient,
)

CLASSES = (
    "Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax",
    "Consolidation", "Edema", "Emphysema", "Fibrosis", "Pleural_Thickening", "Hernia",
)  # fmt: skip
BOX_NAMES = {"Infiltrate": "Infiltration"}  # as BBox_List_2017.csv spells it
BOX_FRAME = 1024.0  # px
ENTRY_FIELDS = ("Image Index", "Finding Labels", "Follow-up #", "Patient ID")
BOX_FIELDS = ("Image Index", "Finding Label", "Bbox [x", "y", "w", "h]")
LISTS = ("train_val_list.txt", "test_list.txt")
MD5 = {
    "BBox_List_2017.csv": "c288912caf65ab8b6c7aff6717d11005",
    "Data_Entry_2017_v2020.csv": "27d223bb367648f1fd40e28dd42a0af3",
    "train_val_list.txt": "067e3a84206964892e6300e4a4c0a205",
    "test_list.txt": "adeeabf20ea2a8eb66ced87b78434400",
}

STATIC = "https://nihcc.box.com/shared/static/"  # as the release's own batch_download_zips.py has them, in order
ARCHIVES = (  # address, md5 (the release's FAQ, Q07), bytes (as its server says, quoted by others, 2026)
    ("vfk49d74nhbxq3nqjg0900w5nvkorp5c.gz", "fe8ed0a6961412fddcbb3603c11b3698", 2_008_470_987),
    ("i28rlmbvmfjbl8p2n3ril0pptcmcu9d1.gz", "ab07a2d7cbe6f65ddd97b4ed7bde10bf", 3_952_623_504),
    ("f1t00wrtdk94satdfb9olcolqx20z2jp.gz", "2301d03bde4c246388bad3876965d574", 3_929_234_850),
    ("0aowwzs5lhjrceb3qp67ahp0rd1l1etg.gz", "9f1b7f5aae01b13f4bc8e2c44a4b8ef6", 3_838_903_983),
    ("v5e3goj22zr6h8tzualxfsqlqaygfbsn.gz", "1861f3cd0ef7734df8104f2b0309023b", 3_935_496_531),
    ("asi7ikud9jwnkrnkj99jnpfkjdes7l6l.gz", "456b53a8b351afd92a35bc41444c58c8", 3_986_301_172),
    ("jn1b4mw4n6lnh74ovmcjb8y48h8xj07n.gz", "1075121ea20a137b87f290d6a4a5965e", 4_016_328_426),
    ("tvpxmn7qyrgl0w8wfh9kqfjskv6nmm1j.gz", "b61f34cec3aa69f295fbb593cbd9d443", 4_018_347_353),
    ("upyy3ml7qdumlgk2rfcvlb9k6gvqq2pj.gz", "442a3caa61ae9b64e61c561294d1e183", 4_111_327_929),
    ("l6nilvfa9cg3s28tqv1qc1olm3gnz54p.gz", "09ec81c4c31e32858ad8cf965c494b74", 4_181_556_296),
    ("hhq8fkdgvcari67vfhs7ppg2w6ni4jze.gz", "499aefc67207a5a97692424cf5dbeed5", 4_187_084_020),
    ("ioqwiy20ihqwyr8pf4c24eazhh281pbu.gz", "dc9fda1757c2de0032b63347a7d2895c", 2_914_187_733),
)


@dataset("chestxray14", source="Wang 2017, arXiv:1705.02315; split: its official lists, 90/10 by patient in train_val")
@dataclass(frozen=True, kw_only=True)
class ChestXray14(Dataset):
    """NIH ChestX-ray14: 14 findings, official test list, boxes for 8 of the findings."""

    size: int = setting(224, unit="px", source="Khakzar 2019, 3.3", help="side of the square image the model sees")
    subset: bool = setting(
        False, source="ours", help="accept a folder that holds only some of the images; every row then says 'subset'"
    )
    split: Literal["official", "cross_fitted"] = setting(
        "official", source="Khakzar 2019, 3.1; cross_fitted: protocol.md, 1",
        help="cross_fitted: five folds by patient over all images, five models, each image scored by the one that did "
             "not see its patient; trains on official test images, which every row then says",
    )  # fmt: skip
    validation_share: float = setting(
        0.1, unit="of the images not tested", source="Khakzar 2019, 3.1; by patient: ours"
    )
    split_seed: int = setting(0, source="ours: the paper does not give its split")

    task = MultiLabel()
    channels = 1
    default_model = "densenet121_2block"
    mean: ClassVar[tuple[float, ...]] = (0.485,)  # ImageNet's red: grey radiographs are near it; fixed, not fitted
    std: ClassVar[tuple[float, ...]] = (0.229,)
    folders = ("ChestX-ray14", "chestxray14", "CXR8", "ChestXray-NIHCC")
    how_to_get = (
        "To get ChestX-ray14 (about 45 GB, free, no registration):\n"
        "  1. open https://nihcc.app.box.com/v/ChestXray-NIHCC\n"
        "  2. download images/ (12 archives; `harness data prepare chestxray14 --download` fetches and unpacks these\n"
        "     by itself), Data_Entry_2017_v2020.csv, BBox_List_2017.csv, train_val_list.txt and\n"
        "     test_list.txt into one folder ChestX-ray14/\n"
        "  3. unpack the archives there: for f in images_*.tar.gz; do tar xf $f; done\n"
        "  4. give --root FOLDER, or set HARNESS_DATA to the folder above it.\n"
        "Or try the harness without it: --dataset phantom."
    )
    downloads: ClassVar[tuple[Download, ...]] = tuple(
        Download(STATIC + address, f"images_{n:03d}.tar.gz", md5, size=size, unpack=".")
        for n, (address, md5, size) in enumerate(ARCHIVES, 1)
    )
    not_downloaded = (
        "Not fetched: Data_Entry_2017_v2020.csv, BBox_List_2017.csv, train_val_list.txt and test_list.txt, of which no "
        "sums are published. Put them into the same folder by hand."
    )

    def found_at(self, root: Path) -> bool:
        """Return whether the folder holds images or label files of ChestX-ray14."""
        return any(root.glob("Data_Entry_2017*.csv")) or any((root / name).exists() for name in LISTS)

    def index(self, root: Path) -> Index:
        """Return the table of all images that are here, checked against the label, box and split files."""
        entries = _entries(root)
        labelled = set(entries["Image Index"])
        paths = _images(root)
        known = entries["Image Index"].isin(paths)
        if not known.all() and not self.subset:
            lost = entries.loc[~known, "Image Index"]
            raise UsageError(
                f"chestxray14: {len(lost):,} of {len(entries):,} images of the label file are missing in {root}, the "
                f"first is {lost.iloc[0]}. Fetch them, or take what is there: --set subset=true (rows then say so)."
            )
        entries = entries[known].reset_index(drop=True)
        if entries.empty:
            raise UsageError(
                f"chestxray14: no image of the label file was found in {root}. Expected images/*.png or "
                f"images_001/images/*.png. {self.how_to_get}"
            )
        ids = entries["Image Index"]
        patients = entries["Patient ID"].astype(str)
        labels = _labels(entries)
        official = self._official(root, ids, patients)
        if self.split == "official":
            splits = pd.DataFrame({"split": official})
        else:
            splits = crossfit(patients, labels, share=self.validation_share, seed=self.split_seed)
        notes = ["subset"] * self.subset + ["trained on official test images"] * (self.split == "cross_fitted")
        return Index(
            samples=pd.DataFrame({"id": ids, "patient": patients, "path": [paths[n] for n in ids]}).join(splits),
            labels=labels,
            classes=CLASSES,
            boxes=_boxes(root, ids, subset=self.subset, labelled=labelled),
            notes=tuple(notes),
        )

    def _official(self, root: Path, ids: pd.Series, patients: pd.Series) -> np.ndarray:
        listed = {name: _list(root / name) for name in LISTS}
        both = listed[LISTS[0]] & listed[LISTS[1]]
        if both:
            raise UsageError(f"chestxray14: {min(both)} is in both {' and '.join(LISTS)}. Fetch the lists again.")
        neither = ids[~ids.isin(listed[LISTS[0]] | listed[LISTS[1]])]
        if len(neither):
            raise UsageError(
                f"chestxray14: {len(neither)} images are in neither {LISTS[0]} nor {LISTS[1]}, the first is "
                f"{neither.iloc[0]}: the lists are truncated. Fetch them again."
            )
        test = ids.isin(listed["test_list.txt"]).to_numpy()
        split = np.where(test, "test", "train").astype(object)
        rest = np.flatnonzero(~test)
        held_out = split_by_patient(patients.iloc[rest], share=self.validation_share, seed=self.split_seed)
        split[rest[held_out]] = "validation"
        return split

    def read(self, row: Mapping[str, Any], root: Path) -> np.ndarray:
        """Return one radiograph as (H,W) uint8; RGBA and other modes become grey."""
        return read_image(root / row["path"], self.channels)

    def checksums(self, root: Path) -> dict[str, str]:
        """Compare the label and split files with the published ones."""
        found = {}
        for path in sorted(root.iterdir()):
            if path.suffix in (".csv", ".txt"):
                right = MD5.get(path.name)
                same = right == hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
                found[path.name] = "as published" if same else "differs" if right else "no published sum"
        return found


def _csv(path: Path, fields: tuple[str, ...], width: int) -> pd.DataFrame:
    """Return a CSV by its first columns: the official headers split names like `Bbox [x,y,w,h]` at their commas."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = list(csv.reader(file))
    except FileNotFoundError:
        raise UsageError(f"chestxray14: {path} is missing. Download it next to the images.") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"chestxray14: {path} cannot be read as CSV ({error}). Download it again.") from None
    header = lines[0] if lines else []
    if tuple(header[: len(fields)]) != fields:
        raise UsageError(
            f"chestxray14: {path} has the columns {', '.join(header[: len(fields)]) or '(none)'}; expected "
            f"{', '.join(fields)}. Download it again."
        )
    rows = [line for line in lines[1:] if line]
    short = next((n for n, line in enumerate(rows, 2) if len(line) < width), None)
    if short is not None:
        raise UsageError(
            f"chestxray14: {path}, line {short} has {len(rows[short - 2])} fields, expected {width}: the file is "
            "truncated. Download it again."
        )
    return pd.DataFrame([line[: len(fields)] for line in rows], columns=list(fields))


def _entries(root: Path) -> pd.DataFrame:
    files = sorted(root.glob("Data_Entry_2017*.csv"))
    if not files:
        raise UsageError(f"chestxray14: {root} has no Data_Entry_2017*.csv. Download it next to the images.")
    if len(files) > 1:
        names = " and ".join(f.name for f in files)
        raise UsageError(f"chestxray14: {root} has {names}, two versions of the labels. Keep one of them.")
    return _csv(files[0], ENTRY_FIELDS, 11)


def _images(root: Path) -> dict[str, str]:
    """Return file name -> path relative to root, for images/ or images_001 ... images_012."""
    found: dict[str, str] = {}
    for folder in sorted([*root.glob("images"), *root.glob("images_*"), *root.glob("images_*/images")]):
        if folder.is_dir():
            for path in folder.iterdir():
                if path.suffix.lower() == ".png":
                    found[path.name] = str(path.relative_to(root))
    return found


def _labels(entries: pd.DataFrame) -> np.ndarray:
    column = {name: i for i, name in enumerate(CLASSES)}
    labels = np.zeros((len(entries), len(CLASSES)), np.uint8)
    for row, text in enumerate(entries["Finding Labels"]):
        for name in text.split("|"):
            if name == "No Finding":
                continue
            if name not in column:
                raise UsageError(
                    f"chestxray14: image {entries['Image Index'].iloc[row]} has the unknown label {name!r}; expected "
                    f"'No Finding' or some of {', '.join(CLASSES)}."
                )
            labels[row, column[name]] = 1
    return labels


def _boxes(root: Path, ids: pd.Series, *, subset: bool, labelled: set[str]) -> pd.DataFrame:
    path = root / "BBox_List_2017.csv"
    table = _csv(path, BOX_FIELDS, 6)
    unknown = table.loc[~table["Image Index"].isin(labelled), "Image Index"]
    if len(unknown):
        raise UsageError(
            f"chestxray14: {path} has a box for the unknown image {unknown.iloc[0]!r} (one of {len(unknown)}): it is "
            "not in the label file. Fetch both files again."
        )
    try:
        x, y, w, h = (table[c].astype(float).to_numpy() / BOX_FRAME for c in BOX_FIELDS[2:])
    except ValueError as error:
        raise UsageError(f"chestxray14: {path} has a box that is not four numbers ({error}). Fetch it again.") from None
    names = table["Finding Label"].replace(BOX_NAMES)
    boxes = pd.DataFrame({"id": table["Image Index"], "class_name": names, "x0": x, "y0": y, "x1": x + w, "y1": y + h})
    return boxes[boxes["id"].isin(set(ids))].reset_index(drop=True) if subset else boxes


def _list(path: Path) -> set[str]:
    try:
        return set(path.read_text(encoding="utf-8").split())
    except FileNotFoundError:
        raise UsageError(f"chestxray14: {path} is missing. Download it next to the label file.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"chestxray14: {path} cannot be read ({error}). Download it again.") from None
