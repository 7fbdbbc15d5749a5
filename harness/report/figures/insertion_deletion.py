"""Insertion and deletion: a table per resolution and the mean curves of every explainer (Khorram 2021, Table 1).

Numbers are those of the rows, curves those of the stored samples. Reference maps are scored by each run's own model.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from harness import stats
from harness.columns import column_key
from harness.errors import UsageError
from harness.metrics.cells import Floats
from harness.reading import understood
from harness.record import StageResult
from harness.report.boards import Board, Line, is_reference, newest
from harness.report.charts import DASHES
from harness.report.figures.series import Point, Series, labels, legend_entry, plain, point, record, series_of
from harness.report.literature import Published
from harness.report.names import chart_text
from harness.rows import Row

EVALUATION = "insertion_deletion"
METRICS = ("insertion", "deletion", "insertion_minus_deletion", "normalised_insertion", "normalised_deletion",
           "p_original", "p_blurred")  # fmt: skip
DIRECTIONS = {"deletion": "cells blurred away", "insertion": "cells shown"}
STROKES = ("solid", *DASHES)
LEVELS = 65535  # of a stored probability
AT_FIRST = 5  # explainers that are drawn before anything is chosen, those with the highest insertion
AT = re.compile(r"(?P<net>.*?)\s*(?P<side>\d+)x(?P=side)")  # a published setting: "ResNet50 28x28"


@dataclass
class Drawn:
    """One explainer of one series under one variant: its stages by seed, and its numbers."""

    series: str
    number: int
    explainer: str
    variant: str
    reference: bool
    stages: list[StageResult] = field(default_factory=list)
    rows: dict[tuple[int, str], list[Row]] = field(default_factory=dict)  # (resolution, metric) -> one per seed

    @property
    def name(self) -> str:
        """Return what the legend of a point says."""
        return f"{self.series} · {self.title}"

    @property
    def title(self) -> str:
        """Return the explainer, with the variant where there is one."""
        return self.explainer + (f", {self.variant}" if self.variant else "")

    def point(self, resolution: int, metric: str) -> Point | None:
        """Return one number; None where it was not measured."""
        rows = self.rows.get((resolution, metric))
        return point(rows) if rows else None


@dataclass(frozen=True)
class Look:
    """How an explainer's curves are drawn, and whether they are before anything is chosen."""

    dash: str
    tone: int | str | None  # None: the colour of the series
    shown: bool


@dataclass(frozen=True, eq=False)
class Curve:
    """The mean probability over the share of cells that have changed, and what lies around it, (S+1,) each."""

    share: Floats
    value: Floats
    low: Floats
    high: Floats
    bar: str


def figure(board: Board, published: Sequence[Published], pages: Mapping[str, str], resamples: int) -> dict[str, Any]:
    """Return the page's context: curves, legends, a table per resolution, and the lines of the download."""
    series, left_out = series_of(board)
    settings = settings_of([line for s in series for line in s.lines])
    names = labels(series)
    lines = [d for i, (name, s) in enumerate(zip(names, series, strict=True)) for d in drawn_of(i, name, s, settings)]
    resolutions = sorted({r for d in lines for r, _ in d.rows})
    looks = looks_of(lines)
    theirs = {r: _published(published, r) for r in resolutions}
    return {
        "evaluation_settings": settings,
        "resolutions": resolutions,
        "directions": DIRECTIONS,
        "charts": _charts(lines, resolutions, looks, resamples),
        "legend_series": [legend_entry(i, n, s, pages) for i, (n, s) in enumerate(zip(names, series, strict=True))
                          if any(d.number == i for d in lines)],
        "explainers": [{"group": f"explainer-{e}", "name": e, "dash": look.dash, "tone": look.tone, "shown": look.shown}
                       for e, look in looks.items()],
        "columns": _columns(lines),
        "tables": [{"resolution": r, "rows": [_line(d, r, pages, series) for d in lines], "published": theirs[r]}
                   for r in resolutions],
        "sources": sorted({p["source"] for r in resolutions for p in theirs[r]}),
        "left_out": left_out,
        "records": [record("reference" if d.reference else "run", d.series, p, explainer=d.explainer,
                           variant=d.variant, resolution=r, metric=m)
                    for d in lines for (r, m) in d.rows if (p := d.point(r, m))],
    }  # fmt: skip


def stages_of(line: Line) -> list[StageResult]:
    """Return the stages of a run that hold its insertion and deletion, later ones last; those on a part left out."""
    found = (s for s in newest(line.result.stages) if s.info.get("evaluation") == EVALUATION)
    return [s for s in found if s.rows and not s.partial]


def settings_of(lines: Sequence[Line]) -> str:
    """Return the evaluation settings that most stages have: others do not compare."""
    counted = Counter(s.rows[0].evaluation_settings for line in lines for s in stages_of(line))
    return min(counted, key=lambda text: (-counted[text], text), default="")


def drawn_of(number: int, name: str, series: Series, settings: str) -> list[Drawn]:
    """Return what a series was scored with under these settings: its explainers, then its reference maps."""
    found: dict[tuple[str, str], Drawn] = {}
    for line in series.lines:
        latest = {column_key(s.rows[0]).map: s for s in stages_of(line)
                  if s.rows[0].evaluation_settings == settings}  # fmt: skip
        for explainer, stage in latest.items():
            met: set[str] = set()
            for row in stage.rows:
                if row.resolution is None or row.metric not in METRICS:
                    continue
                variant = "" if row.variant in ("original", "blurred") else row.variant
                d = found.setdefault((explainer, variant), Drawn(name, number, explainer, variant, is_reference(stage)))
                d.rows.setdefault((row.resolution, row.metric), []).append(row)
                if variant not in met:
                    met.add(variant)
                    d.stages.append(stage)
    return sorted(found.values(), key=lambda d: (d.reference, d.explainer, d.variant != "clean", d.variant))


def looks_of(lines: Sequence[Drawn]) -> dict[str, Look]:
    """Return how every explainer is drawn: by its own colour where all curves are of one model, else by its stroke."""
    ordered = {d.title: d.reference for d in sorted(lines, key=lambda d: (d.reference, d.title))}
    alone = len({d.number for d in lines}) == 1
    best: dict[str, float] = {}
    for d in lines:
        found = [p.value for (r, m) in d.rows if m == "insertion" and not d.reference and (p := d.point(r, m))]
        best[d.title] = max([best.get(d.title, -np.inf), *(v for v in found if np.isfinite(v))])
    drawn = sorted((e for e, reference in ordered.items() if not reference), key=lambda e: (-best[e], e))[:AT_FIRST]
    return {
        e: Look(STROKES[i % len(STROKES)], None if not alone else "reference" if reference else i,
                reference or e in drawn)
        for i, (e, reference) in enumerate(ordered.items())
    }  # fmt: skip


def _columns(lines: Sequence[Drawn]) -> list[dict[str, Any]]:
    """Return the head of each column; probabilities of whole images have no direction."""
    higher = {m: rows[0].higher_is_better for d in lines for (_, m), rows in d.rows.items()}
    return [{"metric": m, "higher": None if m.startswith("p_") else higher[m]} for m in METRICS if m in higher]


def _line(d: Drawn, resolution: int, pages: Mapping[str, str], series: Sequence[Series]) -> dict[str, Any]:
    points = [d.point(resolution, m) for m in METRICS]
    first = next((p for p in points if p), None)
    page = pages[series[d.number].lines[0].result.run_id]
    return {"series": d.series, "explainer": d.title, "reference": d.reference, "page": page,
            "n": first.n if first else None, "cells": [p.shown() if p else None for p in points]}  # fmt: skip


def _published(published: Sequence[Published], resolution: int) -> list[dict[str, Any]]:
    """Return the published systems at a resolution, with both areas, in the order of the file."""
    found: dict[str, dict[str, Any]] = {}
    for p in published:
        at = AT.fullmatch(p.setting)
        if p.measured not in DIRECTIONS or not at or int(at["side"]) != resolution:
            continue
        system = found.setdefault(p.system, {"name": p.system, "mark": p.mark, "source": p.source,
                                             "data": ", ".join(x for x in (p.data, at["net"]) if x)})  # fmt: skip
        system[p.measured] = p.value
    for system in found.values():
        shown, gone = system.get("insertion"), system.get("deletion")
        values = [shown, gone, None if shown is None or gone is None else shown - gone]
        system["cells"] = [None if v is None else {"text": f"{v:.3f}", "interval": "", "title": system["source"]}
                           for v in values]  # fmt: skip
    return list(found.values())


# ---- curves


def _charts(
    lines: Sequence[Drawn], resolutions: Sequence[int], looks: Mapping[str, Look], resamples: int
) -> dict[str, Any]:
    charts = {}
    for direction, said in DIRECTIONS.items():
        data = [t for r in resolutions for d in lines for t in _traces(d, direction, r, looks[d.title], resamples)]
        charts[direction] = {
            "data": data,
            "height": 340,
            "layout": {
                "showlegend": False,
                "margin": {"l": 44, "r": 8, "t": 8, "b": 40},
                "xaxis": {"title": {"text": f"share of {said}", "standoff": 4}, "range": [-0.02, 1.02], "dtick": 0.25},
                "yaxis": {"title": {"text": "probability", "standoff": 4}, "range": [-0.02, 1.02], "dtick": 0.25},
            },
        }  # fmt: skip
    return charts if any(c["data"] for c in charts.values()) else {}


def _traces(d: Drawn, direction: str, resolution: int, look: Look, resamples: int) -> list[dict[str, Any]]:
    """Return the band around a mean curve and the curve; nothing where no image has one."""
    try:
        with understood(d.name, "no curve can be drawn", ""):
            curve = curve_of([s.read_samples() for s in d.stages], direction, resolution, d.variant, resamples)
    except UsageError:  # damaged samples: the leaderboard and the page on this report name the file
        return []
    if curve is None:
        return []
    tone = d.number if look.tone is None else look.tone
    shared = {"tone": tone, "groups": [f"series-{d.number}", f"explainer-{d.title}"],
              "when": {"resolution": str(resolution)}}  # fmt: skip
    x, y = [plain(v) for v in curve.share], [plain(v) for v in curve.value]
    found = []
    if np.isfinite(curve.low).all() and not d.reference:
        edge = [*curve.low.tolist(), *curve.high[::-1].tolist()]
        found.append({**shared, "x": [*x, *x[::-1]], "y": [plain(v) for v in edge], "mode": "lines", "fill": "toself",
                      "hoverinfo": "skip", "line": {"width": 0}})  # fmt: skip
    bars = zip(curve.share, curve.value, curve.low, curve.high, strict=True)
    texts = [chart_text(f"{d.name}, {share:.0%} of the cells: {Point(v, low, high, 0, 1).text()}")
             for share, v, low, high in bars]  # fmt: skip
    line = {"dash": look.dash, "width": 1 if d.reference else 2}
    found.append({**shared, "x": x, "y": y, "mode": "lines", "line": line, "text": texts,
                  "hovertemplate": "%{text}<extra></extra>"})  # fmt: skip
    return found


def curve_of(
    frames: Sequence[pd.DataFrame], direction: str, resolution: int, variant: str, resamples: int
) -> Curve | None:
    """Return the mean curve over the images of each seed, then over the seeds; None where there is none.

    Around it the pointwise 95 % interval, patients resampled; of several seeds their range.
    """
    each: list[stats.Estimate] = []
    for frame in frames:
        column = next((c for c in map(str, frame.columns) if _is(c, f"{direction}_curve", resolution, variant)), None)
        rows = [] if column is None else [np.asarray(v, float) / LEVELS for v in frame[column]]
        kept = [i for i, row in enumerate(rows) if len(row)]
        if not kept:
            return None
        curves = np.stack([rows[i] for i in kept])
        clusters = frame["patient"].to_numpy(str)[kept]
        each.append(stats.estimate(_mean, curves, clusters, resamples=resamples if len(frames) == 1 else 1))
    values = np.stack([e.value for e in each])
    steps = values.shape[1] - 1
    share = np.rint(np.arange(steps + 1) * (resolution**2 / steps)) / resolution**2
    if len(each) == 1:
        return Curve(share, each[0].value, each[0].low, each[0].high, "95 % interval")
    return Curve(share, values.mean(0), values.min(0), values.max(0), "range of the seeds")


def _mean(curves: Floats, weights: Floats) -> Floats:
    return weights @ curves / weights.sum(1, keepdims=True)


def _is(column: str, name: str, resolution: int, variant: str) -> bool:
    """Return whether a column of the samples holds the curves of a resolution and variant."""
    own, *parts = column.split("|")
    said = dict(part.split("=", 1) for part in parts)
    return own == name and said.get("resolution") == str(resolution) and said.get("variant", "") == variant
