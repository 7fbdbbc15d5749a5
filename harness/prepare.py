"""`harness data prepare` and `harness data verify`: build a dataset's cache, and say what is wrong with its files."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.config import build, route
from harness.console import Reporter
from harness.data import cache
from harness.data.dataset import Dataset
from harness.data.index import SPLITS, Index, patients_on_two_sides, problems, unlabelled_boxes
from harness.data.roots import find_root
from harness.errors import UsageError
from harness.plugins import Component, catalogue


@dataclass(frozen=True)
class Report:
    """What was prepared or found, as JSON (`entry`) and as text."""

    entry: dict[str, Any]
    problems: list[str] = field(default_factory=list)

    def text(self) -> str:
        """Return the report for a person."""
        lines = []
        for name, value in self.entry.items():
            if name == "problems":
                continue
            if isinstance(value, dict):
                lines.append(f"{name}:")
                lines += [f"  {k}: {_number(v)}" for k, v in value.items()]
            elif isinstance(value, list):
                lines.append(f"{name}: {len(value)}")
                lines += [f"  {item}" for item in value[:20]] + (["  ..."] if len(value) > 20 else [])
            else:
                lines.append(f"{name}: {_number(value)}")
        lines += ["", f"{len(self.problems)} problems:" if self.problems else "No problems found."]
        return "\n".join([*lines, *(f"  - {p}" for p in self.problems)])


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


@dataclass(frozen=True)
class Chosen:
    """A dataset as named on the command line."""

    component: Component
    dataset: Dataset
    spec: cache.DatasetSpec
    root: Path


def choose(dataset: str, root: Path | None, sets: Sequence[str], size: int | None, plugins: Sequence[str]) -> Chosen:
    """Resolve a dataset's name, settings and root."""
    found = catalogue(plugins)
    component = found.find("dataset", dataset)
    thing = component.load()
    assignments = [*sets, *([f"{dataset}.size={size}"] if size else [])]
    made, settings = build(thing, f"dataset {dataset}", ("--set", route(assignments, {dataset: thing})[dataset]))
    spec = cache.DatasetSpec(dataset, tuple(sorted((s.name, s.value) for s in settings)), found.paths)
    return Chosen(component, made, spec, find_root(made, dataset, root))


def describe(index: Index) -> dict[str, Any]:
    """Return the counts of an index: images and patients of each part of the split, positives per class, boxes."""
    patients = index.samples["patient"].to_numpy()
    parts = {
        f"{split} of fold {fold}" if index.crossfitted else split: index.of_split(split, fold)
        for fold in range(index.folds)
        for split in SPLITS
    }
    return {
        "images": {name: len(positions) for name, positions in parts.items()},
        "patients": {name: len(set(patients[positions])) for name, positions in parts.items()},
        "patients on two sides": sum(len(patients_on_two_sides(index, fold)) for fold in range(index.folds)),
        "manifest sha256": hashlib.sha256(index.manifest()).hexdigest(),
        "positives": {c: int(n) for c, n in zip(index.classes, index.labels.sum(0), strict=True)},
        "boxes": len(index.boxes),
        "boxed images": len(set(index.boxes["id"])),
        "notes": list(index.notes),
    }


def prepare(
    dataset: str,
    root: Path | None,
    sets: Sequence[str],
    size: int | None,
    plugins: Sequence[str],
    *,
    workers: int | None = None,
    verify: bool = False,
    quiet: bool = False,
) -> Report:
    """Build the cache of a dataset, or find it built; with `verify`, decode every image again and compare."""
    if workers is not None and workers < 1:
        raise UsageError(f"--workers {workers}: expected at least 1.")
    chosen = choose(dataset, root, sets, size, plugins)
    reporter = Reporter(quiet=quiet)
    with reporter.task(f"prepare {dataset}") as update:
        prepared = cache.prepare(
            chosen.spec,
            chosen.root,
            chosen.component.identity(),
            workers=workers,
            progress=lambda done, of: update(done, of, ""),
        )
    entry = {"dataset": dataset, "cache": str(prepared.folder), "fingerprint": prepared.fingerprint}
    entry |= describe(prepared.index) | {"left out as corrupt": list(prepared.corrupt)}
    wrong: list[str] = []
    if verify:
        with reporter.task(f"verify {dataset}") as update:
            wrong = cache.verify_pixels(
                chosen.spec, chosen.root, prepared, workers=workers, progress=lambda done, of: update(done, of, "")
            )
        entry["differing from the files"] = wrong
    found = (
        [f"{len(wrong)} images differ from their files. Remove {prepared.folder} and prepare again."] if wrong else []
    )
    return Report(entry, found)


def verify(
    dataset: str,
    root: Path | None,
    sets: Sequence[str],
    size: int | None,
    plugins: Sequence[str],
    *,
    quiet: bool = False,
) -> Report:
    """Check a dataset's files without building anything: index, images, boxes, patients, checksums."""
    chosen = choose(dataset, root, sets, size, plugins)
    index = cache.read_index(chosen.spec, chosen.root)
    found = problems(index, chosen.dataset.task, chosen.dataset.splits)
    stray = unlabelled_boxes(index)
    with Reporter(quiet=quiet).task(f"read {dataset}") as update:
        broken = cache.unreadable(chosen.spec, chosen.root, index, progress=lambda done, of: update(done, of, ""))
    entry = {"dataset": dataset, "root": str(chosen.root)} | describe(index)
    entry["boxes whose class is not among the image's labels"] = len(stray)
    entry["missing or corrupt images"] = broken
    entry["checksums"] = chosen.dataset.checksums(chosen.root)
    if remarks := chosen.dataset.remarks(chosen.root):
        entry["remarks"] = remarks
    found += [f"{len(broken)} images are missing or corrupt, the first: {broken[0]}"] if broken else []
    return Report(entry | {"problems": found}, found)
