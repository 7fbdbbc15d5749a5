"""A user's own images, in both layouts."""

from pathlib import Path

import numpy as np
from PIL import Image

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
