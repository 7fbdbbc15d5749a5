"""Adversarial explanations of images, and the pictures of them that a report shows (Woods 2019, Figs 1, 4 and 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.attacks.explain import of_class
from harness.attacks.minimal import rmse
from harness.data.cache import Prepared
from harness.evaluations import gallery
from harness.evaluations.localisation import CORNERS, pairs_of
from harness.evaluations.subject import Picture, Subject
from harness.types import Batch

DIRECTIONS = ("plus", "minus")
SHOWN = 3  # most probable classes that a picture is explained for, besides its own (Woods 2019, Fig. 1)


@dataclass(frozen=True)
class Reached:
    """B images, changed towards a class or away from it, and what the model says of them."""

    image: Tensor  # (B,C,H,W)
    probability: Tensor  # (B,V)
    rmse: Tensor  # (B,)
    passes: float  # forward-and-backward passes spent on each image


def explained(subject: Subject, batch: Batch, target: Tensor, direction: str, rho: float) -> Reached:
    """Return the adversarial explanations of a batch for the classes `target` (B,)."""
    moved, passes = torch.empty_like(batch.x), 0
    for model, rows in subject.shares(batch.index.numpy()):
        with subject.room:
            goal = of_class(target[rows], exclusive=subject.task.exclusive)
            found = subject.attacks["explain"](model, batch.x[rows], goal, rho=rho, direction=direction)
            moved[rows], passes = batch.x[rows] + found.delta, found.passes
    probability = subject.task.probability(subject.logits(replace(batch, x=moved)))
    return Reached(moved, probability, rmse(moved - batch.x), float(passes))


def samples_shown(prepared: Prepared) -> list[tuple[int, int]]:
    """Return (position, class) of the samples that every run shows: those of localisation where there are boxes."""
    if len(prepared.index.boxes):
        pairs = pairs_of(prepared)
        places, numbers = pairs.position, pairs.class_number
    else:
        every, _ = prepared.index.scored()
        rows, numbers = np.nonzero(prepared.index.labels[every])
        places = every[rows]
    return [(int(places[i]), int(numbers[i])) for i in gallery.fixed_pairs(numbers)]


def pictures_of(subject: Subject, position: int, own: int, rho: float) -> list[Picture]:
    """Return an entry for each class that one image is explained for: its `own`, and the most probable ones."""
    index = subject.prepared.index
    before = subject.task.probability(subject.logits(_repeated(subject, position, 1)))[0]
    classes = list(dict.fromkeys([own, *before.nan_to_num().topk(min(SHOWN, len(before))).indices.tolist()]))
    batch = _repeated(subject, position, len(classes))
    target = torch.tensor(classes, device=batch.x.device)
    made = {d: explained(subject, batch, target, d, rho) for d in DIRECTIONS}
    amplification = 0.25 / rho  # a change of 2 rho is white or black
    sample, names = str(index.samples["id"].iloc[position]), index.classes
    found = []
    for i, c in enumerate(classes):
        others, reached = {}, {}
        for direction, m in made.items():
            others[direction] = levels(m.image[i])
            others[f"{direction}_difference"] = levels(0.5 + amplification * (m.image[i] - batch.x[i]))
            reached[direction] = {
                "probability": plain(m.probability[i, c]),
                "rmse": plain(m.rmse[i]),
                "top": _top(m.probability[i], names),
            }
        entry = {
            "id": sample,
            "class_name": names[c],
            "why": "fixed",
            "own": names[own],
            "order": i,
            "probability": plain(before[c]),
            "positive": bool(index.labels[position, c]),
            "scores": {},
            "boxes": _boxes(subject.prepared, sample, names[c]),
            "top": _top(before, names),
            "explanations": reached,
            "rho": rho,
            "amplification": amplification,
        }
        found.append(Picture(entry, np.asarray(subject.prepared.images[position]), others=others))
    return found


def _repeated(subject: Subject, position: int, times: int) -> Batch:
    return subject.feed(np.full(times, position)).batch(np.arange(times))


def _boxes(prepared: Prepared, sample: str, class_name: str) -> list[list[float]]:
    boxes = prepared.index.boxes
    mine = boxes.loc[(boxes["id"] == sample) & (boxes["class_name"] == class_name), CORNERS]
    return mine.to_numpy(float).round(6).tolist()


def levels(image: Tensor) -> NDArray[np.uint8]:
    """Return an image (C,S,S) in [0,1] as 8 bits; what lies beyond is cut off, what is no number is black."""
    return (image.nan_to_num(0.0).clamp(0, 1) * 255).round().byte().cpu().numpy()


def plain(value: Tensor) -> float | None:
    """Return a number as JSON has it, None where it is none."""
    number = float(value)
    return round(number, 6) if np.isfinite(number) else None


def _top(probability: Tensor, names: Sequence[str]) -> list[list[Any]]:
    """Return the two most probable classes and their probabilities; [] where these are no numbers."""
    if not probability.isfinite().all():
        return []
    found = probability.topk(min(2, len(names)))
    return [[names[c], plain(p)] for p, c in zip(found.values, found.indices.tolist(), strict=True)]
