"""The fixed samples, a row each, explained by every method and explainer (Khakzar 2019, Fig. 1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.report.boards import Board
from harness.report.figures.series import Series, labels, series_of
from harness.report.gallery import Pictures, Samples, fixed_samples, pictured, rows_of


def figure(board: Board, pictures: Pictures, pages: Mapping[str, str], base: str) -> dict[str, Any]:
    """Return the page's context: of each series the lowest seed that has pictures, a column per explainer.

    `base` is the address of the pictures' folder from the page. Records hold no images, so a series of records alone
    has no column; it is named in `without`.
    """
    series, left_out = series_of(board)
    names = labels(series)
    groups: list[dict[str, Any]] = []
    shown: list[Samples] = []
    for name, s in zip(names, series, strict=True):
        line = next((x for x in s.lines if pictured(x.result)), None)
        if line is None:
            continue
        stages = pictured(line.result)
        shown += [fixed_samples(stage, pictures, base) for stage in stages.values()]
        groups.append(
            {"name": name, "seed": line.first.seed, "page": pages[line.result.run_id], "run_id": line.result.run_id,
             "explainers": list(stages), "others": _others(s, line.result.run_id, pages)}
        )  # fmt: skip
    keys = {key for mine in shown for key in mine}
    pictured_names = {g["name"] for g in groups}
    return {
        "groups": groups,
        "columns": [{"name": g["name"], "explainer": e, "first": e == g["explainers"][0]} for g in groups
                    for e in g["explainers"]],
        "rows": rows_of(keys, shown),
        "without": [n for n in names if n not in pictured_names],
        "left_out": left_out,
    }  # fmt: skip


def _others(series: Series, run_id: str, pages: Mapping[str, str]) -> list[dict[str, Any]]:
    return [{"seed": x.first.seed, "page": pages[x.result.run_id]} for x in series.lines if x.result.run_id != run_id]
