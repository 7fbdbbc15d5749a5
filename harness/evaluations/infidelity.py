"""Infidelity: maps against what the output does when squares of the image are blurred away (protocol.md, 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from harness.config import setting
from harness.data.cache import Prepared
from harness.errors import UsageError
from harness.evaluations.subject import Scored, Subject
from harness.evaluations.trust import (
    explain,
    explained_class,
    in_parts,
    labelled,
    named,
    passes_of,
    plain_table,
    spent,
    unlabelled,
)
from harness.masking import blend, blurred
from harness.metrics.cells import Metric
from harness.metrics.summary import summarise
from harness.metrics.trust import InfidelityTable
from harness.plugins import evaluation
from harness.rng import seed_for
from harness.scores.infidelity import infidelity
from harness.scores.threshold_iou import finite, upsample
from harness.types import Batch


def squares(names: Sequence[str], draw: int, side: int, size: int) -> Tensor:
    """Return a square of `side` pixels for each image, anywhere in it, (B,1,size,size) float of 0 and 1, on the CPU.

    It follows from the image's name and the number of the draw, not from the batch.
    """
    free = size - side + 1
    mask = torch.zeros(len(names), 1, size, size)
    for i, name in enumerate(names):
        place = seed_for(0, "infidelity", name, draw) % free**2
        top, left = divmod(place, free)
        mask[i, :, top : top + side, left : left + side] = 1
    return mask


def measure(subject: Subject, explainer: Any, batch: Batch, draws: int, share: float) -> dict[str, Tensor]:
    """Return what `InfidelityTable` holds of a batch, (B,) each, and the passes."""
    logits = subject.logits(batch)
    target = explained_class(subject.task, logits, batch.y)
    explanation = explain(subject, explainer, batch, target)
    usable = finite(explanation.heat)
    heat = upsample(explanation.heat.where(usable[:, None, None], 0.0), batch.x.shape[-1])
    baseline, names = blurred(batch.x), named(subject, batch)
    size = batch.x.shape[-1]
    predicted, change = [], []
    for draw in range(draws):
        mask = squares(names, draw, max(1, round(share * size)), size).to(batch.x.device)
        moved = subject.logits(Batch(blend(batch.x, baseline, 1 - mask), batch.y, batch.index))
        predicted.append((heat * mask[:, 0]).double().flatten(1).sum(1))
        change.append((logits - moved).gather(1, target[:, None])[:, 0])
    p, c = torch.stack(predicted, dim=1), torch.stack(change, dim=1).double()
    found, whole = infidelity(p, c), c.square().mean(1)
    return {
        "infidelity": found.where(usable, torch.nan),
        "unexplained": (found / whole).where(usable & (whole > 0), torch.nan),
        "not_finite": ~usable,
        **spent(batch, 1 + draws + explanation.forwards, explanation.backwards),
    }


@evaluation("infidelity", source="Yeh 2019, arXiv:1901.09392, def. 2.1 and square removal; protocol.md, 5", version=1,
            standard=False, per_explainer=True, parts=True)  # fmt: skip
@dataclass(frozen=True, kw_only=True)
class Infidelity:
    """How far the sum of the map over a square misses the fall of the logit when the square is blurred away.

    Of the class that is explained; each map at the scale that suits it best, upsampled bilinearly to the input. What is
    taken away is replaced by the blurred image of insertion and deletion, where Yeh 2019 takes zeros.
    """

    draws: int = setting(32, unit="squares", source="ours; captum: 10")
    side: float = setting(0.25, unit="of the image's side", source="ours; Yeh 2019 takes several sizes")
    images: int | None = setting(None, unit="images", source="protocol.md, 7", help="none: 16 (quick) or 1,000 (paper)")
    batch: int = setting(32, unit="images", help="logical batch; part of the key")
    resamples: int = setting(1000, source="protocol.md, 0", help="bootstrap replicates")

    def __post_init__(self) -> None:
        """Check the settings; raises `UsageError`."""
        if self.draws < 2:  # one square is explained by any map that is not 0 on it
            raise UsageError(f"infidelity.draws: expected at least 2 squares, got {self.draws}.")
        if not 0 < self.side < 1:
            raise UsageError(f"infidelity.side: expected a share between 0 and 1, got {self.side}. Give 0.25, say.")

    def applies(self, prepared: Prepared) -> str:
        """Return why no map can be scored, or the empty string."""
        return unlabelled(prepared)

    def score(self, subject: Subject, explainer: Any = None) -> Scored:
        """Return one line per image: infidelity, and its share of the mean square of the changes."""
        positions = labelled(subject, self.images)
        found = in_parts(
            subject, positions, self.batch, lambda b, _: measure(subject, explainer, b, self.draws, self.side)
        )
        passes = passes_of(found)
        facts = {"images": len(positions), "maps not finite": int(np.sum(found.pop("not_finite")))}
        return Scored(plain_table(InfidelityTable, subject, positions, found).to_frame(), passes=passes, facts=facts)

    def summarise(self, samples: pd.DataFrame, extra: Sequence[Metric] = ()) -> list[dict[str, Any]]:
        """Return the fields of every row: each metric, and those of plug-ins, with intervals."""
        return summarise(InfidelityTable.from_frame(samples), resamples=self.resamples, extra=extra)
