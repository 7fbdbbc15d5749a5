"""Tables of per-sample scores: what an evaluation measures once and every metric reads. What they have in common.

As a frame a table is one line per sample (or pair) with plain columns, so that samples.parquet can be read by any
program; constant columns hold what belongs to the whole table. Arrays are never changed after construction.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import UsageError


def require(condition: object, table: str, expected: str, got: object, advice: str) -> None:
    """Raise `UsageError` where a table is not as it must be."""
    if not condition:
        raise UsageError(f"{table}: expected {expected}, got {got}. {advice}")


def too_few(count: int, thing: str, minimum: int, where: str = "") -> str:
    """Return `7 positives, fewer than 20`, or "" where there are enough."""
    return f"{count} {thing}{'' if count == 1 else 's'}{where}, fewer than {minimum}" if count < minimum else ""


def rows_of_ids(ids: NDArray[Any], wanted: Iterable[str], table: str) -> list[NDArray[np.intp]]:
    """Return the rows of each wanted id, in table order; raises `UsageError` for one that is not there."""
    order = np.argsort(ids, kind="stable")
    names, start = np.unique(ids[order], return_index=True)
    rows = dict(zip(names.tolist(), np.split(order, start[1:]), strict=True)) if len(ids) else {}
    wanted = list(wanted)
    lost = [i for i in wanted if i not in rows]
    if lost:
        raise UsageError(
            f"{table}: {len(lost)} of {len(wanted)} ids are not in the table, the first is {lost[0]!r}. "
            f"Compare runs that scored the same samples."
        )
    return [rows[i] for i in wanted]
