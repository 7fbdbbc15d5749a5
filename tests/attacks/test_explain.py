"""Explain+ and explain- against closed forms on linear models: straight along the weights, exactly as far as rho."""

import math

import pytest
import torch
from linear_models import PIXELS, images, linear
from torch import nn

from harness.attacks.explain import explain, of_class
from harness.attacks.minimal import rmse
from harness.errors import UsageError

RHO = 0.02  # images() lie within 0.475 ... 0.525: nothing is clipped


def weights(model: nn.Sequential) -> torch.Tensor:
    return model[1].weight.detach()


def cosine(delta: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
    return nn.functional.cosine_similarity(delta.flatten(1), direction)


@pytest.mark.parametrize(("direction", "sign"), [("plus", 1), ("minus", -1)])
@pytest.mark.parametrize("scale", [1.0, 1000.0])  # at 1,000 the probability is 0 or 1 in every digit
def test_one_finding_of_several_is_followed_straight_along_its_weights(direction, sign, scale):
    x, model = images(), linear(4, scale)
    target = torch.arange(12) % 4
    found = explain(model, x, of_class(target, exclusive=False), rho=RHO, direction=direction)
    w = weights(model)[target]
    assert cosine(found.delta, sign * w).min() > 1 - 1e-5
    assert rmse(found.delta).tolist() == pytest.approx([RHO] * 12, rel=1e-5)
    gain = (model(x + found.delta) - model(x)).gather(1, target[:, None])[:, 0]
    largest = w.norm(dim=1) * RHO * PIXELS**0.5  # of all perturbations of that RMSE
    assert (sign * gain).tolist() == pytest.approx(largest.tolist(), rel=1e-4)
    assert found.passes == 50


@pytest.mark.parametrize(("direction", "sign"), [("plus", 1), ("minus", -1)])
def test_of_two_classes_the_difference_of_their_weights_is_followed(direction, sign):
    x, model = images(), linear(2)
    target = torch.arange(12) % 2
    found = explain(model, x, of_class(target, exclusive=True), rho=RHO, direction=direction)
    w = weights(model)
    assert cosine(found.delta, sign * (w[target] - w[1 - target])).min() > 1 - 1e-5
    assert rmse(found.delta).tolist() == pytest.approx([RHO] * 12, rel=1e-5)


def test_steps_that_end_before_rho_give_what_they_reached():
    x, model = images(), linear(3)
    goal = of_class(torch.zeros(12, dtype=torch.long), exclusive=False)
    found = explain(model, x, goal, rho=RHO, direction="plus", overshoot=0.5, steps=10, momentum=0.0)
    assert rmse(found.delta).tolist() == pytest.approx([0.5 * RHO * 9 / 10] * 12, rel=1e-4)  # the last is not looked at


def network() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 5))


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("direction", ["plus", "minus"])
@pytest.mark.parametrize(("rho", "steps"), [(0.004, 50), (0.1, 1), (0.1, 7), (0.1, 50), (0.6, 50)])
def test_never_beyond_rho_and_always_an_image(exclusive, direction, rho, steps):
    x = torch.rand(8, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    x[:4] = x[:4].round()  # at both ends of the range
    goal = of_class(torch.arange(8) % 5, exclusive=exclusive)
    found = explain(network(), x, goal, rho=rho, direction=direction, steps=steps)
    assert rmse(found.delta).max() <= rho * (1 + 1e-6)
    assert (x + found.delta).min() >= -1e-7
    assert (x + found.delta).max() <= 1 + 1e-7
    sign = 1 if direction == "plus" else -1
    assert steps == 1 or (sign * (goal.margin(network()(x + found.delta)) - goal.margin(network()(x))) > 0).all()


class Hill(nn.Module):
    """A logit that is highest where the mean is 0.51."""

    def forward(self, x):
        return -1000 * (x.flatten(1).mean(1, keepdim=True) - 0.51).square()


class Tiring(nn.Module):
    """A logit that turns and falls with every look, so that the first one at rho is the best."""

    looks = 0

    def forward(self, x):
        self.looks += 1
        weight = torch.linspace(-1, 1, x[0].numel())
        return (x.flatten(1) @ (1 + self.looks * weight))[:, None] - 1000 * self.looks


class Watched(nn.Module):
    """A model that keeps what it is shown and what it says."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model, self.seen, self.said = model, [], []

    def forward(self, x):
        said = self.model(x)
        self.seen.append(x.detach())
        self.said.append(said[:, 0].detach())
        return said


@pytest.mark.parametrize(("model", "rho"), [(network(), 0.1), (Hill(), 0.0105), (Tiring(), 0.1)])
def test_of_all_that_lay_at_rho_the_one_that_moved_the_class_most_is_returned(model, rho):
    x, goal = torch.full((3, 3, 8, 8), 0.5), of_class(torch.zeros(3).long(), exclusive=False)
    x += 0.001 * torch.rand(x.shape, generator=torch.Generator().manual_seed(0))
    watched = Watched(model)
    found = explain(watched, x, goal, rho=rho, direction="plus")
    deltas, margins = torch.stack(watched.seen) - x, torch.stack(watched.said)  # (steps,B,C,H,W), (steps,B)
    at_rho = torch.stack([rmse(d) for d in deltas]) > rho * (1 - 1e-4)
    assert at_rho.any(0).all()
    best = margins.where(at_rho, -torch.inf).argmax(0)
    torch.testing.assert_close(found.delta, deltas[best, range(3)], rtol=0, atol=1e-6)
    if isinstance(model, Hill):
        assert (margins[best, range(3)] < margins.max(0).values - 1e-5).all(), "nearer than rho there was a better one"


def test_an_image_does_not_depend_on_its_batch():
    x, goal = images(), of_class(torch.arange(12) % 5, exclusive=True)
    whole = explain(network(), x, goal, rho=0.1, direction="plus").delta
    rows = torch.tensor([7, 2])
    part = explain(network(), x[rows], goal[rows], rho=0.1, direction="plus").delta
    torch.testing.assert_close(part, whole[rows], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("direction", ["plus", "minus"])
def test_the_authors_program_on_a_line(direction):
    """Along the weights a perturbation is a number: the program, written out for that number in plain loops."""
    x, model = images(3), linear(2, 3.0)
    w = weights(model)[0]
    goal = of_class(torch.zeros(3, dtype=torch.long), exclusive=False)
    found = explain(model, x, goal, rho=RHO, direction=direction, variant="code", steps=35)
    size = float(w.square().mean().sqrt())
    beyond = []
    for i in range(3):
        logit, a, farthest = float(model(x).detach()[i, 0]), 0.0, 0.0
        for n in range(35):
            if abs(a) < RHO:
                slope = size / (1 + math.exp(logit + a * size * PIXELS))  # of the loss, as an RMSE
                way = (1 if direction == "plus" else -1) * slope / (1e-8 + slope)
            else:
                way = -a / (1e-8 + abs(a))
            a += 5 * RHO * 2 * (35 - n) / (35 * 36) * way
            farthest = max(farthest, abs(a))
        assert float(found.delta[i].flatten() @ w / w.norm()) / PIXELS**0.5 == pytest.approx(a, rel=1e-3)
        beyond.append(farthest > RHO * 1.02)
    assert all(beyond), "it was beyond rho and came back"
    assert found.passes == 35


def test_logits_that_are_no_numbers_change_nothing():
    class Broken(nn.Module):
        def forward(self, x):
            return x.flatten(1)[:, :3] * torch.nan

    found = explain(Broken(), images(2), of_class(torch.zeros(2).long(), exclusive=True), rho=RHO, direction="plus")
    assert found.delta.abs().max() == 0


def test_the_model_and_its_parameters_are_left_alone():
    model = linear(3)
    explain(model, images(2), of_class(torch.zeros(2).long(), exclusive=True), rho=RHO, direction="plus", steps=3)
    assert model.training
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "at least 1"),
        ({"rho": 0.0}, "above 0, got 0.0"),
        ({"overshoot": -1.0}, "above 0"),
        ({"direction": "up"}, "'plus' or 'minus', got 'up'"),
        ({"variant": "text"}, "got 'text'"),
    ],
)
def test_bad_options(options, message):
    goal = of_class(torch.zeros(2).long(), exclusive=True)
    with pytest.raises(UsageError, match=message):
        explain(linear(2), images(2), goal, **{"rho": RHO, "direction": "plus", **options})
