"""Per-sample scores on tensors, made in parts that are kept and may be shared among processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from harness.evaluations.subject import Subject
from harness.types import Batch

Scores = Mapping[str, Tensor]  # name -> (B,) or (B,C)


def in_parts(
    subject: Subject, positions: NDArray[np.int64], size: int, measure: Callable[[Batch, NDArray[np.int64]], Scores]
) -> dict[str, NDArray[np.float64]]:
    """Return what `measure` says of the samples at `positions`, `size` at a time, (n,C) each.

    It is given a batch and the numbers of its samples, 0..n-1. Parts that are done are kept if it is stopped.
    """
    feed = subject.feed(positions)

    def make(rows: NDArray[np.int64]) -> pd.DataFrame:
        columns: dict[str, Any] = {}
        for name, values in measure(feed.batch(rows), rows).items():
            for c, column in enumerate(values.reshape(len(rows), -1).double().cpu().numpy().T):
                columns[f"{name}|{c}"] = column
        return pd.DataFrame(columns)

    frame = subject.in_parts(len(positions), size, make)
    names = dict.fromkeys(c.partition("|")[0] for c in frame.columns)
    return {n: frame[[c for c in frame.columns if c.partition("|")[0] == n]].to_numpy(np.float64) for n in names}
