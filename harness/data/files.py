"""Folders and files of a dataset as downloaded: which are there, and whether they are the published ones."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from harness.errors import UsageError

IMAGES = (".png", ".jpg", ".jpeg")  # in any case; what a file holds is told by its content
BLOCK = 2**20  # bytes read at once


def files_in(folder: Path, suffixes: tuple[str, ...] = IMAGES, *, advice: str) -> list[str]:
    """Return the names of the files in a folder that end in one of `suffixes`, sorted; hidden ones are left out.

    Raises `UsageError` with the `advice` where the folder is missing, is no folder, or may not be read.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted(
                e.name for e in entries
                if e.name.lower().endswith(suffixes) and not e.name.startswith(".") and e.is_file()
            )  # fmt: skip
    except OSError as error:
        raise UsageError(f"{folder}: cannot be read as a folder of images ({error.strerror}). {advice}") from None


def digest_of(path: Path, algorithm: str = "md5") -> str:
    """Return the hex digest of a file's bytes. `UsageError`: it cannot be read."""
    h = hashlib.new(algorithm, usedforsecurity=False)
    try:
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                h.update(block)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}). Fetch it again.") from None
    return h.hexdigest()


def against(root: Path, md5: Mapping[str, str]) -> dict[str, str]:
    """Return for each file of `md5` (name -> sum) that is below root: "as published" or "differs"."""
    return {
        name: "as published" if digest_of(root / name) == right else "differs"
        for name, right in md5.items()
        if (root / name).is_file()
    }
