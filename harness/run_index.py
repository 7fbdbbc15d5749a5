"""What a folder's runs are listed as, kept in one file: a second listing of 10,000 runs reads none of them.

HARNESS_CACHE/runs/<digest of the folder's path>.json    of each run what it is listed as, its evaluations, and a stamp
                                                         of the files it was read from

Never the truth: an entry counts only while every file and folder that it was read from is the same one, with the same
size and times; so does the whole file, while the modules that read runs are the same. What is missing, damaged or of
another time is made anew from the runs. What cannot be read is not kept, nor what has just been written: a file may
change twice within the resolution of its times. Not noticed is only a gallery put into a finished stage by hand.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import platformdirs

from harness.errors import UsageError
from harness.store import write_bytes

SETTLED = 2.0  # s since the last change of a file
READERS = ("listing", "reading", "record", "rows", "run_index", "shapes", "store")  # modules a listing rests on

Entry = dict[str, Any]  # what one run is listed as
Kept = list[Any]  # a stamp, the names of the stages, the entry
Stamp = tuple[str, float]  # a digest of the files' numbers, sizes and times; seconds of the latest of these times


def listed(runs_dir: Path, read: Callable[[Path], tuple[Entry, bool]]) -> list[Entry]:
    """Return the entry of every run of a folder, by name.

    `read` returns what a run's folder is listed as, and whether the run could be read.
    """
    place, index, reader = str(runs_dir), path_of(runs_dir), _reader()
    kept = _load(index, reader)
    now, found, entries = time.time(), {}, []
    for name in _names(place):
        folder, known = f"{place}/{name}", kept.get(name)
        if known and _stamp(folder, known[1])[0] == known[0]:
            found[name] = known
            entries.append(known[2])
            continue
        if not os.path.exists(f"{folder}/run.json"):
            continue
        stages = _stages(folder)
        stamp, latest = _stamp(folder, stages)  # before it is read: a later change has another one
        entry, readable = read(Path(folder))
        entries.append(entry)
        if readable and latest < now - SETTLED:
            found[name] = [stamp, stages, entry]
    if found != kept:
        _save(index, reader, found)
    return entries


def path_of(runs_dir: Path) -> Path:
    """Return where the index of a folder lies: in the user's cache folder, for runs may be read only."""
    cache = Path(os.environ.get("HARNESS_CACHE") or platformdirs.user_cache_dir("harness"))
    return cache / "runs" / f"{hashlib.sha256(os.fsencode(runs_dir.resolve())).hexdigest()[:32]}.json"


def _names(place: str) -> list[str]:
    """Return the names of what is in a folder, sorted."""
    try:
        with os.scandir(place) as inside:
            return sorted(entry.name for entry in inside)
    except OSError:
        return []


def _stages(folder: str) -> list[str]:
    """Return the names of a run's stages, those with pictures with a slash at the end."""
    place = f"{folder}/evaluations"
    try:
        names = sorted(n for n in os.listdir(place) if not n.startswith("."))
    except OSError:
        return []
    return [f"{n}/" if os.path.exists(f"{place}/{n}/gallery/gallery.json") else n for n in names]


def _stamp(folder: str, stages: Iterable[str]) -> Stamp:
    """Return the stamp of all files that a run is read from, and of the folder in which a stage appears."""
    paths = [f"{folder}/run.json", f"{folder}/fit/history.jsonl", f"{folder}/evaluations"]
    for name in stages:
        stage = f"{folder}/evaluations/{name.removesuffix('/')}"
        paths += (f"{stage}/stage.json", f"{stage}/rows.json")
        if name.endswith("/"):
            paths.append(f"{stage}/gallery/gallery.json")
    return _of(paths)


def _of(paths: Iterable[str]) -> Stamp:
    numbers, latest = [], 0
    for path in paths:
        try:
            found = os.stat(path)
        except (OSError, ValueError):
            numbers.append(0)
            continue
        changed = found.st_ctime_ns
        numbers += (found.st_ino, found.st_size, found.st_mtime_ns, changed)
        latest = max(latest, changed)
    return hashlib.blake2b(repr(numbers).encode(), digest_size=16).hexdigest(), latest / 1e9


def _reader() -> str:
    """Return the stamp of the modules that read runs."""
    here = os.path.dirname(__file__)
    return _of(f"{here}/{name}.py" for name in READERS)[0]


def _load(path: Path, reader: str) -> dict[str, Kept]:
    """Return what is kept by run; {} where the file is missing, damaged, or written by other code."""
    try:
        content = json.loads(path.read_bytes())
        if content["reader"] != reader:
            return {}
        runs = content["runs"]
        if all(isinstance(entry, dict) and {*map(type, stages)} <= {str} for _, stages, entry in runs.values()):
            return runs
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
        pass
    return {}


def _save(path: Path, reader: str, found: dict[str, Kept]) -> None:
    with suppress(UsageError, OSError):  # a cache folder that is read only, or full, costs time alone
        write_bytes(path, json.dumps({"reader": reader, "runs": found}, separators=(",", ":")).encode())
