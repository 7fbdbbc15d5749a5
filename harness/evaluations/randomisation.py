"""Do maps depend on what the network has learned? (Adebayo et al. 2018, arXiv:1810.03292; protocol.md, 5)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from harness.config import setting
from harness.data.cache import Prepared
from harness.errors import UsageError
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
from harness.metrics.trust import EDGES, RANDOM, RandomisationTable
from harness.models.randomised import randomise, stages
from harness.plugins import evaluation
from harness.scores.agreement import cell_ranks, resized
from harness.scores.alignment import rank_correlation
from harness.scores.threshold_iou import finite
from harness.types import Batch


def edges(x: Tensor) -> Tensor:
    """Return the length of the Sobel gradient of the images' mean over channels, (B,C,H,W) to (B,H,W)."""
    across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]], device=x.device)
    kernels = torch.stack([across, across.T])[:, None]
    return conv2d(pad(x.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate"), kernels).square().sum(1).sqrt()


def measure(subject: Subject, explainer: Any, batch: Batch, draws: int) -> dict[str, Tensor]:
    """Return what `RandomisationTable` holds of a batch, (B,C) each, and the passes; the models stay as they are.

    An image whose map has no rank correlation (a constant map, or no numbers) in every draw of one stage is missing in
    all, so that a curve over depth rests on the same images throughout.
    """
    target = explained_class(subject.task, subject.logits(batch), batch.y)
    trained = explain(subject, explainer, batch, target)
    ours = cell_ranks(trained.heat)
    every: list[list[Tensor]] = []
    last: list[Tensor] = []
    theirs = ours
    for draw in range(draws):
        copies = copy.deepcopy(subject.models)
        cascades = [stages(m) for m in copies]
        every.append([])
        for depth in range(len(cascades[0])):
            for cascade in cascades:
                name, modules = cascade[depth]
                randomise(modules, draw, name)
            theirs = cell_ranks(explain(replace(subject, models=copies), explainer, batch, target).heat)
            every[-1].append(rank_correlation(ours, theirs))
        last.append(theirs)
    between = [rank_correlation(a, b) for a, b in zip(last, [*last[1:], last[0]], strict=True)]
    contours = rank_correlation(ours, cell_ranks(resized(edges(batch.x), *trained.heat.shape[-2:])))
    columns = torch.stack([torch.stack([*rho, two, contours]) for rho, two in zip(every, between, strict=True)])
    rank, size = columns.nanmean(0).T, columns.abs().nanmean(0).T  # (B,C)
    usable = rank.isfinite().all(1, keepdim=True)
    times = 1 + sum(len(rho) for rho in every)
    return {
        "rank": rank.where(usable, torch.nan),
        "size": size.where(usable, torch.nan),
        "constant": (trained.heat.flatten(1).amax(1) <= trained.heat.flatten(1).amin(1)) & finite(trained.heat),
        "not_finite": ~finite(trained.heat),
        **spent(batch, 1 + times * trained.forwards, times * trained.backwards),
    }


def conditions_of(names: Sequence[str]) -> list[dict[str, str]]:
    """Return what each column stands for: the last stage that is random, "" for all of them, then the references."""
    return [*({"variant": name} for name in names[:-1]), {}, {"variant": RANDOM}, {"variant": EDGES}]


@evaluation("randomisation", source="Adebayo 2018, arXiv:1810.03292, 3.1; protocol.md, 5", version=1, standard=False,
            per_explainer=True, parts=True)  # fmt: skip
@dataclass(frozen=True, kw_only=True)
class Randomisation:
    """Spearman's correlation of the map with that of a network whose weights are random, from the head downwards.

    At the map's own resolution, of the class that the trained network explains. An explainer that says the same of a
    random network says nothing of the trained one. Beside it the correlation between the maps of two random networks,
    and with the edges of the image: what is no larger than the first has lost all that was learned.
    """

    draws: int = setting(5, unit="random networks", source="protocol.md, 5", help="at least 2, to compare two of them")
    images: int | None = setting(None, unit="images", source="protocol.md, 7", help="none: 16 (quick) or 1,000 (paper)")
    batch: int = setting(32, unit="images", help="logical batch; part of the key")
    resamples: int = setting(1000, source="protocol.md, 0", help="bootstrap replicates")

    def __post_init__(self) -> None:
        """Check the settings; raises `UsageError`."""
        if self.draws < 2:
            raise UsageError(f"randomisation.draws: expected at least 2 random networks, got {self.draws}.")

    def applies(self, prepared: Prepared) -> str:
        """Return why no map can be compared, or the empty string."""
        return unlabelled(prepared)

    def score(self, subject: Subject, explainer: Any = None) -> Scored:
        """Return one line per image: the mean correlation, and its mean size, at each stage, and the references."""
        positions = labelled(subject, self.images)
        found = in_parts(subject, positions, self.batch, lambda b, _: measure(subject, explainer, b, self.draws))
        passes = passes_of(found)
        facts = {f"maps {what.replace('_', ' ')}": int(found.pop(what).sum()) for what in ("constant", "not_finite")}
        names = [name for name, _ in stages(subject.models[0])]
        table = plain_table(RandomisationTable, subject, positions, found, conditions=conditions_of(names))
        return Scored(table.to_frame(), passes=passes, facts={"images": len(positions), "stages": names, **facts})

    def summarise(self, samples: pd.DataFrame, extra: Sequence[Metric] = ()) -> list[dict[str, Any]]:
        """Return the fields of every row: each metric, and those of plug-ins, with intervals."""
        return summarise(RandomisationTable.from_frame(samples), resamples=self.resamples, extra=extra)
