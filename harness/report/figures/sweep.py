"""What one numeric setting does: explanations and metrics over its values (Khakzar 2019, Fig. 4).

A sweep is found in the data: finished runs of one method and model on one board whose resolved settings, and those of
the run they started from, differ in exactly one number (and the seed). The run they all started from stands at 0.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.columns import MISSING, ColumnKey
from harness.record import Result
from harness.report.boards import SUMMARY_CLASSES, Board, Line
from harness.report.figures.series import SYMBOLS, Point, Series, plain, record, series_of
from harness.report.gallery import Pictures, Samples, fixed_samples, pictured, rows_of
from harness.report.names import chart_text

Config = dict[tuple[str, str], Any]  # (component, setting) -> value
SAME = ("model", "precision", "checkpoint")  # of the run's specification, besides the settings


@dataclass(frozen=True)
class Step:
    """The runs of one value, by seed."""

    value: float
    series: Series
    start: bool = False  # the run that the others started from

    @property
    def text(self) -> str:
        """Return the value as the axis shows it."""
        return f"0 ({self.series.method})" if self.start else f"{self.value:g}"


@dataclass(frozen=True)
class Sweep:
    """The values of one setting of one method, lowest first."""

    method: str
    model: str
    setting: str
    unit: str
    steps: list[Step]


def sweeps(board: Board, results: Mapping[str, Result]) -> list[Sweep]:
    """Return the sweeps of a board, by method, model and setting; `results` holds all runs by id, for what they
    started from."""
    series, _ = series_of(board)
    groups: dict[tuple[str, ...], dict[float, Series]] = {}
    for s in series:
        info = s.lines[0].result.info
        config = _config(info)
        for (component, name), value in config.items():
            if _is_number(value):
                rest = {k: v for k, v in config.items() if k != (component, name)}
                key = (s.method, s.model, component, name, _text(rest), _text(_surroundings(info, results)))
                groups.setdefault(key, {})[float(value)] = s
    found = [_sweep(board, series, key, by_value) for key, by_value in sorted(groups.items()) if len(by_value) > 1]
    return sorted(found, key=lambda x: (x.method, x.model, x.setting, len(x.steps)))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _config(info: Mapping[str, Any]) -> Config:
    """Return the resolved settings of the run's method and model."""
    kinds = ("method ", "model ")
    described = [d for d in info.get("settings") or () if str(d.get("component", "")).startswith(kinds)]
    return {(str(d["component"]), str(d.get("name"))): d.get("value") for d in described}


def _surroundings(info: Mapping[str, Any], results: Mapping[str, Result], below: tuple[str, ...] = ()) -> list[Any]:
    """Return what else has to be equal: the specification, and the same of the run it started from, all the way."""
    spec = info.get("spec") or {}
    own: list[Any] = [spec.get(name) for name in SAME]
    parent = info.get("start_from")
    if not parent:
        return own
    below = (*below, str(info.get("run_id")))
    if parent not in results or parent in below:
        return [*own, str(parent)]  # not in this report: only runs of that very one compare
    above = results[parent].info
    return [
        *own,
        (above.get("spec") or {}).get("method"),
        _listed(_config(above)),
        _surroundings(above, results, below),
    ]


def _listed(config: Config) -> list[Any]:
    return sorted(([*k, v] for k, v in config.items()), key=_text)


def _text(value: Any) -> str:
    return json.dumps(_listed(value) if isinstance(value, dict) else value, sort_keys=True, default=str)


def _sweep(board: Board, series: Sequence[Series], key: tuple[str, ...], by_value: Mapping[float, Series]) -> Sweep:
    method, model, component, name = key[:4]
    steps = [Step(v, by_value[v]) for v in sorted(by_value)]
    start = _start(series, steps[0].series, component, name) if steps[0].value > 0 else None
    described = next(d for d in steps[0].series.lines[0].result.info["settings"]
                     if (d.get("component"), d.get("name")) == (component, name))  # fmt: skip
    return Sweep(method, model, name, str(described.get("unit") or ""), [start, *steps] if start else steps)


def _start(series: Sequence[Series], first: Series, component: str, name: str) -> Step | None:
    """Return the series of the runs that these started from, where it is on the board.

    Only where its method has no such setting: it then stands for none of it, which is no statement about a rate.
    """
    parents = {x.result.info.get("start_from") for x in first.lines}
    found = next((s for s in series if any(x.result.run_id in parents for x in s.lines)), None)
    if found and any(
        d.get("name") == name and str(d.get("component", "")).split(" ")[0] == component.split(" ")[0]
        for d in found.lines[0].result.info["settings"]
    ):
        return None
    return Step(0.0, found, start=True) if found else None


def figure(
    board: Board, results: Mapping[str, Result], pictures: Pictures, pages: Mapping[str, str], base: str
) -> dict[str, Any]:
    """Return the page's context: per sweep its panels, tables and galleries, and the lines of the download."""
    higher = {c.key: c.higher_is_better for c in board.columns}
    found = [_shown(i, s, higher, pictures, pages, base) for i, s in enumerate(sweeps(board, results))]
    return {
        "sweeps": found,
        "charts": {p["chart"]: p.pop("figure") for s in found for p in s["panels"]},
        "records": [line for s in found for line in s.pop("records")],
        "left_out": series_of(board)[1],
    }


def _shown(
    number: int, sweep: Sweep, higher: Mapping[ColumnKey, bool], pictures: Pictures, pages: Mapping[str, str], base: str
) -> dict[str, Any]:
    numbers = [{k: p for k, p in step.series.points().items() if _is_summary(k)} for step in sweep.steps]
    keys = [k for k in higher if any(k in mine for mine in numbers)]
    explainers = sorted({k.explainer for k in keys if k.explainer})
    heads = [_head(step, pages) for step in sweep.steps]
    return {
        "id": f"sweep-{number + 1}",
        "method": sweep.method,
        "model": sweep.model,
        "setting": sweep.setting,
        "unit": sweep.unit,
        "heads": heads,
        "start": sweep.steps[0].series.method if sweep.steps[0].start else "",
        "legend": [{"name": e, "tone": i, "glyph": SYMBOLS[i % len(SYMBOLS)][1]} for i, e in enumerate(explainers)],
        "panels": _panels(f"sweep-{number + 1}", sweep, keys, numbers, explainers, higher),
        "lines": [
            {"name": k.metric, "detail": k.details(), "higher": higher[k],
             "cells": [mine[k].shown() if k in mine else None for mine in numbers]}
            for k in keys
        ],
        "galleries": _galleries(sweep, pictures, base),
        "records": [
            record("run", step.series.method, mine[k], setting=sweep.setting, setting_value=step.value, metric=k.metric,
                   explainer=k.explainer, class_name=k.class_name)
            for step, mine in zip(sweep.steps, numbers, strict=True) for k in keys if k in mine
        ],
    }  # fmt: skip


def _is_summary(key: ColumnKey) -> bool:
    return key.class_name in SUMMARY_CLASSES and not key.variant and key.threshold == MISSING


def _head(step: Step, pages: Mapping[str, str]) -> dict[str, Any]:
    line = _lowest(step)
    seeds = [{"seed": x.first.seed, "page": pages[x.result.run_id]} for x in step.series.lines]
    return {"text": step.text, "page": pages[line.result.run_id], "seed": line.first.seed, "seeds": seeds,
            "bar": step.series.bar()}  # fmt: skip


def _lowest(step: Step) -> Line:
    """Return the run of the lowest seed that has pictures, or of the lowest seed."""
    return next((x for x in step.series.lines if pictured(x.result)), step.series.lines[0])


def _panels(
    name: str,
    sweep: Sweep,
    keys: Sequence[ColumnKey],
    numbers: Sequence[Mapping[ColumnKey, Point]],
    explainers: Sequence[str],
    higher: Mapping[ColumnKey, bool],
) -> list[dict[str, Any]]:
    """Return a panel per metric, a line per explainer; the values are evenly spaced, since they rarely are linear."""
    panels: dict[tuple[str, str], list[ColumnKey]] = {}
    for k in keys:
        panels.setdefault((k.metric, k.details(with_explainer=False)), []).append(k)
    ticks = {"tickvals": list(range(len(sweep.steps))), "ticktext": [chart_text(s.text) for s in sweep.steps],
             "range": [-0.3, len(sweep.steps) - 0.7], 
             "title": {"text": chart_text(sweep.setting), "standoff": 4}}  # fmt: skip
    layout = {"showlegend": False, "margin": {"l": 40, "r": 6, "t": 6, "b": 34}, "xaxis": ticks}
    return [
        {"title": metric, "detail": detail, "higher": higher[members[0]], "chart": f"{name}-panel-{i}",
         "figure": {"layout": layout, "height": 230, "data": [_trace(sweep, k, numbers, explainers) for k in members]}}
        for i, ((metric, detail), members) in enumerate(panels.items())
    ]  # fmt: skip


def _trace(
    sweep: Sweep, key: ColumnKey, numbers: Sequence[Mapping[ColumnKey, Point]], explainers: Sequence[str]
) -> dict[str, Any]:
    place = explainers.index(key.explainer) if key.explainer else 0
    there = [(i, mine[key]) for i, mine in enumerate(numbers) if key in mine and math.isfinite(mine[key].value)]
    shift = 0.06 * (place - (len(explainers) - 1) / 2) if key.explainer else 0.0
    return {
        "x": [round(i + shift, 3) for i, _ in there],
        "y": [plain(p.value) for _, p in there],
        "mode": "lines+markers",
        "tone": place if key.explainer else "ink",
        "symbol": SYMBOLS[place % len(SYMBOLS)][0],
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": [plain(p.high - p.value) or 0 for _, p in there],
            "arrayminus": [plain(p.value - p.low) or 0 for _, p in there],
        },
        "text": [
            chart_text(f"{key.explainer or key.metric}, {sweep.setting} {sweep.steps[i].text}: {p.text()}")
            for i, p in there
        ],
        "hovertemplate": "%{text}<extra></extra>",
    }


def _galleries(sweep: Sweep, pictures: Pictures, base: str) -> list[dict[str, Any]]:
    """Return per explainer the fixed samples over the values."""
    stages = [pictured(_lowest(step).result) for step in sweep.steps]
    galleries = []
    for explainer in sorted({e for mine in stages for e in mine}):
        shown: list[Samples] = [
            fixed_samples(mine[explainer], pictures, base) if explainer in mine else {} for mine in stages
        ]
        keys = {key for mine in shown for key in mine}
        if keys:
            galleries.append({"explainer": explainer, "rows": rows_of(keys, shown)})
    return galleries
