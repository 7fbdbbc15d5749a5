"""Charts of a run's page, as plain plotly figures (data and layout); the page's script adds the colours.

A trace names its colour by `tone`: a number of the palette, or "reference". So one figure serves light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from harness.record import Result
from harness.report.boards import is_reference, newest
from harness.report.names import chart_text
from harness.rows import Row

PANELS = 16  # localisation panels at most; the table below the chart holds all classes
DASHES = ("dash", "dot", "dashdot", "longdash", "longdashdot")


def _plain(value: Any) -> float | None:
    return round(float(value), 6) if isinstance(value, int | float) and math.isfinite(value) else None


def training(history: Sequence[Mapping[str, Any]], best: Any) -> dict[str, Any] | None:
    """Return training and validation loss by epoch, with a line at the epoch whose weights were kept."""
    if not history:
        return None
    epochs = [h.get("epoch") for h in history]
    traces = [
        {"x": epochs, "y": [_plain(h.get(key)) for h in history], "name": name, "tone": tone,
         "mode": "lines+markers", "hovertemplate": "epoch %{x}: %{y:.4f}"}
        for tone, (key, name) in enumerate((("train_loss", "training loss"), ("validation_loss", "validation loss")))
        if any(_plain(h.get(key)) is not None for h in history)
    ]  # fmt: skip
    marks = []
    if isinstance(best, int):
        marks = [{"type": "line", "x0": best, "x1": best, "y0": 0, "y1": 1, "yref": "paper", "tone": "reference"}]
    layout = {"xaxis": {"title": {"text": "epoch"}, "dtick": _step(len(epochs))},
              "yaxis": {"title": {"text": "loss"}, "rangemode": "tozero"}, "shapes": marks}  # fmt: skip
    return {"data": traces, "layout": layout, "height": 300}


def _step(epochs: int) -> int:
    return max(1, round(epochs / 10))


def per_class(rows: Sequence[Row], classes: Sequence[str]) -> dict[str, Any] | None:
    """Return one metric's value and interval per class, first class on top."""
    found = {r.class_name: r for r in rows if math.isfinite(r.value)}
    names = [c for c in (*classes, "macro") if c in found]
    if not names:
        return None
    shown = [found[n] for n in names]
    trace = {
        "x": [_plain(r.value) for r in shown],
        "y": [chart_text(n) for n in names],
        "mode": "markers",
        "tone": 0,
        "name": chart_text(shown[0].metric),
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [_plain(r.high - r.value) or 0 for r in shown],
            "arrayminus": [_plain(r.value - r.low) or 0 for r in shown],
        },
        "text": [f"{r.value:.3f}, n = {r.n}" for r in shown],
        "hovertemplate": "%{y}: %{text}<extra></extra>",
    }
    layout: dict[str, Any] = {
        "xaxis": {"title": {"text": chart_text(shown[0].metric)}},
        "yaxis": {"autorange": "reversed", "type": "category", "automargin": True},
        "showlegend": False,
    }
    if shown[0].metric == "auroc":
        chance = {"type": "line", "x0": 0.5, "x1": 0.5, "y0": 0, "y1": 1, "yref": "paper", "tone": "reference"}
        layout["shapes"] = [chance]
    return {"data": [trace], "layout": layout, "height": 110 + 24 * len(names)}


def localisation(result: Result) -> dict[str, Any] | None:
    """Return a panel per class and one for the macro mean: localisation accuracy over T(IoU), a line per explainer.

    As in Khakzar 2019, Fig. 3; lines of the reference rows are dashed.
    """
    rows: dict[tuple[str, str], dict[float, Row]] = {}
    references: set[str] = set()
    for stage in newest(result.stages):
        for row in stage.rows:
            if row.metric == "localisation_accuracy" and not row.variant and row.threshold is not None:
                rows.setdefault((row.class_name, row.explainer), {})[row.threshold] = row
                if is_reference(stage):
                    references.add(row.explainer)
    explainers = sorted({e for _, e in rows} - references) + sorted(references)
    measured = {c for (c, _), line in rows.items() if any(math.isfinite(r.value) for r in line.values())}
    classes = [c for c in ("macro", *map(str, result.info.get("classes") or ())) if c in measured]
    legend = [_style(e, explainers, references) | {"name": e} for e in explainers]
    panels = [
        {"title": name, "data": [_line(rows[name, e], _style(e, explainers, references)) for e in explainers
                                 if (name, e) in rows]}
        for name in classes[:PANELS]
    ]  # fmt: skip
    return {"legend": legend, "panels": panels, "left_out": len(classes) - len(panels)} if panels else None


def _style(explainer: str, explainers: Sequence[str], references: set[str]) -> dict[str, Any]:
    if explainer in references:
        place = [e for e in explainers if e in references].index(explainer)
        return {"tone": "reference", "dash": DASHES[place % len(DASHES)]}
    return {"tone": explainers.index(explainer), "dash": "solid"}


def _line(by_threshold: Mapping[float, Row], style: Mapping[str, Any]) -> dict[str, Any]:
    shown = [by_threshold[t] for t in sorted(by_threshold)]
    return {
        "x": [r.threshold for r in shown],
        "y": [_plain(r.value) for r in shown],
        "name": chart_text(shown[0].explainer),
        "mode": "lines+markers" if style["dash"] == "solid" else "lines",
        "tone": style["tone"],
        "line": {"dash": style["dash"]},
        "hovertemplate": "T %{x}: %{y:.3f}",
    }
