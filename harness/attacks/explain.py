"""Adversarial explanations: what an image would need to be more, or less, of a class (Woods 2019, eq. 2, explain+-).

The probability of the class is followed up (plus) or down (minus) as far as an RMSE of rho; beyond it the perturbation
shrinks, and so on, tick-tock.

variant "paper": the text. Images are clipped to [0,1], steps are those of Algorithm 1: of fixed length, by SGD with
momentum, and 2*delta where it shrinks. The text gives no number and length of steps for explanations and does not say
which perturbation is shown. Ours: the steps together are `overshoot` * rho long (Algorithm 1's on CIFAR-10: 4.5 * 0.1),
the model sees what is beyond rho scaled back to it, and of all that it saw the one that moved the class most is
returned: always in [0,1] and within rho. The gradient is that of the log odds, since scaled to one length it is the
gradient of the probability, but for a probability that has saturated.
variant "code": the authors' program. The cross-entropy is followed, directions are scaled to an RMSE of 1, steps fall
linearly and sum to `overshoot` * rho; no momentum, nothing is clipped, and the last perturbation is returned, which may
lie beyond rho.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from harness.attacks.adversaries import ascent, falling, unit
from harness.attacks.algorithm1 import nearly_unit
from harness.attacks.goals import BetterThanRandom, Flip, Goal
from harness.attacks.minimal import rmse
from harness.errors import UsageError
from harness.plugins import attack

Direction = Literal["plus", "minus"]
Variant = Literal["paper", "code"]
RATE = 0.01  # of SGD in Algorithm 1: the share of 2*delta by which a perturbation beyond rho shrinks


@dataclass(frozen=True)
class Explained:
    """What B images were changed by."""

    delta: Tensor  # (B,C,H,W)
    passes: int  # forward-and-backward passes spent on each image


def of_class(target: Tensor, *, exclusive: bool) -> Goal:
    """Return the goal whose margin is the log odds of each image's class `target` (B,), but for a constant.

    `exclusive`: one class rules the others out (softmax); else each class is a yes or no of its own (sigmoid).
    """
    if exclusive:
        return BetterThanRandom(target)
    return Flip(target, torch.ones_like(target), torch.zeros_like(target))


@attack("explain", source="Woods 2019, arXiv:1906.02494, eq. 2; variant=code: the authors' program")
def explain(
    model: nn.Module,
    x: Tensor,
    goal: Goal,
    *,
    rho: float,
    direction: Direction,
    variant: Variant = "paper",
    steps: int = 50,
    overshoot: float = 5.0,
    momentum: float = 0.9,
) -> Explained:
    """Return what raises or lowers the margin of `goal`, made by `of_class`, for images x (B,C,H,W) in [0,1].

    `rho` is an RMSE; `momentum` belongs to the paper's variant; the authors' program takes 35 steps. An image whose
    steps never reach rho keeps the best it was given. Raises `UsageError` for no steps, no length, or an unknown
    direction or variant.
    """
    if steps < 1:
        raise UsageError(f"steps: expected at least 1, got {steps}.")
    if not rho > 0 or not overshoot > 0:
        raise UsageError(f"rho and overshoot: expected lengths above 0, got {rho} and {overshoot}.")
    if direction not in ("plus", "minus"):
        raise UsageError(f"direction: expected 'plus' or 'minus', got {direction!r}.")
    if variant not in ("paper", "code"):
        raise UsageError(f"variant: expected 'paper' or 'code', got {variant!r}.")
    sign = 1 if direction == "plus" else -1
    if variant == "code":
        return Explained(_code(model, x, goal, sign, rho, [overshoot * rho * part for part in falling(steps)]), steps)
    return Explained(_paper(model, x, goal, sign, rho, overshoot * rho / steps, steps, momentum), steps)


def _paper(
    model: nn.Module, x: Tensor, goal: Goal, sign: int, rho: float, stride: float, steps: int, momentum: float
) -> Tensor:
    best, most = torch.zeros_like(x), x.new_full((len(x),), -torch.inf)
    arrived = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    delta, velocity = torch.zeros_like(x), torch.zeros_like(x)
    for _ in range(steps):
        inside = (x + delta).clamp(0, 1) - x
        size = rmse(inside)
        beyond, factor = (size > rho).view(-1, 1, 1, 1), (rho / size).view(-1, 1, 1, 1)
        inside = torch.where(beyond, inside * factor, inside)
        gradient, logits = ascent(model, (x + inside).clamp(0, 1), x, lambda y, _: goal.margin(y).sum())
        moved = sign * goal.margin(logits)
        there = (size > rho) & moved.isfinite()
        better = torch.where(there == arrived, moved > most, there)
        best = torch.where(better.view(-1, 1, 1, 1), inside, best)
        most = torch.where(better, moved, most)
        arrived |= there
        step = torch.where(beyond, -2 * RATE * delta, (1 - momentum) * stride * sign * unit(gradient))
        velocity = momentum * velocity + step
        delta = delta + velocity
    return best


def _code(model: nn.Module, x: Tensor, goal: Goal, sign: int, rho: float, lengths: list[float]) -> Tensor:
    delta = torch.zeros_like(x)
    for length in lengths:
        gradient, _ = ascent(model, x + delta, x, lambda y, _: goal.loss(y).sum())
        within = (rmse(delta) < rho).view(-1, 1, 1, 1)
        delta = delta + length * nearly_unit(torch.where(within, -sign * gradient, -delta))
    return delta
