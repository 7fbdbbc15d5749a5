"""Max-sensitivity: how far the map moves when the image hardly does (Yeh 2019, arXiv:1901.09392; protocol.md, 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
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
from harness.metrics.cells import Metric
from harness.metrics.summary import summarise
from harness.metrics.trust import SensitivityTable
from harness.plugins import evaluation
from harness.rng import torch_rng_for
from harness.scores.infidelity import max_sensitivity
from harness.scores.threshold_iou import finite
from harness.types import Batch


def jittered(x: Tensor, names: Sequence[str], draw: int, radius: float) -> Tensor:
    """Return images (B,C,H,W) with every pixel moved uniformly by at most `radius`, inside [0,1].

    The noise follows from the image's name and the number of the draw, not from the batch.
    """
    noise = [torch.rand(x.shape[1:], generator=torch_rng_for(0, "sensitivity", name, draw)) for name in names]
    return (x + (2 * torch.stack(noise).to(x.device) - 1) * radius).clamp(0, 1)


def measure(subject: Subject, explainer: Any, batch: Batch, draws: int, radius: float) -> dict[str, Tensor]:
    """Return what `SensitivityTable` holds of a batch, (B,) each, and the passes."""
    target = explained_class(subject.task, subject.logits(batch), batch.y)
    own, names = explain(subject, explainer, batch, target), named(subject, batch)
    others = [
        explain(subject, explainer, replace(batch, x=jittered(batch.x, names, draw, radius)), target).heat
        for draw in range(draws)
    ]
    usable = finite(own.heat)
    return {
        "sensitivity": max_sensitivity(own.heat, torch.stack(others)),
        "zero": usable & (own.heat == 0).flatten(1).all(1),
        "not_finite": ~usable,
        **spent(batch, 1 + (1 + draws) * own.forwards, (1 + draws) * own.backwards),
    }


@evaluation("sensitivity", source="Yeh 2019, arXiv:1901.09392, def. 4.1; captum; protocol.md, 5", version=1,
            standard=False, per_explainer=True, parts=True)  # fmt: skip
@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """The largest change of the map, relative to its norm, over images that no pixel tells far from the original.

    Of the class that the model explains in the original. Maps that need random numbers get the same ones each time. A
    map that looks at nothing does not move: low is good only beside randomisation and infidelity.
    """

    draws: int = setting(10, unit="images near each", source="captum")
    radius: float = setting(0.02, unit="Linf, [0,1] pixels", source="captum")
    images: int | None = setting(None, unit="images", source="protocol.md, 7", help="none: 16 (quick) or 1,000 (paper)")
    batch: int = setting(32, unit="images", help="logical batch; part of the key")
    resamples: int = setting(1000, source="protocol.md, 0", help="bootstrap replicates")

    def __post_init__(self) -> None:
        """Check the settings; raises `UsageError`."""
        if self.draws < 1:
            raise UsageError(f"sensitivity.draws: expected at least 1 image, got {self.draws}.")
        if not 0 < self.radius <= 1:
            raise UsageError(f"sensitivity.radius: expected more than 0, at most 1, got {self.radius}. Give 0.02, say.")

    def applies(self, prepared: Prepared) -> str:
        """Return why no map can be scored, or the empty string."""
        return unlabelled(prepared)

    def score(self, subject: Subject, explainer: Any = None) -> Scored:
        """Return one line per image: its map's max-sensitivity."""
        positions = labelled(subject, self.images)
        found = in_parts(
            subject, positions, self.batch, lambda b, _: measure(subject, explainer, b, self.draws, self.radius)
        )
        passes = passes_of(found)
        lost = {
            "maps of zeros": int(np.sum(found.pop("zero"))),
            "maps not finite": int(np.sum(found.pop("not_finite"))),
        }
        table = plain_table(SensitivityTable, subject, positions, found)
        return Scored(table.to_frame(), passes=passes, facts={"images": len(positions), **lost})

    def summarise(self, samples: pd.DataFrame, extra: Sequence[Metric] = ()) -> list[dict[str, Any]]:
        """Return the fields of every row: each metric, and those of plug-ins, with intervals."""
        return summarise(SensitivityTable.from_frame(samples), resamples=self.resamples, extra=extra)
