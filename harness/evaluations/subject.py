"""What an evaluation is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.data.batches import Feed, feed
from harness.data.cache import Prepared
from harness.device import Compute
from harness.memory import Memory
from harness.metrics.cells import Metric
from harness.models.classifier import Classifier
from harness.shards import Progress, Shard, made_here
from harness.tasks import Task
from harness.types import Batch

PERMUTATION_SEED = 1776  # of the fixed order of a split; the authors' of Woods 2019


@dataclass(frozen=True)
class Subject:
    """The trained model of a run, or those of its folds, the data it is scored on, and how."""

    models: tuple[Classifier, ...]  # in eval mode, on the device; one for each fold of the split
    task: Task
    prepared: Prepared
    compute: Compute
    limit: int | None = None  # score only a prefix of the split's fixed order: every row is then marked partial
    profile: str = "quick"  # named set of evaluation sizes
    attacks: Mapping[str, Callable[..., Any]] = field(default_factory=dict)  # those that the evaluation asked for
    explainers: Mapping[str, Callable[..., Any]] = field(default_factory=dict)  # the run's, for one that compares them
    shards: Callable[[Sequence[Shard], Progress], list[pd.DataFrame]] = made_here  # in a run: kept, and shared
    memory_batch: int | None = None  # the user's bound on images at once; splits change no result beyond rounding
    memory: Memory = field(default_factory=Memory)  # without one: what has turned out to fit, the same for all of a run
    progress: Callable[[int, int], None] = lambda done, total: None

    @property
    def positions(self) -> NDArray[np.int64]:
        """Return the positions of the test samples, or of the part that `limit` leaves, (n,).

        In table order; of a cross-fitted split fold by fold, so that hardly a batch needs two models.
        """
        every, _ = self.prepared.index.scored()
        if self.limit is None:
            return every
        return every[np.sort(fixed_order(len(every))[: self.limit])]

    @cached_property
    def fold(self) -> NDArray[np.int8]:
        """Return for every sample of the table the fold whose model scores it, -1 for those that none does, (N,)."""
        found = np.full(len(self.prepared.index), -1, np.int8)
        positions, fold = self.prepared.index.scored()
        found[positions] = fold
        return found

    @cached_property
    def room(self) -> Memory:
        """Return how many images a network is shown at once."""
        return Memory(self.memory_batch, fixed=True) if self.memory_batch else self.memory

    def shares(self, positions: NDArray[np.int64]) -> Iterator[tuple[Classifier, NDArray[np.int64]]]:
        """Yield a model and which of the samples at `positions` (n,), numbered 0..n-1, it scores at once.

        Each sample is scored by the model of its fold, in parts that fit memory: what is done inside
        `with subject.room:` comes again, with fewer samples, where it has run out of it.
        """
        fold = self.fold[positions]
        for k in np.unique(fold):
            rows = np.flatnonzero(fold == k)
            for part in self.room.parts(len(rows)):
                yield self.models[k], rows[part]

    def feed(self, positions: NDArray[np.int64]) -> Feed:
        """Return the samples at `positions` as batches on the device."""
        return feed(self.prepared, positions, self.task, self.compute)

    def in_parts(self, count: int, size: int, make: Callable[[NDArray[np.int64]], pd.DataFrame]) -> pd.DataFrame:
        """Return what `make` says of the samples numbered 0..count-1, a line each, `size` of them at a time."""
        return pd.concat(self.parts(count, size, make), ignore_index=True)

    def parts(self, count: int, size: int, make: Callable[[NDArray[np.int64]], pd.DataFrame]) -> list[pd.DataFrame]:
        """Return what `make` says of `size` samples at a time, numbered 0..count-1, a frame each.

        It is given their numbers, from which alone its part must follow: parts are kept if the work is stopped, and
        several processes may share them, where the evaluation is registered with `parts=True`.
        """
        numbers = [np.arange(start, min(start + size, count)) for start in range(0, count, size)]
        shards = [Shard(f"{rows[0]:06d}", len(rows), partial(make, rows)) for rows in numbers]
        return self.shards(shards, self.progress)

    def kept(self, name: str, make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """Return what `make` says, once: it is kept under a name if the work is stopped."""
        return self.shards([Shard(name, 1, make)], lambda done, of: None)[0]

    @torch.no_grad()
    def logits(self, batch: Batch) -> Tensor:
        """Return the logits of one logical batch, (B,V) float32."""
        found: list[Tensor] = []
        order: list[NDArray[np.int64]] = []
        for model, rows in self.shares(batch.index.numpy()):
            with self.room, self.compute.autocast():
                found.append(model(batch.x[rows]).float())
                order.append(rows)
        return torch.cat(found)[np.argsort(np.concatenate(order))]

    @torch.no_grad()
    def logits_of(self, model: Classifier, batch: Batch) -> Tensor:
        """Return one model's logits of a batch, whichever fold its samples are of, (B,V) float32."""
        found: list[Tensor] = []
        for part in self.room.parts(len(batch)):
            with self.room, self.compute.autocast():
                found.append(model(batch.x[part]).float())
        return torch.cat(found)


def fixed_order(n: int) -> NDArray[np.int64]:
    """Return the one permutation of a split with n samples that every sampled evaluation takes its prefix from."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(PERMUTATION_SEED)).numpy()


def labelled(prepared: Prepared, count: int) -> NDArray[np.int64]:
    """Return the positions of the first `count` images of the fixed order that have a label, in table order."""
    every, _ = prepared.index.scored()
    order = fixed_order(len(every))
    return every[np.sort(order[prepared.index.labels[every[order]].any(1)][:count])]


@dataclass(frozen=True)
class Picture:
    """One entry of a gallery: arrays at input size, and what to say beside them."""

    entry: dict[str, Any]  # id, class_name, why, probability, positive, scores, boxes
    image: NDArray[np.uint8]  # (C,S,S)
    heat: NDArray[np.uint8] | None = None  # (S,S), 255 = most important
    overlay: bool = True  # draw the heat over the image as well (maps); else the heat alone says it (saliency)
    others: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)  # further pictures by kind, (C,S,S) each


@dataclass(frozen=True)
class Scored:
    """What an evaluation measured, before any statistics."""

    samples: pd.DataFrame
    pictures: list[Picture] = field(default_factory=list)
    passes: dict[str, float] = field(default_factory=dict)  # model passes per image: forward, backward
    flags: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)  # what else a reader should know; kept in stage.json


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
