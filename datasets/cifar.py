"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009): 50,000 training and 10,000 test images of 32 x 32 each.

Read from the binary version, the Python version (its pickles are opened only after their md5 is right), or folders
train/<class>/*.png and test/<class>/*.png. CIFAR-100 has 100 classes, five in each of 20 superclasses; every image
carries both numbers, and both lists are in alphabetical order. md5 sums: torchvision, datasets/cifar.py; those of the
binary versions' archives: readers of others (several agree).
"""

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd

from harness.api import (
    Dataset,
    Download,
    Index,
    MultiClass,
    UsageError,
    against,
    dataset,
    digest_of,
    files_in,
    one_hot,
    read_image,
    rng_for,
    setting,
)

PIXELS = 3 * 32 * 32
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
BATCHES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
SUPERCLASSES = {
    "aquatic_mammals": "beaver dolphin otter seal whale",
    "fish": "aquarium_fish flatfish ray shark trout",
    "flowers": "orchid poppy rose sunflower tulip",
    "food_containers": "bottle bowl can cup plate",
    "fruit_and_vegetables": "apple mushroom orange pear sweet_pepper",
    "household_electrical_devices": "clock keyboard lamp telephone television",
    "household_furniture": "bed chair couch table wardrobe",
    "insects": "bee beetle butterfly caterpillar cockroach",
    "large_carnivores": "bear leopard lion tiger wolf",
    "large_man-made_outdoor_things": "bridge castle house road skyscraper",
    "large_natural_outdoor_scenes": "cloud forest mountain plain sea",
    "large_omnivores_and_herbivores": "camel cattle chimpanzee elephant kangaroo",
    "medium_mammals": "fox porcupine possum raccoon skunk",
    "non-insect_invertebrates": "crab lobster snail spider worm",
    "people": "baby boy girl man woman",
    "reptiles": "crocodile dinosaur lizard snake turtle",
    "small_mammals": "hamster mouse rabbit shrew squirrel",
    "trees": "maple_tree oak_tree palm_tree pine_tree willow_tree",
    "vehicles_1": "bicycle bus motorcycle pickup_truck train",
    "vehicles_2": "lawn_mower rocket streetcar tank tractor",
}
COARSE = tuple(SUPERCLASSES)
FINE = tuple(sorted(name for names in SUPERCLASSES.values() for name in names.split()))
COARSE_OF = np.array([next(i for i, names in enumerate(SUPERCLASSES.values()) if f in names.split()) for f in FINE])
MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
    "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
    "cifar-10-python.tar.gz": "c58f30108f718f92721af3b95e74349a",
    "cifar-10-binary.tar.gz": "c32a1d4ab5d03f1284b67883e8d87530",
}
MD5_100 = {
    "train": "16019d7e3df5f24257cddd939b257f8d",
    "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
    "meta": "7973b15100ade9c7d40fb424638fde48",
    "cifar-100-python.tar.gz": "eb9058c3a382ffc7106e4002c42a8d85",
    "cifar-100-binary.tar.gz": "03b5dce01913d631647c71ecec9e9cb8",
}


@dataclass(frozen=True, kw_only=True)
class Tiny(Dataset):
    """What both have in common: 32 px, colour, a seeded part of the training images held out for validation."""

    size: int = setting(32, unit="px", source="Krizhevsky 2009")
    n_validation: int = setting(
        1000, unit="images", source="ours: Woods 2019 trains on all 50,000 and keeps the last epoch"
    )
    n_train: int = setting(0, unit="images", source="ours", help="train on this many of the rest, drawn once; 0: all")
    split_seed: int = setting(0, source="ours")

    task = MultiClass()
    channels = 3
    default_model = "resnet44"
    schedule: ClassVar[dict[str, Any]] = {
        "learning_rate": 0.1, "weight_decay": 1e-4, "batch_size": 128, "max_epochs": 200, "patience": 200,
        "decay_at": (170, 195), "augment": "pad_crop_flip",
    }  # fmt: skip
    name: ClassVar[str]
    batches: ClassVar[Mapping[str, str]]  # files of the Python version -> split; the binary version adds .bin
    fields: ClassVar[tuple[str, ...]]  # labels of each record as the Python version calls them, in binary order
    names: ClassVar[tuple[tuple[str, ...], ...]]  # of the classes of each of those labels
    md5: ClassVar[Mapping[str, str]]

    @property
    def numbering(self) -> int:
        """Return which of the record's labels is the class."""
        return 0

    def found_at(self, root: Path) -> bool:
        """Return whether the folder is one of the three layouts."""
        return any((root / name).is_file() or (root / f"{name}.bin").is_file() for name in self.batches) or any(
            (root / "train" / name).is_dir() for names in self.names for name in names
        )

    def index(self, root: Path) -> Index:
        """Return the table of the 60,000 images (or of the class folders' files)."""
        classes = self.names[self.numbering]
        samples = self._folders(root, classes) if (root / "train").is_dir() else self._batches(root)
        training = np.flatnonzero(samples["split"] == "train")
        if not 0 < self.n_validation < len(training):
            raise UsageError(
                f"{self.name}: n_validation is {self.n_validation}; expected 1 to {len(training) - 1} training images."
            )
        chosen = rng_for(self.split_seed, f"{self.name} validation").choice(training, self.n_validation, replace=False)
        samples.loc[chosen, "split"] = "validation"
        samples = self._fewer(samples) if self.n_train else samples
        labels = one_hot(samples.pop("label").to_numpy(int), len(classes))
        return Index(samples=samples.assign(patient=samples["id"]), labels=labels, classes=classes)

    def _fewer(self, samples: pd.DataFrame) -> pd.DataFrame:
        """Return the table with `n_train` of the training images."""
        training = np.flatnonzero(samples["split"] == "train")
        if not 0 < self.n_train <= len(training):
            raise UsageError(
                f"{self.name}: n_train is {self.n_train}; expected 1 to {len(training)} images, or 0 for all."
            )
        kept = rng_for(self.split_seed, f"{self.name} training").choice(training, self.n_train, replace=False)
        return samples.drop(np.setdiff1d(training, kept)).reset_index(drop=True)

    def _batches(self, root: Path) -> pd.DataFrame:
        binary = any((root / f"{name}.bin").exists() for name in self.batches)
        tables = []
        for name, split in self.batches.items():
            file = root / (f"{name}.bin" if binary else name)
            labels = _records(file, self)[0]
            self._check(file, labels)
            ids = [f"{name}_{i:05d}" for i in range(len(labels))]
            own = {"id": ids, "split": split, "path": file.name, "row": range(len(labels))}
            tables.append(pd.DataFrame(own | {"label": labels[:, self.numbering]}))
        return pd.concat(tables, ignore_index=True)

    def _check(self, file: Path, labels: np.ndarray) -> None:
        """Raise `UsageError` where labels (n,L) are not among the classes."""
        for column, names in zip(labels.T, self.names, strict=True):
            if len(column) and column.max() >= len(names):
                raise UsageError(
                    f"{self.name}: {file} has the label {column.max()}, expected 0 to {len(names) - 1}. Fetch it again."
                )

    def _folders(self, root: Path, classes: tuple[str, ...]) -> pd.DataFrame:
        rows = [
            {"id": f"{split}/{name}/{file}", "split": split, "path": f"{split}/{name}/{file}", "row": -1, "label": c}
            for split in ("train", "test")
            for c, name in enumerate(classes)
            if (root / split / name).is_dir()
            for file in files_in(root / split / name, advice="Check --root.")
        ]
        if not rows:
            raise UsageError(
                f"{self.name}: {root} has no images; expected train/{classes[0]}/*.png and so on. Check --root."
            )
        return pd.DataFrame(rows)

    def read(self, row: Mapping[str, Any], root: Path) -> np.ndarray:
        """Return one image as (32,32,3) uint8."""
        path = root / row["path"]
        if row["row"] < 0:
            return read_image(path, self.channels)
        return _records(path, self)[1][row["row"]].reshape(3, 32, 32).transpose(1, 2, 0)

    def checksums(self, root: Path) -> dict[str, str]:
        """Compare the files of the Python version, and archives that lie there, with the published md5 sums."""
        return against(root, self.md5)


@dataset("cifar10", source="Krizhevsky 2009; training schedule and normalisation: Woods 2019, code")
@dataclass(frozen=True, kw_only=True)
class Cifar10(Tiny):
    """CIFAR-10: ten classes, 32 px, colour; a seeded part of the training images is held out for validation."""

    mean: ClassVar[tuple[float, ...]] = (0.4914, 0.4822, 0.4465)
    std: ClassVar[tuple[float, ...]] = (0.247, 0.243, 0.261)
    folders = ("cifar-10-batches-bin", "cifar-10-batches-py", "cifar10", "cifar-10")
    how_to_get = (
        "To get CIFAR-10 (170 MB):\n"
        "  1. download cifar-10-binary.tar.gz (or -python) from https://www.cs.toronto.edu/~kriz/cifar.html\n"
        "  2. unpack it: tar xf cifar-10-binary.tar.gz\n"
        "  3. give --root FOLDER (cifar-10-batches-bin), or set HARNESS_DATA to the folder above it.\n"
        "Or: harness data prepare cifar10 --download"
    )
    downloads: ClassVar[tuple[Download, ...]] = (  # md5: cifar.html; bytes: as its server says, quoted by others
        Download(
            "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz", "cifar-10-binary.tar.gz",
            "c32a1d4ab5d03f1284b67883e8d87530", size=170_052_171, unpack=".", inside="cifar-10-batches-bin",
        ),
    )  # fmt: skip
    name: ClassVar[str] = "cifar10"
    batches: ClassVar[Mapping[str, str]] = {b: "test" if b == "test_batch" else "train" for b in BATCHES}
    fields: ClassVar[tuple[str, ...]] = ("labels",)
    names: ClassVar[tuple[tuple[str, ...], ...]] = (CLASSES,)
    md5: ClassVar[Mapping[str, str]] = MD5


@dataset("cifar100", source="Krizhevsky 2009; training schedule: Woods 2019, code (CIFAR-10)")
@dataclass(frozen=True, kw_only=True)
class Cifar100(Tiny):
    """CIFAR-100: 100 classes (or their 20 superclasses), 32 px, colour; a seeded part of training for validation."""

    labels: Literal["fine", "coarse"] = setting(
        "fine", source="Krizhevsky 2009, 3", help="coarse: the 20 superclasses of five classes each"
    )

    mean: ClassVar[tuple[float, ...]] = (0.5071, 0.4865, 0.4409)  # of its training images; from memory
    std: ClassVar[tuple[float, ...]] = (0.2673, 0.2564, 0.2762)
    folders = ("cifar-100-binary", "cifar-100-python", "cifar100", "cifar-100")
    how_to_get = (
        "To get CIFAR-100 (170 MB):\n"
        "  1. download cifar-100-binary.tar.gz (or -python) from https://www.cs.toronto.edu/~kriz/cifar.html\n"
        "  2. unpack it: tar xf cifar-100-binary.tar.gz\n"
        "  3. give --root FOLDER (cifar-100-binary), or set HARNESS_DATA to the folder above it.\n"
        "Or: harness data prepare cifar100 --download"
    )
    downloads: ClassVar[tuple[Download, ...]] = (
        Download(
            "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz", "cifar-100-python.tar.gz",
            MD5_100["cifar-100-python.tar.gz"], unpack=".", inside="cifar-100-python",
        ),
    )  # fmt: skip
    name: ClassVar[str] = "cifar100"
    batches: ClassVar[Mapping[str, str]] = {"train": "train", "test": "test"}
    fields: ClassVar[tuple[str, ...]] = ("coarse_labels", "fine_labels")
    names: ClassVar[tuple[tuple[str, ...], ...]] = (COARSE, FINE)
    md5: ClassVar[Mapping[str, str]] = MD5_100

    @property
    def numbering(self) -> int:
        """Return which of the record's labels is the class."""
        return 1 if self.labels == "fine" else 0

    def _check(self, file: Path, labels: np.ndarray) -> None:
        super()._check(file, labels)
        torn = np.flatnonzero(COARSE_OF[labels[:, 1]] != labels[:, 0])
        if len(torn):
            coarse, fine = labels[torn[0]]
            raise UsageError(
                f"cifar100: {file}, record {torn[0]}: {FINE[fine]!r} in the superclass {COARSE[coarse]!r}, expected "
                f"{COARSE[COARSE_OF[fine]]!r}. The file is damaged: fetch it again."
            )


@lru_cache(maxsize=len(BATCHES))
def _records(path: Path, data: Tiny) -> tuple[np.ndarray, np.ndarray]:
    """Return labels (n,L) and planes (n,3072) of one batch file, binary or pickled."""
    if not path.exists():
        raise UsageError(f"{data.name}: {path} is missing. Unpack the archive again.")
    if path.suffix == ".bin":
        width = PIXELS + len(data.fields)
        content = np.fromfile(path, dtype=np.uint8)
        if not len(content) or len(content) % width:
            raise UsageError(
                f"{data.name}: {path} has {len(content):,} bytes; expected a multiple of {width}: it is truncated. "
                "Unpack the archive again."
            )
        records = content.reshape(-1, width)
        return records[:, : len(data.fields)], records[:, len(data.fields) :]
    if digest_of(path) != data.md5[path.name]:
        raise UsageError(
            f"{data.name}: {path} does not have the published md5 sum. It is a pickle, which could run code, so it is "
            "not opened. Fetch the archive of the Python version again, or use the binary version."
        )
    with path.open("rb") as file:
        content = pickle.load(file, encoding="bytes")  # its md5 is the published one
    labels = [np.asarray(content[field.encode()], np.uint8) for field in data.fields]
    return np.stack(labels, axis=1), np.asarray(content[b"data"], np.uint8)
