"""What an evaluation is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.data.batches import Feed, feed
from harness.data.cache import Prepared
from harness.device import Compute
from harness.metrics.cells import Metric
from harness.models.classifier import Classifier
from harness.tasks import Task

PERMUTATION_SEED = 1776  # of the fixed order of a split; the authors' of Woods 2019


@dataclass(frozen=True)
class Subject:
    """A trained model, the data it is scored on, and how."""

    model: Classifier  # in eval mode, on the device
    task: Task
    prepared: Prepared
    compute: Compute
    split: str = "test"
    limit: int | None = None  # score only a prefix of the split's fixed order: every row is then marked partial
    memory_batch: int | None = None  # split logical batches to fit memory; changes no result beyond rounding
    progress: Callable[[int, int], None] = lambda done, total: None

    @property
    def positions(self) -> NDArray[np.int64]:
        """Return the positions of the split's samples in table order, or of the prefix that `limit` leaves, (n,)."""
        every = self.prepared.index.of_split(self.split)
        if self.limit is None:
            return every
        return np.sort(every[fixed_order(len(every))[: self.limit]])

    def feed(self, positions: NDArray[np.int64]) -> Feed:
        """Return the samples at `positions` as batches on the device."""
        return feed(self.prepared, positions, self.task, self.compute)

    @torch.no_grad()
    def logits(self, x: Tensor) -> Tensor:
        """Return the model's logits of one logical batch, (B,V) float32, in parts that fit memory."""
        parts = x.split(self.memory_batch or len(x))
        with self.compute.autocast():
            return torch.cat([self.model(part).float() for part in parts])


def fixed_order(n: int) -> NDArray[np.int64]:
    """Return the one permutation of a split with n samples that every sampled evaluation takes its prefix from."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(PERMUTATION_SEED)).numpy()


@dataclass(frozen=True)
class Picture:
    """One entry of a gallery: arrays at input size, and what to say beside them."""

    entry: dict[str, Any]  # id, class_name, why, probability, positive, scores, boxes
    image: NDArray[np.uint8]  # (C,S,S)
    heat: NDArray[np.uint8] | None = None  # (S,S), 255 = most important
    overlay: bool = True  # draw the heat over the image as well (maps); else the heat alone says it (saliency)


@dataclass(frozen=True)
class Scored:
    """What an evaluation measured, before any statistics."""

    samples: pd.DataFrame
    pictures: list[Picture] = field(default_factory=list)
    passes: dict[str, float] = field(default_factory=dict)  # model passes per image: forward, backward
    flags: tuple[str, ...] = ()


class Evaluation(Protocol):
    """The interface of an evaluation: score on tensors, then statistics on the stored scores."""

    def applies(self, prepared: Prepared) -> str:
        """Return why this evaluation cannot be run on the data, or the empty string."""
        ...

    def score(self, subject: Subject, explainer: Any = None) -> Scored:
        """Return per-sample scores; the only part that needs the model."""
        ...

    def summarise(self, samples: pd.DataFrame, extra: Sequence[Metric] = ()) -> list[dict[str, Any]]:
        """Return the fields of each row from the stored scores alone."""
        ...
