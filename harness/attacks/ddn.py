"""Decoupling direction and norm (Rony et al. 2019, arXiv:1811.09600): a small L2 perturbation in tens of passes."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from harness.attacks.goals import Goal
from harness.attacks.minimal import Found, Record, from_the_start, look
from harness.errors import UsageError
from harness.plugins import attack


@attack("ddn", source="Rony 2019, arXiv:1811.09600, algorithm 1", finds="minimal", warm=True)
def ddn(
    model: nn.Module,
    x: Tensor,
    goal: Goal,
    start: Tensor | None = None,
    *,
    steps: int = 60,
    first_radius: float | None = None,
    gamma: float = 0.08,
    last_gamma: float = 0.001,
) -> Found:
    """A radius that shrinks and grows around the boundary: the smallest perturbation seen, for images x (B,C,H,W).

    Images lie in [0,1]. The direction follows the goal's margin downwards; the radius (L2, at first `first_radius`
    or, without it, how far the boundary is by the gradient) shrinks by `gamma` where the goal is reached and grows
    by it where not. The moved image is clipped to [0,1]. Images that reach the goal as they are cost one pass.
    `start` (B,C,H,W) holds what another attack has found, 0 where nothing: those images begin there.

    Departures from the paper: it climbs the cross-entropy, the margin serves every goal and does not vanish where the
    model is sure; its steps fall from an L2 length of 1 to 0.01, here from the whole radius to a hundredth of it, so
    that images near and far from their boundary are treated alike; its gamma is 0.05 throughout, here it falls by a
    cosine to `last_gamma`, without which the result is on average half of gamma too long; its first radius is 1 (both
    as in Pintor 2021, arXiv:2102.12827).
    """
    if steps < 1:
        raise UsageError(f"steps: expected at least 1, got {steps}.")
    first = torch.zeros_like(x) if start is None else start

    def search(rows: Tensor, goal: Goal) -> Record:
        return _search(model, x[rows], goal, first[rows], steps, first_radius, gamma, last_gamma)

    return from_the_start(model, x, goal, search, cost=steps + 2, steps=steps)


def _length(values: Tensor) -> Tensor:
    """Return the L2 length of each image, (B,1,1,1), at least the smallest normal float."""
    peak = values.abs().flatten(1).amax(1).clamp(min=torch.finfo(values.dtype).tiny).view(-1, 1, 1, 1)
    return peak * (values / peak).flatten(1).norm(dim=1).view(-1, 1, 1, 1).clamp(min=torch.finfo(values.dtype).tiny)


def _to_boundary(model: nn.Module, x: Tensor, goal: Goal) -> Tensor:
    """Return the L2 distance to the boundary of the linearised model, (B,1,1,1), at most that of black and white."""
    gradient, _ = look(model, x, goal, "margin")
    with torch.no_grad():
        margin = goal.margin(model(x)).view(-1, 1, 1, 1)
    return (margin.abs() / _length(gradient)).clamp(max=x[0].numel() ** 0.5)


def _search(
    model: nn.Module, x: Tensor, goal: Goal, start: Tensor, steps: int, first_radius: float | None,
    gamma: float, last_gamma: float,
) -> Record:  # fmt: skip
    record, direction = Record(x), start
    warm = start.flatten(1).any(1).view(-1, 1, 1, 1)
    radius = torch.where(warm, _length(start), _to_boundary(model, x, goal) if first_radius is None else first_radius)
    moved = (x + start).clamp(0, 1)
    for step in range(steps + 1):
        gradient, reached = look(model, moved, goal, "margin")
        record.see(moved - x, reached, step)
        falling = (1 + math.cos(math.pi * step / steps)) / 2
        share = 0.01 + 0.99 * falling
        change = last_gamma + (gamma - last_gamma) * falling
        direction = direction - share * radius * gradient / _length(gradient)
        radius = radius * torch.where(reached.view(-1, 1, 1, 1), 1 - change, 1 + change)
        moved = (x + radius * direction / _length(direction)).clamp(0, 1)
        direction = moved - x
    return record
