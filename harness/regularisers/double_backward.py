"""Double backpropagation (Drucker & LeCun 1992): a gradient of an input gradient, at the cost of its arithmetic.

Torch differentiates the backward of a convolution by a convolution whose kernel is as large as the maps, and that of
BatchNorm by two dozen passes over them: a step with eq. 4 of Woods 2019 takes five plain ones. The derivatives are

    convolution, y = w * x        gx = w^T * g is linear in g and in w, so that u, the gradient of gx, gives
                                  dg = w * u and dw = the weight gradient of a convolution of u whose gradient is g
    BatchNorm, y = w x' + b       with x' = (x - mean) / s over the n values of a channel and P the projection that
                                  takes out their mean and their part along x': gx = w/s P g, so that u gives
                                  dg = w/s P u,  dw = <u, P g> / s  and
                                  dx = -1/(n s) (w dw x' + <g, x'> dg + <u, x'> gx)

and every part of them is one of the operations that forward and backward are made of.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

aten = torch.ops.aten
_of_images = [False]  # whether the gradient that is being found is that of the images alone

Sizes = tuple[list[int], list[int], list[int], int]  # stride, padding, dilation, groups


@contextmanager
def double_backward() -> Iterator[None]:
    """Let a pass through a network be differentiated twice at little cost; values and gradients stay what they are.

    Convolutions of maps (B,C,H,W) and BatchNorm in training are caught where they are called, so that no module is
    replaced. What they give can be differentiated twice, not three times: that raises torch's `RuntimeError`.
    """
    with _Caught():
        yield


def input_gradient(outputs: Tensor, x: Tensor) -> Tensor:
    """Return d sum(outputs) / d x as a function of the weights.

    Gradients of a convolution's weights are not found on the way, unless a network makes them of its images or, among
    several processes, gathers them (harness/fit/shared.py).
    """
    _of_images[0] = True
    try:
        (gradient,) = torch.autograd.grad(outputs.sum(), x, create_graph=True)
    finally:
        _of_images[0] = False
    return gradient


class _Caught(TorchFunctionMode):
    """Catches the calls whose second derivatives torch finds at a loss."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.conv2d:
            return _conv2d(*args, **(kwargs or {}))
        if func is F.batch_norm:
            return _batch_norm(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _conv2d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0,
            dilation: Any = 1, groups: int = 1) -> Any:  # fmt: skip
    if input.ndim != 4 or isinstance(padding, str):
        return F.conv2d(input, weight, bias, stride, padding, dilation, groups)
    fixed = (weight.is_leaf, bias is None or bias.is_leaf)  # do not depend on the images
    kind = input.device.type
    if torch.is_autocast_enabled(kind) and input.dtype != torch.float64:  # which it does inside the operation
        dtype = torch.get_autocast_dtype(kind)
        input, weight = input.to(dtype), weight.to(dtype)
        bias = None if bias is None else bias.to(dtype)
    return _Convolution.apply(input, weight, bias, (_pair(stride), _pair(padding), _pair(dilation), groups), fixed)


def _pair(size: int | Sequence[int]) -> list[int]:
    return [size, size] if isinstance(size, int) else [*size] * (2 // len(size))


def _convolved(x: Tensor, weight: Tensor, bias: Tensor | None, sizes: Sizes) -> Tensor:
    stride, padding, dilation, groups = sizes
    return aten.convolution(x, weight, bias, stride, padding, dilation, False, [0, 0], groups)


def _gradients(g: Tensor, x: Tensor, weight: Tensor, sizes: Sizes, wanted: list[bool]) -> tuple[Tensor | None, ...]:
    """Return the gradients of x, weight and bias that are wanted."""
    stride, padding, dilation, groups = sizes
    return aten.convolution_backward(
        g, x, weight, [weight.shape[0]], stride, padding, dilation, False, [0, 0], groups, wanted
    )


class _Convolution(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, sizes: Sizes,
                fixed: tuple[bool, bool]) -> Tensor:  # fmt: skip
        ctx.sizes, ctx.fixed = sizes, fixed
        ctx.save_for_backward(x, weight)
        return _convolved(x, weight, bias, sizes)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        x, weight = ctx.saved_tensors
        needed, of_images = ctx.needs_input_grad[:3], _of_images[0]
        wanted = [n and not (of_images and f) for n, f in zip(needed, (False, *ctx.fixed), strict=True)]
        return *_ConvolutionGradients.apply(gradients[0], x, weight, ctx.sizes, wanted), None, None  # pyright: ignore


class _ConvolutionGradients(Function):
    @staticmethod
    def forward(ctx: Any, g: Tensor, x: Tensor, weight: Tensor, sizes: Sizes, wanted: list[bool]) -> Any:
        ctx.sizes = sizes
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(g, x, weight)
        return _gradients(g, x, weight, sizes, wanted)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Any, ...]:  # pyright: ignore
        u, of_weight, of_bias = gradients
        g, x, weight = ctx.saved_tensors
        need_g, need_x, need_weight, *_ = ctx.needs_input_grad
        dg, dx, dw = [], None, None
        if u is not None:
            if need_g:
                dg.append(_convolved(u, weight, None, ctx.sizes))
            if need_weight:
                dw = _gradients(g, u, weight, ctx.sizes, [False, True, False])[1]
        if of_weight is not None:
            if need_g:
                dg.append(_convolved(x, of_weight, None, ctx.sizes))
            if need_x:
                dx = _gradients(g, x, of_weight, ctx.sizes, [True, False, False])[0]
        if of_bias is not None and need_g:
            dg.append(of_bias.view(1, -1, 1, 1).expand_as(g))
        return sum(dg[1:], dg[0]) if dg else None, dx, dw, None, None


def _batch_norm(input: Tensor, running_mean: Tensor | None, running_var: Tensor | None, weight: Tensor | None = None,
                bias: Tensor | None = None, training: bool = False, momentum: float = 0.1, eps: float = 1e-5,
                ) -> Any:  # fmt: skip
    if not training or input.numel() <= input.shape[1]:  # one value of a channel: torch's own error
        return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    return _BatchNorm.apply(input, weight, bias, running_mean, running_var, momentum, eps)


class _BatchNorm(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, running_mean: Tensor | None,
                running_var: Tensor | None, momentum: float, eps: float) -> Tensor:  # fmt: skip
        y, mean, inverse = torch.native_batch_norm(x, weight, bias, running_mean, running_var, True, momentum, eps)
        ctx.eps, ctx.affine = eps, (weight is not None, bias is not None)
        ctx.save_for_backward(x, weight, mean, inverse)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        of_x, of_weight, of_bias = _BatchNormGradients.apply(gradients[0], *ctx.saved_tensors, ctx.eps)  # pyright: ignore
        weighted, biased = ctx.affine
        return of_x, of_weight if weighted else None, of_bias if biased else None, None, None, None, None


class _BatchNormGradients(Function):
    @staticmethod
    def forward(ctx: Any, g: Tensor, x: Tensor, weight: Tensor | None, mean: Tensor, inverse: Tensor,
                eps: float) -> Any:  # fmt: skip
        ctx.eps = eps
        ctx.set_materialize_grads(False)
        scale = torch.ones_like(mean) if weight is None else weight
        of_x, along, total = _normalised(g, x, scale, mean, inverse, eps)
        ctx.save_for_backward(g, x, weight, mean, inverse, of_x, along)
        return of_x, along, total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Any, ...]:  # pyright: ignore
        u, of_weight, of_bias = gradients
        g, x, weight, mean, inverse, of_x, along = ctx.saved_tensors
        shape = [1, -1, *[1] * (x.ndim - 2)]
        one = torch.ones_like(mean if weight is None else weight)

        def each(values: Tensor) -> Tensor:
            return values.to(x.dtype).view(shape)

        dw = None
        if u is None:
            dg, dx = torch.zeros_like(g), torch.zeros_like(x)
        else:
            scale = one if weight is None else weight
            part, u_along, _ = _normalised(u, x, one, mean, inverse, ctx.eps)  # P u / s, <u, x'>
            dw = (part * g).sum([0, *range(2, x.ndim)], dtype=mean.dtype)
            factor = -inverse / (x.numel() // x.shape[1])
            along_x = factor * inverse * scale * dw
            dx = part * each(factor * scale * along)
            dx.addcmul_(x, each(along_x)).sub_(each(along_x * mean)).addcmul_(of_x, each(factor * u_along))
            dg = part.mul_(each(scale))
        if of_weight is not None:
            dg.addcmul_(x - each(mean), each(inverse * of_weight))
            dx.addcmul_(_normalised(g, x, one, mean, inverse, ctx.eps)[0], each(of_weight))
        if of_bias is not None:
            dg.add_(each(of_bias))
        return dg, dx, dw if weight is not None else None, None, None, None


def _normalised(
    g: Tensor, x: Tensor, weight: Tensor, mean: Tensor, inverse: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return w/s P g, <g, x'> and the sum of g."""
    return aten.native_batch_norm_backward(g, x, weight, None, None, mean, inverse, True, eps, [True, True, True])
