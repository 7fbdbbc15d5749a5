"""One network, its passes shared among processes: what a method sees is the whole batch, in every process.

A method is written for one process, and stays so: every process takes all of each step, draws all its random numbers
and does all its arithmetic on the whole batch. Only `model(x)` is shared. Each process runs the network on its own rows
and all get all logits; where the images ask for a gradient, each finds that of its own rows and all get all of it. So
the weight beta of a loss, means, the order of random draws, the number of an attack's steps and what a method remembers
are those of one process because they are computed as in one process. What a method computes with a network's parts
without calling the network is computed whole in every process: right, and not shared.

Inside the network two things look beyond one row: the statistics of BatchNorm, which are taken over the rows of all
processes, and dropout, which is drawn for all rows. Both are caught where they are called, so that no module is
replaced and weights keep their names.

Why not DistributedDataParallel: its hooks count on one forward pass for each backward pass and on gradients of
parameters alone, and refuse torch.autograd.grad of the images, several passes in a step, and create_graph. Here each
pass puts one node before all parameters; its backward, when everything else has been gone through, sums the gradients
of all processes in one flat buffer. Every node's backward is made of such nodes again, so that gradients of gradients
are right too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.func import functional_call
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from harness import together
from harness.errors import UsageError
from harness.together import World

RANDOM = {F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout, F.rrelu}
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


@dataclass(frozen=True)
class Share:
    """Which of n rows are a process's own: consecutive ones, as many as another's or one more; maybe none.

    A network may make k rows of each.
    """

    n: int
    world: World
    k: int = 1

    def of(self, rank: int) -> slice:
        """Return the rows of process `rank`."""
        first, end = (r * self.n // self.world.size for r in (rank, rank + 1))
        return slice(first * self.k, end * self.k)

    def count(self, rank: int) -> int:
        """Return the number of rows of process `rank`."""
        rows = self.of(rank)
        return rows.stop - rows.start

    @property
    def own(self) -> slice:
        """Return this process's rows."""
        return self.of(self.world.rank)

    @property
    def mine(self) -> int:
        """Return the number of this process's rows."""
        return self.count(self.world.rank)

    @property
    def longest(self) -> int:
        """Return the largest number of rows of a process."""
        return -(-self.n // self.world.size) * self.k


class _Rows(Function):
    """The own rows of what all processes have whole: (n,...) to (b,...).

    A process without rows gets one, since networks do not take none: the first image where `standing`, else zeros. It
    is left out wherever rows are gathered or counted, and its gradient is zero.
    """

    @staticmethod
    def forward(ctx: Any, whole: Tensor, share: Share, standing: bool) -> Tensor:
        ctx.share = share
        if share.mine:
            return whole[share.own].clone()
        return whole[:1].clone() if standing else torch.zeros_like(whole[:1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        return _Gathered.apply(gradients[0], ctx.share), None, None


class _Gathered(Function):
    """The rows of all processes, in order: (b,...) to (n,...)."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, share: Share) -> Tensor:
        ctx.share = share
        count = share.mine
        padded = own.new_zeros((share.longest, *own.shape[1:]))
        padded[:count] = own[:count]
        return torch.cat([part[: share.count(r)] for r, part in enumerate(together.gathered(padded))])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        return _Rows.apply(gradients[0], ctx.share, False), None


class _Used(Function):
    """What all processes have, used by each for its own rows: the values as they are; gradients are summed over all."""

    @staticmethod
    def forward(ctx: Any, *values: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        return tuple(v.detach() for v in values)  # other objects, the same memory in the same order

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Any, ...]:
        found = [g for g in gradients if g is not None]
        if not found:
            return gradients
        flat: Any = _Summed.apply(torch.cat([g.reshape(-1) for g in found]))
        parts = iter(flat.split([g.numel() for g in found]))
        return tuple(None if g is None else next(parts).view(g.shape).to(g.dtype) for g in gradients)


class _Summed(Function):
    """The sum over processes of what each has found for its own rows; the gradient of the sum is that of each part."""

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        return together.summed(part)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return _Used.apply(gradients[0])[0]  # pyright: ignore[reportOptionalSubscript]


_sharing: list[Share] = []  # of the pass through a network that this process is in


class _Beyond(TorchFunctionMode):
    """Catches what looks beyond one row in a pass through a network."""

    def __init__(self, share: Share) -> None:
        super().__init__()
        self.share = share

    def __enter__(self) -> _Beyond:
        _sharing.append(self.share)
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        _sharing.clear()
        super().__exit__(*error)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.batch_norm:
            return self.batch_norm(*args, **(kwargs or {}))
        if func in RANDOM:
            return self.as_one(func, *args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def stretched(self, x: Tensor, what: str) -> Share:
        """Return the share of x, whose rows are those of the batch, or k for each of them."""
        rows = max(1, self.share.mine)
        if x.ndim == 0 or len(x) % rows:
            raise UsageError(
                f"{what}: expected the {rows} images of this process along the first dimension, got "
                f"{tuple(x.shape)}. This network cannot be shared among processes: train it in one."
            )
        return replace(self.share, k=len(x) // rows)

    def as_one(self, func: Callable[..., Tensor], input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Return the own rows of a random function of all rows: it draws what it draws in one process."""
        share = self.stretched(input, func.__name__)
        own = share.own if share.mine else slice(0, len(input))
        whole = input.new_zeros((share.n * share.k, *input.shape[1:]))
        if input.ndim == 4 and not input.is_contiguous():  # what is drawn follows the order in memory
            whole = whole.contiguous(memory_format=torch.channels_last)
        whole[own] = input
        return func(whole, *args, **kwargs)[own]

    def batch_norm(
        self,
        input: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        """Normalise by mean and variance over the rows of all processes, which are also what is remembered.

        Each process finds mean and variance of its own rows, one gather brings all of them, and they are combined
        (Chan 1982): no difference of large numbers, one wait for the others.
        """
        if not training:
            return F.batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
        share = self.stretched(input, "BatchNorm")
        each = input.numel() // len(input) // input.shape[1]  # values of a channel in a row
        counts = [share.count(r) * each for r in range(share.world.size)]
        total = sum(counts)
        if total < 2:
            raise ValueError(f"Expected more than 1 value per channel when training, got input size {input.shape}")
        dims = [0, *range(2, input.ndim)]
        shape = [1, -1, *[1] * (input.ndim - 2)]
        x = input if input.dtype in (torch.float32, torch.float64) else input.float()
        centre = x.mean(dims)
        centred = x - centre.view(shape)
        found = torch.stack([centre, centred.square().mean(dims)])
        one_each = Share(share.world.size, share.world)
        means, variances = used(_Gathered.apply(found[None], one_each)).unbind(1)  # (P,C) each
        shares = torch.tensor(counts, dtype=x.dtype, device=x.device).div(total)[:, None]
        mean = (shares * means).sum(0)
        variance = (shares * (variances + (means - mean).square())).sum(0)
        if running_mean is not None and running_var is not None:
            with torch.no_grad():
                running_mean.mul_(1 - momentum).add_(mean.to(running_mean.dtype), alpha=momentum)
                unbiased = variance.to(running_var.dtype) * (total / (total - 1))
                running_var.mul_(1 - momentum).add_(unbiased, alpha=momentum)
        scale = (variance + eps).rsqrt()
        scale = scale if weight is None else scale * weight
        shift = (centre - mean) * scale
        shift = shift if bias is None else shift + bias
        return (centred * scale.view(shape) + shift.view(shape)).to(input.dtype)


def used(value: Any) -> Tensor:
    """Return a value that all processes have, to use it for the own rows."""
    return _Used.apply(value)[0]  # pyright: ignore


class _Shared(nn.Module):
    """Goes before a network's own class: its `forward` runs the network on the own rows."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (n,V) of all images (n,C,H,W)."""
        if _sharing or not len(x):
            return super().forward(x)
        hooked = [name or "the network" for name, m in self.named_modules() if any(getattr(m, h) for h in HOOKS)]
        if hooked:
            raise UsageError(
                f"expected a network without hooks, got some on {', '.join(hooked[:3])}: among several processes they "
                "would see a part of the batch. Train this method in one process."
            )
        share = Share(len(x), together.world())
        own: Any = _Rows.apply(x, share, True)
        parameters = {name: p for name, p in self.named_parameters() if p.requires_grad}
        values: Any = _Used.apply(*parameters.values()) if parameters else ()
        with _Beyond(share):
            logits = functional_call(self, dict(zip(parameters, values, strict=True)), (own,))
        if not isinstance(logits, Tensor) or len(logits) != len(own):
            found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise UsageError(
                f"expected a network that gives a row of logits for each of {len(own)} images, got {found}. "
                "Train it in one process: without torchrun."
            )
        return _Gathered.apply(logits, share)  # pyright: ignore[reportReturnType]


@contextmanager
def shared(model: nn.Module) -> Iterator[None]:
    """Share the passes of `model` among the processes, as long as this lasts. In one process it stays as it is."""
    if together.world().size == 1:
        yield
        return
    kind = type(model)
    model.__class__ = type(kind.__name__, (_Shared, kind), {"__module__": kind.__module__, "__doc__": kind.__doc__})
    try:
        yield
    finally:
        model.__class__ = kind
