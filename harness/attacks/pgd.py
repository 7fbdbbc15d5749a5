"""Projected gradient descent on a goal inside a ball (Madry et al. 2018, arXiv:1706.06083).

Differs from the authors' program: it descends the goal's margin, which does not vanish where the softmax saturates
(objective="loss" climbs the loss as they do); the best image on the way is kept, not the last; an image that reaches
the goal is left alone from then on.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from harness.attacks.adversaries import unit
from harness.attacks.balls import Norm, check_ball, into_ball, random_start
from harness.attacks.goals import Goal
from harness.errors import UsageError
from harness.plugins import attack

REACH = 2.5  # steps together go this many radii, so that they can cross the ball (Madry 2018's program for L2)


@attack("pgd", source="Madry 2018, arXiv:1706.06083", finds="bounded")
def pgd(
    model: nn.Module,
    x: Tensor,
    goal: Goal,
    *,
    norm: Norm,
    radius: float,
    steps: int = 20,
    step_size: float | None = None,
    start_at_random: bool = True,
    objective: Literal["margin", "loss"] = "margin",
) -> Tensor:
    """Return each image of x (B,C,H,W) moved to where the goal's margin was lowest, or where it was first reached.

    `radius` is the largest change of a pixel (linf) or the RMSE (l2), in [0,1] pixels; `step_size` a share of it, by
    default 2.5 / steps. Results stay in the ball and in [0,1]. The random start depends on the image alone, not on its
    batch. Images that reach the goal as they are come back as they are. An image with logits or gradients that are
    not finite could not be attacked and comes back as NaN, unless it reached the goal before. Raises `UsageError` for a
    ball, a step or an objective that makes no sense.

    Passes: one forward, `steps` forward and backward, one forward; on a CPU none for images that have reached the goal.
    """
    check_ball(norm, radius)
    if steps < 1:
        raise UsageError(f"steps: expected at least 1, got {steps}.")
    if step_size is not None and not step_size > 0:
        raise UsageError(f"step_size: expected a share of the radius above 0, got {step_size}.")
    if objective not in ("margin", "loss"):
        raise UsageError(f"objective: expected 'margin' or 'loss', got {objective!r}.")
    each = radius * (REACH / steps if step_size is None else step_size)
    uphill = 1 if objective == "loss" else -1
    lowest, done, broken, _ = _look(model, x, goal, "")
    best, moved = x.clone(), x.clone()
    rows = _left(done | broken)
    if start_at_random and len(x[rows]):
        moved[rows] = random_start(x[rows], norm, radius)
    for step in range(steps + 1):
        if not len(x[rows]):
            break
        last = step == steps
        margin, reached, lost, gradient = _look(model, moved[rows], goal[rows], "" if last else objective)
        better = ~done[rows] & (margin < lowest[rows])
        best[rows] = torch.where(better.view(-1, 1, 1, 1), moved[rows], best[rows])
        lowest[rows] = torch.where(better, margin, lowest[rows])
        done[rows] |= reached & ~broken[rows]
        broken[rows] |= lost & ~done[rows]
        if not last:
            direction = uphill * (gradient.sign() if norm == "linf" else unit(gradient))
            moved[rows] = into_ball(moved[rows] + each * direction, x[rows], norm, radius)
            rows = _left(done | broken)
    return torch.where(broken.view(-1, 1, 1, 1), torch.nan, best)


def _left(finished: Tensor) -> Tensor | slice:
    """Return the images that are still worked on: all of them on a GPU, which would have to be waited for."""
    return slice(None) if finished.is_cuda else torch.nonzero(~finished)[:, 0]


def _look(model: nn.Module, x: Tensor, goal: Goal, objective: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the margin (B,), where the goal holds (B,), where something is not finite (B,), and d objective/dx.

    Without an objective there is no backward pass, and no gradient: (B,C,H,W) of zeros.
    """
    gradient = torch.zeros_like(x)
    with torch.set_grad_enabled(bool(objective)):
        leaf = x.detach().requires_grad_(bool(objective))
        logits = model(leaf)
        if objective:
            (gradient,) = torch.autograd.grad(getattr(goal, objective)(logits).sum(), leaf)
    logits = logits.detach()
    lost = ~(logits.isfinite().all(1) & gradient.isfinite().flatten(1).all(1))
    return goal.margin(logits), goal.reached(logits), lost, gradient.detach()
