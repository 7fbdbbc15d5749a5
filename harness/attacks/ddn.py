"""Decoupling direction and norm (Rony et al. 2019, arXiv:1811.09600): a small L2 perturbation in tens of passes."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from harness.attacks.goals import Goal
from harness.attacks.minimal import Found, Record, from_the_start, look
from harness.errors import UsageError
from harness.plugins import attack


@attack("ddn", source="Rony 2019, arXiv:1811.09600, algorithm 1", finds="minimal")
def ddn(
    model: nn.Module, x: Tensor, goal: Goal, *, steps: int = 50, first_radius: float = 1.0, gamma: float = 0.05
) -> Found:
    """Return the smallest perturbation seen that reaches the goal, for images x (B,C,H,W) in [0,1].

    The direction follows the goal's margin downwards by steps whose L2 length falls from 1 to 0.01 by a cosine; the
    radius (L2, `first_radius` at the start) shrinks by `gamma` where the goal is reached and grows by it where not.
    The paper climbs the cross-entropy; the margin serves every goal and does not vanish where the model is sure. The
    moved image is clipped to [0,1]. Images that reach the goal as they are cost one pass.
    """
    if steps < 1:
        raise UsageError(f"steps: expected at least 1, got {steps}.")

    def search(x: Tensor, goal: Goal) -> Record:
        return _search(model, x, goal, steps, first_radius, gamma)

    return from_the_start(model, x, goal, search, cost=steps + 1)


def _length(values: Tensor) -> Tensor:
    """Return the L2 length of each image, (B,1,1,1), at least the smallest normal float."""
    peak = values.abs().flatten(1).amax(1).clamp(min=torch.finfo(values.dtype).tiny).view(-1, 1, 1, 1)
    return peak * (values / peak).flatten(1).norm(dim=1).view(-1, 1, 1, 1).clamp(min=torch.finfo(values.dtype).tiny)


def _search(model: nn.Module, x: Tensor, goal: Goal, steps: int, first_radius: float, gamma: float) -> Record:
    record, direction = Record(x), torch.zeros_like(x)
    radius = x.new_full((len(x), 1, 1, 1), first_radius)
    moved = x
    for step in range(steps + 1):
        gradient, reached = look(model, moved, goal, "margin")
        record.see(moved - x, reached, step)
        alpha = 0.01 + 0.99 * (1 + math.cos(math.pi * step / steps)) / 2
        direction = direction - alpha * gradient / _length(gradient)
        radius = radius * torch.where(reached.view(-1, 1, 1, 1), 1 - gamma, 1 + gamma)
        moved = (x + radius * direction / _length(direction)).clamp(0, 1)
        direction = moved - x
    return record
