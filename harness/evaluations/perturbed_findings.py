"""Robustness of models with several findings: decisions flipped at their operating points (protocol.md, 3; ours)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from harness.attacks.goals import Against, Flip, Goal
from harness.errors import NothingToScoreError
from harness.evaluations.operating import MINIMUM, points
from harness.evaluations.perturbed import Perturbed
from harness.evaluations.subject import Scored, fixed_order
from harness.metrics.ara import robust_auroc
from harness.metrics.cells import MINIMUM_SCORED, registration
from harness.metrics.robustness import RobustnessTable
from harness.types import Batch


@dataclass(frozen=True, kw_only=True)
class Findings(Perturbed):
    """The decision on each finding at its operating point, on as many positives as negatives."""

    pairs: int  # of each side of each finding
    most: int | None  # findings; None: all
    at_half: bool  # also attack the decision at probability 1/2

    def scored(self) -> Scored:
        """Return one line per pair of image and finding."""
        subject, index = self.subject, self.subject.prepared.index
        classes = self.findings()
        point = points(subject, classes, 64)  # (folds, classes)
        positions, which, reasons = self.sample(classes, point)
        names = np.array(index.classes)[classes]
        if not len(positions):
            raise NothingToScoreError("; ".join(f"{n}: {why}" for n, why in reasons.items()))
        positive = index.labels[positions, classes[which]] == 1
        logit = point[subject.fold[positions], which]
        device = subject.compute.device

        def goal(rows: Any, *, half: bool = False, kind: type[Flip] = Flip) -> Flip:
            def tensor(values: Any) -> torch.Tensor:
                return torch.from_numpy(np.asarray(values)).to(device)

            sign = tensor(np.where(positive[rows], 1, -1).astype(np.float32))
            at = np.zeros(len(rows), np.float32) if half else logit[rows].astype(np.float32)
            return kind(tensor(classes[which][rows]), sign, tensor(at))

        goals: dict[str, Callable[[Any], Goal]] = {"flip": goal}
        if self.at_half:
            goals["at_half"] = lambda rows: goal(rows, half=True)
        flags = self.flags(positions, goal)
        frame = self.run(positions, goals, lambda rows, batch: self.moved(positions[rows], batch, rows, goal))
        beaten = self.beaten(positions, frame, "flip", goal)
        never = self.led(
            positions, frame, goals, lambda row: positions[(which == which[row]) & (positions != positions[row])]
        )
        table = RobustnessTable(
            ids=index.ids(positions),
            clusters=index.patients(positions),
            task="multilabel",
            class_names=names[which],
            classes=tuple(names.tolist()),
            attack=self.attack,
            naive=0.5,
            rmse={name: frame[f"rmse:{name}"].to_numpy(np.float64) for name in goals},
            positive=positive,
            probability={c.removeprefix("probability:"): frame[c].to_numpy(np.float64) for c in frame.columns
                         if str(c).startswith("probability:")},
            reasons=reasons,
            extra=self.extra(frame) | {"operating_point": logit},
        )  # fmt: skip
        return Scored(
            table.to_frame(),
            passes=self.passes(frame, list(goals)),
            flags=tuple(dict.fromkeys([*flags, *self.notes(frame, list(goals), never), *beaten])),
            facts=self.facts(frame, list(goals), never),
        )

    def findings(self) -> NDArray[np.int64]:
        """Return the findings of the profile: all, or the two with most boxes, else most positives."""
        index = self.subject.prepared.index
        count = len(index.classes)
        boxes = Counter(index.boxes["class_name"].tolist() if len(index.boxes) else ())
        tested = index.labels[index.scored()[0]].sum(0)
        order = sorted(range(count), key=lambda c: (-boxes[index.classes[c]], -int(tested[c]), c))
        return np.array(sorted(order[: self.most or count]), np.int64)

    def sample(
        self, classes: NDArray[np.int64], point: NDArray[np.float64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], dict[str, str]]:
        """Return the position and the finding's number of each pair, and why findings have none."""
        index, subject = self.subject.prepared.index, self.subject
        every, _ = index.scored()
        order = every[fixed_order(len(every))]
        size = min(self.pairs, subject.limit or len(order))
        positions, which, reasons = [], [], {}
        for k, c in enumerate(classes):
            present = index.labels[order, c] == 1
            if present.sum() < MINIMUM_SCORED:
                reasons[index.classes[c]] = f"{present.sum()} positives in the test split, fewer than {MINIMUM_SCORED}"
            elif (~present).sum() < MINIMUM_SCORED:
                reasons[index.classes[c]] = f"{(~present).sum()} negatives in the test split"
            elif not np.isfinite(point[:, k]).all():
                reasons[index.classes[c]] = (
                    f"no operating point: fewer than {MINIMUM} positives or negatives in validation, or NaN"
                )
            else:
                found = np.concatenate([order[present][:size], order[~present][:size]])
                positions.append(found)
                which.append(np.full(len(found), k))
        none = np.zeros(0, np.int64)
        return np.concatenate([none, *positions]), np.concatenate([none, *which]), reasons

    def moved(
        self, positions: NDArray[np.int64], batch: Batch, rows: NDArray[np.int64], goal: Callable[..., Flip]
    ) -> dict[str, NDArray[Any]]:
        """Return the probability of each pair's finding after PGD against its label, at the radii of robust AUROC."""
        attack, found = self.subject.attacks["pgd"], {}
        for radius in registration(robust_auroc)["radii"]:
            values = np.full(len(rows), np.nan)
            for model, mine in self.subject.shares(positions):
                against = goal(rows[mine], kind=Against)
                with self.subject.room, torch.no_grad():
                    x = batch.x[mine]
                    x = attack(model, x, against, norm="l2", radius=radius) if radius else x
                    probability = against.target_of(self.subject.task.probability(model(x).float()))
                    values[mine] = probability.double().cpu().numpy()
            found[f"probability:{radius:g}"] = values
        return found
