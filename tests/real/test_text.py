"""Burnt-in text on real radiographs: what is written on them is found, and gone when it is blanked."""

import os

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from harness.data.roots import find_root
from harness.data.text import blanked, text_boxes
from harness.errors import UsageError
from harness.plugins import catalogue

pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif("HARNESS_DATA" not in os.environ, reason="HARNESS_DATA is not set: no real data here"),
]
SIDE, COUNT = 512, 60


def test_a_word_on_radiographs_is_found_and_filled():
    try:
        root = find_root(catalogue().load("dataset", "chestxray14")(), "chestxray14")
    except UsageError as error:
        pytest.skip(str(error).splitlines()[0])
    paths = sorted((root / "images").glob("*.png"))
    mask = Image.new("L", (SIDE, SIDE))
    ImageDraw.Draw(mask).text((20, 430), "AP PORTABLE", fill=255, font=ImageFont.load_default(22))
    ink = np.asarray(mask) > 127
    visible, found, left = 0, 0, 0
    for path in paths[:: len(paths) // COUNT][:COUNT]:
        image = Image.open(path).convert("L").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        contrast = 255 - np.asarray(image)[ink].mean()
        image.paste(255, mask=mask)
        if contrast < 80:
            continue
        visible += 1
        boxes = text_boxes(np.asarray(image))
        area = np.zeros((SIDE, SIDE), bool)
        for x0, y0, x1, y1 in np.rint(boxes * SIDE).astype(int):
            area[y0:y1, x0:x1] = True
        found += (area & ink).sum() >= 0.8 * ink.sum()
        left += (blanked(np.asarray(image), boxes)[ink] > 250).mean() > 0.2
    assert visible >= 30
    assert found >= 0.9 * visible, "docs/covidx.md: 93 % of the texts that stand out by 80 grey levels"
    assert left <= 0.1 * visible
