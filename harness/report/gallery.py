"""The gallery of a run's page: samples as rows, method and explainer as columns (as in Khakzar 2019, Fig. 1)."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.record import Result, StageResult
from harness.report.boards import FINISHED, is_reference, newest, status
from harness.rows import INVALID
from harness.store import write_bytes

OTHERS = 3  # other runs shown beside a run
FIXED = "fixed"
ORDER = ("best", "worst", "median")
MASKED = "insertion_deletion"  # a run's page has a section of its own for its pictures
PICTURE = re.compile(r"[A-Za-z0-9][\w.-]*\.(png|jpg|jpeg|webp)", re.ASCII)

Samples = dict[tuple[str, str], dict[str, Any]]  # (image, class) -> what is shown of it


@dataclass
class Pictures:
    """The site's folder of pictures, named by content: an image that many runs show is stored once."""

    folder: Path
    problems: list[str] = field(default_factory=list)
    written: set[Path] = field(default_factory=set)
    _known: dict[Path, str] = field(default_factory=dict)

    def add(self, stage: StageResult, name: Any) -> str:
        """Copy a picture of a stage's gallery and return its file name; "" where it is not there or not a picture."""
        if stage.gallery_folder is None or not isinstance(name, str):
            return ""
        source = stage.gallery_folder / name
        if source in self._known:
            return self._known[source]
        if not PICTURE.fullmatch(name) or source.is_symlink():  # never a path, never out of the gallery
            self.problems.append(f"{stage.gallery_folder}: picture {name!r} is not a plain file name of a picture.")
            return ""
        if not source.is_file() and source.exists():  # a pipe never ends
            self.problems.append(f"{source}: is not a file.")
            return ""
        try:
            content = source.read_bytes()
        except OSError as error:
            self.problems.append(f"{source}: cannot be read ({error.strerror}).")
            return ""
        target = f"{hashlib.sha256(content).hexdigest()[:20]}{source.suffix}"
        if not (self.folder / target).exists():
            write_bytes(self.folder / target, content)
        self.written.add(self.folder / target)
        self._known[source] = target
        return target


def boxes_of(entry: Mapping[str, Any]) -> list[dict[str, float]]:
    """Return the boxes in percent of the picture; anything that is not four numbers in [0, 1] is left out."""
    found = []
    for box in entry.get("boxes") or ():
        if isinstance(box, list) and len(box) == 4 and all(isinstance(v, int | float) and 0 <= v <= 1 for v in box):
            x0, y0, x1, y1 = (round(100 * v, 3) for v in box)
            found.append({"x": x0, "y": y0, "w": round(x1 - x0, 3), "h": round(y1 - y0, 3)})
    return found


def _caption(entry: Mapping[str, Any]) -> str:
    parts = []
    probability = entry.get("probability")
    if isinstance(probability, int | float) and math.isfinite(probability):
        parts.append(f"p {probability:.2f}")
    for name, value in sorted((entry.get("scores") or {}).items()):
        if isinstance(value, int | float) and math.isfinite(value):
            parts.append(f"{str(name).replace('_', ' ')} {value:.2f}")
    return " · ".join(parts[:3])


@dataclass(frozen=True)
class Neighbours:
    """For every run, the runs to show beside it. Built once for all runs of a report."""

    by_dataset: dict[tuple[str, ...], list[Result]]

    @staticmethod
    def of(results: Sequence[Result]) -> Neighbours:
        """Sort the finished runs with pictures by dataset, those with faults last."""
        found: dict[tuple[str, ...], list[Result]] = {}
        for r in sorted(results, key=lambda r: (_faulty(r), r.run_id)):
            if status(r) == FINISHED and pictured(r):
                found.setdefault(_dataset(r), []).append(r)
        return Neighbours(found)

    def beside(self, result: Result) -> tuple[list[Result], int]:
        """Return up to three runs of the same dataset and size, and how many more there are.

        The run it started from is first, then one run of each other method, then other seeds and settings.
        """
        others = [r for r in self.by_dataset.get(_dataset(result), []) if r.run_id != result.run_id]
        met = {_method(result)}
        parent = [r for r in others if r.run_id == result.info.get("start_from")]
        met |= {_method(r) for r in parent}
        first = list(parent)
        for r in others:
            if _method(r) not in met:
                met.add(_method(r))
                first.append(r)
        taken = {r.run_id for r in first}
        chosen = [*first, *(r for r in others if r.run_id not in taken)][:OTHERS]
        return chosen, len(others) - len(chosen)


def _dataset(result: Result) -> tuple[str, ...]:
    described = result.info.get("dataset") or {}
    return tuple(str(described.get(k)) for k in ("name", "size", "fingerprint"))


def _method(result: Result) -> str:
    return str((result.info.get("spec") or {}).get("method"))


def _faulty(result: Result) -> bool:
    return any(flag == "partial" or flag in INVALID for row in result.rows for flag in row.flags)


def gallery(
    result: Result, neighbours: Neighbours, pictures: Pictures, pages: Mapping[str, str], base: str
) -> dict[str, Any] | None:
    """Return the gallery of a run; None where it has no pictures.

    `columns` and `rows` hold the fixed samples of this run beside up to three others, `strips` the run's own choice
    (best, worst, median) by explainer. `base` is the address of the pictures' folder from the run's page.
    """
    others, left_out = neighbours.beside(result)
    columns: list[dict[str, Any]] = []
    shown: list[Samples] = []
    strips: list[dict[str, Any]] = []
    for r in (result, *others):
        for explainer, stage in pictured(r).items():
            entries = [_entry(e, stage, pictures, base) for e in stage.gallery]
            columns.append({**column(r, explainer, pages), "own": r is result})
            shown.append(_fixed(entries))
            own = [e for e in entries if e["why"] != FIXED and e["overlay"]]
            if r is result and own:
                strips.append({"explainer": explainer, "samples": sorted(own, key=_order)})
    if not any(columns[i]["own"] for i in range(len(columns))):
        return None
    keys = {key for c, mine in zip(columns, shown, strict=True) if c["own"] for key in mine}
    return {"columns": columns, "rows": rows_of(keys, shown), "strips": strips, "left_out": left_out}


def pictured(result: Result) -> dict[str, StageResult]:
    """Return explainer -> the stage that holds its maps, by name; reference rows have none worth showing."""
    return _stages(result, masked=False)


def only_masked(result: Result) -> dict[str, StageResult]:
    """Return explainer -> its stage of insertion and deletion, of those that have no other maps to show."""
    others = pictured(result)
    return {name: stage for name, stage in _stages(result, masked=True).items() if name not in others}


def _stages(result: Result, masked: bool) -> dict[str, StageResult]:
    found = [s for s in newest(result.stages) if s.gallery and not is_reference(s)]
    stages = {str(s.info.get("explainer", "")): s for s in found if (s.info.get("evaluation") == MASKED) is masked}
    return {name: stages[name] for name in sorted(stages) if name}


def column(result: Result, explainer: str, pages: Mapping[str, str]) -> dict[str, Any]:
    """Return what the head of a gallery's column says of its run."""
    spec = result.info.get("spec") or {}
    return {"method": str(spec.get("method", result.run_id)), "seed": str(spec.get("seed", "")),
            "explainer": explainer, "run_id": result.run_id, "page": pages[result.run_id]}  # fmt: skip


def fixed_samples(stage: StageResult, pictures: Pictures, base: str) -> Samples:
    """Return the samples of a stage that every run shows, by image and class."""
    return _fixed([_entry(e, stage, pictures, base) for e in stage.gallery if e.get("why") == FIXED])


def samples(stage: StageResult, pictures: Pictures, base: str) -> Samples:
    """Return every sample that a stage has pictures of, by image and class; masked images by image alone."""
    if stage.info.get("evaluation") == MASKED:
        return masked_samples(stage, pictures, base)
    found = (_entry(e, stage, pictures, base) for e in stage.gallery)
    return {(e["id"], e["class_name"]): e for e in found if e["overlay"]}


def masked_samples(stage: StageResult, pictures: Pictures, base: str) -> Samples:
    """Return those of a stage of insertion and deletion, by image alone: the class is the model's choice.

    Attacked images are left out: each model's are others.
    """
    kept = [e for e in stage.gallery if e.get("why") == FIXED and not str(e.get("variant")).startswith("attacked")]
    return {(str(e.get("id")), ""): {**_entry(e, stage, pictures, base), "areas": _areas(e)} for e in kept}


def _areas(entry: Mapping[str, Any]) -> str:
    """Return both areas at the coarsest resolution that was scored, "" where one is missing."""
    curve = next((c for c in entry.get("curves") or () if isinstance(c, Mapping)), {})
    side, *areas = (curve.get(k) for k in ("resolution", "insertion_area", "deletion_area"))
    if not all(isinstance(v, int | float) and math.isfinite(v) for v in (side, *areas)):
        return ""
    return f"insertion {areas[0]:.2f}, deletion {areas[1]:.2f} at {side} x {side} cells"


def _fixed(entries: Sequence[dict[str, Any]]) -> Samples:
    return {(e["id"], e["class_name"]): e for e in entries if e["why"] == FIXED}


def rows_of(keys: Iterable[tuple[str, str]], shown: Sequence[Samples]) -> list[dict[str, Any]]:
    """Return a row per sample, by class: the image with its boxes, and a cell per column, None without a picture."""
    rows = []
    for key in sorted(keys, key=lambda k: (k[1], k[0])):
        first = next(mine[key] for mine in shown if key in mine)
        cells = [mine[key] if key in mine and mine[key]["overlay"] else None for mine in shown]
        rows.append({**first, "cells": cells})
    return rows


def _entry(entry: Mapping[str, Any], stage: StageResult, pictures: Pictures, base: str) -> dict[str, Any]:
    names = {kind: pictures.add(stage, entry.get(kind)) for kind in ("image", "overlay", "heat")}
    address = {kind: f"{base}/{name}" if name else "" for kind, name in names.items()}
    return {
        "id": str(entry.get("id")),
        "class_name": str(entry.get("class_name")),
        "why": str(entry.get("why", "")),
        "positive": entry.get("positive"),
        "caption": _caption(entry),
        "boxes": boxes_of(entry),
        "image": address["image"],
        "overlay": address["overlay"] or address["heat"],
        "heat": address["heat"] or address["overlay"],
    }


def _order(entry: Mapping[str, Any]) -> tuple[int, str, str]:
    why = entry["why"]
    return ORDER.index(why) if why in ORDER else len(ORDER), entry["class_name"], entry["id"]
