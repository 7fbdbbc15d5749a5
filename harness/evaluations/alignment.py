"""Alignment of attacks with heat maps: do attacks move what the map calls important? (protocol.md, 3; Woods 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd
import torch
from torch import Tensor

from harness.config import setting
from harness.data.cache import Prepared
from harness.errors import UsageError
from harness.evaluations.attacked import Part, fooled, measured, sampled
from harness.evaluations.explained_maps import explain
from harness.evaluations.subject import Scored, Subject
from harness.evaluations.trust import PASSES, spent
from harness.metrics.alignment import AlignmentTable
from harness.metrics.cells import Metric
from harness.metrics.summary import summarise
from harness.plugins import evaluation
from harness.scores.alignment import alignment, alignment_rank, chance, energy_of
from harness.scores.threshold_iou import finite, upsample
from harness.tasks import Task


def measure(heat: Tensor, delta: Tensor, usable: Tensor, *, top: float) -> dict[str, Tensor]:
    """Return the scores of `AlignmentTable` for a batch, each (B,) float64.

    `heat` (B,h,w), `delta` (B,C,S,S), `usable` (B,) bool: those with an attack. Missing is NaN: the others, and maps
    that are not finite. The other map is that of the next usable image of the batch; a lone one has none.
    """
    rows = torch.nonzero(usable & finite(heat))[:, 0]
    maps, energy = upsample(heat[rows], delta.shape[-1]), energy_of(delta[rows])
    others = maps.roll(-1, 0) if len(rows) > 1 else torch.full_like(maps, torch.nan)
    found = {
        "share": alignment(maps, energy, top=top),
        "chance": torch.full((len(rows),), chance(energy[0].numel() if len(rows) else 1, top)).double(),
        "other_share": alignment(others, energy, top=top),
        "rank": alignment_rank(maps, energy),
        "other_rank": alignment_rank(others, energy),
    }
    scores = {name: torch.full((len(heat),), torch.nan, dtype=torch.float64, device=heat.device) for name in found}
    for name, values in found.items():
        scores[name][rows] = values.to(heat.device)
    return scores


@evaluation("alignment", source="ours: protocol.md, 3, after Woods 2019, arXiv:1906.02494", version=1,
            standard=False, per_explainer=True, attacks=True, parts=True)  # fmt: skip
@dataclass(frozen=True, kw_only=True)
class Alignment:
    """Share of the attack's energy on the most important pixels of the map, and the correlation of their ranks.

    Woods 2019 says that attacks on networks that are not robust do not align with heat maps, and shows it in a
    supplement that is not public. The map explains the class that is attacked: the true one, or with several findings
    the one whose decision flips. It is upsampled bilinearly to the input. Images that are wrong as they are, or are
    not fooled, and maps that are not finite are missing. Upsampled noise varies most at the borders and scores a little
    below chance where attacks are in the middle (0.096 for 0.100 with 28 cells at 224 px, 0.087 with 8 at 32): read a
    coarse map beside random_map and beside the map of another image.
    """

    attack: Literal["deepfool", "ddn", "algorithm1"] = setting("deepfool", help="minimal-norm attack")
    top: float = setting(0.1, unit="of the pixels", source="ours", help="how many count as important")
    images: int | None = setting(None, unit="images", help="first of the fixed order; none: quick 16, paper 1,000")
    batch: int = setting(16, unit="images", help="logical batch, in which maps are exchanged; part of the key")
    resamples: int = setting(1000, source="protocol.md, 0", help="bootstrap replicates")

    def __post_init__(self) -> None:
        """Check the settings; raises `UsageError`."""
        if not 0 < self.top < 1:
            raise UsageError(f"alignment.top: expected a share between 0 and 1, got {self.top}. Give 0.1, say.")

    def applies(self, prepared: Prepared) -> str:
        """Return the empty string: every image can be attacked and explained."""
        return ""

    def attack_names(self, task: Task, profile: str) -> tuple[str, ...]:
        """Return the attack that is used."""
        return (self.attack,)

    def score(self, subject: Subject, explainer: Any = None) -> Scored:
        """Return one line per image: shares and rank correlations with its own map and with another's."""
        positions = sampled(subject, self.images)

        def aligned(part: Part) -> dict[str, Tensor]:
            explanation = explain(subject, explainer, part.batch, part.goal.target)
            scores = measure(explanation.heat, part.found.delta, fooled(part.found), top=self.top)
            lost = {"lost": ~finite(explanation.heat)}
            return {**scores, **lost, **spent(part.batch, 1 + explanation.forwards, explanation.backwards)}

        found, facts, attacking = measured(subject, positions, self.attack, self.batch, aligned)
        lost, forward, backward = (found.pop(name) for name in ("lost", *PASSES))
        index = subject.prepared.index
        table = AlignmentTable(
            ids=index.ids(positions),
            clusters=index.patients(positions),
            values={name: values[:, None] for name, values in found.items()},
            conditions=({"attack": self.attack},),
            task=subject.task.name,
        )
        return Scored(
            table.to_frame(),
            passes={"forward": float(forward.mean()), "backward": float(backward.mean()) + attacking},
            facts={**facts, "maps not finite": int(lost.sum())},
        )

    def summarise(self, samples: pd.DataFrame, extra: Sequence[Metric] = ()) -> list[dict[str, Any]]:
        """Return the fields of every row: each metric, and those of plug-ins, with intervals."""
        return summarise(AlignmentTable.from_frame(samples), resamples=self.resamples, extra=extra)
