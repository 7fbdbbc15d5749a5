"""What insertion and deletion do to a batch of images, and the probability that the model gives them on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from harness.evaluations.attacked import attacked, fooled, goal_of
from harness.evaluations.explained_maps import seeds_of
from harness.evaluations.subject import Subject
from harness.masking import blurred, probability
from harness.scores.insertion import counts, curve, places
from harness.types import Batch

RISE_KERNEL, RISE_SIGMA = 11, 5.0  # px, at 224 px (Petsiuk 2018, authors' program)


@dataclass(frozen=True)
class View:
    """B images of which one class is followed: as they are, or attacked."""

    variant: str  # "", or "clean" and "attacked"
    batch: Batch
    target: Tensor  # (B,) long
    p_original: Tensor  # (B,) float32, NaN: not to be scored


def views(subject: Subject, batch: Batch, attack: str, overshoot: float = 1.0) -> list[View]:
    """Return the images of a batch and the class that is followed on each; with an attack also the attacked ones.

    `overshoot` times the smallest perturbation is added, clipped to [0,1].
    The class is the most probable one, or with several findings the most probable true one. After an attack it is the
    class that the image now has; with several findings the one whose decision the attack has changed. Images that are
    wrong as they are, or are not fooled, are not scored then, neither clean nor attacked.
    """
    logits = subject.logits(batch)
    clean = _view(subject, batch, logits, _class_of(subject, batch, logits), "")
    if attack == "none":
        return [clean]
    goal = goal_of(subject.task, logits, batch.y)
    found = attacked(subject, attack, batch, goal)
    moved = replace(batch, x=(batch.x + overshoot * found.delta).clamp(0, 1))
    after = subject.logits(moved)
    target = after.argmax(1) if subject.task.exclusive else clean.target
    usable = fooled(found)
    pair = replace(clean, variant="clean"), _view(subject, moved, after, target, "attacked")
    return [replace(v, p_original=v.p_original.where(usable, torch.nan)) for v in pair]


def _class_of(subject: Subject, batch: Batch, logits: Tensor) -> Tensor:
    if subject.task.exclusive:
        return logits.argmax(1)
    return logits.where(subject.task.true(batch.y, logits.shape[1]), -torch.inf).argmax(1)


def _view(subject: Subject, batch: Batch, logits: Tensor, target: Tensor, variant: str) -> View:
    p = subject.task.probability(logits).gather(1, target[:, None])[:, 0]
    return View(variant, batch, target, p.float())


def baselines(model: Any, x: Tensor, mode: str) -> tuple[Tensor, Tensor]:
    """Return the images from which insertion starts and at which deletion ends, (B,C,H,W) each.

    `rise`: a weaker blur, and the pixels that are zero once the model has normalised them.
    """
    if mode == "rise":
        return blurred(x, kernel=RISE_KERNEL, sigma=RISE_SIGMA), model.normalise.mean.expand_as(x)
    both = blurred(x)
    return both, both


@torch.no_grad()
def both_ways(
    model: Any, x: Tensor, target: Tensor, heat: Tensor, seeds: Tensor, resolution: int, *, at_once: int
) -> tuple[Tensor, Tensor]:
    """Return insertion's and deletion's curves of single images x (B,C,H,W) under finite maps, (B,S+1) each.

    By the protocol's mode, for images that are in no dataset: `followed` serves those that are.
    """
    hidden, count = blurred(x), counts(resolution * resolution)
    place = places(heat, resolution, seeds)
    ends = [probability(model, image, target)[:, None].float() for image in (hidden, x)]
    there, back = (
        curve(model, before, after, target, place, count, at_once=at_once)
        for before, after in ((hidden, x), (x, hidden))
    )
    return torch.cat([ends[0], there, ends[1]], 1), torch.cat([ends[1], back, ends[0]], 1)


@dataclass(frozen=True)
class Followed:
    """Curves of B images, both ends included, by resolution."""

    insertion: dict[int, Tensor]  # (B,S+1) each
    deletion: dict[int, Tensor]
    forwards: float  # passes per image, without the one that chose the class


def followed(
    subject: Subject, view: View, heat: Tensor, resolutions: Sequence[int], *, mode: str, at_once: int
) -> Followed:
    """Return the curves of a view's images under finite heat maps (B,h,w), each by the model that scores the image."""
    batch = view.batch
    seeds = seeds_of(subject, batch.index.numpy(), view.target, "ties")
    count = {r: counts(r * r, mode) for r in resolutions}
    insertion, deletion = ({r: heat.new_empty(len(heat), len(count[r])) for r in resolutions} for _ in range(2))
    for model, chosen in subject.shares(batch.index.numpy()):
        rows = torch.from_numpy(chosen).to(heat.device)
        x, target = batch.x[rows], view.target[rows]
        with subject.room, torch.no_grad(), subject.compute.autocast():
            start, end = baselines(model, x, mode)
            p_start = probability(model, start, target)
            p_end = p_start if end is start else probability(model, end, target)
            for r in resolutions:
                place = places(heat[rows], r, seeds[chosen])
                ways = (insertion, (start, p_start), (x, view.p_original[rows])), \
                       (deletion, (x, view.p_original[rows]), (end, p_end))  # fmt: skip
                for found, (before, p_before), (after, p_after) in ways:
                    size = subject.room.at_once(at_once)
                    inner = curve(model, before, after, target, place, count[r], at_once=size, mode=mode)
                    found[r][rows] = torch.cat([p_before[:, None], inner, p_after[:, None]], dim=1).float()
    ends = 2 if mode == "rise" else 1
    return Followed(insertion, deletion, ends + float(sum(2 * (len(c) - 2) for c in count.values())))
