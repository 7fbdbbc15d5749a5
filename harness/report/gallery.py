"""The gallery of a run's page: samples as rows, method and explainer as columns (as in Khakzar 2019, Fig. 1)."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.record import Result, StageResult
from harness.report.boards import FINISHED, is_reference, newest, status
from harness.store import write_bytes

OTHERS = 3  # other runs shown beside a run
ORDER = ("fixed", "best", "worst", "median")
PICTURE = re.compile(r"[A-Za-z0-9][\w.-]*\.(png|jpg|jpeg|webp)", re.ASCII)


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


def _boxes(entry: Mapping[str, Any]) -> list[dict[str, float]]:
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


def comparable(result: Result, results: Sequence[Result]) -> list[Result]:
    """Return the runs to show beside `result`: same dataset and size, its parent first, then other methods, by id."""

    def dataset(r: Result) -> tuple[str, str, str]:
        described = r.info.get("dataset") or {}
        return str(described.get("name")), str(described.get("size")), str(described.get("fingerprint"))

    method = (result.info.get("spec") or {}).get("method")
    others = [r for r in results if r.run_id != result.run_id and dataset(r) == dataset(result)]
    others = [r for r in others if status(r) == FINISHED and any(s.gallery for s in r.stages)]

    def order(r: Result) -> tuple[bool, bool, str]:
        return r.run_id != result.info.get("start_from"), (r.info.get("spec") or {}).get("method") == method, r.run_id

    return sorted(others, key=order)


def gallery(
    result: Result, results: Sequence[Result], pictures: Pictures, pages: Mapping[str, str], base: str
) -> dict[str, Any] | None:
    """Return the gallery of a run beside up to three others; None where it has no pictures.

    `base` is the address of the pictures' folder from the run's page.
    """
    others = comparable(result, results)
    columns: list[dict[str, Any]] = []
    entries: list[dict[tuple[str, str], tuple[StageResult, dict[str, Any]]]] = []
    for r in (result, *others[:OTHERS]):
        stages = {str(s.info.get("explainer", "")): s for s in newest(r.stages) if s.gallery and not is_reference(s)}
        for explainer, stage in sorted(stages.items()):
            spec = r.info.get("spec") or {}
            columns.append(
                {"method": str(spec.get("method", r.run_id)), "seed": str(spec.get("seed", "")), "explainer": explainer,
                 "run_id": r.run_id, "page": pages[r.run_id], "own": r is result}
            )  # fmt: skip
            entries.append({(str(e.get("id")), str(e.get("class_name"))): (stage, e) for e in stage.gallery})
    samples: dict[tuple[str, str], str] = {}
    for column, mine in zip(columns, entries, strict=True):
        for key, (_, entry) in mine.items():
            why = str(entry.get("why", ""))
            if column["own"] and (key not in samples or ORDER.index("fixed") == _place(why)):
                samples[key] = why
    if not samples:
        return None
    rows = []
    for key, why in sorted(samples.items(), key=lambda item: (_place(item[1]), item[1], item[0])):
        first = next((mine[key] for mine in entries if key in mine))
        cells = []
        for mine in entries:
            if key not in mine:
                cells.append(None)
                continue
            stage, entry = mine[key]
            names = [pictures.add(stage, entry.get(kind)) for kind in ("overlay", "heat")]
            overlay, heat = (f"{base}/{n}" if n else "" for n in names)
            if overlay or heat:
                cells.append({"overlay": overlay or heat, "heat": heat or overlay, "caption": _caption(entry)})
            else:
                cells.append(None)
        image = pictures.add(first[0], first[1].get("image"))
        rows.append(
            {"id": key[0], "class_name": key[1], "why": why, "positive": first[1].get("positive"), "cells": cells,
             "image": f"{base}/{image}" if image else "", "boxes": _boxes(first[1])}
        )  # fmt: skip
    return {"columns": columns, "rows": rows, "left_out": max(0, len(others) - OTHERS)}


def _place(why: str) -> int:
    return ORDER.index(why) if why in ORDER else len(ORDER)
