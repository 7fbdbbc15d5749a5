"""Text in columns for a terminal: as rich lays out a table without lines, in a hundredth of its time for many rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

GAP = 2  # cells between two columns; one before the first and after the last


def grid(head: Sequence[str], rows: Sequence[Sequence[str]], width: int, whole: int = 0) -> str:
    """Return head and rows in columns of at most `width` cells together; too long texts are folded.

    Column `whole` is never folded. A text may hold line ends, and characters that take two cells.
    """
    cells = list(zip(head, *rows, strict=True))
    room = width - GAP * len(head)
    widths = _narrowed([min(max(map(_longest, column)), width - GAP) for column in cells], room, whole)
    lines = [line for row in (head, *rows) for line in _lines(row, widths)]
    return "\n".join(lines)


def _narrowed(widths: list[int], room: int, whole: int) -> list[int]:
    """Return the widths of columns, the widest taken from first until they fit; `rich.table` narrows them so."""
    found = list(widths)
    others = [i for i in range(len(found)) if i != whole]
    while others and (excess := sum(found) - room) > 0:
        widest = max(found[i] for i in others)
        if widest <= 1:
            break
        top = [i for i in others if found[i] == widest]
        step = widest - max((found[i] for i in others if found[i] < widest), default=1)
        for left, i in zip(range(len(top), 0, -1), top, strict=True):
            taken = min(step, round(excess / left))
            found[i] -= taken
            excess -= taken
    return found


def _lines(row: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    if all(text.isascii() and "\n" not in text and len(text) <= w for text, w in zip(row, widths, strict=True)):
        yield f" {'  '.join(map(str.ljust, row, widths))} "
        return
    parts = [_folded(text, w) for text, w in zip(row, widths, strict=True)]
    for i in range(max(map(len, parts))):
        shown = (part[i] if i < len(part) else "" for part in parts)
        yield f" {'  '.join(t + ' ' * (w - cell_len(t)) for t, w in zip(shown, widths, strict=True))} "


def _longest(text: str) -> int:
    if text.isascii() and "\n" not in text:
        return len(text)
    return max(map(cell_len, text.split("\n")))


@lru_cache(4096)  # many runs have the same evaluations
def _folded(text: str, width: int) -> list[str]:
    """Return a text in lines of at most `width` cells."""
    if all(len(line) <= width for line in text.split("\n")) and text.isascii():
        return text.split("\n")
    return [line.plain.rstrip() for line in Text(text).wrap(Console(width=width), width, overflow="fold")]
