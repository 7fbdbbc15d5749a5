"""How far explanations can be trusted: randomised networks, perturbed images, other explainers, known shortcuts.

After Adebayo 2018 (arXiv:1810.03292), Yeh 2019 (arXiv:1901.09392) and the poster of Khorram 2021 (arXiv:2012.15783).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.columns import board_key, column_key
from harness.metrics.trust import EDGES, RANDOM
from harness.report.boards import (
    OF_EACH_MODEL,
    Board,
    ColumnKey,
    Line,
    digits_of,
    is_reference,
    newest,
)
from harness.report.figures.series import (
    SYMBOLS,
    Point,
    Series,
    labels,
    legend_entry,
    plain,
    point,
    record,
    series_of,
    settings_of,
)
from harness.report.names import chart_text

EVALUATIONS = ("randomisation", "infidelity", "sensitivity", "agreement", "shortcut", "shortcut_maps")
RANKS = {"randomisation": "size of the correlation", "randomisation_rank": "with its sign"}  # metric -> in words
FAITHFUL = (
    ("unexplained_change", "change left unexplained"),
    ("infidelity", "infidelity"),
    ("max_sensitivity", "max-sensitivity"),
)
PROBABILITIES = (("before", "as it is"), ("erased", "shortcut erased"), ("", "difference"))
ALONE = (("blurred", "all blurred"), ("revealed", "shortcut alone"), ("", "difference"))
MASS = (("shortcut_mass", "", "on the shortcut"), ("shortcut_mass", "area", "its area"),
        ("shortcut_mass", "erased", "same place, erased"), ("shortcut_mass", "revealed", "shortcut alone"),
        ("shortcut_lesion_mass", "", "on the lesion"), ("shortcut_lesion_mass", "area", "its area"))  # fmt: skip
REFERENCES_AT = {RANDOM: 1.15, EDGES: 1.3}  # where they stand, right of the network whose weights are all random
LAYOUT = {
    "showlegend": False,
    "margin": {"l": 44, "r": 12, "t": 10, "b": 56},
    "xaxis": {
        "range": [-0.04, 1.38], "tickvals": [0, 1, *REFERENCES_AT.values()], "tickangle": 0,
        "ticktext": ["trained", "all<br>random", "two random<br>networks", "edge<br>detector"],
        "title": {"text": "share of the stages that are random, from the head", "standoff": 4},
    },
}  # fmt: skip


@dataclass(frozen=True)
class Explained:
    """The numbers of one explainer on one series, or of a reference map."""

    name: str  # of the series; of the reference map
    explainer: str
    tone: int | str
    groups: tuple[str, ...]
    points: Mapping[ColumnKey, Point]
    stages: tuple[str, ...]  # of the network, in the order in which they are drawn
    passes: Mapping[str, Mapping[str, Any]]  # evaluation -> model passes per image

    @property
    def kind(self) -> str:
        """Return `run` or `reference`."""
        return "reference" if self.tone == "reference" else "run"

    def label(self) -> str:
        """Return the name of its line."""
        return f"{self.name} · {self.explainer}" if self.kind == "run" else self.name

    def get(self, metric: str, variant: str = "") -> Point | None:
        """Return one number; None where it was not measured."""
        return next((p for k, p in self.points.items() if (k.metric, k.variant) == (metric, variant)), None)

    def cell(self, metric: str, variant: str = "") -> dict[str, Any] | None:
        """Return one number as a table shows it."""
        p = self.get(metric, variant)
        return p.shown(digits_of(metric)) if p else None


def figure(board: Board, pages: Mapping[str, str]) -> dict[str, Any]:
    """Return the page's context: chart, legends, tables, and the lines of the download."""
    series, left_out = series_of(board)
    names = labels(series)
    settings = {e: settings_of(board, m) for e, m in _first_metrics(board).items()}
    lines = [x for i, (n, s) in enumerate(zip(names, series, strict=True)) for x in _explained(i, n, s, settings)]
    references = [*_references(board, settings), *_of_each_model(board, zip(names, series, strict=True), settings)]
    explainers = list(dict.fromkeys(x.explainer for x in lines if x.explainer))
    models = [x for x in lines if not x.explainer]
    mapped = [x for x in lines if x.explainer]
    every = [*mapped, *references]
    randomised = [x for x in every if x.get("randomisation")]
    found = {
        "randomisation": [_depths(x) for x in randomised],
        "faithful": [_faithful(x) for x in every if any(x.get(m) for m, _ in FAITHFUL)],
        "agreement": [a for x in models if (a := _agreement(x))],
        "shortcut": [_model(x) for x in models if x.get("shortcut_effect")],
        "maps": [_masses(x) for x in every if x.get("shortcut_mass")],
    }
    shown = any(found.values())
    return {
        "settings": [f"{e}: {s}" for e, s in settings.items() if s],
        "variants": [{"name": m, "text": t} for m, t in RANKS.items()] if randomised else [],
        "charts": _chart([x for x in randomised if x.kind == "run"], explainers),
        "legend_series": [legend_entry(i, n, s, pages) for i, (n, s) in enumerate(zip(names, series, strict=True))]
        if shown else [],
        "explainers": [{"group": f"explainer-{e}", "name": e, "glyph": SYMBOLS[i % len(SYMBOLS)][1]}
                       for i, e in enumerate(explainers)],
        **found,
        "faithful_columns": [text for _, text in FAITHFUL],
        "probability_columns": [text for _, text in PROBABILITIES],
        "alone_columns": [text for _, text in ALONE],
        "mass_columns": [text for *_, text in MASS],
        "command": _command(board),
        "left_out": left_out if shown else [],
        "records": [r for x in [*lines, *references] for r in _records(x)],
    }  # fmt: skip


def _first_metrics(board: Board) -> dict[str, str]:
    """Return a metric of each of the page's evaluations that the board has."""
    found: dict[str, str] = {}
    for column in board.columns:
        if column.key.evaluation in EVALUATIONS:
            found.setdefault(column.key.evaluation, column.key.metric)
    return found


def _wanted(key: ColumnKey, settings: Mapping[str, str]) -> bool:
    return key.evaluation in settings and key.evaluation_settings == settings[key.evaluation]


def _explained(number: int, name: str, s: Series, settings: Mapping[str, str]) -> list[Explained]:
    """Return what a series has of each explainer; under "" what is of the model, or of several explainers."""
    points = {k: p for k, p in s.points().items() if _wanted(k, settings)}
    explainers = sorted({k.map for k in points})
    return [
        Explained(
            name, e, number, (f"series-{number}", *([f"explainer-{e}"] if e else [])),
            {k: p for k, p in points.items() if k.map == e}, _stages(s.lines, e), _passes(s.lines, e),
        )
        for e in explainers
    ]  # fmt: skip


def _references(board: Board, settings: Mapping[str, str]) -> list[Explained]:
    """Return the reference maps where they are the same for every model, as the board's first run has them."""
    found = []
    for name in sorted(board.references):
        cells = {k: c for k, c in board.references[name].items() if _wanted(k, settings)}
        if cells:
            points = {k: point([c.row]) for k, c in cells.items()}
            found.append(Explained(name, name, "reference", (), points, (), {}))
    return found


def _of_each_model(
    board: Board, named: Iterable[tuple[str, Series]], settings: Mapping[str, str]
) -> Iterator[Explained]:
    """Yield the reference maps of each series where they depend on the model, as its first seed has them."""
    for name, s in named:
        found: dict[str, dict[ColumnKey, Point]] = {}
        for stage in newest(s.lines[0].result.stages):
            if not is_reference(stage) or stage.info.get("evaluation") not in OF_EACH_MODEL:
                continue
            for row in stage.rows:
                if board_key(row) == replace(board.key, data="") and _wanted(column_key(row), settings):
                    found.setdefault(row.explainer, {})[column_key(row)] = point([row])
        for explainer, points in sorted(found.items()):
            yield Explained(f"{name} · {explainer}", explainer, "reference", (), points, (), {})


def _stage_infos(lines: Sequence[Line], explainer: str) -> dict[str, Mapping[str, Any]]:
    """Return evaluation -> info of the stage of one explainer, of the first seed."""
    return {k.evaluation: c.stage.info for x in lines[:1] for k, c in x.cells.items() if k.map == explainer}


def _stages(lines: Sequence[Line], explainer: str) -> tuple[str, ...]:
    facts = _stage_infos(lines, explainer).get("randomisation", {}).get("facts") or {}
    return tuple(map(str, facts.get("stages") or ()))


def _passes(lines: Sequence[Line], explainer: str) -> dict[str, Mapping[str, Any]]:
    return {e: info.get("passes") or {} for e, info in _stage_infos(lines, explainer).items()}


def _along(x: Explained, metric: str) -> list[tuple[float, str, Point]]:
    """Return share of the stages that are random, the last of them, and the number, in the order of the cascade."""
    count = len(x.stages)
    places = [((i + 1) / count, name, "" if i == count - 1 else name) for i, name in enumerate(x.stages)]
    return [(at, name, p) for at, name, variant in places if (p := x.get(metric, variant))]


def _depths(x: Explained) -> dict[str, Any]:
    """Return the lines of the tables of randomisation: one for each metric."""
    named = {m: [{"stage": name, "cell": p.shown(digits_of(m))} for _, name, p in _along(x, m)] for m in RANKS}
    full = x.get("randomisation")
    return {
        "kind": x.kind,
        "name": x.label(),
        "n": full.n if full else None,
        "stages": named,
        "cells": {m: [x.cell(m), x.cell(m, RANDOM), x.cell(m, EDGES)] for m in RANKS},
        "passes": _spent(x, "randomisation"),
    }


def _spent(x: Explained, evaluation: str) -> str:
    """Return forward and backward passes per image as text; "" where they are not stored."""
    stored = x.passes.get(evaluation) or {}
    return f"{stored.get('forward', 0):g} + {stored.get('backward', 0):g}" if stored else ""


def _faithful(x: Explained) -> dict[str, Any]:
    cells = [x.cell(m) for m, _ in FAITHFUL]
    n = next((p.n for m, _ in FAITHFUL if (p := x.get(m))), None)
    return {"kind": x.kind, "name": x.label(), "n": n, "cells": cells,
            "passes": [_spent(x, "infidelity"), _spent(x, "sensitivity")]}  # fmt: skip


def _agreement(x: Explained) -> dict[str, Any] | None:
    """Return a matrix of a series' explainers: above the diagonal the correlation, below it the overlap."""
    pairs = {tuple(k.variant.split(" and ")): k for k in x.points if k.metric == "explainer_agreement"}
    if not pairs:
        return None
    names = list(dict.fromkeys(name for pair in pairs for name in pair))
    names.sort(key=lambda n: -sum(pair[0] == n for pair in pairs))

    def cell(a: str, b: str) -> dict[str, Any] | None:
        for metric, pair in (("explainer_agreement", (a, b)), ("explainer_overlap", (b, a))):
            if key := pairs.get(pair):
                shown = x.cell(metric, key.variant)
                grid = f"{key.resolution} x {key.resolution} cells"
                return {**shown, "title": f"{metric}; {grid}; {shown['title']}"} if shown else None
        return None

    p = next(iter(x.points.values()))
    rows = [{"name": a, "cells": [None if a == b else cell(a, b) for b in names]} for a in names]
    return {"name": x.name, "names": names, "n": p.n, "rows": rows}


def _model(x: Explained) -> dict[str, Any]:
    """Return what the shortcut does to the probabilities of one series."""
    groups = []
    for metric, columns in (("shortcut_effect", PROBABILITIES), ("shortcut_effect_present", PROBABILITIES),
                            ("shortcut_alone", ALONE)):  # fmt: skip
        p = x.get(metric)
        groups.append({"n": p.n if p else None, "cells": [x.cell(metric, v) for v, _ in columns]})
    return {"name": x.name, "groups": groups}


def _masses(x: Explained) -> dict[str, Any]:
    n = [p.n if (p := x.get(m)) else None for m in ("shortcut_mass", "shortcut_lesion_mass")]
    return {"kind": x.kind, "name": x.label(), "n": n, "cells": [x.cell(m, v) for m, v, _ in MASS],
            "passes": _spent(x, "shortcut_maps")}  # fmt: skip


def _chart(lines: Sequence[Explained], explainers: Sequence[str]) -> dict[str, Any]:
    """Return the chart of the correlation over the depth of the cascade, the references beside it."""
    if not lines:
        return {}
    traces = [t for m in RANKS for x in lines for t in _traces(x, m, explainers)]
    lowest = min((y for t in traces for y in t["y"] if y is not None), default=0.0)
    axis = {"range": [min(-0.04, lowest - 0.05), 1.05], "title": {"text": "rank correlation", "standoff": 4}}
    return {"depth": {"data": traces, "layout": {**LAYOUT, "yaxis": axis}, "height": 380}}


def _traces(x: Explained, metric: str, explainers: Sequence[str]) -> list[dict[str, Any]]:
    along = _along(x, metric)
    aside = [(at, name.replace("_", " "), p) for name, at in REFERENCES_AT.items() if (p := x.get(metric, name))]
    shared = {
        "tone": x.tone,
        "symbol": SYMBOLS[explainers.index(x.explainer) % len(SYMBOLS)][0],
        "groups": list(x.groups),
        "variant": metric,
        "visible": metric == next(iter(RANKS)),
        "hovertemplate": "%{text}<extra></extra>",
    }
    start = [(0.0, 1.0, f"{x.label()}, trained")]
    drawn = [(at, plain(p.value), f"{x.label()}, down to {name}: {p.text()}") for at, name, p in along]
    beside = [(at, plain(p.value), f"{x.label()}, {name}: {p.text()}") for at, name, p in aside]
    return [
        {**shared, "x": [at for at, *_ in mine], "y": [y for _, y, _ in mine], "mode": mode,
         "text": [chart_text(t) for *_, t in mine]}
        for mine, mode in (([*start, *drawn], "lines+markers"), (beside, "markers")) if mine
    ]  # fmt: skip


def _command(board: Board) -> str:
    run = next((x.result.run_id for x in board.lines if not x.result.published), "RUN")
    return " ".join([f"harness evaluate {run}", *(f"--evaluation {e}" for e in EVALUATIONS)])


def _records(x: Explained) -> list[dict[str, Any]]:
    return [
        record(x.kind, x.name, p, explainer=x.explainer, metric=k.metric, variant=k.variant,
               resolution=k.resolution if k.resolution > 0 else None)
        for k, p in sorted(x.points.items()) if math.isfinite(p.value) or p.reason
    ]  # fmt: skip
