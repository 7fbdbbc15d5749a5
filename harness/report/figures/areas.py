"""The numbers beside the curves of accuracy under attack: areas, accuracies at fixed radii, how the attacks went."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.columns import MISSING, ColumnKey
from harness.metrics.cells import ALL, MACRO
from harness.metrics.robustness import RobustnessTable
from harness.record import StageResult
from harness.report.boards import Line, digits_of
from harness.report.charts import DASHES
from harness.report.figures.attacked import Band, Place, Steps
from harness.report.figures.series import Point, Series, published_record, record
from harness.report.literature import Published, System, systems
from harness.report.table import badges

EVALUATION = "robustness"


@dataclass(frozen=True)
class Goal:
    """One goal of the attacks: its area, its accuracy at fixed radii, and itself in words."""

    name: str
    text: str
    area: str
    accuracy: str = ""
    variant: str = ""


GOALS = (
    Goal("adv", "attack: another class is more probable", "attack_ara", "attack_accuracy"),
    Goal("btr", "BTR: the class is below chance", "btr_ara", "btr_accuracy"),
    Goal("flip", "decision flipped at the operating point", "flip_ara", "flip_accuracy"),
    Goal("at_half", "decision flipped at probability 1/2", "flip_ara_at_half", variant="at_half"),
)
CLEAN = (("accuracy", ALL), ("auroc", MACRO))  # of the evaluation `classification`: the first that a run has
AUROC = "robust_auroc"
STROKES = ("solid", *DASHES[2:])  # of every ten series


@dataclass(frozen=True)
class Drawn:
    """A series of the figure: its number and name on the board, and its stages, tables, curves and bands."""

    number: int
    name: str
    series: Series
    stages: list[StageResult]
    tables: list[RobustnessTable]
    points: dict[ColumnKey, Point]
    curves: dict[Place, Steps]
    bands: dict[Place, Band]

    @property
    def dash(self) -> str:
        """Return the stroke that tells it from the series of the same colour."""
        return STROKES[self.number // 10 % len(STROKES)]


def area_of(points: Mapping[ColumnKey, Point], goal: Goal, class_name: str) -> Point | None:
    """Return the area of a goal and class; None where it was not measured."""
    return next((p for k, p in points.items()
                 if (k.metric, k.variant, k.class_name) == (goal.area, goal.variant, class_name)), None)  # fmt: skip


def classified(points: Mapping[ColumnKey, Point], metric: str, class_name: str) -> Point | None:
    """Return a metric of the evaluation `classification`; None where it was not made."""
    return next((p for k, p in points.items() if k.evaluation == "classification" and not k.variant and
                 (k.metric, k.class_name) == (metric, class_name)), None)  # fmt: skip


def at_start(d: Drawn, goal: str, class_name: str) -> Point | None:
    """Return the accuracy on the attacked images as they are: the curve at radius 0."""
    if (goal, class_name) not in d.curves:
        return None
    band = d.bands.get((goal, class_name))
    low, high = (float(band.low[0]), float(band.high[0])) if band else (math.nan, math.nan)
    return Point(float(d.curves[goal, class_name].share[0]), low, high, len(d.tables[0].ids), len(d.tables))


def over_radii(points: Mapping[ColumnKey, Point], metric: str, class_name: str) -> dict[float, Point]:
    """Return radius -> value of a metric at fixed radii, lowest first."""
    found = {k.radius: p for k, p in points.items()
             if (k.metric, k.class_name) == (metric, class_name) and k.radius != MISSING}  # fmt: skip
    return dict(sorted(found.items()))


def published_systems(published: Sequence[Published], dataset: str) -> list[System]:
    """Return the published systems that have an area, with the accuracy that stands beside it."""
    areas = [s for g in GOALS for s in systems(published, dataset, g.area)]
    accuracy = {s.name: s.rows for metric, _ in CLEAN for s in systems(published, dataset, metric)}
    rows: dict[str, list[Published]] = {}
    for s in areas:
        rows.setdefault(s.name, []).extend(s.rows)
    return [System(name, [*accuracy.get(name, ()), *mine]) for name, mine in rows.items()]


def height_of(d: Drawn) -> float:
    """Return the first of a series' areas, by which the series are ordered."""
    first = next((p for g in GOALS for c in (ALL, MACRO) if (p := area_of(d.points, g, c))), None)
    return first.value if first and math.isfinite(first.value) else -math.inf


def lines_of(
    drawn: Sequence[Drawn],
    faults: Sequence[tuple[Line, Mapping[ColumnKey, Point]]],
    found: Sequence[System],
    goals: Sequence[Goal],
    clean: tuple[str, str],
    pages: Mapping[str, str],
) -> list[dict[str, Any]]:
    """Return the lines of the table of areas: ours, then runs that take no part in ranks, then published systems."""

    def numbers(points: Mapping[ColumnKey, Point]) -> dict[str, Any]:
        own = classified(points, *clean)
        areas = [(g, next((p for c in (ALL, MACRO) if (p := area_of(points, g, c))), None)) for g in goals]
        cells = [p.shown(digits_of(g.area)) if p else None for g, p in areas]
        return {"clean": own.shown() if own else None, "cells": cells}

    lines: list[dict[str, Any]] = []
    for d in drawn:
        place = next((x for x in d.curves if x[1] in (ALL, MACRO)), None)
        start = at_start(d, *place) if place else None
        cells = [c for x in d.series.lines for k, c in x.cells.items() if k.evaluation == EVALUATION]
        flags = sorted({f for c in cells for f in c.row.flags})
        lines.append({"kind": "run", "name": d.name, "detail": d.series.bar(), "n": len(d.tables[0].ids),
                      "page": pages[d.series.lines[0].result.run_id], "badges": badges(flags),
                      "attacked": start.shown() if start else None, **numbers(d.points)})  # fmt: skip
    for line, points in faults:
        n = next((p.n for k, p in points.items() if k.evaluation == EVALUATION), None)
        lines.append({"kind": "faulty", "name": line.first.method, "detail": line.result.run_id, "n": n,
                      "page": pages[line.result.run_id], "badges": badges(line.flags), "attacked": None,
                      **numbers(points)})  # fmt: skip
    for s in found:
        at = {r.metric: r for r in s.rows}
        lines.append({"kind": "published", "name": s.name, "mark": s.facts()["mark"], "n": None,
                      "attacked": None, "clean": _quoted(at.get(clean[0])),
                      "cells": [_quoted(at.get(g.area)) for g in goals]})  # fmt: skip
    return lines


def sources_of(found: Sequence[System]) -> list[dict[str, str]]:
    """Return the facts of published systems; those that share all of them stand in one entry."""
    shared: dict[tuple[str, ...], list[str]] = {}
    for facts in (s.facts() for s in found):
        shared.setdefault(tuple(v for k, v in facts.items() if k != "name"), []).append(facts["name"])
    keys = ("year", "mark", "source", "split", "protocol", "note")
    return [{"name": "; ".join(names), **dict(zip(keys, rest, strict=True))} for rest, names in shared.items()]


def _quoted(row: Published | None) -> dict[str, str] | None:
    return {"text": f"{row.value:.{digits_of(row.metric)}f}", "interval": "", "title": row.source} if row else None


def by_class(drawn: Sequence[Drawn], goals: Sequence[Goal], classes: Sequence[str]) -> list[dict[str, Any]]:
    """Return per goal a table of areas, classes by series."""
    return [
        {"goal": g.name, "title": g.area, "text": g.text, "columns": [d.name for d in drawn], "rows": [
            {"class_name": c, "cells": [p.shown(digits_of(g.area)) if p else None
                                        for d in drawn for p in (area_of(d.points, g, c),)]} for c in classes]}
        for g in goals if any(area_of(d.points, g, c) for d in drawn for c in classes)
    ]  # fmt: skip


def at_radii(drawn: Sequence[Drawn], metric: str, class_name: str) -> dict[str, Any]:
    """Return a table of a metric at fixed radii: a line per series, a column per radius."""
    mine = [(d.name, at) for d in drawn if (at := over_radii(d.points, metric, class_name))]
    radii = sorted({r for _, at in mine for r in at})
    rows = [{"name": n, "cells": [at[r].shown() if r in at else None for r in radii]} for n, at in mine]
    return {"class_name": class_name, "radii": [f"{r:g}" for r in radii], "rows": rows}


def attacks_on(d: Drawn, goal: Goal) -> dict[str, Any] | None:
    """Return what the stages say of the attacks for one goal: sums over seeds, passes as mean and maximum."""
    if not any(goal.name in t.rmse for t in d.tables):
        return None
    facts = [f for s in d.stages if isinstance(f := (s.info.get("facts") or {}).get(goal.name), Mapping)]
    line: dict[str, Any] = {
        "name": d.name,
        "goal": goal.text,
        "seeds": len(d.tables),
        "stored": len(facts) == len(d.stages),
    }
    if not line["stored"]:
        return line
    return line | summed(facts)


def summed(facts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return one goal's facts over several stages: counts added up, passes as their mean and largest."""
    won: Counter[str] = Counter()
    for f in facts:
        won.update({str(k): int(v) for k, v in (f.get("won") or {}).items()})
    total = sum(int(f["images"]) for f in facts)
    return {
        "images": total,
        "start": sum(int(f["at the start"]) for f in facts),
        "won": ", ".join(f"{name} {count}" for name, count in won.most_common()) or "none",
        "mean": f"{sum(f['passes, mean'] * f['images'] for f in facts) / max(1, total):.1f}",
        "most": max(int(f["passes, maximum"]) for f in facts),
        "never": sum(int(f["never fooled"]) for f in facts),
    }


def records_of(drawn: Sequence[Drawn], found: Sequence[System], clean: tuple[str, str]) -> list[dict[str, Any]]:
    """Return the lines of the download, besides the curves."""
    lines = []
    metrics = {m for g in GOALS for m in (g.area, g.accuracy) if m} | {AUROC}
    goal_of = {m: g.name for g in GOALS for m in (g.area, g.accuracy) if m}
    for d in drawn:
        keys = sorted(k for k in d.points if k.metric in metrics)
        lines += [record("run", d.name, d.points[k], metric=k.metric, goal=goal_of.get(k.metric, ""), attack=k.attack,
                         class_name=k.class_name, variant=k.variant, radius=None if k.radius == MISSING else k.radius)
                  for k in keys]  # fmt: skip
        extra = {"variant": "", "radius": None, "attack": ""}
        if p := classified(d.points, *clean):
            lines.append(record("run", d.name, p, metric=clean[0], goal="", class_name=clean[1], **extra))
    lines += [published_record(r, metric=r.metric, goal=goal_of.get(r.metric, ""), attack="", class_name=r.class_name,
                               variant="", radius=None) for s in found for r in s.rows]  # fmt: skip
    return lines
