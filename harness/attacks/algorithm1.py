"""Algorithm 1 of Woods et al. 2019 (arXiv:1906.02494): up to the boundary and back, 450 times.

variant "paper": the text. The image is clipped to [0,1]; the probability of the class is descended by steps whose
gradient has L2 length eta; where the goal is reached, twice the perturbation is descended instead; SGD with momentum.
variant "code": the authors' program. Nothing is clipped; the cross-entropy is climbed; both directions have an RMSE of
1 and are averaged (0.9 / 0.1); steps fall linearly and sum to an RMSE of `length`; one more look after the last step.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from harness.attacks.adversaries import falling, unit
from harness.attacks.goals import Goal
from harness.attacks.minimal import Found, Record, from_the_start, look, rmse
from harness.errors import UsageError
from harness.plugins import attack

TINY = 1e-8  # the authors' guard against a gradient of 0: it also shortens the first steps of a very sure network


def nearly_unit(direction: Tensor) -> Tensor:
    """Scale each image of (B,C,H,W) to an RMSE of 1, as the authors' program does: a tiny one stays short."""
    return direction / (TINY + rmse(direction).view(-1, 1, 1, 1))


@attack(
    "algorithm1",
    source="Woods 2019, arXiv:1906.02494, Algorithm 1; variant=code: the authors' program",
    finds="minimal",
)
def algorithm1(
    model: nn.Module,
    x: Tensor,
    goal: Goal,
    *,
    variant: Literal["paper", "code"] = "paper",
    steps: int = 450,
    eta: float = 0.55,
    rate: float = 0.01,
    momentum: float = 0.9,
    length: float = 20.0,
    clip: bool | None = None,
) -> Found:
    """Up to the boundary and back: the smallest perturbation seen that reaches the goal, for images x (B,C,H,W).

    Images lie in [0,1]. `eta` (L2) and `rate` belong to the paper's variant, `length` (RMSE, of all steps together)
    to the code's; `clip` replaces what the variant does. With clipping the perturbation is that of the clipped
    image. Images that reach the goal as they are cost one pass. Raises `UsageError` for no steps or an unknown
    variant.
    """
    if steps < 1:
        raise UsageError(f"steps: expected at least 1, got {steps}.")
    if variant not in ("paper", "code"):
        raise UsageError(f"variant: expected 'paper' or 'code', got {variant!r}.")
    clip = variant == "paper" if clip is None else clip

    def search(rows: Tensor, goal: Goal) -> Record:
        return _search(model, x[rows], goal, variant, steps, eta, rate, momentum, length, clip)

    return from_the_start(model, x, goal, search, cost=steps + (variant == "code"), steps=steps)


def _search(
    model: nn.Module, x: Tensor, goal: Goal, variant: str, steps: int, eta: float, rate: float, momentum: float,
    length: float, clip: bool,
) -> Record:  # fmt: skip
    record, delta, velocity = Record(x), torch.zeros_like(x), torch.zeros_like(x)
    lengths = [length * part for part in falling(steps)]
    to_l2 = eta / x[0].numel() ** 0.5  # an RMSE whose L2 length is eta
    for step in range(steps + (variant == "code")):
        moved = (x + delta).clamp(0, 1) if clip else x + delta
        gradient, reached = look(model, moved, goal, "score" if variant == "paper" else "loss")
        record.see(moved - x if clip else delta, reached, step)
        inside = reached.view(-1, 1, 1, 1)
        if variant == "paper":
            velocity = momentum * velocity + torch.where(inside, 2 * delta, to_l2 * unit(gradient))
            delta = delta - rate * velocity
        elif step < steps:
            direction = nearly_unit(torch.where(inside, -delta, gradient))
            # As the program adds, rounding included: on a ReLU network a different last bit ends elsewhere.
            velocity = (momentum * velocity).add(direction, alpha=1 - momentum)
            delta = delta.add(velocity, alpha=lengths[step])
    return record
