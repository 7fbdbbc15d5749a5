"""How far logits can move if the model is linear around an image (Woods 2019, arXiv:1906.02494, eqs 6-8)."""

import torch
from torch import Tensor, nn

from harness.plugins import score


def gradients(model: nn.Module, x: Tensor, outputs: Tensor) -> Tensor:
    """Return dy_i/dx of K logits of each image, (B,K,C,H,W); `x` (B,C,H,W) in [0,1], `outputs` (B,K) class numbers.

    y is before the softmax and x before the model's own normalisation. The model is in eval mode, where an image's
    logits depend on no other image.
    """
    with torch.enable_grad():
        leaf = x.detach().requires_grad_(True)
        chosen = model(leaf).gather(1, outputs)
        rows = [torch.autograd.grad(chosen[:, k].sum(), leaf, retain_graph=True)[0] for k in range(outputs.shape[1])]
    return torch.stack(rows, dim=1).detach()


@score("linear_bound", unit="logits", higher_is_better=False, source="Woods 2019, arXiv:1906.02494, eq. 7")
def linear_bound(delta: Tensor, jacobian: Tensor) -> Tensor:
    """Return the sum over K outputs i and inputs j of |dx_j| |dy_i/dx_j|, (B,) float64.

    `delta` (B,C,H,W), `jacobian` (B,K,C,H,W) at the clean image. If the model is linear, the outputs' |dy_i| add up to
    at most that much. NaN where a gradient is.
    """
    return (delta.double().abs()[:, None] * jacobian.double().abs()).flatten(1).sum(1)
