"""Gradients against finite differences, the linear bound against plain loops."""

import pytest
import torch

from harness.scores.linear_bound import gradients, linear_bound


def test_gradients_are_those_of_finite_differences():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.Tanh(), torch.nn.Flatten(), torch.nn.Linear(12, 4))
    model = model.double().eval()
    x, outputs = torch.rand(3, 2, 4, 4).double(), torch.tensor([[0, 3], [1, 1], [2, 0]])
    found = gradients(model, x, outputs)
    assert found.shape == (3, 2, 2, 4, 4)
    assert not found.requires_grad
    assert all(p.grad is None for p in model.parameters())
    with torch.no_grad():
        for b, c, i, j in ((0, 0, 1, 2), (1, 1, 0, 0), (2, 1, 3, 3)):
            step = torch.zeros_like(x)
            step[b, c, i, j] = 1e-6
            slope = (model(x + step) - model(x - step))[b] / 2e-6
            torch.testing.assert_close(found[b, :, c, i, j], slope[outputs[b]], rtol=1e-6, atol=1e-9)


def test_bound_twin():
    rng = torch.Generator().manual_seed(0)
    delta, jacobian = torch.randn(2, 3, 4, 4, generator=rng), torch.randn(2, 2, 3, 4, 4, generator=rng)
    for b, found in enumerate(linear_bound(delta, jacobian).tolist()):
        total = 0.0
        for k in range(2):
            for d, g in zip(delta[b].flatten().tolist(), jacobian[b, k].flatten().tolist(), strict=True):
                total += abs(d) * abs(g)
        assert found == pytest.approx(total, rel=1e-12)


def test_the_bound_is_met_along_the_signs_of_the_gradient_and_never_passed():
    rng = torch.Generator().manual_seed(1)
    w = torch.randn(5, 1, 3, 4, 4, generator=rng).double()
    size = torch.rand(5, 3, 4, 4, generator=rng).double()
    delta = size * w[:, 0].sign()
    torch.testing.assert_close(linear_bound(delta, w), (delta * w[:, 0]).flatten(1).sum(1))
    other = torch.randn(5, 3, 4, 4, generator=rng).double()
    assert (linear_bound(other, w) > (other * w[:, 0]).flatten(1).sum(1).abs()).all()


def test_a_gradient_that_is_not_a_number_is_missing():
    jacobian = torch.ones(2, 1, 1, 2, 2)
    jacobian[1, 0, 0, 0, 0] = torch.nan
    assert linear_bound(torch.ones(2, 1, 2, 2), jacobian).isnan().tolist() == [False, True]
