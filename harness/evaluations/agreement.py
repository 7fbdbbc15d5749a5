"""Do explainers agree about the same image? (protocol.md, 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from harness.config import setting
from harness.data.cache import Prepared
from harness.errors import NothingToScoreError, UsageError
from harness.evaluations.subject import Scored, Subject
from harness.evaluations.trust import (
    explain,
    explained_class,
    in_parts,
    labelled,
    passes_of,
    plain_table,
    spent,
    unlabelled,
)
from harness.metrics.cells import Metric
from harness.metrics.summary import summarise
from harness.metrics.trust import AgreementTable
from harness.plugins import evaluation
from harness.scores.agreement import rank_agreement, resized, top_overlap
from harness.types import Batch


def common(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return two explainers' maps (B,h,w) at the resolution of the coarser one: the other's area means."""
    height, width = (min(m.shape[k] for m in (a, b)) for k in (1, 2))
    return resized(a, height, width), resized(b, height, width)


def measure(subject: Subject, batch: Batch, top: float) -> dict[str, Tensor]:
    """Return what `AgreementTable` holds of a batch, (B,pairs) each, the side of each pair's grid, and the passes.

    An image of which one explainer's map has no order is missing in all pairs, which so rest on the same images.
    """
    target = explained_class(subject.task, subject.logits(batch), batch.y)
    made = [explain(subject, explainer, batch, target) for explainer in subject.explainers.values()]
    pairs = [common(a.heat, b.heat) for a, b in combinations(made, 2)]
    rank = torch.stack([rank_agreement(a, b) for a, b in pairs], dim=1)
    overlap = torch.stack([top_overlap(a, b, top=top) for a, b in pairs], dim=1)
    usable = rank.isfinite().all(1, keepdim=True)
    lost = [~rank_agreement(m.heat, m.heat).isfinite() for m in made]
    sides = torch.tensor([float(a.shape[1]) for a, _ in pairs])
    return {
        "rank": rank.where(usable, torch.nan),
        "top": overlap.where(usable, torch.nan),
        "lost": torch.stack(lost, dim=1),
        "side": sides.expand(len(batch), -1),
        **spent(batch, 1 + sum(m.forwards for m in made), sum(m.backwards for m in made)),
    }


@evaluation("agreement", source="ours: protocol.md, 5; Spearman 1904", version=1, standard=False, per_explainer=False,
            explainers=True, parts=True)  # fmt: skip
@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Spearman's correlation of the maps of each pair of the run's explainers, and the overlap of their highest cells.

    On the same images, of the same class. The finer map of a pair is brought to the resolution of the coarser one by
    area means: nothing is made up between its cells. Reference maps take no part.
    """

    top: float = setting(0.1, unit="of the cells", source="protocol.md, 5", help="how many count as the highest")
    images: int | None = setting(None, unit="images", source="protocol.md, 7", help="none: 16 (quick) or 1,000 (paper)")
    batch: int = setting(32, unit="images", help="logical batch; part of the key")
    resamples: int = setting(1000, source="protocol.md, 0", help="bootstrap replicates")

    def __post_init__(self) -> None:
        """Check the settings; raises `UsageError`."""
        if not 0 < self.top < 1:
            raise UsageError(f"agreement.top: expected a share between 0 and 1, got {self.top}. Give 0.1, say.")

    def applies(self, prepared: Prepared) -> str:
        """Return why no maps can be compared, or the empty string."""
        return unlabelled(prepared)

    def score(self, subject: Subject, explainer: Any = None) -> Scored:
        """Return one line per image: correlation and overlap of each pair. Raises `NothingToScoreError`."""
        names = list(subject.explainers)
        if len(names) < 2:
            raise NothingToScoreError(
                f"two explainers are needed that the model allows, there is {names[0] if names else 'none'}; name more "
                f"with --explainer"
            )
        positions = labelled(subject, self.images)
        found = in_parts(subject, positions, self.batch, lambda b, _: measure(subject, b, self.top))
        passes, lost, sides = passes_of(found), found.pop("lost").sum(0), found.pop("side")[0]
        pairs = [f"{a} and {b}" for a, b in combinations(names, 2)]
        conditions = [{"variant": pair, "resolution": int(side)} for pair, side in zip(pairs, sides, strict=True)]
        table = plain_table(AgreementTable, subject, positions, found, conditions=conditions)
        facts: Mapping[str, Any] = {f"{n} without an order": int(k) for n, k in zip(names, lost, strict=True)}
        return Scored(table.to_frame(), passes=passes, facts={"images": len(positions), **facts})

    def summarise(self, samples: pd.DataFrame, extra: Sequence[Metric] = ()) -> list[dict[str, Any]]:
        """Return the fields of every row: each metric, and those of plug-ins, with intervals."""
        return summarise(AgreementTable.from_frame(samples), resamples=self.resamples, extra=extra)
