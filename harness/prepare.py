"""`harness data prepare` and `harness data verify`: build a dataset's cache, and say what is wrong with its files."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.card import Card, card
from harness.chosen import Chosen, choose
from harness.console import Reporter, rated
from harness.data import cache
from harness.data.index import SPLITS, Index, check, patients_on_two_sides, problems, unlabelled_boxes
from harness.data.survey import Survey, duplicates, survey
from harness.errors import UsageError
from harness.fetch import Ask, download

ON_CARD = ("dataset", "images", "patients", "manifest sha256", "positives", "notes", "card")  # of the entry of verify
NAMED = 3  # of equal images


@dataclass(frozen=True)
class Report:
    """What was prepared or found, as JSON (`entry`) and as text."""

    entry: dict[str, Any]
    problems: list[str] = field(default_factory=list)
    card: Card | None = None

    def text(self) -> str:
        """Return the report for a person: the card, where there is one, in place of what it says as well."""
        lines = [self.card.text(), ""] if self.card else []
        for name, value in self.entry.items():
            if name == "problems" or (self.card and name in ON_CARD):
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


def _positive(workers: int | None) -> None:
    if workers is not None and workers < 1:
        raise UsageError(f"--workers {workers}: expected at least 1.")


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
    _positive(workers)
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
    workers: int | None = None,
    quiet: bool = False,
) -> Report:
    """Check a dataset's files without building anything: index, images, duplicates, boxes, patients, checksums."""
    _positive(workers)
    chosen = choose(dataset, root, sets, size, plugins)
    index = cache.read_index(chosen.spec, chosen.root)
    data, found = chosen.dataset, problems(index, chosen.dataset.task, chosen.dataset.splits)
    with Reporter(quiet=quiet).task(f"read {dataset}") as update:
        seen = survey(chosen.spec, chosen.root, index, workers=workers, progress=rated(update))
    fingerprint = "" if found else _fingerprint(chosen, index, seen)
    shown = card(data.title(dataset), chosen.component, data, index, seen, fingerprint)
    same = duplicates(index, seen)
    entry = {"dataset": dataset, "root": str(chosen.root)} | describe(index) | {"card": shown.entry}
    entry["boxes whose class is not among the image's labels"] = len(unlabelled_boxes(index))
    entry["missing or corrupt images"] = seen.broken
    entry["images with the pixels of another"] = same.repeated
    within = [g for g in same.groups if not any(g is other for other in same.apart)]
    entry["the same pixels in the same part"] = [_names(index, group) for group in within]
    entry["the same pixels in different parts"] = [_names(index, group) for group in same.apart]
    entry["the same pixels with different labels"] = [_names(index, group) for group in same.mislabelled]
    entry["checksums"] = data.checksums(chosen.root)
    if remarks := data.remarks(chosen.root):
        entry["remarks"] = remarks
    found += [f"{len(seen.broken)} images are missing or corrupt, the first: {seen.broken[0]}"] if seen.broken else []
    if same.apart:
        found.append(
            f"{len(same.apart)} groups of images have the same pixels and are in different parts, the first: "
            f"{_names(index, same.apart[0])}. Leave one of each, or put them into the same part"
        )
    return Report(entry | {"problems": found}, found, shown)


def _fingerprint(chosen: Chosen, index: Index, seen: Survey) -> str:
    """Return the fingerprint that prepare would give; "" where it would give none."""
    data, kept = chosen.dataset, seen.readable
    if not (kept.all() or data.skip_corrupt):
        return ""
    sound = check(cache.leave_out(index, kept), chosen.spec.name, data.task, data.splits)
    return data.fingerprint(sound, seen.working[kept])


def _names(index: Index, group: NDArray[np.int64]) -> str:
    """Return a group of images as text, each with the parts it is in; of many the first, and one of another part."""
    rows = index.samples.iloc[group]
    parts = rows.loc[:, list(index.split_columns)].to_numpy(str)  # (n,folds)
    others = np.flatnonzero((parts != parts[0]).any(1))
    chosen = sorted({*range(min(len(rows), NAMED)), *others[:1].tolist()})
    names = [f"{rows['id'].iloc[i]} ({', '.join(dict.fromkeys(parts[i]))})" for i in chosen]
    return " = ".join(names) + (f" and {len(rows) - len(chosen):,} more" if len(rows) > len(chosen) else "")
