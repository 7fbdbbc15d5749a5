"""Small disks of their own, for tests of full and read-only ones."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Disk:
    """A mounted file system in memory."""

    place: Path

    @property
    def free(self) -> int:
        """Return its free bytes."""
        return shutil.disk_usage(self.place).free

    def fill(self, leave: int = 0) -> None:
        """Take all of its room but `leave` bytes, in a file called ballast."""
        with (self.place / "ballast").open("ab") as file:
            file.write(bytes(max(0, self.free - leave)))

    def empty(self) -> None:
        """Give the room back."""
        (self.place / "ballast").unlink()

    def read_only(self, yes: bool = True) -> None:
        """Let nothing be written, or again."""
        subprocess.run(["mount", "-o", f"remount,{'ro' if yes else 'rw'}", str(self.place)], check=True)


@contextmanager
def small_disk(place: Path, kilobytes: int) -> Iterator[Disk]:
    """Mount a disk of so many kilobytes; skip the test where that is not permitted."""
    place.mkdir()
    try:
        command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(place)]
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        pytest.skip(f"no small disk can be mounted: {error}")
    if done.returncode:
        pytest.skip(f"no small disk can be mounted: {done.stderr.strip()}")
    try:
        yield Disk(place)
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)
