"""Published figures beside a board's columns: which of them fit one, and under which conditions they were measured."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from harness.columns import MISSING, ColumnKey
from harness.report.boards import Board, Column
from harness.report.literature import Published, System

MARKS = {
    "seen": "read in the source itself",
    "seen-secondary": "quoted by another source; the original was not read",
    "seen-corrected": "read in the source itself, and corrected as the note says",
    "derived": "computed from what the source prints",
}


@dataclass(frozen=True)
class Beside:
    """A published system on a board: its figures by column, and the sources and conditions of these."""

    name: str
    figures: dict[ColumnKey, Published]

    @property
    def facts(self) -> dict[str, str]:
        """Return year, marks, sources, splits, protocols and notes of its figures on this board, each text once."""
        return System(self.name, list(self.figures.values())).facts()

    @property
    def source(self) -> str:
        """Return in one text where its figures come from, how they were read, and how they were measured."""
        facts = self.facts
        read = "; ".join(f"{m} ({MARKS[m]})" if m in MARKS else m for m in facts["mark"].split("; "))
        parts = (facts["source"], read and f"Mark: {read}", facts["split"] and f"Split: {facts['split']}",
                 facts["protocol"] and f"Measured otherwise: {facts['protocol']}", facts["note"])  # fmt: skip
        return ". ".join(p.rstrip(". ") for p in parts if p) + "."


def beside(board: Board, published: Sequence[Published], columns: Sequence[Column] | None = None) -> list[Beside]:
    """Return the published systems that have a figure for a column of the board, in the order of the file."""
    keys = [c.key for c in (board.columns if columns is None else columns)]
    found: dict[str, dict[ColumnKey, Published]] = {}
    for row in published:
        if row.dataset != board.key.dataset:
            continue
        for key in keys:
            if fits(row, key):
                found.setdefault(row.system, {}).setdefault(key, row)
    return [Beside(name, figures) for name, figures in found.items()]


def fits(row: Published, key: ColumnKey) -> bool:
    """Return whether a published figure is of a column's metric, class and threshold.

    A column of an explainer takes figures whose note or protocol names that explainer, and no others.
    """
    if (row.metric, row.class_name) != (key.metric, key.class_name) or key.variant:
        return False
    if (MISSING if row.threshold is None else row.threshold) != key.threshold:
        return False
    if key.radius != MISSING or key.resolution != MISSING:
        return False
    said = f"{row.note} {row.protocol} {row.measured} {row.setting}"
    return not key.explainer or bool(re.search(rf"\b{re.escape(key.explainer)}\b", said, re.IGNORECASE))
