"""What heat maps show of a known shortcut, beside the lesion (Khorram 2021, arXiv:2012.15783; protocol.md, 5)."""

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
from harness.evaluations.trust import explain, in_parts, passes_of, plain_table, spent
from harness.metrics.cells import Metric
from harness.metrics.shortcut import ShortcutMapsTable
from harness.metrics.summary import summarise
from harness.plugins import evaluation
from harness.scores.energy import energy
from harness.scores.pointing import chance
from harness.scores.threshold_iou import finite, upsample
from harness.types import Batch


def mass(heat: Tensor, mask: Tensor) -> Tensor:
    """Return the share of the mass of maps (B,h,w), upsampled, inside masks (B,1,S,S); NaN for maps that have none."""
    usable = finite(heat)
    found = energy(upsample(heat.where(usable[:, None, None], 0.0), mask.shape[-1]), mask[:, 0])
    return found.where(usable, torch.nan)


def measure(subject: Subject, explainer: Any, marked: Marked, batch: Batch, rows: np.ndarray) -> dict[str, Tensor]:
    """Return what `ShortcutMapsTable` holds of a batch, (B,) each, whether there is a lesion, and the passes."""
    size, device = batch.x.shape[-1], batch.x.device
    target = audited_class(subject, batch, marked.tied[rows])
    shortcut, lesion = (masks([b[i] for i in rows], size).to(device) for b in (marked.shortcuts, marked.boxes))
    own = explain(subject, explainer, batch, target)
    images = versions(batch.x, shortcut)
    other = {
        name: explain(subject, explainer, replace(batch, x=images[name]), target).heat
        for name in ("erased", "revealed")
    }
    boxed = lesion.flatten(1).any(1)
    return {
        "shortcut": mass(own.heat, shortcut),
        "area": chance(shortcut[:, 0]),
        **{name: mass(heat, shortcut) for name, heat in other.items()},
        "lesion": mass(own.heat, lesion).where(boxed, torch.nan),
        "lesion_area": chance(lesion[:, 0]).where(boxed, torch.nan),
        "boxed": boxed,
        **spent(batch, 1 + 3 * own.forwards, 3 * own.backwards),
    }


@evaluation("shortcut_maps", source="Khorram 2021, arXiv:2012.15783, COVIDx; protocol.md, 5", version=1,
            standard=False, per_explainer=True, parts=True)  # fmt: skip
@dataclass(frozen=True, kw_only=True)
class ShortcutMaps:
    """Share of the map's mass on a known shortcut and on the lesion, each beside its share of the area.

    The same of the image without the shortcut, where nothing is left to find, and of the shortcut alone on the blurred
    image. Read it beside `shortcut`: a map is right where it shows the shortcut that the model uses.
    """

    images: int | None = setting(None, unit="images", source="protocol.md, 7", help="none: all that carry a shortcut")
    batch: int = setting(32, unit="images", help="logical batch; part of the key")
    resamples: int = setting(1000, source="protocol.md, 0", help="bootstrap replicates")

    def applies(self, prepared: Prepared) -> str:
        """Return why there is no shortcut to look at, or the empty string."""
        return why_none(prepared)

    def score(self, subject: Subject, explainer: Any = None) -> Scored:
        """Return one line per image with a shortcut: shares of the map's mass and of the area."""
        marked = chosen(subject, marked_of(subject.prepared), self.images)
        found = in_parts(
            subject, marked.position, self.batch, lambda b, rows: measure(subject, explainer, marked, b, rows)
        )
        passes, boxed = passes_of(found), found.pop("boxed")[:, 0].astype(bool)
        table = plain_table(ShortcutMapsTable, subject, marked.position, found, extra={"boxed": boxed})
        facts = {"images": len(marked), "with a lesion's box": int(boxed.sum())}
        return Scored(table.to_frame(), passes=passes, facts=facts)

    def summarise(self, samples: pd.DataFrame, extra: Sequence[Metric] = ()) -> list[dict[str, Any]]:
        """Return the fields of every row: each metric, and those of plug-ins, with intervals."""
        return summarise(ShortcutMapsTable.from_frame(samples), resamples=self.resamples, extra=extra)
