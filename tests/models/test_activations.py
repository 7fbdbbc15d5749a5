"""The half-Huber ReLU: value, first and second derivative against closed forms and finite differences."""

import pytest
import torch
from torch import nn

from harness.errors import UsageError
from harness.models.activations import HalfHuberReLU, relus_called, with_half_huber
from harness.models.densenet import densenet121_2block
from harness.models.resnet import resnet50
from harness.models.woods import resnet18_preact, resnet44

KNOWN = {"num_classes": 3, "channels": 1, "mean": (0.5,), "std": (0.2,)}


def expected(x: torch.Tensor, d: float) -> torch.Tensor:
    """The three pieces of the authors' definition, written one by one."""
    return torch.where(x <= 0, torch.zeros_like(x), torch.where(x <= d, x**2 / (2 * d), x - d / 2))


@pytest.mark.parametrize("d", [0.5, 0.1, 2.0])
def test_value_and_both_derivatives(d):
    x = torch.linspace(-2, 4, 601, dtype=torch.float64, requires_grad=True)
    y = HalfHuberReLU(d)(x)
    assert torch.allclose(y, expected(x, d), atol=1e-15)
    (first,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    assert torch.allclose(first, (x / d).clamp(0, 1), atol=1e-15)
    (second,) = torch.autograd.grad(first.sum(), x)
    inside = (x > 0) & (x < d)
    kink = (x == 0) | ((x - d).abs() < 1e-9)
    assert torch.allclose(second[~kink], inside.double()[~kink] / d)


def test_gradgradcheck():
    x = (torch.rand(20, dtype=torch.float64) * 2 - 0.7).requires_grad_(True)
    assert torch.autograd.gradcheck(HalfHuberReLU(), x)
    assert torch.autograd.gradgradcheck(HalfHuberReLU(), x)


def test_the_slope_never_exceeds_relu_s_and_it_lies_half_a_width_below_in_the_end():
    x = torch.linspace(-1, 5, 100)
    y = HalfHuberReLU()(x)
    assert (y <= x.relu()).all()
    assert torch.allclose((x.relu() - y)[x > 0.5], torch.tensor(0.25))


@pytest.mark.parametrize("build", [resnet44, resnet18_preact, resnet50, densenet121_2block])
def test_no_relu_is_left_in_a_converted_model(build):
    model = build(**KNOWN)
    x = torch.rand(2, 1, 64, 64)
    assert relus_called(model, x) > 5
    assert with_half_huber(model) is model
    assert relus_called(model, x) == 0
    assert model.training
    assert not [m for m in model.modules() if isinstance(m, nn.ReLU)]


def test_a_relu_under_two_names_is_replaced_under_both():
    relu = nn.ReLU()
    model = with_half_huber(nn.Sequential(nn.Conv2d(1, 2, 3), relu, nn.Conv2d(2, 2, 3), relu))
    assert [type(m).__name__ for m in model] == ["Conv2d", "HalfHuberReLU", "Conv2d", "HalfHuberReLU"]
    assert relus_called(model, torch.rand(1, 1, 8, 8)) == 0


def test_functional_relus_are_seen():
    class Hidden(nn.Module):
        def forward(self, x):
            return nn.functional.relu(x).sum() + torch.relu(x).sum() + x.relu().sum() + x.clone().relu_().sum()

    assert relus_called(with_half_huber(Hidden()), torch.rand(2, 1, 4, 4)) >= 4


def test_a_width_of_zero_is_refused():
    with pytest.raises(UsageError, match="above 0, got 0"):
        HalfHuberReLU(0)
