"""What a run's page needs to show insertion and deletion step by step: pictures, orders and curves, by explainer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from harness.record import Result, StageResult
from harness.report.boards import is_reference, newest
from harness.report.gallery import Pictures

EVALUATION = "insertion_deletion"
KINDS = ("image", "baseline", "deleted", "overlay", "heat")
DIRECTIONS = ("insertion", "deletion")


def scrubber(result: Result, pictures: Pictures, base: str) -> list[dict[str, Any]]:
    """Return an entry per explainer with samples to look at, own ones first; [] for a run without pictures.

    `base` is the address of the pictures' folder from the run's page. A later stage replaces an earlier one.
    """
    stages = {str(s.info.get("explainer", "")): s for s in newest(result.stages)
              if s.info.get("evaluation") == EVALUATION and s.gallery}  # fmt: skip
    found = []
    for name, stage in sorted(stages.items(), key=lambda item: (is_reference(item[1]), item[0])):
        samples = [s for e in stage.gallery if (s := _sample(e, stage, pictures, base))]
        if samples:
            found.append({"explainer": name, "reference": is_reference(stage), "samples": samples})
    return found


def _sample(entry: Mapping[str, Any], stage: StageResult, pictures: Pictures, base: str) -> dict[str, Any] | None:
    """Return what is shown of one image; None where a picture or every curve is missing or damaged."""
    names = {kind: pictures.add(stage, entry[kind]) for kind in KINDS if entry.get(kind)}
    curves = [c for c in entry.get("curves") or () if _sound(c)]
    if not (names.get("image") and names.get("baseline") and curves):
        return None
    address = {kind: f"{base}/{name}" for kind, name in names.items() if name}
    told = [str(entry.get("id")), str(entry.get("class_name")), str(entry.get("variant") or ""), str(entry.get("why"))]
    return {
        "name": ", ".join(x for x in told if x),
        "class_name": str(entry.get("class_name")),
        "image": address["image"],
        "baseline": address["baseline"],
        "deleted": address.get("deleted", address["baseline"]),
        "map": address.get("overlay") or address.get("heat") or "",
        "curves": [{k: c[k] for k in ("resolution", "counts", "steps", *DIRECTIONS)}
                   | {"aligned": c.get("aligned") is True}
                   | {f"{d}_area": c.get(f"{d}_area") if _number(c.get(f"{d}_area")) else None for d in DIRECTIONS}
                   for c in curves],
    }  # fmt: skip


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _sound(curve: Any) -> bool:
    """Return whether a curve has an order of all its cells and a probability at each of its steps."""
    if not isinstance(curve, Mapping) or not isinstance(side := curve.get("resolution"), int):
        return False
    found = [curve.get(k) for k in ("counts", "steps", *DIRECTIONS)]
    lists = [x for x in found if isinstance(x, list) and all(map(_number, x))]
    if len(lists) < len(found):
        return False
    counts, steps, *levels = lists
    return len(steps) == side**2 and len(counts) > 1 and all(len(level) == len(counts) for level in levels)
