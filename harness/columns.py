"""Which numbers may stand beside each other: the keys of boards and columns, and of differences between results.

A board holds the rows of equal dataset, dataset settings, split, size, profile and protocol version, on the same data
(harness/report/boards.py); a column those of equal evaluation, evaluation settings, metric, explainer and its settings,
attack, variant, class, threshold, resolution and radius.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.rows import Row

MISSING = -1.0  # stands for None in keys, so that they can be sorted
UNRANKED = (  # variants that measure no merit of a run (protocol.md, 2 to 5), or on images that depend on it
    "chance", "at_half", "before", "after", "gain", "reached", "original", "blurred", "clean", "attacked",
)  # fmt: skip


@dataclass(frozen=True, order=True)
class BoardKey:
    """What all rows of a board share."""

    dataset: str
    dataset_settings: str
    split: str
    size: int
    profile: str
    protocol_version: int
    data: str = ""  # beginning of the data's fingerprint, where other data have the same name and settings

    def title(self) -> str:
        """Return the board's name: dataset, settings, split, size, profile, the protocol's version, the data."""
        settings = f" ({self.dataset_settings})" if self.dataset_settings else ""
        return (
            f"{self.dataset}{settings} · {self.split} · {self.size} px · {self.profile} · "
            f"protocol {self.protocol_version}" + (f" · data {self.data}" if self.data else "")
        )


@dataclass(frozen=True, order=True)
class ColumnKey:
    """What all cells of a column share, besides the board."""

    evaluation: str
    evaluation_settings: str
    metric: str
    explainer: str
    explainer_settings: str
    attack: str
    variant: str
    class_name: str
    threshold: float
    resolution: int
    radius: float

    @property
    def map(self) -> str:
        """Return the explainer with those of its settings that were changed: two of them are two maps."""
        return f"{self.explainer} ({self.explainer_settings})" if self.explainer_settings else self.explainer

    def details(self, *, with_explainer: bool = True) -> str:
        """Return what tells the column from others of the same metric, as text."""
        parts = [
            self.map if with_explainer else "",
            self.attack,
            self.variant,
            self.class_name,
            f"T {self.threshold:g}" if self.threshold != MISSING else "",
            f"{self.resolution}x{self.resolution}" if self.resolution != MISSING else "",
            f"radius {self.radius:g}" if self.radius != MISSING else "",
            self.evaluation_settings,
        ]
        return " · ".join(p for p in parts if p)

    def label(self) -> str:
        """Return metric and details in one line."""
        details = self.details()
        return f"{self.metric} ({details})" if details else self.metric


def board_key(row: Row) -> BoardKey:
    """Return the board a row belongs to."""
    return BoardKey(row.dataset, row.dataset_settings, row.split, row.size, row.profile, row.protocol_version)


def column_key(row: Row) -> ColumnKey:
    """Return the column a row belongs to."""
    return ColumnKey(
        row.evaluation,
        row.evaluation_settings,
        row.metric,
        row.explainer,
        row.explainer_settings,
        row.attack,
        row.variant,
        row.class_name,
        MISSING if row.threshold is None else row.threshold,
        int(MISSING) if row.resolution is None else row.resolution,
        MISSING if row.radius is None else row.radius,
    )
