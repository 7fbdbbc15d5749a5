"""Where a dataset's files lie on this machine, and where caches of them go."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import platformdirs

from harness.data.dataset import Dataset
from harness.errors import UsageError
from harness.reading import read_toml

CONFIG_FILE = Path(platformdirs.user_config_dir("harness")) / "config.toml"


def _candidates(given: Path | None) -> Iterator[tuple[Path, str]]:
    if given is not None:
        yield given, "--root"
        return
    if value := os.environ.get("HARNESS_DATA"):
        yield Path(value), "HARNESS_DATA"
    if CONFIG_FILE.exists():
        folder = read_toml(CONFIG_FILE, str(CONFIG_FILE)).get("data")
        if folder is not None and not isinstance(folder, str):
            raise UsageError(f"{CONFIG_FILE}: expected the name of a folder as data, got {folder!r:.80}. Mend it.")
        if folder:
            yield Path(folder), str(CONFIG_FILE)
    yield Path(platformdirs.user_data_dir("harness")), "the user data folder"


def find_root(dataset: Dataset, name: str, given: Path | None = None) -> Path:
    """Return the dataset's own folder: `given` (it or its parent), HARNESS_DATA, the config file, the user data folder.

    Raises `UsageError` with the places looked at and the exact steps to get the data.
    """
    if not dataset.needs_root:
        return Path()
    looked: list[str] = []
    for place, origin in _candidates(given):
        for folder in (*(place / f for f in dataset.folders), place):
            if folder.is_dir() and dataset.found_at(folder):
                return folder
        looked.append(f"{place} ({origin})")
    raise UsageError(
        f"{name}: its files were not found in {', '.join(looked)}. Expected the dataset's own folder "
        f"({' or '.join(dataset.folders)}) or its parent.\n{dataset.how_to_get}"
    )


def new_root(dataset: Dataset, name: str, given: Path | None = None) -> Path:
    """Return the folder that a dataset is fetched into: where it lies already, else the first place it is looked for.

    `given` is the dataset's own folder where it is called like one, or holds files of it; else its parent.
    """
    try:
        return find_root(dataset, name, given)
    except UsageError:
        place, _ = next(_candidates(given))
    return place if place.name in dataset.folders else place / (dataset.folders or (name,))[0]


def cache_home() -> Path:
    """Return the folder of prepared datasets: HARNESS_CACHE, else the user cache folder."""
    return Path(os.environ.get("HARNESS_CACHE") or platformdirs.user_cache_dir("harness")) / "datasets"
