"""What makes a robustness figure worthless, looked for on a few images before anything is attacked (protocol.md, 3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.attacks.adversaries import unit
from harness.attacks.goals import Goal
from harness.attacks.minimal import look

RANDOM = "random output"
GRADIENTS = "zero or NaN gradients"
PROBABILITIES = "probabilities instead of logits"
NOT_FALLING = "adversarial loss not falling"
STEPS, LENGTH = 10, 0.01  # of the descent: RMSE in [0,1] pixels, about half an L2 of 1 at 32 px


def faults(model: nn.Module, x: Tensor, goal: Goal, *, exclusive: bool) -> list[str]:
    """Return which flags images x (B,C,H,W) raise: invalid ones, and the note that the loss does not fall.

    random output: the same images, asked twice, get other logits. Probabilities: every output lies in [0,1], and
    those of one image sum to 1 where classes are exclusive. Gradients: zero or not finite on more than half of the
    images. Not falling: ten steps down the gradient of the margin, of RMSE 0.01 together, bring the mean margin no
    lower.
    """
    with torch.no_grad():
        logits = model(x)
        again = model(x)
    found = []
    if not torch.equal(logits.nan_to_num(), again.nan_to_num()):
        found.append(RANDOM)
    inside = bool(((logits >= 0) & (logits <= 1)).all())
    if inside and (not exclusive or bool(((logits.sum(1) - 1).abs() < 1e-3).all())):
        found.append(PROBABILITIES)
    gradient, _ = look(model, x, goal, "margin")
    flat = gradient.flatten(1)
    lost = ~flat.isfinite().all(1) | (flat == 0).all(1)
    if bool(lost.double().mean() > 0.5):
        return [*found, GRADIENTS]
    moved = x
    for _ in range(STEPS):
        gradient, _ = look(model, moved, goal, "margin")
        moved = (moved - LENGTH / STEPS * unit(gradient.nan_to_num())).clamp(0, 1)
    with torch.no_grad():
        fallen = goal.margin(logits) - goal.margin(model(moved))
    if not bool(fallen.nanmean() > 0):
        found.append(NOT_FALLING)
    return found
