"""What images are moved by while a network is trained: L2, L2,min, Linf and random noise (Woods 2019; Madry 2018).

All take images x (B,C,H,W) in [0,1] and return moved ones of the same shape, detached. Lengths of L2 steps are RMSE in
[0,1] pixels: L2 / sqrt(C*H*W). The model stays in the mode it is in: in train mode its running statistics see the
moved images, as in the authors' code.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from harness.attacks.fgsm import Loss
from harness.device import sent
from harness.errors import UsageError

Correct = Callable[[Tensor, Tensor], Tensor]  # (logits (B,V), y) -> (B,) bool


def unit(direction: Tensor) -> Tensor:
    """Scale each image of (B,C,H,W) to an RMSE of 1; one without length stays 0.

    Divided by its largest element first: the squares of a saturated network's gradient are below the smallest float.
    """
    each = (-1, *[1] * (direction.ndim - 1))
    peak = direction.abs().flatten(1).amax(1)
    scaled = direction / torch.where(peak > 0, peak, 1.0).view(each)
    rmse = scaled.flatten(1).square().mean(1).sqrt()
    return scaled / torch.where(rmse > 0, rmse, 1.0).view(each)


def ascent(model: nn.Module, x: Tensor, y: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
    """Return d loss / dx (B,C,H,W) and the logits (B,V) it was taken at, both detached."""
    with torch.enable_grad():
        leaf = x.detach().requires_grad_(True)
        logits = model(leaf)
        (gradient,) = torch.autograd.grad(loss(logits, y), leaf)
    return gradient, logits.detach()


def falling(steps: int) -> list[float]:
    """Return lengths 2 (k-n) / (k (k+1)), n = 0..k-1, of k steps: falling linearly, one in all (Woods 2019)."""
    return [2 * (steps - n) / (steps * (steps + 1)) for n in range(steps)]


def _check(epsilon: float, steps: int) -> None:
    if not epsilon > 0:
        raise UsageError(f"epsilon: expected a length above 0, got {epsilon}.")
    if steps < 1:
        raise UsageError(f"steps: expected at least 1, got {steps}.")


def l2(
    model: nn.Module, x: Tensor, y: Tensor, loss: Loss, *, epsilon: float, steps: int, ramped: bool = False
) -> Tensor:
    """Follow the loss for `steps` steps, each of RMSE epsilon/steps (Woods 2019, Methods, "denoted L2").

    ramped: the authors' code. Step n has RMSE epsilon * 2(k-n)/(k(k+1)) and, where the image has already moved by
    epsilon, goes back towards it. Neither clips to [0,1].
    """
    _check(epsilon, steps)
    delta = torch.zeros_like(x)
    lengths = falling(steps) if ramped else [1 / steps] * steps
    for length in lengths:
        gradient, _ = ascent(model, x + delta, y, loss)
        direction = unit(gradient)
        if ramped:
            far = delta.flatten(1).square().mean(1).sqrt() >= epsilon
            direction = torch.where(far.view(-1, 1, 1, 1), -unit(delta), direction)
        delta = delta + epsilon * length * direction
    return (x + delta).detach()


def l2_min(
    model: nn.Module, x: Tensor, y: Tensor, loss: Loss, correct: Correct, *, epsilon: float, steps: int
) -> Tensor:
    """Look for a small move that fools the model (Woods 2019, Methods, "denoted L2,min").

    Before step n the model classifies: right, the step goes up the loss; wrong, back towards the image; its RMSE is
    epsilon * 2(k-n)/(k(k+1)). As in the authors' code there is one more look after the last step, the smallest move
    that fooled is returned, and an image that none fooled is returned as it was. Nothing is clipped to [0,1].
    """
    _check(epsilon, steps)
    delta = torch.zeros_like(x)
    best, smallest = torch.zeros_like(x), x.new_full((len(x),), torch.inf)
    for length in (*falling(steps), 0.0):
        gradient, logits = ascent(model, x + delta, y, loss)
        right = correct(logits, y)
        size = delta.flatten(1).square().mean(1)
        better = ~right & (size < smallest)
        best = torch.where(better.view(-1, 1, 1, 1), delta, best)
        smallest = torch.where(better, size, smallest)
        direction = torch.where(right.view(-1, 1, 1, 1), unit(gradient), -unit(delta))
        delta = delta + epsilon * length * direction
    return (x + best).detach()


def linf(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    loss: Loss,
    *,
    epsilon: float,
    steps: int,
    step_size: float,
    rng: torch.Generator,
) -> Tensor:
    """Projected gradient ascent in the Linf ball of radius epsilon, from a random start (Madry 2018, arXiv:1706.06083).

    Each step moves by step_size * sign(gradient), then back into the ball and into [0,1].
    """
    _check(epsilon, steps)
    start = sent(torch.rand(x.shape, generator=rng, device=rng.device), x.device).to(x.dtype)
    moved = (x + epsilon * (2 * start - 1)).clamp(0, 1)
    for _ in range(steps):
        gradient, _ = ascent(model, moved, y, loss)
        moved = moved + step_size * gradient.sign()
        moved = torch.minimum(torch.maximum(moved, x - epsilon), x + epsilon).clamp(0, 1)
    return moved.detach()


def noise(x: Tensor, *, sigma: float, rng: torch.Generator) -> Tensor:
    """Add Gaussian noise of standard deviation `sigma` to every pixel; nothing is clipped (Woods 2019, Methods)."""
    drawn = torch.randn(x.shape, generator=rng, device=rng.device)
    return x + sigma * sent(drawn, x.device).to(x.dtype)
