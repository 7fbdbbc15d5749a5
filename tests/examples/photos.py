"""Tiny CIFARs, ImageNets and a COCO."""

import json
import os
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat
from support import REPOSITORY

from harness.plugins import load_file


def cifar10(root: Path, *, per_batch: int = 40) -> Path:
    """Write the binary version with a few images per batch."""
    folder = root / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        labels = np.arange(per_batch, dtype=np.uint8)[:, None] % 10
        pixels = rng.integers(0, 256, (per_batch, 3072), np.uint8)
        np.concatenate([labels, pixels], 1).tofile(folder / f"{name}.bin")
    return folder


def cifar100(root: Path, *, train: int = 400, test: int = 100) -> Path:
    """Write the binary version with a few images, every class in both files."""
    folder = root / "cifar-100-binary"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    module = load_file(REPOSITORY / "datasets" / "cifar.py")
    for name, count in (("train", train), ("test", test)):
        fine = np.arange(count, dtype=np.uint8)[:, None] % 100
        coarse = module.COARSE_OF[fine].astype(np.uint8)
        pixels = rng.integers(0, 256, (count, 3072), np.uint8)
        np.concatenate([coarse, fine, pixels], 1).tofile(folder / f"{name}.bin")
    return folder


WNIDS = tuple(f"n{i:08d}" for i in range(1000, 2000))


def imagenet_sample(root: Path, *, classes: int = 12) -> Path:
    """Write two photos, wider than high, of each of some classes, and the list of all 1,000."""
    folder = root / "imagenet_sample"
    folder.mkdir(parents=True)
    (folder / "synsets.txt").write_text("\n".join(WNIDS) + "\n")
    rng = np.random.default_rng(0)
    for wnid in WNIDS[:: len(WNIDS) // classes][:classes]:
        (folder / wnid).mkdir()
        for i in range(2):
            pixels = rng.integers(0, 256, (32, 48, 3), np.uint8)
            Image.fromarray(pixels).save(folder / wnid / f"{wnid}_{i}.jpg")
    return folder


def imagenet(root: Path, *, per_class: int = 2, val: int = 24) -> Path:
    """Write ILSVRC2012 as unpacked: the whole devkit, a few photos of each class in train, `val` flat ones in val.

    The devkit numbers the classes backwards. Photo k of val is of class k - 1 (by wnid), and so on.
    """
    folder = root / "imagenet"
    source = root / "photos"
    source.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(12):
        Image.fromarray(rng.integers(0, 256, (32, 48, 3), np.uint8)).save(source / f"{i}.jpg")
    for c, wnid in enumerate(WNIDS):
        (folder / "train" / wnid).mkdir(parents=True)
        for i in range(per_class):
            os.link(source / f"{(c + i) % 12}.jpg", folder / "train" / wnid / f"{wnid}_{i}.JPEG")
    (folder / "val").mkdir()
    for i in range(1, val + 1):
        os.link(source / f"{i % 12}.jpg", folder / "val" / f"ILSVRC2012_val_{i:08d}.JPEG")
    devkit(folder)
    return folder


def devkit(folder: Path, *, ids: tuple[int, ...] = tuple(range(1000, 0, -1)), wnids: tuple[str, ...] = WNIDS) -> None:
    """Write the devkit's meta.mat, in which class c has the id `ids[c]`, and the ground truth of 50,000 photos."""
    data = folder / "ILSVRC2012_devkit_t12" / "data"
    data.mkdir(parents=True, exist_ok=True)
    kinds = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("gloss", "O"), ("num_children", "O")]
    table = np.zeros((len(ids) + 1, 1), kinds)
    for i, (number, wnid) in enumerate(zip(ids, wnids, strict=True)):
        table[i, 0] = (number, wnid, f"word {i}, other word", "what it is", 0)
    table[-1, 0] = (1001, "n00000001", "entity", "what all of them are", 1000)
    savemat(data / "meta.mat", {"synsets": table})
    lines = "\n".join(str(ids[i % len(ids)]) for i in range(50_000))
    (data / "ILSVRC2012_validation_ground_truth.txt").write_text(lines + "\n")


CATEGORY_IDS = tuple(i for i in range(1, 91) if i not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83))


def coco(root: Path, *, train: int = 170, val: int = 60) -> Path:
    """Write a COCO 2017 whose photo k has an object of category k, and some a second one, a crowd or nothing."""
    folder = root / "coco"
    rng = np.random.default_rng(0)
    (folder / "annotations").mkdir(parents=True)
    for part, first, count in (("train2017", 1, train), ("val2017", 1001, val)):
        (folder / part).mkdir()
        images, annotations = [], []
        for i in range(count):
            number = first + i
            name = f"{number:012d}.jpg"
            Image.fromarray(rng.integers(0, 256, (30, 40, 3), np.uint8)).save(folder / part / name)
            images.append({"license": 1, "file_name": name, "height": 30, "width": 40, "id": number})
            if (i % 10 == 9 and i > 160) or (i % 20 == 19 and part == "val2017"):
                continue  # without instances
            annotations.append(instance(10 * number, number, CATEGORY_IDS[i % 80], [10, 6, 20, 12]))
            if i % 3 == 0:
                annotations.append(instance(10 * number + 1, number, CATEGORY_IDS[(i + 1) % 80], [0, 0, 10.5, 7.5]))
            if i % 6 == 0:
                annotations.append(instance(10 * number + 2, number, CATEGORY_IDS[i % 80], [30, 18, 10, 12]))
            if i % 7 == 0:
                crowd = instance(10 * number + 3, number, CATEGORY_IDS[(i + 2) % 80], [0, 0, 40, 30], crowd=True)
                annotations.append(crowd)
        categories = [{"supercategory": "thing", "id": c, "name": f"thing {c:02d}"} for c in reversed(CATEGORY_IDS)]
        content = {"info": {"year": 2017}, "licenses": [{"id": 1, "name": "by"}], "images": images,
                   "annotations": annotations, "categories": categories}  # fmt: skip
        (folder / "annotations" / f"instances_{part}.json").write_text(json.dumps(content))
    return folder


def instance(number: int, image: int, category: int, box: list[float], *, crowd: bool = False) -> dict[str, object]:
    """Return an annotation as COCO writes it, its segment filling the box but for crowds."""
    x, y, w, h = box
    polygon = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    segment = {"counts": [100, 20, 1080], "size": [30, 40]} if crowd else polygon
    area = 20 if crowd else w * h
    return {"segmentation": segment, "area": area, "iscrowd": int(crowd), "image_id": image, "bbox": box,
            "category_id": category, "id": number}  # fmt: skip
