"""What every minimal-norm attack returns, and what they share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harness.attacks.goals import Goal


def rmse(delta: Tensor) -> Tensor:
    """Return sqrt(mean of delta^2) of each image, (B,C,H,W) to (B,)."""
    return delta.flatten(1).square().mean(1).sqrt()


@dataclass(frozen=True)
class Found:
    """The smallest perturbation found for each of B images."""

    delta: Tensor  # (B,C,H,W); 0 where the goal held at the start or was never reached
    rmse: Tensor  # (B,) of delta; infinite where the goal was never reached
    passes: Tensor  # (B,) forward-and-backward passes spent on each image, the last look included
    first: Tensor  # (B,) step at which the goal was first reached, 0 = at the start; -1 never
    late: Tensor  # (B,) bool: never reached, or after half of the steps: little was left to make it smaller


class Record:
    """Keeps the smallest perturbation that reached the goal, image by image, without looking at the device's values."""

    def __init__(self, x: Tensor):
        self.delta = torch.zeros_like(x)
        self.size = x.new_full((len(x),), torch.inf)
        self.first = torch.full((len(x),), -1, dtype=torch.long, device=x.device)

    def see(self, delta: Tensor, reached: Tensor, step: int) -> None:
        """Take note of perturbations (B,C,H,W) and where they reached the goal, (B,) bool."""
        size = rmse(delta)
        better = reached & (size < self.size)
        self.delta = torch.where(better.view(-1, 1, 1, 1), delta, self.delta)
        self.size = torch.where(better, size, self.size)
        self.first = torch.where(reached & (self.first < 0), step, self.first)


def look(model: nn.Module, x: Tensor, goal: Goal, objective: str) -> tuple[Tensor, Tensor]:
    """Return d objective/dx (B,C,H,W) and where the goal holds (B,); `objective` is "score", "loss" or "margin"."""
    with torch.enable_grad():
        leaf = x.detach().requires_grad_(True)
        logits = model(leaf)
        (gradient,) = torch.autograd.grad(getattr(goal, objective)(logits).sum(), leaf)
    return gradient.detach(), goal.reached(logits.detach())


def from_the_start(
    model: nn.Module, x: Tensor, goal: Goal, search: Callable[[Tensor, Goal], Record], cost: int, steps: int
) -> Found:
    """Return what `search` finds for the images that do not reach the goal as they are; the others cost one pass.

    `search` is given their positions and their goal; it spends `cost` passes on each, in `steps` steps.
    """
    with torch.no_grad():
        done = goal.reached(model(x))
    delta, size = torch.zeros_like(x), torch.where(done, 0.0, torch.inf).to(x.dtype)
    passes, first = torch.ones_like(done, dtype=torch.long), torch.where(done, 0, -1)
    rows = torch.nonzero(~done)[:, 0]
    if len(rows):
        record = search(rows, goal[rows])
        delta[rows], size[rows], first[rows] = record.delta, record.size, record.first
        passes[rows] += cost
    return Found(delta, size, passes, first, (first < 0) | (first > steps // 2))
