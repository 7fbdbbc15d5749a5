"""The fixed samples, a row each, explained by every method and explainer (Khakzar 2019, Fig. 1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from harness.record import Result, StageResult
from harness.report.boards import Board
from harness.report.figures.series import Series, labels, series_of
from harness.report.gallery import Pictures, Samples, fixed_samples, masked_samples, only_masked, pictured, rows_of


def figure(board: Board, pictures: Pictures, pages: Mapping[str, str], base: str) -> dict[str, Any]:
    """Return the page's context: a table of the maps of annotated classes, and one of those that insertion and deletion
    alone has looked at, each of the class that its model chose.

    In a table stands of each series the lowest seed that has pictures, a column per explainer. `base` is the address of
    the pictures' folder from the page. Records hold no images, so a series of records alone has no column; it is named
    in `without`.
    """
    series, left_out = series_of(board)
    named = list(zip(labels(series), series, strict=True))
    annotated = _table(named, pages, pictured, lambda stage: fixed_samples(stage, pictures, base))
    chosen = _table(named, pages, only_masked, lambda stage: masked_samples(stage, pictures, base))
    shown = {g["name"] for table in (annotated, chosen) for g in table["groups"]}
    return {
        "annotated": annotated,
        "chosen": chosen,
        "without": [name for name, _ in named if name not in shown],
        "left_out": left_out,
    }


def _table(
    named: Sequence[tuple[str, Series]],
    pages: Mapping[str, str],
    stages_of: Callable[[Result], Mapping[str, StageResult]],
    samples_of: Callable[[StageResult], Samples],
) -> dict[str, Any]:
    """Return the heads, by series and by explainer, and a row per sample."""
    groups: list[dict[str, Any]] = []
    shown: list[Samples] = []
    for name, s in named:
        line = next((x for x in s.lines if stages_of(x.result)), None)
        if line is None:
            continue
        stages = stages_of(line.result)
        shown += [samples_of(stage) for stage in stages.values()]
        groups.append(
            {"name": name, "seed": line.first.seed, "page": pages[line.result.run_id], "run_id": line.result.run_id,
             "explainers": list(stages), "others": _others(s, line.result.run_id, pages)}
        )  # fmt: skip
    return {
        "groups": groups,
        "columns": [{"name": g["name"], "explainer": e, "first": e == g["explainers"][0]} for g in groups
                    for e in g["explainers"]],
        "rows": rows_of({key for mine in shown for key in mine}, shown),
    }  # fmt: skip


def _others(series: Series, run_id: str, pages: Mapping[str, str]) -> list[dict[str, Any]]:
    return [{"seed": x.first.seed, "page": pages[x.result.run_id]} for x in series.lines if x.result.run_id != run_id]
