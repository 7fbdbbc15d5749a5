"""Adversarial explanations: one image by every method, and every image of a method by class (Woods 2019, Figs 1, 4, 5).

The pictures are those of the evaluation `adversarial_explanations`; records hold numbers, never images.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from harness.record import Result, StageResult
from harness.report.boards import Board, Line, newest
from harness.report.figures.series import labels, series_of
from harness.report.gallery import Pictures, boxes_of

EVALUATION = "adversarial_explanations"
DIRECTIONS = {"plus": "explain+", "minus": "explain-"}

Sample = tuple[str, str]  # image, its own class


def figure(board: Board, pictures: Pictures, pages: Mapping[str, str], base: str) -> dict[str, Any]:
    """Return the page's context: of each series the lowest seed that has pictures, partial runs as well.

    `base` is the address of the pictures' folder from the page. `command` makes such pictures, for a board without.
    """
    series, left_out = series_of(board, partial=True)
    names = labels(series)
    groups: list[dict[str, Any]] = []
    found: list[dict[Sample, list[dict[str, Any]]]] = []
    for name, s in zip(names, series, strict=True):
        line, stage = next(((x, g) for x in s.lines if (g := explained(x.result))), (None, None))
        if line is None or stage is None:
            continue
        groups.append(_head(name, line, stage, pages))
        found.append(_samples(stage, pictures, base))
    keys = sorted({key for mine in found for key in mine}, key=lambda k: (k[1], k[0]))
    return {
        "groups": groups,
        "samples": [
            {"id": image, "own": own, "cells": [_of_class(mine.get((image, own), []), own) for mine in found]}
            for image, own in keys
        ],
        "by_run": [
            [{"id": image, "own": own, "targets": mine[image, own]} for image, own in keys if (image, own) in mine]
            for mine in found
        ],
        "targets": max((len(t) for mine in found for t in mine.values()), default=0),
        "directions": DIRECTIONS,
        "without": [n for n in names if n not in {g["name"] for g in groups}],
        "left_out": left_out,
        "command": _command(board),
    }


def explained(result: Result) -> StageResult | None:
    """Return the stage that holds a run's explanations as pictures; None where there is none."""
    stages = [s for s in newest(result.stages) if s.info.get("evaluation") == EVALUATION and s.gallery]
    return stages[-1] if stages else None


def _command(board: Board) -> str:
    run = next((x.result.run_id for x in board.lines if not x.result.published), "RUN")
    return f"harness evaluate {run} --evaluation {EVALUATION}"


def _head(name: str, line: Line, stage: StageResult, pages: Mapping[str, str]) -> dict[str, Any]:
    first = stage.gallery[0]
    return {"name": name, "seed": line.first.seed, "run_id": line.result.run_id, "page": pages[line.result.run_id],
            "rho": _text(first.get("rho"), "g"), "amplification": _text(first.get("amplification"), "g")}  # fmt: skip


def _samples(stage: StageResult, pictures: Pictures, base: str) -> dict[Sample, list[dict[str, Any]]]:
    """Return per sample what its classes' explanations are, its own class first."""
    found: dict[Sample, list[dict[str, Any]]] = {}
    for entry in stage.gallery:
        shown = _entry(entry, stage, pictures, base)
        found.setdefault((str(entry.get("id")), str(entry.get("own"))), []).append(shown)
    return found


def _of_class(entries: list[dict[str, Any]], class_name: str) -> dict[str, Any] | None:
    return next((e for e in entries if e["class_name"] == class_name), None)


def _entry(entry: Mapping[str, Any], stage: StageResult, pictures: Pictures, base: str) -> dict[str, Any]:
    def address(kind: str) -> str:
        name = pictures.add(stage, entry.get(kind))
        return f"{base}/{name}" if name else ""

    reached = entry.get("explanations") or {}
    return {
        "class_name": str(entry.get("class_name")),
        "positive": entry.get("positive") is True,
        "image": address("image"),
        "boxes": boxes_of(entry),
        "top": _top(entry.get("top")),
        "before": _text(entry.get("probability")),
        **{
            direction: {
                "image": address(direction),
                "difference": address(f"{direction}_difference"),
                "after": _text((reached.get(direction) or {}).get("probability")),
                "rmse": _text((reached.get(direction) or {}).get("rmse"), ".3f"),
                "top": _top((reached.get(direction) or {}).get("top")),
            }
            for direction in DIRECTIONS
        },
    }


def _text(value: Any, form: str = ".2f") -> str:
    """Return a number as text; "n/a" where there is none."""
    known = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return format(value, form) if known else "n/a"


def _top(found: Any) -> list[dict[str, str]]:
    """Return the most probable classes and their probabilities as text."""
    pairs = [p for p in found or () if isinstance(p, list) and len(p) == 2]
    return [{"class_name": str(name), "probability": _text(p)} for name, p in pairs]
