"""The pages around the boards: of every method, every dataset, and all explainers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from harness.columns import BoardKey
from harness.record import Result
from harness.report import datasets, explainers, gallery, methods
from harness.report.boards import Board
from harness.report.names import file_stems
from harness.report.registered import Registered


def pages(
    results: Sequence[Result],
    shown: Sequence[Board],
    known: Registered,
    stated: Mapping[str, Mapping[str, str]],
    pictures: gallery.Pictures,
    stems: Mapping[str, str],
    figures: Mapping[BoardKey, list[dict[str, str]]],
) -> dict[str, dict[str, Any]]:
    """Return address -> template and context of the pages of methods, datasets and explainers."""
    method_stems, dataset_stems = (file_stems(m.names_of(results)) for m in (methods, datasets))
    links = {
        b.key.title(): {"figures": figures[b.key], "address": quote(b.key.title(), errors="replace")} for b in shown
    }
    runs = {n: f"../runs/{s}.html" for n, s in stems.items()}
    shared = {
        "method_pages": {n: f"../methods/{s}.html" for n, s in method_stems.items()},
        "run_pages": runs,
    }
    found: dict[str, dict[str, Any]] = {}

    def add(name: str, template: str, context: dict[str, Any]) -> None:
        own = [{**b, **links[b["title"]]} for b in context.get("boards", ())]
        found[name] = {"template": template, **shared, **context, "boards": own}

    for name, stem in method_stems.items():
        add(f"methods/{stem}.html", "method", methods.page(name, results, shown, known, runs))
    for name, stem in dataset_stems.items():
        context = datasets.page(name, results, shown, known, stated, pictures, "../assets/pictures")
        data = {"name": name, "board": "", "charts": context.pop("charts"), "records": []}
        add(f"datasets/{stem}.html", "dataset", {**context, "data": data})
    add("explainers.html", "explainers", explainers.page(shown, known, {n: f"runs/{s}.html" for n, s in stems.items()}))
    found["methods.html"] = {"template": "methods", "methods": methods.index(results, shown, known, method_stems)}
    found["datasets.html"] = {"template": "datasets", "datasets": datasets.index(results, known, stated, dataset_stems)}
    return found
