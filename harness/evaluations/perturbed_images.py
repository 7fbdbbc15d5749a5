"""Robustness of models with one label per image: the goals adv and BTR (Woods et al. 2019; protocol.md, 3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from harness.attacks.goals import Adversarial, BetterThanRandom, Goal
from harness.evaluations.perturbed import Perturbed
from harness.evaluations.subject import Scored, fixed_order
from harness.metrics.robustness import RobustnessTable

GOALS: Mapping[str, Callable[[Any], Goal]] = {"adv": Adversarial, "btr": BetterThanRandom}
SCREENED = 64  # images that are classified at once to find the right ones


@dataclass(frozen=True, kw_only=True)
class Images(Perturbed):
    """The goals adv and BTR, on images along the split's fixed order."""

    images: int
    until_right: bool  # sample until `images` are classified right; else that many in all

    def scored(self) -> Scored:
        """Return one line per image."""
        subject, index = self.subject, self.subject.prepared.index
        every, _ = index.scored()
        positions, logits = self.sample(every[fixed_order(len(every))])
        label = index.labels[positions].argmax(1)
        device = subject.compute.device

        def at(kind: Callable[[Any], Goal]) -> Callable[[Any], Goal]:
            return lambda rows: kind(torch.from_numpy(label[rows]).to(device))

        goals = {name: at(kind) for name, kind in GOALS.items()}
        flags = self.flags(positions, goals["adv"])
        frame = self.run(positions, goals, lambda rows, batch: {})
        beaten = self.beaten(positions, frame, "adv", goals["adv"])
        never = self.led(positions, frame, goals, lambda row: np.delete(np.roll(positions, -row), 0))
        right = logits.argmax(1) == label
        counts = np.bincount(index.labels[every].argmax(1))
        table = RobustnessTable(
            ids=index.ids(positions),
            clusters=index.patients(positions),
            task="multiclass",
            class_names=np.array(index.classes)[label],
            classes=index.classes,
            attack=self.attack,
            naive=float(counts.max() / counts.sum()),
            rmse={name: frame[f"rmse:{name}"].to_numpy(np.float64) for name in goals},
            extra=self.extra(frame) | {"right": right},
        )
        rule = "until_right" if self.until_right else "first_n"
        facts = self.facts(frame, list(goals), never) | {"sampling": rule}
        return Scored(
            table.to_frame(),
            passes=self.passes(frame, list(goals)),
            flags=tuple(dict.fromkeys([*flags, *self.notes(frame, list(goals), never), *beaten])),
            facts=facts,
        )

    def sample(self, order: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the images along the fixed order that the sampling rule takes, and their logits."""
        subject, images = self.subject, self.images
        most = min(len(order) if self.until_right else images, subject.limit or len(order))
        found: list[NDArray[np.float32]] = []
        right = taken = 0
        for batch in subject.feed(order[:most]).batches(SCREENED):
            logits = subject.logits(batch).cpu().numpy()
            target = subject.prepared.index.labels[order[taken : taken + len(batch)]].argmax(1)
            hits = right + np.cumsum(logits.argmax(1) == target)
            keep = len(batch)
            if self.until_right and hits[-1] >= images:
                keep = int(np.argmax(hits >= images)) + 1
            found.append(logits[:keep])
            taken, right = taken + keep, int(hits[keep - 1])
            if keep < len(batch) or (self.until_right and right >= images):
                break
        return order[:taken], np.concatenate(found)
