"""Pictures for the report, made when a model is scored: the report itself has no model and no images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from harness.evaluations.subject import Picture, fixed_order
from harness.store import write_json, writing

FIXED = 12  # pictures fixed by the dataset, the same for every run
BY_SCORE = 4  # each of best, median and worst


def fixed_pairs(classes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return which of P pairs every run shows, (<=FIXED,): one of each class in turn, in the fixed order.

    `classes` (P,) holds the class of each pair.
    """
    order = fixed_order(len(classes))
    rank = np.zeros(len(classes), np.int64)  # how many of the same class come before it
    seen: dict[int, int] = {}
    for pair in order:
        c = int(classes[pair])
        rank[pair] = seen.get(c, 0)
        seen[c] = seen.get(c, 0) + 1
    return order[np.lexsort((classes[order], rank[order]))][:FIXED]


def by_score(scores: NDArray[np.float64]) -> dict[str, list[int]]:
    """Return the pairs with the best, median and worst finite scores, BY_SCORE each, disjoint."""
    order = np.argsort(-scores, kind="stable")
    order = order[np.isfinite(scores[order])]
    count = min(BY_SCORE, len(order) // 3)
    middle = (len(order) - count) // 2
    parts = {"best": order[:count], "median": order[middle : middle + count], "worst": order[len(order) - count :]}
    return {why: part.tolist() for why, part in parts.items()}


def display_levels(heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return a saliency map for display (S,S): clipped at mean + 3 standard deviations, scaled (Khakzar 2019, 4.2)."""
    top = heat.mean() + 3 * heat.std()
    clipped = np.minimum(heat, top)
    low, high = clipped.min(), clipped.max()
    if not high > low:
        return np.zeros(heat.shape, np.uint8)
    return ((clipped - low) / (high - low) * 255).astype(np.uint8)


def _colours() -> NDArray[np.float64]:
    """Return a 256 x 3 colour map, dark blue to yellow: control points of matplotlib's `plasma` (CC0)."""
    points = [(13, 8, 135), (84, 2, 163), (139, 10, 165), (185, 50, 137), (219, 92, 104), (244, 136, 73),
              (254, 188, 43), (240, 249, 33)]  # fmt: skip
    at = np.linspace(0, 255, len(points))
    return np.stack([np.interp(np.arange(256), at, [p[c] for p in points]) for c in range(3)], axis=1)


def overlaid(image: NDArray[np.uint8], heat: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the heat map over the image, (S,S,3); cold places stay clear."""
    base = (image if len(image) == 3 else image.repeat(3, 0)).transpose(1, 2, 0).astype(float)
    strength = (heat / 255.0)[..., None] * 0.6
    return (base * (1 - strength) + _colours()[heat] * strength).round().astype(np.uint8)


def _last(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return (C,S,S) as (S,S,C), or as (S,S) where there is one channel."""
    return pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)


def write(pictures: Sequence[Picture], folder: Path) -> None:
    """Write gallery.json and, beside it, PNG files of each image, its heat map and overlay, and its other pictures.

    An entry names the file of each kind: `image`, `heat`, `overlay`, and those of `Picture.others`.
    """
    entries = []
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for number, picture in enumerate(pictures):
            files = {kind: _last(pixels) for kind, pixels in {"image": picture.image, **picture.others}.items()}
            if picture.heat is not None:
                files["heat"] = picture.heat
                if picture.overlay:
                    files["overlay"] = overlaid(picture.image, picture.heat)
            names = {}
            for kind, pixels in files.items():
                names[kind] = f"{kind}-{number:02d}.png"
                Image.fromarray(np.ascontiguousarray(pixels)).save(folder / names[kind], optimize=True)
            entries.append({**picture.entry, **names})
        write_json(folder / "gallery.json", entries)
