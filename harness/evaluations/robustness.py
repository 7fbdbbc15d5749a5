"""Robustness: the smallest perturbation of each image, and the area under accuracy over its size (protocol.md, 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from harness.attacks.strongest import registration
from harness.config import setting
from harness.data.cache import Prepared
from harness.errors import UsageError
from harness.evaluations.perturbed_findings import Findings
from harness.evaluations.perturbed_images import Images
from harness.evaluations.subject import Scored, Subject
from harness.metrics.cells import Metric
from harness.metrics.cells import registration as of_metric
from harness.metrics.robustness import RobustnessTable
from harness.metrics.summary import builtin, summarise
from harness.plugins import evaluation
from harness.tasks import Task

SETS = {"fast": ("deepfool", "ddn"), "strong": ("deepfool", "ddn", "algorithm1")}
HEADLINE = {"quick": "fast", "paper": "strong"}
SAMPLING = {"quick": "first_n", "paper": "until_right"}
IMAGES = {"quick": 100, "paper": 1000}
PAIRS = {"quick": 8, "paper": 100}  # of each side of each finding
FINDINGS = {"quick": 2, "paper": None}
BLACK_BOX = {"quick": "none", "paper": "foolbox_boundary"}


@evaluation(
    "robustness", source="Woods 2019, Methods; protocol.md, 3", version=1, standard=True, per_explainer=False,
    attacks=True, parts=True,
)  # fmt: skip
@dataclass(frozen=True, kw_only=True)
class Robustness:
    """Smallest perturbations for each goal, attack and BTR ARA, accuracy over RMSE; multi-label by finding."""

    attacks: tuple[str, ...] = setting(
        (), source="protocol.md, 3", help="fast, strong, or names of attacks; default: fast (quick), strong (paper)"
    )
    images: int | None = setting(
        None, unit="images", source="protocol.md, 7",
        help="multi-class; default: 100 (quick), 1,000 classified right (paper)",
    )  # fmt: skip
    sampling: Literal["profile", "first_n", "until_right"] = setting(
        "profile", source="protocol.md, 3",
        help="first_n: `images` in all, as in the authors' program (quick); until_right: classified right (paper)",
    )  # fmt: skip
    pairs: int | None = setting(
        None, unit="images of each side", source="protocol.md, 7", help="multi-label; default: 8 (quick), 100 (paper)"
    )
    at_half: Literal["profile", "yes", "no"] = setting(
        "profile", source="protocol.md, 3", help="multi-label: also at probability 1/2; default: only in profile paper"
    )
    black_box: str = setting(
        "profile", source="protocol.md, 3",
        help="attack without gradients, tried on the first eight images; none, or a name; default: none (quick), "
             "foolbox_boundary with 1,000 steps (paper)",
    )  # fmt: skip
    batch: int = setting(20, unit="images", help="logical batch; part of the key, and what an interrupted attack keeps")
    resamples: int = setting(1000, source="protocol.md, 0", help="bootstrap replicates")

    def __post_init__(self) -> None:
        """Refuse sizes that measure nothing."""
        for name in ("images", "pairs", "batch"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise UsageError(f"{name}: expected at least 1, got {value}.")

    def applies(self, prepared: Prepared) -> str:
        """Return why nothing can be attacked, or the empty string."""
        index = prepared.index
        return "every image has the one class there is" if len(index.classes) == 1 and index.labels.all() else ""

    def chosen(self, profile: str) -> tuple[str, ...]:
        """Return what the user chose, or the profile's set."""
        return self.attacks or (HEADLINE[profile],)

    def attack_names(self, task: Task, profile: str) -> tuple[str, ...]:
        """Return the names of the attacks, without repetition; multi-label also PGD, for robust AUROC."""
        names = [n for chosen in self.chosen(profile) for n in SETS.get(chosen, (chosen,))]
        return tuple(dict.fromkeys([*names, *self.control(profile), *(() if task.exclusive else ("pgd",))]))

    def control(self, profile: str) -> tuple[str, ...]:
        """Return the name of the attack without gradients, () for none."""
        chosen = BLACK_BOX[profile] if self.black_box == "profile" else self.black_box
        return () if chosen == "none" else (chosen,)

    def attack_settings(self, profile: str) -> dict[str, dict[str, Any]]:
        """Return the settings that belong to a set: `strong` runs Algorithm 1 by the authors' steps, with clipping."""
        strong = {"algorithm1": {"variant": "code", "clip": True}} if "strong" in self.chosen(profile) else {}
        control = {BLACK_BOX["paper"]: {"steps": 1000}} if self.black_box == "profile" and profile == "paper" else {}
        return strong | control

    def score(self, subject: Subject, explainer: Any = None) -> Scored:
        """Return one line per image, or per pair of image and finding: the smallest RMSE found for each goal."""
        profile = subject.profile
        every = {n: a for n, a in subject.attacks.items() if registration(a).get("finds") == "minimal"}
        control = {n: every[n] for n in self.control(profile) if n in every}
        minimal = {n: a for n, a in every.items() if n not in control or n in self.attacks}
        wrong = [n for n in subject.attacks if n not in every and (subject.task.exclusive or n != "pgd")]
        if wrong or not minimal:
            raise UsageError(
                "robustness: expected attacks that look for the smallest perturbation, got "
                f"{', '.join(wrong) or 'none'}. `harness list attacks` shows which do (finds: minimal)."
            )
        common: dict[str, Any] = {
            "subject": subject, "attacks": minimal, "control": control, "batch": self.batch,
            "attack": "+".join(self.chosen(profile)),
        }  # fmt: skip
        if subject.task.exclusive:
            rule = self.sampling if self.sampling != "profile" else SAMPLING[profile]
            images = self.images or IMAGES[profile]
            return Images(**common, images=images, until_right=rule == "until_right").scored()
        at_half = self.at_half == "yes" or (self.at_half == "profile" and profile == "paper")
        pairs = self.pairs or PAIRS[profile]
        return Findings(**common, pairs=pairs, most=FINDINGS[profile], at_half=at_half).scored()

    def summarise(self, samples: pd.DataFrame, extra: Sequence[Metric] = ()) -> list[dict[str, Any]]:
        """Return the fields of every row: each metric that was measured, and those of plug-ins, with intervals."""
        table = RobustnessTable.from_frame(samples)
        asked = {*table.rmse, *(["probability"] if table.probability else [])}
        metrics = [m for m in builtin() if of_metric(m).get("score") in asked]
        return summarise(table, metrics, resamples=self.resamples, extra=extra)
