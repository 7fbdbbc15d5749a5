"""Files that others wrote: JSON, TOML, CSV and Parquet, read strictly. Damage of any kind is one `UsageError`.

Refused is what a strict reader elsewhere would refuse, or would understand differently: NaN and infinities, numbers
beyond 64 bits, a key given twice, text that no encoding can write. A file larger than any that harness writes is not
opened.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import math
import re
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from harness.errors import HarnessError, UsageError

if TYPE_CHECKING:
    import pandas as pd

LARGEST = 256 * 2**20  # bytes of a text file
MEMBER = 32 * 2**20  # characters of one member of a list that is read bit by bit
BLOCK = 2**20  # bytes read at once
CELLS = 10**9  # of a table; rows times columns
DEEPEST = 40  # levels of lists and objects
SPACES = re.compile(r"[ \t\n\r]*")
ESCAPED = re.compile(r"\\u[dD][89a-fA-F]")
SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]|\xed[\xa0-\xbf]")
AGAIN = "Remove its folder and run it again."


def read_json(path: Path, advice: str = AGAIN) -> Any:
    """Return the content of a JSON file; `UsageError` with the `advice` where it is missing, or not strict JSON."""
    return _json(_content(path, advice), str(path), advice)


def read_lines(path: Path, advice: str = AGAIN) -> list[Any]:
    """Return the content of a file that holds JSON in each of its lines."""
    lines = _content(path, advice).splitlines()
    return [_json(line, f"{path}, line {n}", advice) for n, line in enumerate(lines, 1)]


def read_members(path: Path, advice: str = AGAIN) -> Iterator[tuple[str, Any]]:
    """Yield name and member for every member of every list in a file that holds one JSON object, in its order.

    For files of any size: one member is held at a time. What is not in a list is read and passed over.
    """
    try:
        with path.open("rb") as file:
            yield from _Members(file).read()
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path}: cannot be read ({_said(error)}). {advice}") from None


class _Members:
    """The text of a file that is being read, as far as it is needed: what lies before `at` has been understood."""

    def __init__(self, file: IO[bytes]):
        self.file, self.text, self.at, self.ended = file, "", 0, False
        self.utf8 = codecs.getincrementaldecoder("utf-8")()
        self.json = json.JSONDecoder(
            object_pairs_hook=_once, parse_float=_finite, parse_int=_whole, parse_constant=_none
        )

    def read(self) -> Iterator[tuple[str, Any]]:
        names: set[str] = set()
        self.expect("{")
        more = not self.found("}")
        while more:
            name = self.value()
            if not isinstance(name, str) or name in names:
                raise ValueError(f"{name!r:.60} is no name, or given twice")
            names.add(name)
            self.expect(":")
            if not self.found("["):
                self.value()
            elif not self.found("]"):
                yield name, self.value()
                while self.found(","):
                    yield name, self.value()
                self.expect("]")
            more = self.found(",")
            if not more:
                self.expect("}")
        if self.next():
            raise ValueError(f"more text after its end: {self.next()!r}")

    def more(self) -> bool:
        """Read on; return whether there was anything."""
        content = self.file.read(max(BLOCK, len(self.text) - self.at))  # a long member is not tried in small steps
        self.text, self.at, self.ended = self.text[self.at :] + self.utf8.decode(content, not content), 0, not content
        return not self.ended

    def next(self) -> str:
        """Return the next character that is no space, "" at the end."""
        while True:
            self.at = SPACES.match(self.text, self.at).end()  # pyright: ignore[reportOptionalMemberAccess]
            if self.at < len(self.text) or not self.more():
                return self.text[self.at : self.at + 1]

    def found(self, mark: str) -> bool:
        """Return whether `mark` comes next, and step over it."""
        here = self.next() == mark
        self.at += here
        return here

    def expect(self, mark: str) -> None:
        if not self.found(mark):
            raise ValueError(f"expected {mark!r}, found {self.next() or 'its end: it is truncated'!r}")

    def value(self) -> Any:
        """Return the value that comes next."""
        self.next()
        while True:
            try:
                value, end = self.json.raw_decode(self.text, self.at)
            except json.JSONDecodeError as error:
                end, value = len(self.text), None
                if self.ended:
                    raise ValueError(f"{error.msg} before {self.text[error.pos :][:20]!r}") from None
            if end + 2 < len(self.text) or self.ended:  # a number at the end of what was read may go on: 1, 1e+, 1e+2
                break
            if len(self.text) - self.at > MEMBER:
                raise ValueError(f"a value of more than {MEMBER:,} characters")
            self.more()
        if ESCAPED.search(self.text, self.at, end):
            json.dumps(value, ensure_ascii=False).encode()  # half a surrogate is no text
        if _deeper(value, DEEPEST):
            raise ValueError(f"lists and objects in each other, more than {DEEPEST} deep")
        self.at = end
        return value


def read_toml(path: Path, name: str) -> dict[str, Any]:
    """Return the content of a TOML file; `name` is what messages call it."""
    try:
        if path.stat().st_size > LARGEST:
            raise UsageError(f"{name}: cannot be read ({path.stat().st_size:,} bytes). Give a file of settings.")
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{name}: cannot be read ({error.strerror}). Give a file that is there.") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{name}: not valid TOML ({_said(error)}). Mend it.") from None


def read_rows(path: Path, advice: str = AGAIN, *, delimiter: str = ",") -> list[tuple[int, list[str]]]:
    """Return line number and fields of every line of a CSV file that is not blank; fields are stripped of spaces.

    UTF-8, with or without a byte-order mark. With the delimiter " " several spaces are one.
    """
    try:
        text = _content(path, advice).decode("utf-8-sig")
        if "\0" in text:
            raise ValueError("it holds zero bytes, so it is no text")
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=delimiter == " ")
        rows = [(lines.line_num, [field.strip() for field in line]) for line in lines]
    except (ValueError, csv.Error) as error:
        raise UsageError(f"{path}: cannot be read as lines of fields ({_said(error)}). {advice}") from None
    return [(number, fields) for number, fields in rows if any(fields)]


def read_table(
    path: Path,
    advice: str = AGAIN,
    *,
    columns: Sequence[str] | None = None,
    filters: list[tuple[str, str, str]] | None = None,
    cells: int = CELLS,
) -> pd.DataFrame:
    """Return a Parquet file, or `columns` of it, as a frame; `UsageError` for a damaged one or more than `cells`."""
    import pandas as pd
    from pyarrow import parquet

    with understood(str(path), "cannot be read", advice):
        with parquet.ParquetFile(path) as file:
            told = file.metadata
        if told.num_rows * max(told.num_columns, 1) > cells:
            raise ValueError(f"{told.num_rows:,} rows of {told.num_columns:,} columns")
        frame = pd.read_parquet(path, columns=None if columns is None else list(columns), filters=filters)
        if frame.columns.has_duplicates or not all(isinstance(c, str) for c in frame.columns):
            raise ValueError("columns without a name, or two of one name")
        return frame


@contextmanager
def understood(place: str, what: str, advice: str) -> Iterator[None]:
    """Turn whatever goes wrong over content of others into one `UsageError`: `place: what (why). advice`.

    Usable as a decorator. What the readers of a library raise over a damaged file is not theirs to promise.
    """
    try:
        yield
    except (HarnessError, MemoryError):
        raise
    except Exception as error:
        raise UsageError(f"{place}: {what} ({_said(error)}). {advice}") from None


def _content(path: Path, advice: str) -> bytes:
    try:
        if not path.is_file():
            told = "expected a file, found something else" if path.exists() else "expected a file, nothing is there"
            raise UsageError(f"{path}: {told}. {advice}")
        if (size := path.stat().st_size) > LARGEST:
            raise UsageError(f"{path}: cannot be read ({size:,} bytes, expected {LARGEST:,} at most). {advice}")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read ({_said(error)}). {advice}") from None


def _json(content: bytes, place: str, advice: str) -> Any:
    try:
        found = json.loads(
            content, object_pairs_hook=_once, parse_float=_finite, parse_int=_whole, parse_constant=_none
        )
        if SURROGATE.search(content):
            json.dumps(found, ensure_ascii=False).encode()
        if _deeper(found, DEEPEST):
            raise ValueError(f"lists and objects in each other, more than {DEEPEST} deep")
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{place}: cannot be read ({_said(error)}). {advice}") from None
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(n for n in names if names.count(n) > 1)!r:.60} is given twice")
    return found


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text:.30} is beyond a number of 64 bits")
    return value


def _whole(text: str) -> int:
    if len(text) > 20 or abs(value := int(text)) >= 2**63:
        raise ValueError(f"{text:.30} is beyond a number of 64 bits")
    return value


def _none(text: str) -> Any:
    raise ValueError(f"{text} is no JSON: a missing number is null")


def _deeper(value: Any, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_deeper(x, levels - 1) for x in inner if isinstance(x, dict | list))


def _said(error: Exception) -> str:
    """Return an error in one line of bounded length."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, UnicodeError):
        return "not UTF-8 text"
    text = " ".join(str(error).split())
    return (text if len(text) <= 200 else f"{text[:200]}...") or type(error).__name__
