"""Names from the store made safe for the place where they are shown: a file name, a Markdown cell, a chart label.

HTML needs nothing here: jinja2 escapes it. Nothing is ever dropped silently; a name that has to change gets a hash of
the original, so that two names never share a file.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

from harness.visible import visible

SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,119}")
DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # names Windows keeps for itself


def file_stem(name: str) -> str:
    """Return a file name for `name`, without a folder in it and without characters a URL has to quote.

    >>> file_stem("baseline-phantom-s0-1a2b"), file_stem("../../x")
    ('baseline-phantom-s0-1a2b', 'x-24f0e8ac')
    """
    if SAFE.fullmatch(name) and not DEVICES.fullmatch(name):
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    kept = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-_")[:60]
    return f"{kept}-{digest}" if kept else f"run-{digest}"


def file_stems(names: Iterable[str]) -> dict[str, str]:
    """Return name -> file stem; names that differ only in case get different files on every file system."""
    taken: set[str] = set()
    stems: dict[str, str] = {}
    for name in sorted(set(names)):
        stem = file_stem(name)
        if stem.casefold() in taken:
            stem = f"{stem}-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"
        taken.add(stem.casefold())
        stems[name] = stem
    return stems


def markdown_text(text: str) -> str:
    """Return `text` as it reads in one cell of a Markdown table: no column, line, link or HTML comes out of it.

    >>> markdown_text("a|b <i>c</i>")
    'a\\\\|b &lt;i&gt;c&lt;/i&gt;'
    """
    line = visible(" ".join(text.split()))
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~])", r"\\\1", line) if re.search(r"[\\`*\[\]|~]", line) else line


def chart_text(text: str) -> str:
    """Return `text` for plotly, whose labels read a small HTML of their own."""
    return visible(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
