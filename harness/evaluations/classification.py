"""Classification: AUROC and its companions on the whole split (protocol.md, 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from harness.config import setting
from harness.data.cache import Prepared
from harness.evaluations.subject import Scored, Subject
from harness.metrics.cells import Metric
from harness.metrics.classification_table import ClassificationTable
from harness.metrics.summary import summarise
from harness.plugins import evaluation

TOGETHER = 16  # batches that are kept, and shared, at once: each takes little
RANDOM = "random output"  # the flag of a model that says another thing each time


@evaluation("classification", source="protocol.md, 1", version=1, standard=True, per_explainer=False,
            parts=True)  # fmt: skip
@dataclass(frozen=True, kw_only=True)
class Classification:
    """Probabilities of every class on every image of the split, and the statistics of them."""

    batch: int = setting(64, unit="images", help="logical batch; part of the key")
    resamples: int = setting(1000, source="protocol.md, 0", help="bootstrap replicates")

    def applies(self, prepared: Prepared) -> str:
        """Return the empty string: every dataset has classes."""
        return ""

    def score(self, subject: Subject, explainer: Any = None) -> Scored:
        """Return one line per image: id, patient, and label and probability of every class."""
        index, positions = subject.prepared.index, subject.positions

        def make(rows: NDArray[np.int64]) -> pd.DataFrame:
            found: list[NDArray[np.float32]] = []
            random = False
            for batch in subject.feed(positions[rows]).batches(self.batch):
                logits = subject.logits(batch)
                if rows[0] == 0 and not found:
                    random = not torch.equal(subject.logits(batch).nan_to_num(), logits.nan_to_num())
                found.append(subject.task.probability(logits).cpu().numpy())
            columns = {f"probability|{c}": values for c, values in enumerate(np.concatenate(found).T)}
            return pd.DataFrame({**columns, RANDOM: random})

        parts = subject.parts(len(positions), TOGETHER * self.batch, make)
        flags = (RANDOM,) if any(part.pop(RANDOM).any() for part in parts) else ()
        probability = np.empty((len(positions), len(index.classes)), order="F")
        done = 0
        for part in parts:  # joined as they are, which takes half the memory of joining their frames
            probability[done : done + len(part)] = part.to_numpy()
            done += len(part)
        del parts
        table = ClassificationTable(
            ids=index.ids(positions),
            clusters=index.patients(positions),
            classes=index.classes,
            task=subject.task.name,
            label=index.labels[positions],
            probability=probability,
            fold=subject.fold[positions],
        )
        again = min(self.batch, len(positions)) / len(positions)  # the first batch is looked at twice
        return Scored(table.to_frame(), passes={"forward": 1.0 + again, "backward": 0.0}, flags=flags)

    def summarise(self, samples: pd.DataFrame, extra: Sequence[Metric] = ()) -> list[dict[str, Any]]:
        """Return the fields of every row: each metric, and those of plug-ins, per class and macro, with intervals."""
        return summarise(ClassificationTable.from_frame(samples), resamples=self.resamples, extra=extra)
