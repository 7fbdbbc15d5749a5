"""The half-Huber ReLU (Woods et al. 2019, arXiv:1906.02494), and networks whose ReLUs are replaced by it.

A network of ReLUs is piecewise linear: its input gradient jumps, and a penalty on that gradient has no derivative to
follow. The half-Huber ReLU bends over a width `d` instead.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

from harness.errors import UsageError

WIDTH = 0.5  # d of the authors' code; the paper gives no formula
RELUS = {torch.relu, torch.relu_, nn.functional.relu, nn.functional.relu_, Tensor.relu, Tensor.relu_}


class _HalfHuber(torch.autograd.Function):
    """c (x - c/2) / d with c = clamp(x, 0, d). Only x is kept; the derivative can be differentiated again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, d: Tensor) -> Tensor:
        ctx.save_for_backward(x, d)
        c = _clamped(x, d)
        return torch.sub(x, c, alpha=0.5).mul_(c).div_(d)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, None]:
        return _Slope.apply(gradients[0], *ctx.saved_tensors), None


class _Slope(torch.autograd.Function):
    """g c / d, a gradient g times the slope at x: linear in g, and of slope g/d in x where 0 < x < d."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, x: Tensor, d: Tensor) -> Tensor:
        ctx.save_for_backward(g, x, d)
        return _clamped(x, d).div_(d).mul_(g)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:  # pyright: ignore
        g, x, d = ctx.saved_tensors
        c = _clamped(x, d)
        u = gradients[0] / d
        inside = (d - c).mul_(c) > 0
        return c.mul_(u), u.mul_(g).mul_(inside), None


def _clamped(x: Tensor, d: Tensor) -> Tensor:
    return torch.clamp(x, torch.zeros_like(d), d)


class HalfHuberReLU(nn.Module):
    """0 below 0, x^2/(2d) up to d, x - d/2 above: elementwise, any shape (authors' code, d = 0.5).

    First derivative clamp(x, 0, d)/d, second 1/d inside (0, d) and 0 outside. The width is saved with the weights, so
    that those of a ReLU network are not taken for its own, or the other way round.
    """

    d: Tensor

    def __init__(self, d: float = WIDTH):
        super().__init__()
        if not d > 0:
            raise UsageError(f"half-Huber ReLU: expected a width d above 0, got {d}.")
        self.register_buffer("d", torch.tensor(float(d)))

    def forward(self, x: Tensor) -> Tensor:
        """Return the activation of x."""
        return _HalfHuber.apply(x, self.d.to(x.dtype))  # pyright: ignore[reportReturnType]

    def extra_repr(self) -> str:
        """Return what `print(model)` shows."""
        return f"d={float(self.d):g}"


def with_half_huber(model: nn.Module, d: float = WIDTH) -> nn.Module:
    """Replace every ReLU module below `model` by a half-Huber ReLU, in place, and return the model.

    ReLUs that a network calls as functions stay: `relus_called` counts them.
    """
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):  # one module under two names is there twice
            if isinstance(child, nn.ReLU):
                setattr(parent, name, HalfHuberReLU(d))
    return model


class _Watch(TorchFunctionMode):
    """Counts calls of ReLU, whoever makes them."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen += func in RELUS
        return func(*args, **(kwargs or {}))


@torch.no_grad()
def relus_called(model: nn.Module, x: Tensor) -> int:
    """Return how many ReLUs a pass over x (B,C,H,W) calls, modules and functions alike; the model is left as it was."""
    training = model.training
    model.eval()
    try:
        with _Watch() as watch:
            model(x)
    finally:
        model.train(training)
    return watch.seen
