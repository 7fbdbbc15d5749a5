"""A tiny JSRT and a COVIDx, drawn so that a small network can learn them."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

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
