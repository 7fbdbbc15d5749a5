"""Files that a dataset's publisher offers at a public address: fetched once, resumed, checked, and then unpacked.

A file is fetched as <name>.part and takes its name when its sum is the published one, so that nothing unchecked is ever
opened. `.downloads.json` in the dataset's folder says which archives have been unpacked; those are removed.
"""

from __future__ import annotations

import errno
import http.client
import os
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from harness.data.files import digest_of
from harness.data.unpacking import unpack
from harness.errors import UsageError
from harness.store import read_json, write_json, writing

BLOCK = 2**18  # bytes read at once
WAITS = (1.0, 2.0, 4.0, 8.0, 16.0)  # seconds before each new try; all of them anew once bytes have come
TIMEOUT = 60.0  # seconds without a byte
PASSING = (408, 425, 429, 500, 502, 503, 504)  # states of HTTP that may pass by themselves
OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)  # ours
RECORD = ".downloads.json"
ELSEWHERE = "Choose another folder by --root."

Progress = Callable[[str, int, int], None]  # file, bytes done, bytes in all (0: not known)


@dataclass(frozen=True)
class Download:
    """One file of a dataset that can be fetched without registration, and what its bytes must be."""

    address: str
    file: str  # its name in the dataset's folder
    sum: str  # hex digits, as published
    algorithm: str = "md5"
    size: int | None = None  # bytes; None: not published
    unpack: str | None = None  # folder below the dataset's to unpack it into, "." for that itself; None: it is kept
    inside: str = ""  # the archive's own outer folder, which is left out of the names
    unpacked: int | None = None  # bytes that it may take unpacked; None: unpacking.LARGER times its own


@dataclass(frozen=True)
class Fetcher:
    """Where files go, and what to say when they cannot be had."""

    folder: Path
    by_hand: str  # the exact steps to get the dataset without this
    progress: Progress = lambda *_: None

    def missing(self, downloads: Sequence[Download]) -> list[Download]:
        """Return those that are neither unpacked nor kept in the folder already."""
        record = self._record()
        return [
            d for d in downloads
            if record.get(d.file) != d.sum and not (d.unpack is None and self._whole(d, self.folder / d.file))
        ]  # fmt: skip

    def fetch(self, downloads: Sequence[Download]) -> list[str]:
        """Fetch, check and unpack what is missing; return the names of those files.

        Raises `UsageError` for too little disk, a server that cannot be reached or sends something else, a wrong sum,
        and archives with entries that do not belong into the folder.
        """
        with writing(self.folder, ELSEWHERE):
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / ".downloads.lock"):
                missing = self.missing(downloads)
                self._room(missing)
                for download in missing:
                    self._one(download)
        return [d.file for d in missing]

    def _one(self, download: Download) -> None:
        place = self.folder / download.file
        if not self._whole(download, place):  # an archive that lies there already, fetched by hand say
            _aside(place)
            self._get(download, place)
        if download.unpack is not None:
            unpack(place, self.folder / download.unpack, inside=download.inside, allowed=download.unpacked)
            write_json(self.folder / RECORD, self._record() | {download.file: download.sum})
            place.unlink()

    def _whole(self, download: Download, path: Path) -> bool:
        if not path.is_file() or download.size not in (None, path.stat().st_size):
            return False
        return digest_of(path, download.algorithm) == download.sum.lower()

    def _record(self) -> dict[str, str]:
        path = self.folder / RECORD
        found = read_json(path, "Remove it.") if path.exists() else {}
        return found if isinstance(found, dict) else {}

    def _room(self, missing: Sequence[Download]) -> None:
        """Raise `UsageError` where the disk has no room for all of it, unpacked, and the largest archive beside it."""
        ends = sum((d.unpacked if d.unpack is not None and d.unpacked else d.size) or 0 for d in missing)
        largest = max((d.size or 0 for d in missing if d.unpack is not None), default=0)
        needed = ends + largest - sum(_length(_part(self.folder / d.file)) for d in missing)
        free = shutil.disk_usage(self.folder).free
        if free < needed * 1.02:
            raise UsageError(
                f"{self.folder}: what is to be fetched needs {needed / 1e9:.1f} GB with room to unpack it, "
                f"{free / 1e9:.1f} GB are free. Free some space, or choose another folder by --root."
            )

    def _get(self, download: Download, place: Path) -> None:
        """Fetch one file, going on where an earlier try stopped, and give it its name if it is the published one."""
        part = _part(place)
        resumed = part.exists()
        while True:
            self._complete(download, part)
            if self._whole(download, part):
                os.replace(part, place)
                _state(part).unlink(missing_ok=True)
                return
            got, size = digest_of(part, download.algorithm), _length(part)
            _forget(part)
            if not resumed:
                raise UsageError(
                    f"{download.address}: {size:,} bytes came with the {download.algorithm} {got}; expected "
                    f"{_expected(download)} as published. What came was removed. Try again later; the address may "
                    f"offer another file by now. By hand:\n{self.by_hand}"
                )
            resumed = False  # its parts may be of two files: once from the beginning

    def _complete(self, download: Download, part: Path) -> None:
        """Fetch until the file is as long as the server says, over as many connections as it takes."""
        waits = list(WAITS)
        while True:
            before = _length(part)
            try:
                if self._connection(download, part):
                    return
                problem = "the connection broke"
            except urllib.error.HTTPError as error:
                problem = f"the server says {error.code} {error.reason}"
                if error.code not in PASSING:
                    raise self._unreachable(download, problem) from None
            except (OSError, http.client.HTTPException) as error:
                if isinstance(error, OSError) and error.errno in OF_THE_DISK:
                    raise
                reason = getattr(error, "reason", error)
                problem = str(reason) or type(reason).__name__
            if _length(part) > before:
                waits = list(WAITS)
            if not waits:
                raise self._unreachable(download, problem)
            time.sleep(waits.pop(0))

    def _unreachable(self, download: Download, problem: str) -> UsageError:
        return UsageError(
            f"{download.address}: cannot be fetched ({problem}). What came is kept: the same command goes on. Without "
            f"a connection, or if the address has moved, by hand:\n{self.by_hand}"
        )

    def _connection(self, download: Download, part: Path) -> bool:
        """Fetch over one connection what is missing of `part`; return whether it is now whole."""
        have, known = _length(part), _known(_state(part))
        if have and known.get("address") != download.address:
            have, known = 0, {}
        if have and known.get("total") == have:
            return True
        request = urllib.request.Request(download.address, headers={"User-Agent": "harness"})
        if have:
            request.add_header("Range", f"bytes={have}-")
            if known.get("validator"):
                request.add_header("If-Range", known["validator"])  # a file that has changed comes whole
        try:
            response = _opener().open(request, timeout=TIMEOUT)
        except urllib.error.HTTPError as error:
            if error.code == 416 and have:  # nothing is left to send, or it is another file: its sum will tell
                if _total(error.headers.get("Content-Range")) != have:
                    _forget(part)
                return part.exists()
            raise
        with response:
            start, total = self._answer(download, response, have)
            validator = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
            if validator.startswith("W/"):
                validator = response.headers.get("Last-Modified") or ""
            write_json(_state(part), {"address": download.address, "validator": validator, "total": total})
            with part.open("r+b" if start else "wb") as file:
                file.seek(start)
                file.truncate()
                at, most = start, min((n for n in (total, download.size) if n is not None), default=None)
                while block := response.read(BLOCK):
                    at += len(block)
                    if most is not None and at > most:
                        raise self._other(download, f"more than {most:,} bytes came")
                    file.write(block)
                    self.progress(download.file, at, total or download.size or 0)
        if total is None:
            total = at
            write_json(_state(part), {"address": download.address, "validator": validator, "total": total})
        return at == total

    def _answer(self, download: Download, response: Any, have: int) -> tuple[int, int | None]:
        """Return where the bytes that follow belong, and how long the file is; `UsageError`: it is not the file."""
        kind = response.headers.get_content_type()
        if kind == "text/html" and not download.file.endswith((".html", ".htm")):
            raise self._other(download, "a page (HTML) came instead of the file")
        length = response.headers.get("Content-Length")
        whole = int(length) if length and length.isdigit() else None
        start, total = 0, whole
        if response.status == 206:
            sent = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
            if not sent or int(sent[1]) != have:
                raise self._other(download, f"bytes from {have:,} on were asked for, {sent[1] if sent else '?'} came")
            start = have
            total = int(sent[2]) if sent[2].isdigit() else None if whole is None else have + whole
        if total is not None and download.size is not None and total != download.size:
            raise self._other(download, f"the server offers {total:,} bytes, expected {download.size:,}")
        return start, total

    def _other(self, download: Download, what: str) -> UsageError:
        _forget(_part(self.folder / download.file))
        return UsageError(f"{download.address}: {what}. Try again later, or get it by hand:\n{self.by_hand}")


def _opener() -> urllib.request.OpenerDirector:
    """Return what opens addresses: http and https, through the proxies of the environment; no files, no FTP."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(), urllib.request.UnknownHandler(), urllib.request.HTTPHandler(),
        urllib.request.HTTPDefaultErrorHandler(), urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPErrorProcessor(), urllib.request.HTTPSHandler(),
    ):  # fmt: skip
        opener.add_handler(handler)
    return opener


def _expected(download: Download) -> str:
    return f"{download.sum}" + (f" and {download.size:,} bytes" if download.size is not None else "")


def _part(place: Path) -> Path:
    return place.with_name(f"{place.name}.part")


def _state(part: Path) -> Path:
    return part.with_name(f".{part.name}.json")


def _known(state: Path) -> dict[str, Any]:
    """Return what is known of a file that is partly there; {} where that is damaged: then from the beginning."""
    try:
        found = read_json(state)
    except UsageError:
        return {}
    return found if isinstance(found, dict) else {}


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _state(part).unlink(missing_ok=True)


def _aside(place: Path) -> None:
    """Keep a file of the same name that is not the published one, out of the way."""
    if place.exists():
        os.replace(place, place.with_name(f"{place.name}.other"))


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _total(content_range: str | None) -> int:
    found = re.fullmatch(r"bytes \*/(\d+)", content_range or "")
    return int(found[1]) if found else -1
