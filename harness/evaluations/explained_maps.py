"""Heat maps of images for the evaluations that score them: by the model that did not see the image, seeded by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.evaluations.subject import Subject
from harness.rng import seed_for
from harness.types import Batch, Explanation


def seeds_of(subject: Subject, positions: NDArray[np.int64], target: Tensor, *purpose: str) -> Tensor:
    """Return a seed for each sample at `positions` and its class `target` (B,), (B,) long.

    From the sample's name, not from the run: reference maps are the same for every run.
    """
    index = subject.prepared.index
    names = zip(index.samples["id"].to_numpy(str)[positions], target.tolist(), strict=True)
    return torch.tensor([seed_for(0, i, index.classes[c], *purpose) for i, c in names], dtype=torch.long)


def explain(subject: Subject, explainer: Any, batch: Batch, target: Tensor) -> Explanation:
    """Return the explanation of each image's class `target` (B,), heat (B,h,w), by the model that scores the image.

    Passes are the mean over the images.
    """
    seeds = seeds_of(subject, batch.index.numpy(), target)
    found: list[Explanation] = []
    order: list[NDArray[np.int64]] = []
    for model, rows in subject.shares(batch.index.numpy()):
        found.append(explainer(model, batch.x[rows], target[rows], seeds=seeds[rows]))
        order.append(rows)
    heat = torch.cat([e.heat.float() for e in found])[np.argsort(np.concatenate(order))]
    sizes = [len(rows) for rows in order]
    forwards = float(np.average([e.forwards for e in found], weights=sizes))
    backwards = float(np.average([e.backwards for e in found], weights=sizes))
    return Explanation(heat, forwards, backwards)
