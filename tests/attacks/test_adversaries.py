"""The adversaries of training against closed forms on linear models."""

import pytest
import torch
from torch import nn

from harness.attacks.adversaries import falling, l2, l2_min, linf, noise, unit
from harness.errors import UsageError
from harness.tasks import MultiClass

LOSS = MultiClass().loss


def linear(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 2))


def batch(n: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.rand(n, 3, 2, 2, generator=torch.Generator().manual_seed(1)) * 0.4 + 0.3
    return x, torch.arange(n) % 2


def rmse(delta: torch.Tensor) -> torch.Tensor:
    return delta.flatten(1).square().mean(1).sqrt()


def uphill(model: nn.Sequential, y: torch.Tensor) -> torch.Tensor:
    """Unit RMSE direction in which the loss of each image rises: towards the other class."""
    w = model[1].weight.detach()
    return unit((w[1 - y] - w[y]).view(-1, 3, 2, 2))


def test_l2_goes_epsilon_far_straight_up_the_loss_of_a_linear_model():
    model, (x, y) = linear(), batch()
    moved = l2(model, x, y, LOSS, epsilon=0.05, steps=7)
    assert torch.allclose(moved - x, 0.05 * uphill(model, y), atol=1e-6)


def test_ramped_steps_sum_to_epsilon_and_stop_at_it():
    model, (x, y) = linear(), batch()
    assert sum(falling(7)) == pytest.approx(1)
    assert falling(3) == pytest.approx([1 / 2, 1 / 3, 1 / 6])
    moved = l2(model, x, y, LOSS, epsilon=0.05, steps=7, ramped=True)
    assert torch.allclose(rmse(moved - x), torch.full((64,), 0.05), atol=1e-6)


def test_l2_min_finds_the_boundary_from_outside():
    """On a linear model the nearest misclassified point lies at the margin: within the finest step, never short of it."""
    model, (x, y) = linear(), batch(200)

    def correct(logits, y):
        return logits.argmax(1) == y

    epsilon, steps = 0.3, 7
    moved = l2_min(model, x, y, LOSS, correct, epsilon=epsilon, steps=steps)
    w, b = model[1].weight.detach(), model[1].bias.detach()
    logits = x.flatten(1) @ w.T + b
    margin = logits[torch.arange(200), y] - logits[torch.arange(200), 1 - y]
    distance = margin / (w[1 - y] - w[y]).norm(dim=1) / 12**0.5  # RMSE
    found = rmse(moved - x)
    right = margin > 0
    reachable = right & (distance < 0.9 * epsilon)
    assert reachable.sum() > 20
    assert (~right).sum() > 20
    assert (found[~right] == 0).all(), "an image that is wrong already stays"
    assert (found[reachable] >= distance[reachable] - 1e-6).all()
    assert ((found - distance)[reachable] < 2 * epsilon * falling(steps)[3]).all()
    assert not correct(model(moved), y)[reachable].any()
    beyond = right & (distance > epsilon)
    assert (found[beyond] == 0).all(), "an image that was not fooled is returned as it was"


def test_linf_ends_in_the_corner_of_the_ball_and_inside_the_range():
    model, (x, y) = linear(), batch()
    rng = torch.Generator().manual_seed(0)
    moved = linf(model, x, y, LOSS, epsilon=0.03, steps=10, step_size=0.01, rng=rng)
    assert torch.allclose(moved - x, 0.03 * uphill(model, y).sign(), atol=1e-6)
    dark = linf(model, 0 * x, y, LOSS, epsilon=0.03, steps=10, step_size=0.01, rng=rng)
    assert dark.min() == 0
    assert dark.max() <= 0.03 + 1e-6


def test_linf_starts_at_random_inside_the_ball():
    model, (x, y) = linear(), batch()
    starts = [linf(model, x, y, LOSS, epsilon=0.1, steps=1, step_size=0.0, rng=torch.Generator().manual_seed(s))
              for s in (0, 0, 1)]  # fmt: skip
    assert torch.equal(starts[0], starts[1])
    assert not torch.equal(starts[0], starts[2])
    assert 0.09 < float((starts[0] - x).abs().max()) <= 0.1


def test_noise_has_the_deviation_asked_for():
    x = torch.full((50, 3, 20, 20), 0.5)
    moved = noise(x, sigma=0.1, rng=torch.Generator().manual_seed(0))
    assert float((moved - x).std()) == pytest.approx(0.1, rel=0.02)
    assert float((moved - x).mean()) == pytest.approx(0, abs=0.002)


def test_unit_leaves_zero_alone_and_scales_the_rest():
    found = unit(torch.stack([torch.zeros(3, 2, 2), torch.full((3, 2, 2), -1e-30), torch.randn(3, 2, 2)]))
    assert rmse(found).tolist() == pytest.approx([0, 1, 1], abs=1e-5)


@pytest.mark.parametrize(("epsilon", "steps", "message"), [(0.0, 7, "above 0, got 0"), (0.1, 0, "at least 1, got 0")])
def test_lengths_that_make_no_sense_are_refused(epsilon, steps, message):
    with pytest.raises(UsageError, match=message):
        l2(linear(), *batch(), LOSS, epsilon=epsilon, steps=steps)
