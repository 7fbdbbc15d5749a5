"""`harness data prepare --download`: fetch a dataset's public files, once their terms of use were accepted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

from harness.chosen import named
from harness.console import Reporter, rated
from harness.data.cache import DatasetSpec, read_index
from harness.data.dataset import Dataset
from harness.data.downloads import Download, Fetcher
from harness.data.roots import find_root, new_root
from harness.errors import UsageError
from harness.plugins import checkout_folder
from harness.terms import terms

MB = 10**6  # bytes

Ask = Callable[[str], bool]  # what is offered, on what terms -> whether it is accepted


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
    _, made, spec = named(dataset, sets, size, plugins)
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


def _complete(made: Dataset, spec: DatasetSpec, root: Path | None) -> bool:
    """Return whether the dataset lies somewhere in full: whether its table can be made."""
    try:
        read_index(spec, find_root(made, spec.name, root))
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
