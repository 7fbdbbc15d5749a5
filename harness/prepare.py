"""`harness data prepare` and `harness data verify`: build a dataset's cache, and say what is wrong with its files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from harness.config import build, route
from harness.console import Reporter, rated
from harness.data import cache
from harness.data.dataset import Dataset
from harness.data.downloads import Download, Fetcher
from harness.data.index import SPLITS, Index, patients_on_two_sides, problems, unlabelled_boxes
from harness.data.roots import find_root, new_root
from harness.errors import UsageError
from harness.plugins import Component, catalogue, checkout_folder
from harness.report.datasets import terms

MB = 10**6  # bytes

Ask = Callable[[str], bool]  # what is offered, on what terms -> whether it is accepted


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
    component, made, spec = _named(dataset, sets, size, plugins)
    return Chosen(component, made, spec, find_root(made, dataset, root))


def _named(
    dataset: str, sets: Sequence[str], size: int | None, plugins: Sequence[str]
) -> tuple[Component, Dataset, cache.DatasetSpec]:
    found = catalogue(plugins)
    component = found.find("dataset", dataset)
    thing = component.load()
    assignments = [*sets, *([f"{dataset}.size={size}"] if size else [])]
    made, settings = build(thing, f"dataset {dataset}", ("--set", route(assignments, {dataset: thing})[dataset]))
    spec = cache.DatasetSpec(dataset, tuple(sorted((s.name, s.value) for s in settings)), found.paths)
    return component, made, spec


def download(
    dataset: str,
    root: Path | None,
    sets: Sequence[str],
    size: int | None,
    plugins: Sequence[str],
    *,
    ask: Ask | None,
    quiet: bool = False,
) -> list[str]:
    """Fetch what is missing of a dataset from its public addresses; return the names of the files that were fetched.

    `ask` is given the files and the terms of use, and says whether they are accepted; None: nobody can be asked.
    A dataset whose table can be made of what is there is complete: nothing is fetched.
    """
    _, made, spec = _named(dataset, sets, size, plugins)
    if not made.needs_root or _complete(made, spec, root):
        return []
    if not made.downloads:
        raise UsageError(
            f"{dataset}: nothing of it can be fetched by --download: expected a public address and a published sum, it "
            f"has none (registration, say). Get it by hand.\n{made.how_to_get}"
        )
    folder = new_root(made, dataset, root)
    reporter = Reporter(quiet=quiet)
    tasks = ExitStack()
    updates: dict[str, Callable[[int, int], None]] = {}

    def progress(file: str, done: int, of: int) -> None:
        if file not in updates:
            tasks.close()
            updates[file] = rated(tasks.enter_context(reporter.task(f"fetch {file}, MB")), "MB")
        updates[file](done // MB, of // MB)

    fetcher = Fetcher(folder, made.how_to_get, progress)
    missing = fetcher.missing(made.downloads)
    if not missing:
        return []
    offer = _offer(dataset, made, missing, folder)
    if ask is None:
        raise UsageError(
            f"{offer}\nNobody can be asked whether to go on: expected a terminal, or --yes. Give --yes to accept."
        )
    if not ask(offer):
        raise UsageError(f"{dataset}: nothing was fetched: expected yes. Give the command again to accept the terms.")
    with tasks:
        return fetcher.fetch(made.downloads)


def _complete(made: Dataset, spec: cache.DatasetSpec, root: Path | None) -> bool:
    """Return whether the dataset lies somewhere in full: whether its table can be made."""
    try:
        cache.read_index(spec, find_root(made, spec.name, root))
    except UsageError:
        return False
    return True


def _offer(dataset: str, made: Dataset, missing: Sequence[Download], folder: Path) -> str:
    """Return what would be fetched, from where, and on what terms."""
    hosts = sorted({urlsplit(d.address).netloc for d in missing})
    sizes = [d.size for d in missing if d.size is not None]
    known = f", {sum(sizes) / 1e9:.2f} GB" + ("" if len(sizes) == len(missing) else " and more") if sizes else ""
    place = checkout_folder("reports")
    stated = terms(place).get(dataset, {}) if place else {}
    said = f"{stated['terms']} (source: {stated['terms_source']})" if stated else "not stated"
    lines = [f"{dataset}: {len(missing)} files{known}, from {', '.join(hosts)} into {folder}", f"Terms of use: {said}"]
    return "\n".join(lines + [made.not_downloaded] * bool(made.not_downloaded))


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
        "positives": dict(zip(index.classes, index.positives(np.arange(len(index))).tolist(), strict=True)),
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
    fetch: bool = False,
    ask: Ask | None = None,
    quiet: bool = False,
) -> Report:
    """Build the cache of a dataset, or find it built.

    With `fetch`, its files are downloaded first where they are missing (`ask` as in `download`); with `verify`, every
    image is decoded again and compared.
    """
    if workers is not None and workers < 1:
        raise UsageError(f"--workers {workers}: expected at least 1.")
    fetched = download(dataset, root, sets, size, plugins, ask=ask, quiet=quiet) if fetch else []
    chosen = choose(dataset, root, sets, size, plugins)
    reporter = Reporter(quiet=quiet)
    with reporter.task(f"prepare {dataset}") as update:
        prepared = cache.prepare(
            chosen.spec,
            chosen.root,
            chosen.component.identity(),
            workers=workers,
            progress=rated(update),
        )
    entry: dict[str, Any] = {"dataset": dataset} | ({"fetched": fetched} if fetch else {})
    entry |= {"cache": str(prepared.folder), "fingerprint": prepared.fingerprint}
    entry |= describe(prepared.index) | {"left out as corrupt": list(prepared.corrupt)}
    wrong: list[str] = []
    if verify:
        with reporter.task(f"verify {dataset}") as update:
            wrong = cache.verify_pixels(chosen.spec, chosen.root, prepared, workers=workers, progress=rated(update))
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
    found += [f"{len(broken)} images are missing or corrupt, the first: {broken[0]}"] if broken else []
    return Report(entry | {"problems": found}, found)
