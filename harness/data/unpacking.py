"""Archives of others, unpacked so that nothing lands outside their folder: tar (gz, bz2, xz) and zip.

Only files and folders below the target are taken. An absolute name, "..", a link, a device, a password, or more bytes
than are allowed make the whole archive refused. All of it is written beside the target first, so a file that is seen
there is whole.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import IO

from harness.errors import UsageError

LARGER = 20  # times as large as the archive may its content be, where the dataset does not say
LEAST = 2**20  # bytes that any archive may hold
ENTRIES = 5_000_000  # at most
BLOCK = 2**20  # bytes read at once


class Refused(Exception):
    """An entry that does not belong into the target; the message says which and why."""


def unpack(archive: Path, target: Path, *, inside: str = "", allowed: int | None = None) -> None:
    """Unpack `archive` into the folder `target`, beside what is there already; a file of the same name is replaced.

    inside: the archive's own outer folder, left out of the names; everything has to be in it.
    allowed: bytes it may take unpacked; None: LARGER times its own.
    Raises `UsageError` for an archive that is damaged, or that holds what no dataset needs; nothing of it is kept.
    """
    limit = max(LEAST, LARGER * archive.stat().st_size) if allowed is None else allowed
    work = archive.with_name(f".{archive.name}.unpacking")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    try:
        _write(archive, work, inside, limit)
        _move(work, target)
    except Refused as why:
        raise UsageError(
            f"{archive}: {why}. It was not unpacked. Remove it, and fetch it again from its own source."
        ) from None
    # NotImplementedError: zipfile says so of a compression or version that it does not know
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, NotImplementedError, UnicodeError) as error:
        raise UsageError(f"{archive}: cannot be unpacked ({error}). Remove it, and fetch it again.") from None
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _write(archive: Path, work: Path, inside: str, limit: int) -> None:
    zipped = zipfile.is_zipfile(archive)
    taken = 0
    for number, (name, source) in enumerate(_of_zip(archive) if zipped else _of_tar(archive), 1):
        if number > ENTRIES:
            raise Refused(f"it has more than {ENTRIES:,} entries")
        relative = _relative(name, inside)
        if source is None or not relative.parts:
            (work / relative).mkdir(parents=True, exist_ok=True)
            continue
        place = work / relative
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            with place.open("xb") as file:
                while block := source.read(BLOCK):
                    taken += len(block)
                    if taken > limit:
                        raise Refused(f"unpacked it would take more than {limit:,} bytes")
                    file.write(block)
        except (FileExistsError, NotADirectoryError):
            raise Refused(f"it has two entries called {name!r}") from None


def _of_tar(archive: Path) -> Iterator[tuple[str, IO[bytes] | None]]:
    """Yield name and content of each entry, None for a folder; each is to be read before the next."""
    with tarfile.open(archive, "r|*") as tar:
        for member in tar:
            if not (member.isreg() or member.isdir()):
                what = "a link" if member.islnk() or member.issym() else "a device or a pipe"
                raise Refused(f"{member.name!r} is {what}")
            _relative(member.name, "")
            try:
                tarfile.data_filter(member, str(archive.parent))
            except tarfile.FilterError as error:
                raise Refused(str(error)) from None
            yield member.name, tar.extractfile(member)


def _of_zip(archive: Path) -> Iterator[tuple[str, IO[bytes] | None]]:
    with zipfile.ZipFile(archive) as content:
        for entry in content.infolist():
            kind = stat.S_IFMT(entry.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise Refused(f"{entry.filename!r} is {'a link' if kind == stat.S_IFLNK else 'a device or a pipe'}")
            if entry.flag_bits & 1:
                raise Refused(f"{entry.filename!r} is locked by a password")
            if entry.is_dir():
                yield entry.orig_filename, None
                continue
            with closing(content.open(entry)) as source:
                yield entry.orig_filename, source


def _relative(name: str, inside: str) -> PurePosixPath:
    """Return where an entry goes, below the target. `Refused`: its name leads elsewhere."""
    path = PurePosixPath(name)
    if path.is_absolute() or re.match(r"[A-Za-z]:", name) or "\\" in name:
        raise Refused(f"{name!r} is an absolute name, or one of another system")
    if ".." in path.parts or "\0" in name or len(name) > 1000:
        raise Refused(f"{name!r} leads out of the folder")
    if not inside:
        return path
    if not path.parts or path == PurePosixPath(inside):
        return PurePosixPath()
    if not path.is_relative_to(inside):
        raise Refused(f"{name!r} is not in {inside}/, where all of it was expected")
    return path.relative_to(inside)


def _move(work: Path, target: Path) -> None:
    """Give what was unpacked its place: in one step where nothing is there, else file by file."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        os.replace(work, target)
        return
    for place, _, names in os.walk(work):
        folder = target / Path(place).relative_to(work)
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            os.replace(Path(place, name), folder / name)
