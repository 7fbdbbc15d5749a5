"""What a known shortcut does to the model: its probability without the shortcut, and of the shortcut alone.

After the experiment with text on chest radiographs of the poster of iGOS++ (Khorram 2021, arXiv:2012.15783).
"""

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
from harness.evaluations.marked import Marked, audited_class, chosen, marked_of, masks, versions, why_none
from harness.evaluations.subject import Scored, Subject
from harness.evaluations.trust import in_parts, passes_of, plain_table, spent
from harness.metrics.cells import Metric
from harness.metrics.shortcut import ShortcutTable
from harness.metrics.summary import summarise
from harness.plugins import evaluation
from harness.types import Batch


def measure(subject: Subject, marked: Marked, batch: Batch, rows: np.ndarray) -> dict[str, Tensor]:
    """Return what `ShortcutTable` holds of a batch, (B,) each, whether the class is there, and the passes."""
    device = batch.x.device
    target = audited_class(subject, batch, marked.tied[rows])
    true = subject.task.true(batch.y, subject.models[0].num_classes).gather(1, target[:, None])[:, 0]
    mask = masks([marked.shortcuts[i] for i in rows], batch.x.shape[-1]).to(device)
    images = {"before": batch.x, **versions(batch.x, mask)}
    p = {
        name: subject.task.probability(subject.logits(replace(batch, x=x))).gather(1, target[:, None])[:, 0]
        for name, x in images.items()
    }
    known = torch.stack(list(p.values())).isfinite().all(0)
    scores = {
        f"{when}_{group}": p[when].where(known & there, torch.nan)
        for when in ("before", "erased")
        for group, there in (("absent", ~true), ("present", true))
    }
    alone = {when: p[when].where(known, torch.nan) for when in ("revealed", "blurred")}
    return {**scores, **alone, "positive": true, **spent(batch, 1 + len(images), 0)}


@evaluation("shortcut", source="Khorram 2021, arXiv:2012.15783, COVIDx; protocol.md, 5", version=1, standard=False,
            per_explainer=False, parts=True)  # fmt: skip
@dataclass(frozen=True, kw_only=True)
class Shortcut:
    """Probability of the tied class with a known shortcut, with it blurred away, and of it alone on the blurred image.

    On every test image that carries a shortcut. One that is tied to no class is looked at for the class that is
    explained elsewhere.
    """

    images: int | None = setting(None, unit="images", source="protocol.md, 7", help="none: all that carry a shortcut")
    batch: int = setting(32, unit="images", help="logical batch; part of the key")
    resamples: int = setting(1000, source="protocol.md, 0", help="bootstrap replicates")

    def applies(self, prepared: Prepared) -> str:
        """Return why there is no shortcut to look at, or the empty string."""
        return why_none(prepared)

    def score(self, subject: Subject, explainer: Any = None) -> Scored:
        """Return one line per image with a shortcut: the probabilities of its class."""
        marked = chosen(subject, marked_of(subject.prepared), self.images)
        found = in_parts(subject, marked.position, self.batch, lambda b, rows: measure(subject, marked, b, rows))
        passes, positive = passes_of(found), found.pop("positive")[:, 0].astype(bool)
        table = plain_table(ShortcutTable, subject, marked.position, found, extra={"positive": positive})
        facts = {"images": len(marked), "with the class": int(positive.sum())}
        return Scored(table.to_frame(), passes=passes, facts=facts)

    def summarise(self, samples: pd.DataFrame, extra: Sequence[Metric] = ()) -> list[dict[str, Any]]:
        """Return the fields of every row: each metric, and those of plug-ins, with intervals."""
        return summarise(ShortcutTable.from_frame(samples), resamples=self.resamples, extra=extra)
