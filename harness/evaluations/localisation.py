"""Weakly supervised localisation: a map per (image, class) pair against the ground-truth box (protocol.md, 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.config import setting
from harness.data.cache import Prepared
from harness.data.index import folds_by_patient
from harness.evaluations import explained_maps, gallery
from harness.evaluations.subject import Picture, Scored, Subject, fixed_order
from harness.metrics.cells import Metric
from harness.metrics.localisation_table import FOLDS, MISSING, SCALE, LocalisationTable, quantise
from harness.metrics.summary import summarise
from harness.plugins import evaluation
from harness.scores.boxes import box_mask
from harness.scores.energy import energy
from harness.scores.pointing import chance, pointing
from harness.scores.threshold_iou import counts, finite, to_levels, upsample
from harness.types import Batch, Explanation

CORNERS = ["x0", "y0", "x1", "y1"]


@dataclass(frozen=True)
class Pairs:
    """The (image, class) pairs of a split that have a box, in table order."""

    ids: NDArray[np.str_]  # (P,) of the image
    position: NDArray[np.int64]  # (P,) of the image in the dataset's table
    class_number: NDArray[np.int64]  # (P,)
    class_name: NDArray[np.str_]  # (P,)
    boxes: list[NDArray[np.float64]]  # P arrays (K,4), fractions of the image
    fold: NDArray[np.int8]  # (P,) fixed by patient over all pairs of the split, the same for every run

    def __len__(self) -> int:
        return len(self.ids)

    def select(self, chosen: NDArray[np.int64]) -> Pairs:
        """Return the pairs at `chosen`."""
        return Pairs(
            ids=self.ids[chosen],
            position=self.position[chosen],
            class_number=self.class_number[chosen],
            class_name=self.class_name[chosen],
            boxes=[self.boxes[i] for i in chosen],
            fold=self.fold[chosen],
        )

    def masks(self, size: int) -> Tensor:
        """Return the union of each pair's boxes, (P,size,size) bool."""
        return torch.from_numpy(np.stack([box_mask(boxes, size) for boxes in self.boxes]))


def pairs_of(prepared: Prepared) -> Pairs:
    """Return every pair of the test samples, fold by fold in table order; its boxes count as their union."""
    index = prepared.index
    place = {name: i for i, name in enumerate(index.samples["id"])}
    number = {name: i for i, name in enumerate(index.classes)}
    rank = {int(p): i for i, p in enumerate(index.scored()[0])}
    groups = index.boxes.groupby(["id", "class_name"], sort=False)
    found = [(place[i], number[c], rows[CORNERS].to_numpy(float)) for (i, c), rows in groups]  # pyright: ignore
    found = sorted((f for f in found if f[0] in rank), key=lambda f: (rank[f[0]], f[1]))
    position = np.array([f[0] for f in found], np.int64)
    class_number = np.array([f[1] for f in found], np.int64)
    class_name = np.array(index.classes)[class_number].astype(str)
    patients = index.patients(position)
    fold = folds_by_patient(patients, class_name, folds=FOLDS)
    ids = index.ids(position)
    return Pairs(ids, position, class_number, class_name, [f[2] for f in found], fold)


def explain(subject: Subject, explainer: Any, pairs: Pairs) -> tuple[Explanation, Batch]:
    """Return the explanation of each pair's class on its image, heat (P,h,w), and the images, a batch of P."""
    batch = subject.feed(pairs.position).batch(np.arange(len(pairs)))
    target = torch.from_numpy(pairs.class_number).to(batch.x.device)
    return explained_maps.explain(subject, explainer, batch, target), batch


def measure(heat: Tensor, masks: Tensor) -> dict[str, NDArray[Any]]:
    """Return the per-pair scores of heat maps (P,h,w) against box masks (P,S,S).

    A map that is not finite is missing: NaN, and `MISSING` in the 16-bit shares.
    """
    usable = finite(heat)
    lost = ~usable.cpu().numpy()
    up = upsample(heat.where(usable[:, None, None], 0.0), masks.shape[-1])
    inside, region = (c.cpu().numpy() for c in counts(to_levels(up, masks.shape[-1]), masks))
    box = masks.flatten(1).sum(1).cpu().numpy()
    shares = {"iou": quantise(inside, region + box[:, None] - inside), "iobb": quantise(inside, region)}
    floats = {"pointing": pointing(up, masks), "energy": energy(up, masks)}
    area = chance(masks).cpu().numpy()
    return {
        **{name: np.where(lost[:, None], np.uint16(MISSING), share) for name, share in shares.items()},
        **{name: np.where(lost, np.nan, values.cpu().numpy()) for name, values in floats.items()},
        **dict.fromkeys(("pointing_chance", "energy_chance", "box_area"), area),
    }


def gallery_of(subject: Subject, explainer: Any, pairs: Pairs, scores: dict[str, NDArray[Any]]) -> list[Picture]:
    """Return pictures of the pairs that every run shows, and of those with the best, median and worst IoU."""
    shown = {int(i): "fixed" for i in gallery.fixed_pairs(pairs.class_number)}
    best = np.where(np.isnan(scores["pointing"]), np.nan, scores["iou"].max(1) / SCALE)
    for why, members in gallery.by_score(best).items():
        for member in members:
            shown.setdefault(member, why)
    chosen = np.array(list(shown), np.int64)
    explanation, batch = explain(subject, explainer, pairs.select(chosen))
    size = batch.x.shape[-1]
    probability = subject.task.probability(subject.logits(batch)).double().cpu().numpy()
    pixelwise = explanation.heat.shape[-1] == size
    if pixelwise:
        heats = [gallery.display_levels(h) for h in explanation.heat.nan_to_num().cpu().numpy()]
    else:
        heats = list(to_levels(explanation.heat.nan_to_num(), size).cpu().numpy())
    index = subject.prepared.index
    return [
        Picture(
            entry={
                "id": str(pairs.ids[i]),
                "class_name": str(pairs.class_name[i]),
                "why": why,
                "probability": float(p[pairs.class_number[i]]),
                "positive": bool(index.labels[pairs.position[i], pairs.class_number[i]]),
                "scores": {"best IoU": None if np.isnan(best[i]) else float(best[i])},
                "boxes": pairs.boxes[i].round(6).tolist(),
            },
            image=np.asarray(subject.prepared.images[pairs.position[i]]),
            heat=heat,
            overlay=not pixelwise,
        )
        for (i, why), heat, p in zip(shown.items(), heats, probability, strict=True)
    ]


def _stacked(frame: pd.DataFrame, name: str) -> NDArray[Any]:
    """Return a column of numbers (P,), or of lists of V of them (P,V)."""
    values = frame[name].to_numpy()
    return np.stack(values.tolist()) if values.dtype == object else values


@evaluation("localisation", source="Khakzar 2019, 3.3; protocol.md, 2", version=1, standard=True, per_explainer=True,
            parts=True)  # fmt: skip
@dataclass(frozen=True, kw_only=True)
class Localisation:
    """IoU of the thresholded map with the box at all 256 thresholds, pointing game and energy, per pair."""

    batch: int = setting(32, unit="pairs", help="logical batch; part of the key")
    resamples: int = setting(1000, source="protocol.md, 0", help="replicates; thresholds are re-chosen in each")

    def applies(self, prepared: Prepared) -> str:
        """Return why there is nothing to localise, or the empty string."""
        if not len(prepared.index.boxes):
            return "the dataset has no boxes"
        return "" if len(pairs_of(prepared)) else "the test split has no boxes"

    def score(self, subject: Subject, explainer: Any = None) -> Scored:
        """Return one line per pair: IoU and IoBB at all thresholds, pointing game, energy, chance level."""
        pairs = pairs_of(subject.prepared)
        if subject.limit is not None:
            pairs = pairs.select(np.sort(fixed_order(len(pairs))[: subject.limit]))

        def make(here: NDArray[np.int64]) -> pd.DataFrame:
            explanation, batch = explain(subject, explainer, pairs.select(here))
            found = measure(explanation.heat, pairs.select(here).masks(batch.x.shape[-1]).to(batch.x.device))
            columns = {name: values if values.ndim == 1 else list(values) for name, values in found.items()}
            return pd.DataFrame({**columns, "forward": explanation.forwards, "backward": explanation.backwards})

        frame = subject.in_parts(len(pairs), self.batch, make)
        passes = {name: float(frame.pop(name).mean()) for name in ("forward", "backward")}
        scores = {str(name): _stacked(frame, str(name)) for name in frame.columns}
        index = subject.prepared.index
        table = LocalisationTable(
            ids=pairs.ids,
            clusters=index.patients(pairs.position),
            class_names=pairs.class_name,
            classes=tuple(c for c in index.classes if c in set(index.boxes["class_name"])),
            fold=pairs.fold,
            iou=scores["iou"],
            iobb=scores["iobb"],
            **{name: scores[name] for name in LocalisationTable.FLOATS},
        )
        return Scored(table.to_frame(), gallery_of(subject, explainer, pairs, scores), passes)

    def summarise(self, samples: pd.DataFrame, extra: Sequence[Metric] = ()) -> list[dict[str, Any]]:
        """Return the fields of every row: each metric, and those of plug-ins, per class and macro, with intervals."""
        return summarise(LocalisationTable.from_frame(samples), resamples=self.resamples, extra=extra)
