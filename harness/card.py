"""The dataset card: what a dataset is, how it is split, how often each class is there, what its files are."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from harness.console import plain
from harness.data.dataset import Dataset
from harness.data.index import SPLITS, Index
from harness.data.survey import Survey
from harness.plugins import Component, checkout_folder
from harness.terms import NOT_STATED, terms

LISTED = 20  # classes that the text shows; of more, those with most images
WIDTH = 120  # characters, where the terminal has not more
NEVER = "none: it is given once the index is sound and every image can be read"


@dataclass(frozen=True)
class Card:
    """One dataset as JSON (`entry`) and as text."""

    entry: dict[str, Any]

    def text(self) -> str:
        """Return the card for a person."""
        e, console = self.entry, Console(width=max(WIDTH, Console().width), highlight=False)
        facts = _columns("", "")
        for name in ("source", "terms", "task", "split", "input", "files", "width", "height", "notes"):
            facts.add_row(name, plain(_said(e[name])))
        for name in ("fingerprint", "manifest sha256"):
            facts.add_row(name, e[name])
        with console.capture() as captured:
            console.print(plain(f"{e['name']}: {e['summary']}"))
            console.print(facts)
            console.print()
            console.print(_parts(e))
            console.print()
            console.print(_classes(e))
        return "\n".join(line.rstrip() for line in captured.get().rstrip().splitlines())


def card(name: str, component: Component, dataset: Dataset, index: Index, found: Survey, fingerprint: str) -> Card:
    """Return the card of a dataset whose images were looked at; `fingerprint` is "" where there is none."""
    stated = _terms(component, dataset)
    parts = _positions(index)
    scored = {"all": index.scored()[0]} if index.crossfitted else {s: index.of_split(s) for s in dataset.splits}
    patients = index.samples["patient"].to_numpy(str)
    task = dataset.task
    return Card({
        "name": name,
        "summary": component.summary,
        "source": component.source,
        "terms": stated,
        "task": f"{task.name}: {'one class' if task.exclusive else 'any number of findings'} per image",
        "split": dataset.split_rule or ("five folds" if index.crossfitted else "as the source says"),
        "input": f"{dataset.size} x {dataset.size} px, {dataset.channels} channel{'s' * (dataset.channels > 1)}; mean "
                 f"{_list(dataset.mean)}, deviation {_list(dataset.std)} of [0,1] pixels",
        "files": found.kinds,
        "width": _spread(found.sizes[found.readable, 0]),
        "height": _spread(found.sizes[found.readable, 1]),
        "parts": {n: {"images": len(p), "patients": len(set(patients[p]))} for n, p in parts.items()},
        "classes": {c: _class(index, i, scored) for i, c in enumerate(index.classes)},
        "of": {s: len(p) for s, p in scored.items()},
        "notes": list(index.notes),
        "fingerprint": fingerprint or NEVER,
        "manifest sha256": hashlib.sha256(index.manifest()).hexdigest(),
    })  # fmt: skip


def _terms(component: Component, dataset: Dataset) -> str:
    """Return the terms that the dataset's own file states, else those of reports/datasets.csv."""
    folder = checkout_folder("reports")
    stated = terms(folder).get(component.name, {}) if folder else {}
    return str(getattr(dataset, "terms", "") or stated.get("terms") or NOT_STATED)


def _positions(index: Index) -> dict[str, NDArray[np.int64]]:
    return {
        f"{s} of fold {k}" if index.crossfitted else s: index.of_split(s, k) for k in range(index.folds) for s in SPLITS
    }


def _class(index: Index, column: int, scored: Mapping[str, NDArray[np.int64]]) -> dict[str, Any]:
    """Return positives of a class in each part, and its boxes with their median area as a share of the image."""
    boxes = index.boxes[index.boxes["class_name"] == index.classes[column]]
    area = np.asarray((boxes["x1"] - boxes["x0"]) * (boxes["y1"] - boxes["y0"]), float)
    return {
        "positives": {s: int(index.labels[p, column].sum()) for s, p in scored.items()},
        "boxes": len(boxes),
        "median box area": round(float(np.median(area)), 6) if len(area) else None,
    }


def _spread(values: NDArray[np.int32]) -> dict[str, int]:
    """Return the smallest, the middle and the largest of some lengths in px; {} for none."""
    if not len(values):
        return {}
    return {"min": int(values.min()), "median": int(np.median(values)), "max": int(values.max())}


def _list(values: Sequence[float]) -> str:
    return ", ".join(f"{v:g}" for v in values)


def _said(value: Any) -> str:
    if isinstance(value, dict) and "median" in value:
        low, middle, high = value.values()
        return f"{middle:,} px" if low == high else f"{middle:,} px, from {low:,} to {high:,}"
    if isinstance(value, dict):
        return ", ".join(f"{k} {v:,}" for k, v in value.items()) or "none"
    return ", ".join(value) or "none" if isinstance(value, list) else str(value)


def _columns(*names: str) -> Table:
    table = Table(box=None, pad_edge=False, show_header=any(names))
    for i, name in enumerate(names):
        table.add_column(name, overflow="fold", justify="right" if any(names) and i else "left")
    return table


def _parts(entry: Mapping[str, Any]) -> Table:
    table = _columns("part", "images", "patients")
    for name, counts in entry["parts"].items():
        table.add_row(name, f"{counts['images']:,}", f"{counts['patients']:,}")
    return table


def _classes(entry: Mapping[str, Any]) -> Table:
    """Return a line per class: images and prevalence in each part, boxes and their median area."""
    boxed = any(c["boxes"] for c in entry["classes"].values())
    table = _columns("class", *entry["of"], *(("boxes", "median area") if boxed else ()))
    most = sorted(entry["classes"], key=lambda c: -sum(entry["classes"][c]["positives"].values()))[:LISTED]
    for name in (c for c in entry["classes"] if c in set(most)):
        found = entry["classes"][name]
        cells = [f"{n:,} ({n / entry['of'][s]:.1%})" if entry["of"][s] else "0" for s, n in found["positives"].items()]
        area = found["median box area"]
        cells += [f"{found['boxes']:,}", "" if area is None else f"{area:.2%}"] if boxed else []
        table.add_row(plain(name), *cells)
    if left := len(entry["classes"]) - len(most):
        table.add_row(f"and {left:,} with fewer")
    return table
