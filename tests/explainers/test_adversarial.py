"""Adversarial explanations as maps: on a model that is linear in its pixels the map is known."""

import pytest
import torch
from torch import nn

from harness.explainers.adversarial import AdversarialExplanation
from harness.models.classifier import Classifier, Normalise

CLASSES, SIDE = 3, 6


@pytest.fixture
def model():
    torch.manual_seed(0)
    head = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, CLASSES))
    return Classifier(Normalise((0.0,) * 3, (1.0,) * 3), nn.Identity(), head, num_classes=CLASSES).eval()


def explained(model, **settings):
    x = torch.full((CLASSES, 3, SIDE, SIDE), 0.5)
    explainer = AdversarialExplanation(rho=0.05, **settings)
    return x, explainer(model, x, torch.arange(CLASSES), seeds=torch.arange(CLASSES))


@pytest.mark.parametrize("direction", ["plus", "minus"])
def test_the_map_is_the_size_of_the_weights_and_the_image_the_changed_one(model, direction):
    model.exclusive = False
    x, found = explained(model, direction=direction)
    w = model.head[1].weight.detach().view(CLASSES, 3, SIDE, SIDE)
    expected = w.square().mean(1).sqrt()
    expected = 0.05 * expected / expected.square().mean((1, 2), keepdim=True).sqrt()
    torch.testing.assert_close(found.heat, expected, rtol=1e-3, atol=1e-5)
    sign = 1 if direction == "plus" else -1
    assert found.image is not None
    assert (sign * (found.image - x) * w).sum() > 0
    torch.testing.assert_close((found.image - x).square().mean(1).sqrt(), found.heat)
    assert (found.forwards, found.backwards) == (0, 50)


def test_classes_that_rule_each_other_out_give_another_map(model):
    model.exclusive = True
    _, together = explained(model)
    model.exclusive = False
    _, alone = explained(model)
    assert not torch.allclose(together.heat, alone.heat, rtol=0.01)


def test_the_authors_program_takes_its_own_number_of_steps(model):
    _, found = explained(model, variant="code", steps=35)
    assert found.backwards == 35
    assert found.heat.square().mean((1, 2)).sqrt().max() < 0.05 * 1.2
