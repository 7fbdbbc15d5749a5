"""Tiny folders in the official layouts of the datasets that need files."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

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
    "csv": csv,
    "folder": folder,
    "imagenet_sample": imagenet_sample,
}
EXAMPLE_SETTINGS: dict[str, dict[str, object]] = {
    "chestxray14": {"size": 32},
    "cifar10": {"n_validation": 20},
    "csv": {"name": "mine", "size": 32, "labels": "multi"},
    "folder": {"name": "mine", "size": 32},
    "imagenet_sample": {"size": 32},
}
