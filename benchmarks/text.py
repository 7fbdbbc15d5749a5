"""How often the detector of burnt-in text is right: rendered text on radiographs of ChestX-ray14 (docs/covidx.md).

HARNESS_DATA=FOLDER python benchmarks/text.py [--images N] [--skip N] [--fonts FILE.ttf ...]

Each radiograph gets one text: font, height, side of the image, brightness and place are drawn from a seed. What the
detector says of the radiograph as it is (its own marks) is taken off before precision is counted. A text is found if
four fifths of its ink is in boxes; a box is right if half of it is on the text's own box, padded by half its height.
"""

from __future__ import annotations

import argparse
import io
import os
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from harness.data.roots import find_root
from harness.data.text import text_boxes
from harness.plugins import catalogue
from harness.rng import rng_for

TEXTS = {
    "word": ("PORTABLE", "AP PORTABLE", "SUPINE", "13:45", "COVID-19", "Se: 2 Im: 1", "ERECT 72in", "2020-03-27"),
    "letter": ("L", "R"),
}
HEIGHTS = (0.012, 0.018, 0.025, 0.04, 0.06)  # of the side: of a capital letter
SIDES = (256, 512, 1024)
INKS = {"white": (255, 1.0), "grey": (200, 1.0), "faint": (255, 0.5), "black": (0, 1.0), "on a plate": (255, 1.0)}
QUALITY = 85  # of the JPEG that the picture goes through


def font_of(name: str, height: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return a font whose capitals are `height` px high."""
    load = ImageFont.load_default if name == "default" else lambda size: ImageFont.truetype(name, size)
    sized = load(100)
    box = sized.getbbox("H")
    return load(max(4, round(100 * height / (box[3] - box[1]))))


def ink_of(text: str, name: str, height: float) -> Image.Image:
    """Return the text in white on black."""
    if name == "bitmap":  # a fixed 11 px font, enlarged without smoothing
        font = ImageFont.load_default_imagefont()
        box = font.getbbox(text)
        drawn = Image.new("L", (int(box[2]), int(box[3])))
        ImageDraw.Draw(drawn).text((0, 0), text, fill=255, font=font)
        drawn = drawn.crop(drawn.getbbox())
        factor = max(1, round(height / 7))
        return drawn.resize((drawn.width * factor, drawn.height * factor), Image.Resampling.NEAREST)
    font = font_of(name, height)
    box = [int(v) for v in font.getbbox(text)]
    drawn = Image.new("L", (box[2] + 4, box[3] + 4))
    ImageDraw.Draw(drawn).text((2, 2), text, fill=255, font=font)
    return drawn.crop(drawn.getbbox())


def pasted(image: Image.Image, ink: Image.Image, kind: str, at: tuple[int, int]) -> tuple[Image.Image, np.ndarray]:
    """Return the picture with the text, through a blur and JPEG, and where its ink is (H,W) bool."""
    grey, opacity = INKS[kind]
    result = image.copy()
    if kind == "on a plate":
        edge = ink.height // 3
        result.paste(0, (at[0] - edge, at[1] - edge, at[0] + ink.width + edge, at[1] + ink.height + edge))
    result.paste(grey, at, ink.point(lambda v: round(v * opacity)))
    buffer = io.BytesIO()
    result.filter(ImageFilter.GaussianBlur(0.4)).save(buffer, "JPEG", quality=QUALITY)
    mask = Image.new("L", image.size)
    mask.paste(ink, at)
    return Image.open(buffer).convert("L"), np.asarray(mask) >= 0.5 * max(1, np.asarray(mask).max())


def pixels(boxes: np.ndarray, side: int) -> np.ndarray:
    """Return which pixels lie in boxes (K,4) of fractions, (side,side) bool."""
    found = np.zeros((side, side), bool)
    for x0, y0, x1, y1 in np.rint(boxes * side).astype(int):
        found[y0:y1, x0:x1] = True
    return found


def trial(path: Path, number: int, fonts: list[str]) -> dict[str, object]:
    """Return what the detector makes of one radiograph with one text."""
    rng = rng_for(0, "text benchmark", number)
    side, font = int(rng.choice(SIDES)), str(rng.choice(fonts))
    share, kind = float(rng.choice(HEIGHTS)), str(rng.choice(list(INKS)))
    what = "letter" if rng.random() < 0.25 else "word"
    text = str(rng.choice(TEXTS[what]))
    image = Image.open(path).convert("L").resize((side, side), Image.Resampling.BICUBIC)
    ink = ink_of(text, font, share * side)
    ink = ink.crop((0, 0, min(ink.width, int(0.9 * side)), ink.height))
    room = np.array(image.size) - ink.size
    at = rng.random(2)
    if what == "letter" or rng.random() < 0.7:  # near an edge
        at[int(rng.integers(2))] = rng.choice((0.03, 0.97)) + rng.uniform(-0.02, 0.02)
    place = (int(at[0] * room[0]), int(at[1] * room[1]))
    picture, mask = pasted(image, ink, kind, place)
    before, after = text_boxes(np.asarray(image)), text_boxes(np.asarray(picture))
    own = pixels(before, side)  # marks that the radiograph has, or false alarms on it
    beneath = np.asarray(image, float)[mask]
    visible = np.abs(np.asarray(picture, float)[mask] - (0 if kind == "on a plate" else beneath)).mean()
    contrast = "below 40" if visible < 40 else "40 to 80" if visible < 80 else "80 or more"
    pad = ink.height // 2
    truth = np.zeros((side, side), bool)
    truth[max(0, place[1] - pad) : place[1] + ink.height + pad, max(0, place[0] - pad) : place[0] + ink.width + pad] = 1
    boxes = [pixels(b[None], side) for b in after]
    new = [b for b in boxes if (b & own & ~truth).sum() < 0.5 * b.sum()]
    area = np.logical_or.reduce(new) if new else np.zeros_like(mask)
    covered = (mask & area).sum() / mask.sum()
    return {
        "side": side, "font": Path(font).stem, "height": share, "ink": kind, "text": what,
        "contrast": contrast,
        "ink covered": covered,
        "found": covered >= 0.8, "right": sum((b & truth).sum() >= 0.5 * b.sum() for b in new), "boxes": len(new),
        "area right": int((area & truth).sum()), "area": int(area.sum()), "boxes on the bare image": len(before),
    }  # fmt: skip


def table(results: pd.DataFrame, by: str) -> str:
    """Return recall and precision by one property, as Markdown."""
    lines = [
        f"| {by} | texts | ink in boxes | texts found | boxes right | area right |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, part in results.groupby(by, sort=False) if by != "all" else [("all", results)]:
        lines.append(
            f"| {name} | {len(part)} | {part['ink covered'].mean():.2f} | {part['found'].mean():.2f} | "
            f"{part['right'].sum() / max(1, part['boxes'].sum()):.2f} | "
            f"{part['area right'].sum() / max(1, part['area'].sum()):.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--images", type=int, default=1000)
    options.add_argument("--skip", type=int, default=0, help="the first 400 were looked at while the detector was made")
    options.add_argument("--fonts", nargs="*", default=[])
    given = options.parse_args()
    if "HARNESS_DATA" not in os.environ:
        raise SystemExit("set HARNESS_DATA to the folder that holds ChestX-ray14")
    root = find_root(catalogue().load("dataset", "chestxray14")(), "chestxray14")
    paths = sorted((root / "images").glob("*.png"))
    chosen = rng_for(0, "text benchmark").permutation(len(paths))[: given.images]
    fonts = ["default", "bitmap", *given.fonts]
    numbers = range(given.skip, len(chosen))
    results = pd.DataFrame([trial(paths[chosen[n]], n, fonts) for n in numbers])
    for by in ("all", "contrast", "text", "height", "side", "ink", "font"):
        print(table(results.sort_values(by) if by != "all" else results, by), end="\n\n")
    print(f"boxes on the bare image: {results['boxes on the bare image'].mean():.2f} on average")


if __name__ == "__main__":
    main()
