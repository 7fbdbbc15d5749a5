"""What a person sees while work is done: progress on stderr, bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from harness.visible import visible

PLAIN_EVERY = 10.0  # seconds between two plain lines of one task

Update = Callable[[int, int, str], None]  # done, of, remark


class Reporter:
    """Progress on stderr; nothing at all when quiet."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.console = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)

    def note(self, text: str) -> None:
        """Print one line."""
        self.console.print(visible(text), markup=False)

    @contextmanager
    def task(self, label: str) -> Iterator[Update]:
        """Show the progress of one piece of work; the caller reports (done, of, remark)."""
        if self.console.is_terminal and not self.console.quiet:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
                       TextColumn("{task.fields[remark]}"))  # fmt: skip
            with Progress(*columns, console=self.console, transient=False) as bar:
                handle = bar.add_task(label, total=None, remark="")
                yield lambda done, of, remark="": bar.update(handle, completed=done, total=of, remark=remark)
            return
        last = time.monotonic()

        def plain(done: int, of: int, remark: str = "") -> None:
            nonlocal last
            if done >= of or time.monotonic() - last >= PLAIN_EVERY:
                self.note(f"{label}: {done}/{of}{'  ' + remark if remark else ''}")
                last = time.monotonic()

        yield plain


def rated(update: Update, unit: str = "images") -> Callable[[int, int], None]:
    """Return a progress function (done, of) that adds how many are done per second, and for how long there is work.

    Both are of what was done since its first call: what an earlier process has done costs nothing now.
    """
    began: list[tuple[int, float]] = []

    def report(done: int, of: int) -> None:
        now = time.monotonic()
        if not began:
            began.append((done, now))
        first, since = began[0]
        rate = (done - first) / max(now - since, 1e-9)
        left = f", {duration((of - done) / rate)} left" if rate and done < of else ""
        update(done, of, f"{rate:,.0f} {unit}/s{left}" if rate else "")

    return report


def plain(text: str) -> Text:
    """Return `text` for a cell of a table: neither rich's own markup nor what a terminal obeys is read in it."""
    return Text(visible(text, layout="\n"))


def duration(seconds: float) -> str:
    """Return seconds as a person says them.

    >>> duration(42.3), duration(312), duration(7300)
    ('42 s', '5 min 12 s', '2 h 1 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
