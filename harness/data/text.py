"""Burnt-in text on radiographs: where it is, and the image without it.

The detector looks for what letters are: strokes that are narrow, brighter (or darker) than what is around them and of
the size of letters, in a line with others of their height, across or down; fewer than three only near the border of the
image, where the marker of a side is. Arrows and the letters of lead markers count as text. It reads nothing, and what
touches the edge of the image is passed over. How often it is right is measured in docs/covidx.md.

A change of what is found here needs another `version` in the decorators of the datasets that use it: it names caches.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from scipy.fft import dstn, idstn
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

LONGEST = 1024  # px: larger images are shrunk to this side before the search
STROKE = 0.02  # of the longer side: strokes are narrower
CONTRASTS = (28.0, 60.0)  # grey levels above which a stroke stands out: the first finds faint text, the second parts
# clear text from what is bright beside it; what either finds counts
PAIR = 50.0  # the same, of two characters
ALONE = 70.0  # and of one that stands alone
HEIGHT = (0.01, 0.08)  # of the longer side: a character's
LEAST = 4  # px of a character's height
FILLED = (0.15, 0.9)  # share of its box that a character covers; an upright stroke covers all
TOUCHING = 1.6  # width by height, above which one stroke must be several characters
CROSSINGS = 1.2  # strokes that a row of pixels crosses in a square of a character's height, on average
LONGEST_RUN = 12  # width by height of characters that touch
INKS = 50.0  # grey levels between the characters of a line, at most
LINE = 3  # characters that make a line anywhere in the image
BORDER = 0.2  # of the image: shorter lines count only if they lie this near to an edge
PAD = 0.25  # of a line's height, around it

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Glyphs:
    """What may be N characters: boxes in px (N,4) as x0, y0, x1, y1, how many characters wide, contrast and ink."""

    box: Floats
    characters: Floats  # (N,)
    contrast: Floats  # (N,) grey levels
    ink: Floats  # (N,) their own grey level

    def __len__(self) -> int:
        return len(self.box)


def text_boxes(image: NDArray[np.uint8]) -> Floats:
    """Return where text is burnt into an image (H,W) or (H,W,3) uint8: boxes (K,4), x0, y0, x1, y1 in fractions of it.

    From top to bottom; (0,4) where there is none. The same image gives the same boxes.
    """
    grey = _grey(image)
    found = []
    for polarity in (grey, 255.0 - grey):
        narrow = _narrow(polarity)
        for contrast in CONTRASTS:
            strokes = narrow > contrast
            found.append(_lines(_glyphs(polarity, strokes), grey.shape[::-1]))
            down = _lines(_glyphs(polarity.T, strokes.T), grey.shape)
            found.append(down[:, [1, 0, 3, 2]])
    boxes = _merged(np.concatenate(found))
    boxes = (boxes / (grey.shape[::-1] * 2)).clip(0.0, 1.0)
    return boxes[np.lexsort((boxes[:, 0], boxes[:, 1]))]


def _grey(image: NDArray[np.uint8]) -> Floats:
    """Return the image as grey levels (h,w), shrunk to LONGEST."""
    picture = Image.fromarray(image).convert("L")
    scale = LONGEST / max(picture.size)
    if scale < 1:
        picture = picture.resize([max(1, round(scale * n)) for n in picture.size], Image.Resampling.BILINEAR)
    return np.asarray(picture, np.float64)


def _narrow(grey: Floats) -> Floats:
    """Return by how much what is narrow is brighter than its surroundings (h,w): the white top-hat."""
    reach = max(5, round(STROKE * max(grey.shape)) | 1)
    return grey - ndimage.grey_opening(grey, (reach, reach))


def _glyphs(grey: Floats, strokes: NDArray[np.bool_]) -> Glyphs:
    """Return the connected strokes that have the size and the filling of a character, or of some that touch."""
    labels, count = cast("tuple[NDArray[np.int32], int]", ndimage.label(strokes, np.ones((3, 3))))
    side = max(grey.shape)
    low, high = max(LEAST, HEIGHT[0] * side), HEIGHT[1] * side
    boxes, measures = [], []
    for number, place in enumerate(ndimage.find_objects(labels, count), 1):
        rows, columns = place
        height, width = rows.stop - rows.start, columns.stop - columns.start
        cut = 0 in (rows.start, columns.start) or rows.stop == labels.shape[0] or columns.stop == labels.shape[1]
        if cut or not low <= height <= high or width > LONGEST_RUN * height:
            continue
        own = labels[place] == number
        filled = own.mean()
        upright = width <= 0.4 * height
        if not FILLED[0] <= filled <= (1.0 if upright else FILLED[1]):
            continue
        wide = width / height
        if wide > TOUCHING:  # characters that touch: as many strokes across as letters have
            crossings = (np.diff(own.astype(np.int8), axis=1, prepend=0) > 0).sum(1).mean()
            if crossings < CROSSINGS * wide:
                continue
        around = tuple(slice(max(0, s.start - 3), s.stop + 3) for s in place)
        near = np.asarray(labels[around] == number)
        ring = np.logical_xor(*(ndimage.binary_dilation(near, iterations=n) for n in (3, 1)))
        ring &= labels[around] == 0
        if not ring.any():
            continue
        contrast = np.median(grey[place][own]) - np.median(grey[around][ring])
        if contrast < CONTRASTS[0]:
            continue
        boxes.append((columns.start, rows.start, columns.stop, rows.stop))
        ink = np.quantile(grey[place][own], 0.75)
        measures.append((round(wide / 0.8) if wide > TOUCHING else 1, contrast, ink))
    return Glyphs(np.array(boxes, float).reshape(-1, 4), *np.array(measures, float).reshape(-1, 3).T)


def _lines(glyphs: Glyphs, size: tuple[int, ...]) -> Floats:
    """Return the boxes of the characters that stand in lines, and of those alone at the border, in px (K,4)."""
    n = len(glyphs)
    if not n:
        return np.zeros((0, 4))
    x0, y0, x1, y1 = glyphs.box.T
    height, middle = y1 - y0, (y0 + y1) / 2
    taller = np.maximum(height[:, None], height[None])
    alike = np.minimum(height[:, None], height[None]) >= 0.6 * taller
    level = np.abs(middle[:, None] - middle[None]) <= 0.3 * taller
    gap = np.maximum(x0[:, None], x0[None]) - np.minimum(x1[:, None], x1[None])
    same = np.abs(glyphs.ink[:, None] - glyphs.ink[None]) <= INKS
    beside = alike & level & same & (gap <= 1.0 * taller) & (gap > -0.3 * taller)
    count, line = connected_components(coo_array(beside), directed=False)
    found = []
    for number in range(count):
        own = line == number
        box = np.array([x0[own].min(), y0[own].min(), x1[own].max(), y1[own].max()])
        characters = glyphs.characters[own].sum()
        centre = (box[:2] + box[2:]) / 2 / size
        border = np.minimum(centre, 1 - centre).min() <= BORDER
        needed = PAIR if characters >= 2 else ALONE
        if characters >= LINE or (border and np.median(glyphs.contrast[own]) >= needed):
            found.append(box + PAD * (box[3] - box[1]) * np.array([-1, -1, 1, 1]))
    return np.array(found).reshape(-1, 4)


def _merged(boxes: Floats) -> Floats:
    """Return the boxes with those that overlap put together."""
    while len(boxes):
        apart = (boxes[:, None, :2] >= boxes[None, :, 2:]).any(2)
        count, group = connected_components(coo_array(~(apart | apart.T)), directed=False)
        if count == len(boxes):
            break
        low = [boxes[group == g, :2].min(0) for g in range(count)]
        high = [boxes[group == g, 2:].max(0) for g in range(count)]
        boxes = np.concatenate([np.array(low), np.array(high)], axis=1)
    return boxes


def blanked(image: NDArray[np.uint8], boxes: Floats) -> NDArray[np.uint8]:
    """Return an image (H,W) or (H,W,3) uint8 whose boxes (K,4), in fractions of it, are filled from their surroundings.

    Each box becomes the membrane over the pixels that frame it (the harmonic function with their values): no step at
    its edge, no texture inside. Boxes that overlap are filled as one. What is outside them is unchanged.
    """
    height, width = image.shape[:2]
    filled = image.copy()
    for x0, y0, x1, y1 in _merged(boxes) * (width, height, width, height):
        rows, columns = (int(max(0, y0)), min(height, math.ceil(y1))), (int(max(0, x0)), min(width, math.ceil(x1)))
        for channel in np.ndindex(image.shape[2:]):
            plane = filled[(..., *channel)]
            plane[slice(*rows), slice(*columns)] = _membrane(plane, rows, columns)
    return filled


def _membrane(plane: NDArray[np.uint8], rows: tuple[int, int], columns: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the harmonic filling (h,w) of a rectangle of a plane (H,W), from the pixels that frame it.

    A side that lies on the edge of the plane takes the values of the opposite one; the middle grey of the plane where
    that is on the edge too.
    """
    (top, bottom), (left, right) = rows, columns
    height, width = bottom - top, right - left
    above = plane[top - 1, left:right] if top else None
    below = plane[bottom, left:right] if bottom < len(plane) else None
    before = plane[top:bottom, left - 1] if left else None
    behind = plane[top:bottom, right] if right < plane.shape[1] else None
    frame = []
    for side, opposite, length in (
        (above, below, width), (below, above, width), (before, behind, height), (behind, before, height),
    ):  # fmt: skip
        found = side if side is not None else opposite
        if found is None:
            found = np.full(length, np.median(plane))
        frame.append(ndimage.gaussian_filter1d(found.astype(float), 1.0))  # less of the grain
    source = np.zeros((height, width))
    source[0] -= frame[0]
    source[-1] -= frame[1]
    source[:, 0] -= frame[2]
    source[:, -1] -= frame[3]
    steps = [2 * np.cos(np.pi * np.arange(1, n + 1) / (n + 1)) - 2 for n in (height, width)]
    waves = np.asarray(dstn(source, type=1))
    smooth = idstn(waves / (steps[0][:, None] + steps[1][None]), type=1)  # pyright: ignore[reportArgumentType, reportCallIssue]
    return np.rint(np.asarray(smooth)).clip(0, 255).astype(np.uint8)
