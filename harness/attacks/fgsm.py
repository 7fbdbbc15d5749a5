"""The fast gradient sign method (Goodfellow, Shlens & Szegedy 2015, arXiv:1412.6572, section 4)."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from harness.device import sent
from harness.errors import UsageError
from harness.plugins import attack

Loss = Callable[[Tensor, Tensor], Tensor]  # (logits (B,V), y) -> scalar


@attack("fgsm", source="Goodfellow 2015, arXiv:1412.6572; Khakzar 2019, 3.4", finds="training")
def fgsm(model: nn.Module, x: Tensor, y: Tensor, loss: Loss, *, epsilon: float) -> Tensor:
    """Move each image one step of Linf length `epsilon` (in [0,1] pixels) up its loss: (B,C,H,W) to (B,C,H,W).

    clamp(x + epsilon * sign(d loss / dx), 0, 1), detached. Pixels without gradient stay. Gradients of parameters
    are not touched, nor is train or eval mode: in train mode the pass uses batch statistics and, like any other,
    updates the running ones, as Woods 2019's code does; Khakzar 2019 is silent. Clipping to [0,1] is ours.
    """
    if len(x) == 0:
        return x.clone()
    with torch.enable_grad():
        leaf = x.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(loss(model(leaf), y), leaf)
    return (x + epsilon * gradient.sign()).clamp(0, 1).detach()


def choose(n: int, *, share: float, rng: torch.Generator, device: torch.device | str = "cpu") -> Tensor:
    """Return which of n images to perturb, exactly round(share * n): their places, ascending, (k,) int64 on `device`.

    Drawn on the host and sent without waiting for a GPU, which a mask of the images would make it do.
    """
    if not 0 <= share <= 1:
        raise UsageError(f"share: expected a number from 0 to 1, got {share}. Give the share of the batch to perturb.")
    drawn = torch.randperm(n, generator=rng, device=rng.device)[: round(share * n)]
    return sent(drawn.cpu().sort().values, torch.device(device))
