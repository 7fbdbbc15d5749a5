"""Tiny folders in the official layouts of the datasets that need files."""

from collections.abc import Callable
from pathlib import Path

from examples.chest import BOX_HEADER, ENTRY_HEADER, FINDINGS, chestxray14
from examples.medical import COVIDX, COVIDX_SIDE, COVIDX_TEXT, JSRT_COARSE, JSRT_MM, JSRT_SIDE, covidx, jsrt, radiograph
from examples.own import OWN_CLASSES, csv, folder
from examples.photos import CATEGORY_IDS, WNIDS, cifar10, cifar100, coco, devkit, imagenet, imagenet_sample, instance

EXAMPLES: dict[str, Callable[[Path], Path]] = {
    "chestxray14": chestxray14,
    "cifar10": cifar10,
    "cifar100": cifar100,
    "coco": coco,
    "coco_single": coco,
    "covidx": covidx,
    "covidx_cleaned": covidx,
    "csv": csv,
    "folder": folder,
    "imagenet": imagenet,
    "imagenet_sample": imagenet_sample,
    "jsrt": jsrt,
}
EXAMPLE_SETTINGS: dict[str, dict[str, object]] = {
    "chestxray14": {"size": 32},
    "cifar10": {"n_validation": 20},
    "cifar100": {"n_validation": 20},
    "coco": {"size": 32, "subset": True, "n_validation": 10},
    "coco_single": {"size": 32, "subset": True, "n_validation": 10},
    "imagenet": {"size": 16, "subset": True, "n_validation": 20},
    "csv": {"name": "mine", "size": 32, "labels": "multi"},
    "folder": {"name": "mine", "size": 32},
    "covidx": {"size": 32},
    "covidx_cleaned": {"size": 32},
    "imagenet_sample": {"size": 32},
    "jsrt": {"size": 32},
}

__all__ = [
    "BOX_HEADER",
    "CATEGORY_IDS",
    "COVIDX",
    "COVIDX_SIDE",
    "COVIDX_TEXT",
    "ENTRY_HEADER",
    "EXAMPLES",
    "EXAMPLE_SETTINGS",
    "FINDINGS",
    "JSRT_COARSE",
    "JSRT_MM",
    "JSRT_SIDE",
    "OWN_CLASSES",
    "WNIDS",
    "chestxray14",
    "cifar10",
    "cifar100",
    "coco",
    "covidx",
    "csv",
    "devkit",
    "folder",
    "imagenet",
    "imagenet_sample",
    "instance",
    "jsrt",
    "radiograph",
]
