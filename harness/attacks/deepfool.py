"""DeepFool (Moosavi-Dezfooli et al. 2016, arXiv:1511.04599): step to the boundary of the linearised model, repeat."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.attacks.goals import Adversarial, Goal
from harness.attacks.minimal import Found, Record
from harness.errors import UsageError
from harness.plugins import attack


@attack("deepfool", source="Moosavi-Dezfooli 2016, arXiv:1511.04599, algorithm 2", finds="minimal")
def deepfool(
    model: nn.Module, x: Tensor, goal: Goal, *, steps: int = 10, overshoot: float = 0.02, candidates: int = 10
) -> Found:
    """Steps to the nearest linearised boundary: the first perturbation there, for images x (B,C,H,W).

    Images lie in [0,1]. Each step goes to the nearest boundary of the linearised model. For the adversarial goal
    these are the boundaries with the `candidates` - 1 most probable other classes, a backward pass each; for every
    other goal its margin's. The way is walked `overshoot` too far, as in the paper, and clipped to [0,1]. An image
    that has reached the goal costs nothing any more.
    """
    if steps < 1:
        raise UsageError(f"steps: expected at least 1, got {steps}.")
    record, walked = Record(x), torch.zeros_like(x)
    passes = torch.zeros(len(x), dtype=torch.long, device=x.device)
    rows, going = torch.arange(len(x), device=x.device), torch.ones(len(x), dtype=torch.bool, device=x.device)
    for step in range(steps + 1):
        moved = (x[rows] + (1 + overshoot) * walked[rows]).clamp(0, 1)
        margins, gradients, reached = _boundaries(model, moved, goal[rows], candidates, last=step == steps)
        passes[rows] += max(1, len(margins)) * going
        _take(record, rows, moved - x[rows], reached & going, step)
        going = going & ~reached
        if leaves_out(x):
            rows, margins, gradients = rows[going], margins[:, going], gradients[:, going]
            going = going[going]
        if not len(rows) or step == steps:
            break
        walked[rows] += _nearest(margins, gradients)
    return Found(record.delta, record.size, passes, record.first, record.first < 0)  # it stops where it gets there


def leaves_out(x: Tensor) -> bool:
    """Return whether images that are done are left out of the next step: asking a GPU which ones stops it each time."""
    return not x.is_cuda


def _take(record: Record, rows: Tensor, delta: Tensor, reached: Tensor, step: int) -> None:
    """Note which of some of the images, `rows`, have now reached the goal; each does once."""
    part = Record(delta)
    part.see(delta, reached, step)
    record.delta[rows] = torch.where(reached.view(-1, 1, 1, 1), part.delta, record.delta[rows])
    record.size[rows] = torch.where(reached, part.size, record.size[rows])
    record.first[rows] = torch.where(reached, part.first, record.first[rows])


def _boundaries(
    model: nn.Module, x: Tensor, goal: Goal, candidates: int, *, last: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return margins (K,B) and their gradients (K,B,C,H,W) for K boundaries, and where the goal holds (B,)."""
    with torch.enable_grad():
        leaf = x.detach().requires_grad_(not last)
        logits = model(leaf)
        reached = goal.reached(logits.detach())
        if last:
            return x.new_zeros((0, len(x))), x.new_zeros((0, *x.shape)), reached
        if isinstance(goal, Adversarial):
            others = logits.detach().scatter(1, goal.target[:, None], -torch.inf)
            rivals = others.topk(min(candidates, logits.shape[1]) - 1, dim=1).indices
            margins = (goal.target_of(logits)[:, None] - logits.gather(1, rivals)).T
        else:
            margins = goal.margin(logits)[None]
        gradients = [torch.autograd.grad(m.sum(), leaf, retain_graph=True)[0] for m in margins]
    return margins.detach(), torch.stack(gradients), reached


def _nearest(margins: Tensor, gradients: Tensor) -> Tensor:
    """Return the step (B,C,H,W) to the nearest of K linearised boundaries: -(m + tiny) g / |g|^2."""
    tiny = 1e-4  # of a logit, as in the authors' program: to step over the boundary rather than onto it
    norm = gradients.flatten(2).norm(dim=2).clamp(min=torch.finfo(gradients.dtype).tiny)  # (K,B)
    nearest = (margins.abs() / norm).argmin(0)  # (B,)
    pick = torch.arange(margins.shape[1], device=margins.device)
    length = (margins[nearest, pick].abs() + tiny) / norm[nearest, pick]
    direction = gradients[nearest, pick] / norm[nearest, pick].view(-1, 1, 1, 1)
    return -length.view(-1, 1, 1, 1) * direction
