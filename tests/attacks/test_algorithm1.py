"""Algorithm 1 against the closed form on linear models: the distance to the nearest boundary."""

import pytest
import torch
from linear_models import PIXELS, at_distance, distances, images, l2_of, linear
from torch import nn

from harness.attacks.algorithm1 import algorithm1
from harness.attacks.goals import Adversarial, BetterThanRandom, Goal
from harness.errors import UsageError


@pytest.mark.parametrize("l2", [0.06, 0.3, 1.0])
@pytest.mark.parametrize("goal", [Adversarial, BetterThanRandom])
def test_paper_variant_finds_the_boundary_of_two_classes(l2, goal: type[Goal]):
    x = images()
    model, y = at_distance(linear(2, 5.0), x, l2)
    found = algorithm1(model, x, goal(y))
    expected = distances(model, x, y)
    assert (l2_of(found) >= expected * 0.9999).all(), "nothing nearer than the boundary"
    assert l2_of(found).tolist() == pytest.approx(expected.tolist(), rel=0.02)
    assert goal(y).reached(model(x + found.delta)).all()


def test_code_variant_finds_the_nearest_of_several_boundaries():
    x, model = images(), linear(5, 8.0)
    with torch.no_grad():
        model[1].bias[2] += 6.0
    y = model(x).argmax(1)
    found = algorithm1(model, x, Adversarial(y), variant="code")
    assert distances(model, x, y).min() > 0.3
    assert l2_of(found).tolist() == pytest.approx(distances(model, x, y).tolist(), rel=0.06)


def test_images_that_are_wrong_already_cost_one_pass_and_nothing_else():
    x, model = images(), linear(3, 5.0)
    y = model(x).argmax(1)
    y[:4] = (y[:4] + 1) % 3
    found = algorithm1(model, x, Adversarial(y), steps=20)
    assert found.rmse[:4].tolist() == [0.0] * 4
    assert found.delta[:4].abs().max() == 0
    assert found.passes.tolist() == [1] * 4 + [21] * 8
    assert found.first[:4].tolist() == [0] * 4
    assert algorithm1(model, x[4:], Adversarial(y[4:]), steps=20, variant="code").passes.tolist() == [22] * 8


def test_what_is_never_fooled_is_infinite_and_not_zero():
    model = nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, 2))
    with torch.no_grad():
        model[1].weight.zero_()
        model[1].bias.copy_(torch.tensor([1.0, 0.0]))
    found = algorithm1(model, images(3), Adversarial(torch.zeros(3, dtype=torch.long)), steps=5)
    assert found.rmse.isinf().all()
    assert found.first.tolist() == [-1] * 3


def test_clipping_keeps_the_image_an_image():
    x = images() * 0 + 0.01
    model, y = at_distance(linear(2, 5.0), x, 0.5)
    inside = algorithm1(model, x, Adversarial(y))
    free = algorithm1(model, x, Adversarial(y), clip=False)
    assert (x + inside.delta).min() >= 0
    assert (x + free.delta).min() < 0
    assert (inside.rmse > free.rmse * 1.05).all(), "what may leave [0,1] is an easier attack"


def test_the_model_and_its_parameters_are_left_alone():
    x, model = images(), linear(3, 5.0)
    algorithm1(model, x, Adversarial(model(x).argmax(1)), steps=3)
    assert model.training
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize(("options", "message"), [({"steps": 0}, "at least 1"), ({"variant": "text"}, "got 'text'")])
def test_bad_options(options, message):
    with pytest.raises(UsageError, match=message):
        algorithm1(linear(2), images(2), Adversarial(torch.zeros(2, dtype=torch.long)), **options)
