"""Tiny folders in the official layouts of the datasets that need files."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.io import savemat
from support import REPOSITORY

from harness.plugins import load_file

FINDINGS = ("Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax",
            "Consolidation", "Edema", "Emphysema", "Fibrosis", "Pleural_Thickening", "Hernia")  # fmt: skip
ENTRY_HEADER = ("Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
                "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]")  # fmt: skip
BOX_HEADER = "Image Index,Finding Label,Bbox [x,y,w,h],,,"


def chestxray14(root: Path, *, patients: int = 70, size: int = 32) -> Path:
    """Write a ChestX-ray14 of two images per patient: every finding in turn, boxes on some test images."""
    folder = root / "ChestX-ray14"
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    entries, boxes, lists = [ENTRY_HEADER], [BOX_HEADER], {"train_val_list.txt": [], "test_list.txt": []}
    for patient in range(patients):
        test = patient >= patients - 14
        for follow_up in range(2):
            name = f"{patient + 1:08d}_{follow_up:03d}.png"
            finding = FINDINGS[patient % 14]
            label = finding if follow_up == 0 else "No Finding"
            entries.append(f"{name},{label},{follow_up},{patient + 1},57,M,PA,2682,2749,0.143,0.143")
            lists["test_list.txt" if test else "train_val_list.txt"].append(name)
            pixels = rng.integers(0, 256, (size, size), np.uint8)
            mode = "RGBA" if patient == 3 else "L"
            Image.fromarray(pixels).convert(mode).save(folder / "images" / name)
            if test and follow_up == 0 and finding in FINDINGS[:8]:
                shown = "Infiltrate" if finding == "Infiltration" else finding
                boxes.append(f"{name},{shown},256.0,128.0,512.0,256.0")
    (folder / "Data_Entry_2017_v2020.csv").write_text("\n".join(entries) + "\n")
    (folder / "BBox_List_2017.csv").write_text("\n".join(boxes) + "\n")
    for name, names in lists.items():
        (folder / name).write_text("\n".join(names))
    return folder


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


OWN_CLASSES = ("effusion", "mass nodule", "ödem")


def folder(root: Path, *, name: str = "mine", per_class: int = 8, seed: int = 0, size: int = 32) -> Path:
    """Write a folder per class of a user's own images, two of each patient, with boxes on all of one class."""
    place = root / name
    rng = np.random.default_rng(seed)
    patients, boxes = ["image,patient"], ["image,class,x0,y0,x1,y1"]
    for number, label in enumerate(OWN_CLASSES):
        (place / label).mkdir(parents=True)
        for i in range(per_class):
            image = f"{label}/image {i}.png"
            pixels = rng.integers(0, 200, (size, size + 8), np.uint8)
            pixels[: size // 2, : size // 2] //= number + 1
            Image.fromarray(pixels).save(place / image)
            patients.append(f"{image},{label[0]}{i // 2}")
            boxes += [f"{image},{label},2,4,{size},{size // 2}"] * (number == 0)
    (place / "patients.csv").write_text("\n".join(patients) + "\n", encoding="utf-8")
    (place / "boxes.csv").write_text("\n".join(boxes) + "\n", encoding="utf-8")
    return place


def csv(root: Path, *, name: str = "mine", images: int = 30, size: int = 32) -> Path:
    """Write a table of a user's own images with two findings, which may come together, and their parts."""
    place = root / name
    (place / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    lines = ["image,patient,split,effusion,mass"]
    for i in range(images):
        image = f"images/{i:02d}.png"
        Image.fromarray(rng.integers(0, 256, (size, size), np.uint8)).save(place / image)
        part = ("train", "train", "validation", "test", "train")[i // 2 % 5]
        lines.append(f"{image},p{i // 2},{part},{i % 2},{int(i % 3 == 0)}")
    (place / "labels.csv").write_text("\n".join(lines) + "\n")
    (place / "boxes.csv").write_text("image,class,x0,y0,x1,y1\nimages/07.png,effusion,0,0,16,32\n")
    return place


EXAMPLES: dict[str, Callable[[Path], Path]] = {
    "chestxray14": chestxray14,
    "cifar10": cifar10,
    "cifar100": cifar100,
    "coco": coco,
    "coco_single": coco,
    "imagenet": imagenet,
    "csv": csv,
    "folder": folder,


JSRT_SIDE, JSRT_MM = 2048, 0.175  # px, mm per px
JSRT_COARSE = 8  # px of the file for one that is drawn


def radiograph(rng: np.random.Generator, side: int) -> np.ndarray:
    """Return something like a chest, (side,side) in [0,1]: two dark lungs in a bright body, ribs and grain."""
    y, x = np.mgrid[0:side, 0:side] / side - 0.5
    lungs = np.zeros((side, side))
    for at in (-0.2, 0.2):
        away = ((x - at - rng.normal(0, 0.01)) / 0.15) ** 2 + ((y - rng.normal(0, 0.01)) / 0.3) ** 2
        lungs = np.maximum(lungs, 1 / (1 + np.exp(12 * (away - 1))))
    ribs = 0.02 * np.sin(y * 60 + 8 * x**2 + rng.uniform(0, 6))
    return np.clip(0.7 - 0.45 * lungs + ribs + rng.normal(0, 0.02, (side, side)), 0, 1)


def jsrt(
    root: Path, *, nodules: int = 12, others: int = 9, mm: tuple[int, int] = (10, 30), contrast: float = 0.25
) -> Path:
    """Write a JSRT of fewer images: discs of `mm` in the lungs of those with a nodule, both tables as they come."""
    folder = root / "JSRT"
    images, tables = folder / "All247images", folder / "Clinical_Information"
    images.mkdir(parents=True)
    tables.mkdir()
    rng = np.random.default_rng(0)
    side = JSRT_SIDE // JSRT_COARSE
    y, x = np.mgrid[0:side, 0:side] * JSRT_COARSE + JSRT_COARSE / 2

    def write(name: str, grey: np.ndarray) -> None:
        stored = np.rint(4095 * (1 - grey)).astype(">u2")  # bright where the film is dense
        stored.repeat(JSRT_COARSE, 0).repeat(JSRT_COARSE, 1).tofile(images / name)

    with_nodule, without = [], []
    for i in range(nodules):
        name, size = f"JPCLN{i + 1:03d}.IMG", int(rng.integers(mm[0], mm[1] + 1))
        at = (int(rng.choice((620, 1420)) + rng.integers(-90, 91)), int(1024 + rng.integers(-300, 301)))
        disc = np.hypot(x - at[0], y - at[1]) < 0.5 * size / JSRT_MM
        write(name, np.clip(radiograph(rng, side) + contrast * disc, 0, 1))
        age, kind = "?" if i == 3 else str(40 + i % 40), ("malignant", "benign")[i % 2]
        fields = [name, str(5 - i * 5 // nodules), str(size), age, ("male", "female")[i % 2], *map(str, at), kind]
        with_nodule.append("\t".join([*fields, "l.upper lobe", "lung cancer", "", ""]))
    for i in range(others):
        name = f"JPCNN{i + 1:03d}.IMG"
        write(name, radiograph(rng, side))
        without.append(f"{name}  {30 + i % 50}   {('male', 'female')[i % 2]}  non-nodule")
    (tables / "CLNDAT_EN.txt").write_bytes("\r".join([*with_nodule, "", "\t\t\t\t\t\t\t\t\t\t", ""]).encode())
    (tables / "CNNDAT_EN.TXT").write_bytes("\r\n".join([*without, ""]).encode())
    return folder


COVIDX = ("normal", "pneumonia", "COVID-19")
COVIDX_SIDE = 160  # px
COVIDX_TEXT = "PORTABLE"


def covidx(
    root: Path,
    *,
    train: int = 12,
    test: int = 4,
    classes: tuple[str, ...] = COVIDX,
    text: tuple[float, float] = (1, 0.5),
) -> Path:
    """Write a COVIDx of `train` and `test` images per class, with text burnt in.

    In training it is on the share text[0] of the last class and on no other; in test on text[1] of every class. What a
    class is besides is weak: haze at the base of both lungs in the last, a faint shadow in one lung in the middle one.
    """
    folder = root / "COVIDx"
    rng = np.random.default_rng(0)
    font = ImageFont.load_default(12)
    y, x = np.mgrid[0:COVIDX_SIDE, 0:COVIDX_SIDE] / COVIDX_SIDE - 0.5
    for side, count in (("train", train), ("test", test)):
        (folder / "data" / side).mkdir(parents=True)
        lines = []
        for number, name in enumerate(classes * count):
            chest = radiograph(rng, COVIDX_SIDE)
            if name == classes[-1]:
                chest += 0.08 * np.exp(-(((y - 0.15) / 0.1) ** 2)) * (np.abs(x) < 0.35)
            elif name == "pneumonia":
                chest += 0.15 * np.exp(-(((x - 0.2) / 0.06) ** 2) - ((y + 0.05) / 0.06) ** 2)
            picture = Image.fromarray(np.rint(255 * np.clip(chest - 0.1, 0, 1)).astype(np.uint8))
            marked = name == classes[-1] and rng.random() < text[0] if side == "train" else rng.random() < text[1]
            if marked:
                at = (int(rng.integers(6, 12)), int(rng.integers(6, 12)))
                ImageDraw.Draw(picture).text(at, COVIDX_TEXT, fill=255, font=font)
            file = f"{side}-{number}.{('png', 'jpg', 'jpeg')[number % 3]}"
            picture.save(folder / "data" / side / file)
            lines.append(f"{side[:2]}{number // 2} {file} {name} rsna")
        (folder / f"{side}_COVIDx8{'A' if len(classes) == 3 else 'B'}.txt").write_text("\n".join(lines) + "\n")
    return folder


EXAMPLES: dict[str, Callable[[Path], Path]] = {
    "chestxray14": chestxray14,
    "cifar10": cifar10,
    "covidx": covidx,
    "covidx_cleaned": covidx,
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
