"""The page that gathers how robust the methods of every board are: areas, flags, and where the curves are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.report.figures.areas import GOALS
from harness.report.names import chart_text

SUMMED = ("all", "macro")


def summary(title: str, address: str, context: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what one board's figure of accuracy under attack says in its table of areas; None where none was attacked.

    The figure lies one folder below this page, which is why the addresses of the runs lose their first step up.
    """
    own = [x for x in context["lines"] if x["kind"] != "published"]
    if not own:
        return None
    lines = [{**x, "page": x["page"].removeprefix("../")} for x in own]
    records = [{"board": title, **r} for r in context["records"] if r["kind"] == "run"]
    return {
        "title": title,
        "address": address,
        "attack": context["attack"],
        "evaluation_settings": context["evaluation_settings"],
        "clean": context["clean"],
        "columns": context["columns"],
        "lines": lines,
        "left_out": context["left_out"],
        "chart": _chart(records, context),
        "records": records,
    }


def _chart(records: Sequence[Mapping[str, Any]], context: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the areas of each goal with their bars, a line per method, best first; goals differ in symbol and tone."""
    symbols = ("circle", "square-open", "diamond", "cross")
    data = []
    for tone, column in enumerate(context["columns"]):
        variant = next(g.variant for g in GOALS if g.name == column["goal"])
        mine = [r for r in records if (r["metric"], r["variant"], r["attack"]) == (column["title"], variant,
                context["attack"]) and r["class_name"] in SUMMED and r["value"] is not None]  # fmt: skip
        if mine:
            data.append({
                "x": [r["value"] for r in mine], "y": [chart_text(r["name"]) for r in mine], "name": column["title"],
                "tone": tone, "symbol": symbols[tone % len(symbols)], "mode": "markers",
                "error_x": {"type": "data", "symmetric": False, "array": [_ends(r)[1] - r["value"] for r in mine],
                            "arrayminus": [r["value"] - _ends(r)[0] for r in mine]},
                "text": [f"{chart_text(r['name'])}<br>{column['title']} {r['value']:.4g}{_said(r)}" for r in mine],
                "hovertemplate": "%{text}<extra></extra>",
            })  # fmt: skip
    if not data:
        return None
    names = list(dict.fromkeys(y for t in data for y in t["y"]))
    layout = {
        "xaxis": {"title": {"text": "area above naive accuracy, RMSE in [0,1] pixels", "standoff": 6},
                  "rangemode": "tozero", "exponentformat": "none"},
        "yaxis": {"type": "category", "categoryorder": "array", "categoryarray": names, "autorange": "reversed",
                  "automargin": True},
        "showlegend": len(data) > 1,
        "margin": {"l": 44, "r": 16, "t": 34, "b": 44},
    }  # fmt: skip
    return {"data": data, "layout": layout, "height": 110 + 26 * len(names)}


def _ends(record: Mapping[str, Any]) -> tuple[float, float]:
    """Return both ends of a number's bar, the number itself where it has none."""
    value = record["value"]
    low, high = (value if record[k] is None else record[k] for k in ("low", "high"))
    return min(low, value), max(high, value)


def _said(record: Mapping[str, Any]) -> str:
    return "" if record["low"] is None else f" [{record['low']:.4g}, {record['high']:.4g}], {record['bar']}"


def page(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the page's context from the boards' summaries."""
    boards = [dict(x) for x in found]
    charts = {f"areas-{i}": c for i, b in enumerate(boards) if (c := b.pop("chart"))}
    records = [r for b in boards for r in b.pop("records")]
    return {
        "boards": boards,
        "data": {"name": "robustness", "board": "all boards", "charts": charts, "records": records},
    }
