"""The parts of a stage that is being made: each made once, by the run itself or by an assistant of it, and kept.

runs/<run_id>/evaluations/.shared.json                    the stages that are to be made, while the run is at them
                         /.<name>-<key>.shards/<part>.parquet, and <part>.lock: held by the process that makes it
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from harness.errors import UsageError
from harness.reading import read_json
from harness.store import RunFolder, locking, write_bytes, write_json, writing

if TYPE_CHECKING:
    import pandas as pd

POLL = 0.2  # seconds between two looks at a part that another process makes
PATIENCE = 600.0  # seconds that a run waits for another process at least; a machine that is lost may keep its locks
LONGER = 10  # times the longest part, that a run waits where parts take long

Progress = Callable[[int, int], None]  # samples done, of


@dataclass(frozen=True)
class Shard:
    """A part of a stage's samples, and how it is made. It must follow from its name alone, whoever makes it."""

    name: str
    size: int  # samples
    make: Callable[[], pd.DataFrame]


def made_here(shards: Sequence[Shard], progress: Progress) -> list[pd.DataFrame]:
    """Make every part, one after the other, and keep none."""
    found: list[pd.DataFrame] = []
    for number, shard in enumerate(shards):
        found.append(shard.make())
        progress(sum(s.size for s in shards[: number + 1]), sum(s.size for s in shards))
    return found


class Shards:
    """The parts of one stage in the store.

    A stage that was stopped goes on with the parts that it has; one that cannot be read is made again.
    """

    def __init__(self, folder: RunFolder, name: str, key: str) -> None:
        self.folder, self.name, self.key = folder, name, key
        self.place = folder.shards_folder(name, key)
        self.own: set[str] = set()  # parts that were made here
        self.waited = 0.0  # seconds in which nothing was made here
        self.elsewhere = 0.0  # seconds that parts took which were made by others, or earlier

    @property
    def finished(self) -> bool:
        """Return whether the whole stage is there, and its parts are needed no more."""
        return self.folder.has_stage(self.name, self.key)

    def all(self, shards: Sequence[Shard], progress: Progress) -> list[pd.DataFrame]:
        """Return every part, in order: made here, or read when the process that has claimed it is done."""
        found: dict[str, pd.DataFrame] = {}
        since, longest = time.monotonic(), 0.0
        while left := [s for s in shards if s.name not in found]:
            for shard in left:
                late = time.monotonic() - since > max(PATIENCE, LONGER * longest)
                if not self.make(shard, even_if_claimed=late) or (read := self._read(shard)) is None:
                    continue
                found[shard.name], seconds = read
                self.elsewhere += 0.0 if shard.name in self.own else seconds
                since, longest = time.monotonic(), max(longest, seconds)
                progress(sum(s.size for s in shards if s.name in found), sum(s.size for s in shards))
            if len(found) + len(left) == len(shards):  # all that is left is being made elsewhere
                time.sleep(POLL)
                self.waited += POLL
        return [found[s.name] for s in shards]

    def make(self, shard: Shard, *, even_if_claimed: bool = False) -> bool:
        """Make a part unless it is there; return False where another process is at it."""
        path = self._path(shard)
        if path.exists():
            return True
        with writing(self.place):
            self.place.mkdir(parents=True, exist_ok=True)
        with self._claim(shard) as mine:
            if not (mine or even_if_claimed):
                return False
            if path.exists():
                return True
            if self.finished:  # since the part was looked for; the claim has put its folder back
                self.forget()
                return True
            began = time.monotonic()
            made = shard.make()
            made.attrs["seconds"] = time.monotonic() - began
            buffer = io.BytesIO()
            made.to_parquet(buffer, index=False)
            write_bytes(path, buffer.getvalue())
            if self.finished:  # meanwhile, by one that has lost patience: the part has put the folder back
                self.forget()
                return True
        self.own.add(shard.name)
        return True

    def forget(self) -> None:
        """Remove the parts of a finished stage."""
        self.folder.forget_shards(self.name, self.key)

    def _path(self, shard: Shard) -> Path:
        return self.place / f"{shard.name}.parquet"

    def _read(self, shard: Shard) -> tuple[pd.DataFrame, float] | None:
        """Return a part and the seconds that it took. One of another process that cannot be read is removed."""
        import pandas as pd

        try:
            frame = pd.read_parquet(self._path(shard))
        except (OSError, ValueError):
            if shard.name in self.own:
                raise
            self._path(shard).unlink(missing_ok=True)
            return None
        return frame, float(frame.attrs.pop("seconds", 0.0))

    @contextmanager
    def _claim(self, shard: Shard) -> Iterator[bool]:
        """Say whether the part is this process's to make. The system releases the claim of one that is killed."""
        lock = FileLock(self.place / f"{shard.name}.lock")
        try:
            with locking(self.place):
                lock.acquire(timeout=0)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()


def offer(folder: RunFolder, stages: Mapping[str, str]) -> str:
    """Say which stages of a run, name: key, are to be made: others may make parts of them. Returns this offer's mark.

    No other offer has it: who is told the mark and finds it looks into the same folder, not into one called alike.
    """
    mark = f"{os.getpid()}-{time.time_ns()}"
    write_json(_note(folder), {"stages": dict(stages), "mark": mark})
    return mark


def offered(folder: RunFolder) -> dict[str, str]:
    """Return the stages that are to be made, name: key; {} where the run is not being made, or done."""
    try:
        return read_json(_note(folder))["stages"]
    except UsageError:
        return {}


def mark_of(folder: RunFolder) -> str:
    """Return the mark of the offer of a run; empty where nothing is offered."""
    try:
        return read_json(_note(folder)).get("mark", "")
    except UsageError:
        return ""


def withdraw(folder: RunFolder) -> None:
    """Say that nobody need assist the run any more."""
    _note(folder).unlink(missing_ok=True)


def _note(folder: RunFolder) -> Path:
    return folder.folder / "evaluations" / ".shared.json"
