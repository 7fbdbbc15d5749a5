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


def training(
    history: Sequence[Mapping[str, Any]], best: Any, folds: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any] | None:
    """Return training and validation loss by epoch, with a line at the epoch whose weights were kept.

    Of a cross-fitted run, whose history names a fold in each entry, the validation loss of every fold and a mark at
    the epoch that it kept; `folds` holds the summaries of its fits.
    """
    if not history:
        return None
    by_fold: dict[Any, list[Mapping[str, Any]]] = {}
    for h in history:
        by_fold.setdefault(h.get("fold"), []).append(h)
    epochs = max(len(entries) for entries in by_fold.values())
    layout: dict[str, Any] = {"xaxis": {"title": {"text": "epoch"}, "dtick": _step(epochs)},
                              "yaxis": {"title": {"text": "loss"}, "rangemode": "tozero"}}  # fmt: skip
    if any(fold is not None for fold in by_fold):
        layout["yaxis"] = {"title": {"text": "validation loss"}}
        return {"data": _fold_traces(by_fold, folds), "layout": layout, "height": 300}
    traces = [
        {"x": [h.get("epoch") for h in history], "y": [_plain(h.get(key)) for h in history], "name": name,
         "tone": tone, "mode": "lines+markers", "hovertemplate": "epoch %{x}: %{y:.4f}"}
        for tone, (key, name) in enumerate((("train_loss", "training loss"), ("validation_loss", "validation loss")))
        if any(_plain(h.get(key)) is not None for h in history)
    ]  # fmt: skip
    if isinstance(best, int):
        mark = {"type": "line", "x0": best, "x1": best, "y0": 0, "y1": 1, "yref": "paper", "tone": "reference"}
        layout["shapes"] = [mark]
    return {"data": traces, "layout": layout, "height": 300}


def _fold_traces(
    by_fold: Mapping[Any, Sequence[Mapping[str, Any]]], folds: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return the validation loss of every fold, thin and in one tone, and a mark at each epoch that was kept."""
    traces: list[dict[str, Any]] = [
        {"x": [h.get("epoch") for h in entries], "y": [_plain(h.get("validation_loss")) for h in entries],
         "name": "each fold", "legendgroup": "folds", "showlegend": i == 0, "tone": 1, "line": {"width": 1},
         "mode": "lines", "hovertemplate": f"fold {fold}, epoch %{{x}}: %{{y:.4f}}<extra></extra>"}
        for i, (fold, entries) in enumerate(by_fold.items())
    ]  # fmt: skip
    best = {i: fold.get("best_epoch") for i, fold in enumerate(folds)}
    kept = [h for fold, entries in by_fold.items() for h in entries if h.get("epoch") == best.get(fold)]
    if kept:
        traces.append({"x": [h.get("epoch") for h in kept], "y": [_plain(h.get("validation_loss")) for h in kept],
                       "name": "epoch kept", "tone": 1, "mode": "markers", "text": [f"fold {h['fold']}" for h in kept],
                       "hovertemplate": "%{text}, kept: epoch %{x}, %{y:.4f}<extra></extra>"})  # fmt: skip
    return traces


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
