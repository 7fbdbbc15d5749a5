"""Cheap second derivatives against torch's own, finite differences, and the operations that they ought to take."""

import copy
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from harness.models.activations import HalfHuberReLU
from harness.models.densenet import densenet121_2block
from harness.models.woods import resnet44
from harness.plugins import catalogue
from harness.regularisers.double_backward import double_backward, input_gradient
from harness.tasks import MultiClass
from harness.types import Batch


def drawn(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, dtype=dtype, requires_grad=True)


CONVOLUTIONS = {
    "plain": ((4, 3, 3, 3), {"padding": 1}),
    "no padding, one number each": ((4, 3, 2, 3), {"stride": (2,), "dilation": [2, 1]}),
    "1x1, stride 2": ((5, 3, 1, 1), {"stride": 2}),
    "groups": ((6, 1, 3, 3), {"groups": 3, "padding": (1, 0)}),
}


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_convolution_has_the_derivatives_of_finite_differences(name, bias):
    shape, options = CONVOLUTIONS[name]

    def made(x: Tensor, weight: Tensor, *rest: Tensor) -> Tensor:
        with double_backward():
            return F.conv2d(x, weight, *rest, **options)

    given = (drawn(2, 3, 6, 5), drawn(*shape), *([drawn(shape[0])] if bias else []))
    assert torch.equal(made(*given), F.conv2d(*given, **options))
    assert "_Convolution" in str(made(*given).grad_fn)
    assert gradcheck(made, given)
    assert gradgradcheck(made, given)


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("shape", [(4, 3, 3, 2), (6, 3), (4, 3, 5)])
def test_batch_norm_has_the_derivatives_of_finite_differences(shape, affine):
    def made(x: Tensor, *affine: Tensor) -> Tensor:
        with double_backward():
            return F.batch_norm(x, None, None, *affine, training=True)

    given = (drawn(*shape), *([drawn(3), drawn(3)] if affine else []))
    assert "_BatchNorm" in str(made(*given).grad_fn)
    assert torch.allclose(made(*given), F.batch_norm(given[0], None, None, *given[1:], training=True), atol=1e-14)
    assert gradcheck(made, given)
    assert gradgradcheck(made, given)


def test_batch_norm_where_a_channels_weight_is_zero():
    x, weight, bias = drawn(4, 3, 3, 2), torch.tensor([0.0, 1.0, -2.0], dtype=torch.float64), drawn(3)
    found = []
    for context in (double_backward(), nullcontext()):
        w = weight.clone().requires_grad_()
        with context:
            y = F.batch_norm(x, None, None, w, bias, training=True)
        (gradient,) = torch.autograd.grad(y.pow(3).sum(), x, create_graph=True)
        found.append(torch.autograd.grad(gradient.square().sum(), (x, w)))
    for mine, torchs in zip(*found, strict=True):
        assert torch.allclose(mine, torchs, rtol=1e-9, atol=1e-12)


def all_kinds() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding="same"), nn.BatchNorm2d(6), HalfHuberReLU(), nn.Conv2d(6, 6, 3, groups=2, stride=2),
        nn.BatchNorm2d(6, affine=False), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 1, padding_mode="circular"),
        nn.BatchNorm2d(8, track_running_stats=False), nn.Sigmoid(), nn.Flatten(), nn.Linear(8 * 9, 4),
        nn.BatchNorm1d(4),
    )  # fmt: skip


COLOUR = {"num_classes": 4, "channels": 3, "mean": (0.5,) * 3, "std": (0.25,) * 3}
GREY = {"num_classes": 4, "channels": 1, "mean": (0.5,), "std": (0.25,)}
NETWORKS = {
    "every kind of layer": (all_kinds, (5, 3, 14, 14)),
    "resnet44": (lambda: resnet44(**COLOUR), (3, 3, 16, 16)),
    "densenet121_2block": (lambda: densenet121_2block(**GREY), (2, 1, 32, 32)),
}


def penalised(model: nn.Module, x: Tensor, cheap: bool) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Return logits, the gradients of logits + the squared input gradient, and the buffers after the step."""
    model = copy.deepcopy(model).train()
    x = x.clone().requires_grad_()
    with double_backward() if cheap else nullcontext():
        logits = model(x)
    penalty = input_gradient(logits[:, :2], x).square().sum()
    (logits.square().sum() + penalty).backward()
    return logits, [p.grad for p in model.parameters() if p.grad is not None], list(model.buffers())


@pytest.mark.parametrize("name", NETWORKS)
def test_a_networks_step_is_that_of_torch(name):
    made, shape = NETWORKS[name]
    model = made().double()
    x = torch.rand(*shape, dtype=torch.float64)
    mine, torchs = penalised(model, x, True), penalised(model, x, False)
    assert torch.allclose(mine[0], torchs[0], rtol=1e-12)
    assert len(mine[1]) == len(torchs[1]) > 0
    largest = max(float(g.abs().max()) for g in torchs[1])
    for a, b in zip(mine[1] + mine[2], torchs[1] + torchs[2], strict=True):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-11 * largest)


class Conditional(nn.Module):
    """A convolution whose kernels and biases are made of the images (Yang 2019, arXiv:1904.04971)."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Linear(3, 3 * 3 * 9), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        seen = x.mean((0, 2, 3))
        return F.conv2d(x, self.weight(seen).view(3, 3, 3, 3), self.bias(seen), padding=1).pow(2).mean((2, 3))


def test_kernels_that_are_made_of_the_images():
    model, x = Conditional().double(), torch.rand(4, 3, 6, 6, dtype=torch.float64)
    mine, torchs = penalised(model, x, True), penalised(model, x, False)
    for a, b in zip(mine[1], torchs[1], strict=True):
        assert torch.allclose(a, b, rtol=1e-9)


def test_frozen_weights_and_images_without_a_gradient():
    conv = nn.Conv2d(3, 4, 3).double().requires_grad_(False)
    x = drawn(2, 3, 5, 5)
    for layer, given in ((conv, x), (nn.Conv2d(3, 4, 3).double(), x.detach())):
        found = []
        for context in (double_backward(), nullcontext()):
            with context:
                y = layer(given)
            wanted = [t for t in (given, *layer.parameters()) if t.requires_grad]
            found.append(torch.autograd.grad(y.pow(2).sum(), wanted))
        for mine, torchs in zip(*found, strict=True):
            assert torch.allclose(mine, torchs)


def test_under_autocast_it_is_what_torch_makes_of_it_there():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3)).train()
    x = torch.rand(8, 3, 10, 10)
    found = {}
    for cheap in (True, False):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found[cheap] = penalised(model, x, cheap)
    fine = penalised(model.double(), x.double(), False)[1]
    assert found[True][0].dtype == found[False][0].dtype == torch.bfloat16
    assert torch.equal(found[True][0], found[False][0])
    for mine, torchs, exact in zip(found[True][1], found[False][1], fine, strict=True):
        assert mine.dtype == torchs.dtype == torch.float32
        error, torchs_error = ((g.double() - exact).norm() for g in (mine, torchs))
        assert error <= 1.5 * torchs_error + 0.01 * exact.norm()


def test_it_is_differentiated_twice_and_no_more():
    x, conv = drawn(2, 3, 5, 5), nn.Conv2d(3, 2, 3).double()
    with double_backward():
        y = conv(x).pow(3).sum()
    first = torch.autograd.grad(y, x, create_graph=True)[0]
    (second,) = torch.autograd.grad(first.pow(2).sum(), conv.weight, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        second.sum().backward()


def test_what_is_left_to_torch():
    with double_backward():
        assert F.conv2d(torch.rand(3, 5, 5), torch.rand(2, 3, 3, 3)).shape == (2, 3, 3)
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            nn.BatchNorm2d(3).train()(torch.rand(1, 3, 1, 1))
        norm = nn.BatchNorm2d(3).eval()
        x = torch.rand(2, 3, 4, 4, requires_grad=True)
        assert "_BatchNorm" not in str(norm(x).grad_fn)


class Counted(TorchDispatchMode):
    """Counts multiplications of convolutions and matrices by torch's formulas (its own counter refuses autograd.grad)."""

    multiplications = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        if formula := flop_registry.get(func._overloadpacket):
            self.multiplications += formula(*args, **(kwargs or {}), out_val=found)
        return found


@pytest.mark.parametrize("name", ["lipschitz", "lipschitz_hhrelu"])
def test_a_step_takes_the_multiplications_of_two_plain_ones(name):
    """Forward, input gradient, its two derivatives, and the backward of the loss: six of three."""
    batch = Batch(torch.rand(4, 3, 16, 16), torch.arange(4), torch.arange(4))
    model = resnet44(**COLOUR).train()

    def multiplications(method: str) -> int:
        made = catalogue().load("method", method)()
        adapted = made.adapt(copy.deepcopy(model))
        with Counted() as counted:
            made.step(adapted, batch, MultiClass(), torch.Generator().manual_seed(0), made.memory()).backward()
        return counted.multiplications

    assert multiplications(name) / multiplications("baseline") == pytest.approx(2, abs=0.05)
