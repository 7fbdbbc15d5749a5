"""CIFAR-10 (Krizhevsky 2009): 50,000 training and 10,000 test images of 32 x 32, ten classes.

Read from the binary version, the Python version (its pickles are opened only after their md5 is right), or folders
train/<class>/*.png and test/<class>/*.png.
"""

import hashlib
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from harness.api import Dataset, Download, Index, MultiClass, UsageError, dataset, read_image, rng_for, setting

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
PIXELS = 3 * 32 * 32
BATCHES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}


@dataset("cifar10", source="Krizhevsky 2009; training schedule and normalisation: Woods 2019, code")
@dataclass(frozen=True, kw_only=True)
class Cifar10(Dataset):
    """CIFAR-10: ten classes, 32 px, colour; a seeded part of the training images is held out for validation."""

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

    def found_at(self, root: Path) -> bool:
        """Return whether the folder is one of the three layouts."""
        return any((root / name).exists() for name in ("data_batch_1.bin", "data_batch_1", "train", "test_batch.bin"))

    def index(self, root: Path) -> Index:
        """Return the table of the 60,000 images (or of the class folders' files)."""
        samples = self._folders(root) if (root / "train").is_dir() else self._batches(root)
        training = np.flatnonzero(samples["split"] == "train")
        if not 0 < self.n_validation < len(training):
            raise UsageError(
                f"cifar10: n_validation is {self.n_validation}; expected 1 to {len(training) - 1} training images."
            )
        held_out = rng_for(self.split_seed, "cifar10 validation").choice(training, self.n_validation, replace=False)
        samples.loc[held_out, "split"] = "validation"
        samples = self._fewer(samples) if self.n_train else samples
        labels = np.eye(len(CLASSES), dtype=np.uint8)[samples.pop("label").to_numpy(int)]
        return Index(samples=samples.assign(patient=samples["id"]), labels=labels, classes=CLASSES)

    def _fewer(self, samples: pd.DataFrame) -> pd.DataFrame:
        """Return the table with `n_train` of the training images."""
        training = np.flatnonzero(samples["split"] == "train")
        if not 0 < self.n_train <= len(training):
            raise UsageError(f"cifar10: n_train is {self.n_train}; expected 1 to {len(training)} images, or 0 for all.")
        kept = rng_for(self.split_seed, "cifar10 training").choice(training, self.n_train, replace=False)
        return samples.drop(np.setdiff1d(training, kept)).reset_index(drop=True)

    def _batches(self, root: Path) -> pd.DataFrame:
        binary = (root / "data_batch_1.bin").exists() or (root / "test_batch.bin").exists()
        tables = []
        for name in BATCHES:
            file = root / (f"{name}.bin" if binary else name)
            labels = _records(file)[0]
            if len(labels) and labels.max() >= len(CLASSES):
                raise UsageError(f"cifar10: {file} has the label {labels.max()}, expected 0 to 9. Fetch it again.")
            split = "test" if name == "test_batch" else "train"
            ids = [f"{name}_{i:05d}" for i in range(len(labels))]
            tables.append(
                pd.DataFrame({"id": ids, "split": split, "path": file.name, "row": range(len(labels)), "label": labels})
            )
        return pd.concat(tables, ignore_index=True)

    def _folders(self, root: Path) -> pd.DataFrame:
        rows = [
            {"id": f"{split}/{name}/{p.name}", "split": split, "path": str(p.relative_to(root)), "row": -1, "label": c}
            for split in ("train", "test")
            for c, name in enumerate(CLASSES)
            for p in sorted((root / split / name).glob("*.*"))
        ]
        if not rows:
            raise UsageError(f"cifar10: {root} has no images; expected train/airplane/*.png and so on. Check --root.")
        return pd.DataFrame(rows)

    def read(self, row: Mapping[str, Any], root: Path) -> np.ndarray:
        """Return one image as (32,32,3) uint8."""
        path = root / row["path"]
        if row["row"] < 0:
            return read_image(path, self.channels)
        return _records(path)[1][row["row"]].reshape(3, 32, 32).transpose(1, 2, 0)

    def checksums(self, root: Path) -> dict[str, str]:
        """Compare the batches of the Python version with the published md5 sums."""
        return {n: "as published" if _md5(root / n) == MD5[n] else "differs" for n in BATCHES if (root / n).exists()}


def _md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


@lru_cache(maxsize=len(BATCHES))
def _records(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return labels (n,) and planes (n,3072) of one batch file, binary or pickled."""
    if not path.exists():
        raise UsageError(f"cifar10: {path} is missing. Unpack the archive again.")
    if path.suffix == ".bin":
        content = np.fromfile(path, dtype=np.uint8)
        if not len(content) or len(content) % (PIXELS + 1):
            raise UsageError(
                f"cifar10: {path} has {len(content):,} bytes; expected a multiple of {PIXELS + 1}: it is truncated. "
                "Unpack the archive again."
            )
        records = content.reshape(-1, PIXELS + 1)
        return records[:, 0], records[:, 1:]
    if _md5(path) != MD5[path.name]:
        raise UsageError(
            f"cifar10: {path} does not have the published md5 sum. It is a pickle, which could run code, so it is not "
            "opened. Fetch cifar-10-python.tar.gz again, or use the binary version."
        )
    with path.open("rb") as file:
        content = pickle.load(file, encoding="bytes")  # its md5 is the published one
    return np.asarray(content[b"labels"], np.uint8), np.asarray(content[b"data"], np.uint8)
