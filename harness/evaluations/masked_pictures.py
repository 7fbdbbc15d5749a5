"""Pictures of insertion and deletion: image, baseline, order and curves, from which a page shows every step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.evaluations import gallery
from harness.evaluations.explained_maps import explain, seeds_of
from harness.evaluations.masked import View, baselines, views
from harness.evaluations.subject import Picture, Subject, labelled
from harness.metrics.insertion_deletion import InsertionDeletionTable
from harness.metrics.scored import suffix
from harness.scores.insertion import counts, places
from harness.scores.threshold_iou import finite, to_levels

SHOWN_CELLS = 32  # per side: the orders of finer cells would fill the page
LEVELS = 65535  # of a stored probability: curves are kept as integers of 16 bits


def shown(subject: Subject, positions: NDArray[np.int64], table: InsertionDeletionTable) -> dict[int, str]:
    """Return which of the images at `positions` are shown, by number, and why each.

    The first of the fixed order, the same for every run, and the best, median and worst difference of the areas.
    """
    first = labelled(subject.prepared, min(gallery.FIXED, len(positions)))
    found = {int(i): "fixed" for i in np.flatnonzero(np.isin(positions, first))}
    scored = [c for c in range(len(table.conditions)) if c not in table.unscored]
    if not scored:
        return {}
    difference = table.values["insertion_minus_deletion"][:, scored[0]]
    for why, members in gallery.by_score(difference).items():
        for member in members:
            found.setdefault(member, why)
    return {i: why for i, why in found.items() if np.isfinite(difference[i])}


def pictures_of(
    subject: Subject, explainer: Any, positions: NDArray[np.int64], table: InsertionDeletionTable, *,
    mode: str, attack: str, overshoot: float, batch: int,
) -> list[Picture]:  # fmt: skip
    """Return an entry for each image that is shown, and with an attack for its attacked one as well."""
    chosen = shown(subject, positions, table)
    rows = np.array(list(chosen), np.int64)
    found: list[Picture] = []
    for start in range(0, len(rows), batch):
        mine = rows[start : start + batch]
        images = subject.feed(positions[mine]).batch(np.arange(len(mine)))
        seen = views(subject, images, attack, overshoot)
        each = len(table.conditions) // len(seen)  # resolutions
        parts = [
            _of_view(subject, explainer, view, mine, table, range(i * each, (i + 1) * each), mode)
            for i, view in enumerate(seen)
        ]
        for number, i in enumerate(mine.tolist()):
            for part in parts:
                part[number].entry["why"] = chosen[i]
                found.append(part[number])
    return found


def _of_view(
    subject: Subject, explainer: Any, view: View, rows: NDArray[np.int64], table: InsertionDeletionTable,
    conditions: Sequence[int], mode: str,
) -> list[Picture]:  # fmt: skip
    explanation = explain(subject, explainer, view.batch, view.target)
    heat = explanation.heat.where(finite(explanation.heat)[:, None, None], 0.0)
    size = view.batch.x.shape[-1]
    pixelwise = heat.shape[-1] == size
    heats = [gallery.display_levels(h) for h in heat.cpu().numpy()] if pixelwise else list(to_levels(heat, size).cpu())
    others = _baselines(subject, view, mode)
    orders = _orders(subject, view, heat, table, conditions, mode)
    index = subject.prepared.index
    found = []
    for number, row in enumerate(rows.tolist()):
        position, target = int(view.batch.index[number]), int(view.target[number])
        p = float(view.p_original[number])
        entry = {
            "id": str(table.ids[row]),
            "class_name": index.classes[target],
            "probability": round(p, 6) if np.isfinite(p) else None,
            "positive": bool(index.labels[position, target]),
            "scores": {},
            "boxes": [],
            "variant": view.variant,
            "curves": [{**common, "steps": steps[number], **_curves(table, c, row)} for c, common, steps in orders],
        }
        found.append(
            Picture(entry, _bytes(view.batch.x[number]), np.asarray(heats[number]), overlay=not pixelwise,
                    others={kind: made[number] for kind, made in others.items()})
        )  # fmt: skip
    return found


def _baselines(subject: Subject, view: View, mode: str) -> dict[str, list[NDArray[np.uint8]]]:
    """Return the images that insertion starts from, and those that deletion ends at where these are others."""
    x = view.batch.x
    start, end = torch.empty_like(x), torch.empty_like(x)
    for model, chosen in subject.shares(view.batch.index.numpy()):
        start[chosen], end[chosen] = baselines(model, x[chosen], mode)
    found = {"baseline": start} | ({} if mode != "rise" else {"deleted": end})
    return {kind: [_bytes(image) for image in images] for kind, images in found.items()}


def _orders(
    subject: Subject, view: View, heat: Tensor, table: InsertionDeletionTable, conditions: Sequence[int], mode: str
) -> list[tuple[int, dict[str, Any], list[list[int]]]]:
    """Return for each scored resolution its condition, what all images share, and the step that changes each cell."""
    seeds = seeds_of(subject, view.batch.index.numpy(), view.target, "ties")
    found = []
    for c in conditions:
        r = table.conditions[c]["resolution"]
        if c in table.unscored or r > SHOWN_CELLS:
            continue
        count = counts(r * r, mode)
        steps = np.searchsorted(count, places(heat, r, seeds).cpu().numpy(), side="right")
        common = {"resolution": r, "counts": count.tolist(), "aligned": mode == "igos_code"}
        found.append((c, common, steps.tolist()))
    return found


def _curves(table: InsertionDeletionTable, condition: int, row: int) -> dict[str, Any]:
    """Return both curves of an image and their areas, in plain numbers."""
    found: dict[str, Any] = {}
    for name in ("insertion", "deletion"):
        levels = table.extra[f"{name}_curve{suffix(table.conditions[condition])}"][row]
        found[name] = [round(int(level) / LEVELS, 4) for level in levels]
        found[f"{name}_area"] = round(float(table.values[name][row, condition]), 4)
    return found


def _bytes(image: Tensor) -> NDArray[np.uint8]:
    return (image.clamp(0, 1) * 255).round().byte().cpu().numpy()
