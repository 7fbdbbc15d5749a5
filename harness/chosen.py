"""A dataset as it is named on the command line: its object, what names it in other processes, and its folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.config import build, route
from harness.data.cache import DatasetSpec
from harness.data.dataset import Dataset
from harness.data.roots import find_root
from harness.plugins import Component, catalogue


@dataclass(frozen=True)
class Chosen:
    """A dataset, and where its files lie."""

    component: Component
    dataset: Dataset
    spec: DatasetSpec
    root: Path


def choose(dataset: str, root: Path | None, sets: Sequence[str], size: int | None, plugins: Sequence[str]) -> Chosen:
    """Resolve a dataset's name, settings and root. `UsageError`: unknown, mistyped, or its files are nowhere."""
    component, made, spec = named(dataset, sets, size, plugins)
    return Chosen(component, made, spec, find_root(made, dataset, root))


def named(
    dataset: str, sets: Sequence[str], size: int | None, plugins: Sequence[str]
) -> tuple[Component, Dataset, DatasetSpec]:
    """Resolve a dataset's name and settings; its files may be missing."""
    found = catalogue(plugins)
    component = found.find("dataset", dataset)
    thing = component.load()
    assignments = [*sets, *([f"{dataset}.size={size}"] if size else [])]
    made, settings = build(thing, f"dataset {dataset}", ("--set", route(assignments, {dataset: thing})[dataset]))
    made.title(dataset)  # own data need a name of theirs
    return component, made, DatasetSpec(dataset, tuple(sorted((s.name, s.value) for s in settings)), found.paths)
