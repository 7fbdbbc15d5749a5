"""The input-gradient penalty of Woods et al. 2019 (arXiv:1906.02494, eq. 4): a stochastic form of Lipschitz continuity.

L = psi / (K N) * sum over K drawn outputs of sum over the N input elements |d y_k / d x_j|^z, the mean over images;
y are logits, x the image in [0,1] before the model normalises it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from harness.device import sent
from harness.errors import UsageError
from harness.regularisers.double_backward import input_gradient


def draw(
    logits: Tensor, true: Tensor, *, outputs: int, share_true: float, tandem: bool, rng: torch.Generator
) -> Tensor:
    """Return what is differentiated for each image: K combinations of its logits, (K,B,V), constant.

    K = `outputs` logits are drawn without replacement, the true classes among them. With probability `share_true`
    (the paper's zeta, for each image) the first draw is replaced by a true class; with `tandem` by that class minus
    the largest other logit. `true` (B,V) marks the true classes: for several labels one of them is drawn, and a label
    is a margin by itself, so that tandem needs single labels. Raises `UsageError` where K is not among 1..V.
    """
    count, classes = logits.shape
    if not 1 <= outputs <= classes:
        raise UsageError(f"outputs: expected 1 to {classes}, the number of classes, got {outputs}.")
    order = sent(torch.rand(count, classes, generator=rng, device=rng.device), logits.device).argsort(1)
    chosen = torch.nn.functional.one_hot(order[:, :outputs], classes).to(logits.dtype).transpose(0, 1)
    use_true = sent(torch.rand(count, generator=rng, device=rng.device) < share_true, logits.device) & true.any(1)
    lot = sent(torch.rand(count, classes, generator=rng, device=rng.device), logits.device)
    of_true = torch.nn.functional.one_hot(lot.masked_fill(~true, -1).argmax(1), classes).to(logits.dtype)
    if tandem:
        rival = logits.detach().masked_fill(of_true.bool(), -torch.inf).argmax(1)
        of_true = of_true - torch.nn.functional.one_hot(rival, classes).to(logits.dtype)
    first = torch.where(use_true[:, None], of_true, chosen[0])
    return torch.cat([first[None], chosen[1:]])


def gradient_penalty(logits: Tensor, x: Tensor, combinations: Tensor, *, power: float = 2.0) -> Tensor:
    """Return 1/(K N) sum_k sum_j |d y_k/d x_j|^power, the mean over the images, a scalar to differentiate again.

    `logits` (B,V) of `x` (B,C,H,W), which must require a gradient; `combinations` (K,B,V) as `draw` gives them. K
    backward passes, kept for the second one, which costs half as much where the logits were found within
    `double_backward()`.
    """
    total = x.new_zeros(())
    for combination in combinations:
        gradient = input_gradient(logits * combination, x)
        total = total + gradient.abs().pow(power).flatten(1).mean(1).mean()
    return total / len(combinations)


@dataclass(frozen=True)
class AdaptiveStrength:
    """psi as it grows while the training loss stays below a target (Woods 2019, Supplement; authors' code).

    S <- max(0, S + clip(-ln(L / target), -falling, +rising)) after each batch, psi = psi0 * exp(rate * S).
    """

    start: float  # psi0: never less
    target: float  # of the batch's loss without the penalty
    rate: float
    rising: float
    falling: float

    def updated(self, state: Tensor, loss: Tensor) -> Tensor:
        """Return the next S, a scalar, from the one before and the batch's loss; the device is not waited for."""
        step = (-torch.log(loss.detach().float() / self.target)).clamp(-self.falling, self.rising)
        return (state + step).clamp(min=0)

    def psi(self, state: Tensor) -> Tensor:
        """Return the strength that belongs to S, a scalar."""
        return self.start * torch.exp(self.rate * state)
