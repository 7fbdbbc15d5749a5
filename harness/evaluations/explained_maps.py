"""Heat maps of images for the evaluations that score them: by the model that did not see the image, seeded by name."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable
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
    names = zip(index.ids(positions), target.tolist(), strict=True)
    return torch.tensor([seed_for(0, i, index.classes[c], *purpose) for i, c in names], dtype=torch.long)


class Remembered:
    """An explainer that keeps its maps: what was explained to be scored is not explained again to be shown.

    Some maps take minutes. An image is known by its pixels, its class and its seed.
    """

    def __init__(self, explainer: Any, packed: Iterable[bytes] = ()):
        """Keep the maps that others have `packed`, and those that are to come."""
        self.explainer = explainer
        self.maps: dict[tuple[str, int, int], Tensor] = {}
        for content in filter(None, packed):
            with np.load(io.BytesIO(content)) as found:
                names = zip(found["images"].tolist(), found["classes"].tolist(), found["seeds"].tolist(), strict=True)
                self.maps |= dict(zip(names, torch.from_numpy(found["heats"]), strict=True))

    def __call__(self, model: Any, x: Tensor, target: Tensor, *, seeds: Tensor) -> Explanation:
        """Return heat (B,h,w) for images x (B,C,H,W): kept ones, at no passes, where all of the batch are known."""
        names = [
            (hashlib.sha256(image.contiguous().numpy().tobytes()).hexdigest(), int(c), int(s))
            for image, c, s in zip(x.cpu(), target, seeds, strict=True)
        ]
        if all(name in self.maps for name in names):
            return Explanation(torch.stack([self.maps[name] for name in names]).to(x.device))
        found = self.explainer(model, x, target, seeds=seeds)
        self.maps |= dict(zip(names, found.heat.cpu(), strict=True))
        return found

    def packed(self) -> bytes:
        """Return the maps that are kept, for another process."""
        images, classes, seeds = zip(*self.maps, strict=True)
        buffer = io.BytesIO()
        heats = torch.stack(list(self.maps.values())).numpy()
        np.savez(buffer, images=np.array(images), classes=np.array(classes), seeds=np.array(seeds), heats=heats)
        return buffer.getvalue()


def explain(subject: Subject, explainer: Any, batch: Batch, target: Tensor) -> Explanation:
    """Return the explanation of each image's class `target` (B,), heat (B,h,w), by the model that scores the image.

    Passes are the mean over the images.
    """
    seeds = seeds_of(subject, batch.index.numpy(), target)
    found: list[Explanation] = []
    order: list[NDArray[np.int64]] = []
    for model, rows in subject.shares(batch.index.numpy()):
        with subject.room:
            found.append(explainer(model, batch.x[rows], target[rows], seeds=seeds[rows]))
            order.append(rows)
    heat = torch.cat([e.heat.float() for e in found])[np.argsort(np.concatenate(order))]
    sizes = [len(rows) for rows in order]
    forwards = float(np.average([e.forwards for e in found], weights=sizes))
    backwards = float(np.average([e.backwards for e in found], weights=sizes))
    return Explanation(heat, forwards, backwards)
