"""The best of several attacks, and what happens to images that none of them fools."""

import dataclasses
from functools import partial

import pytest
import torch
from linear_models import distances, images, linear
from torch import nn

from harness.attacks.ddn import ddn
from harness.attacks.deepfool import deepfool
from harness.attacks.goals import Adversarial
from harness.attacks.minimal import rmse
from harness.attacks.sanity import faults
from harness.attacks.strongest import registration, strongest, towards


@pytest.fixture
def given():
    x, model = images(), linear(4, 8.0)
    y = model(x).argmax(1)
    y[:2] = (y[:2] + 1) % 4
    return model, x, Adversarial(y)


def test_the_smallest_of_all_wins(given):
    model, x, goal = given
    found = strongest(model, x, goal, {"deepfool": deepfool, "ddn": ddn})
    assert found.each[2:].min(1).values.tolist() == found.rmse[2:].tolist()
    assert found.winner[:2].tolist() == [-1, -1]
    assert found.rmse[:2].tolist() == [0, 0]
    assert found.passes[:2].tolist() == [1, 1]
    assert torch.allclose(rmse(found.delta), found.rmse, rtol=1e-5)
    assert goal[torch.arange(2, len(x))].reached(model((x + found.delta)[2:])).all()
    for number, attack in ((0, deepfool), (1, ddn)):
        mine = found.winner == number
        assert torch.equal(found.each[mine, number], found.rmse[mine]), attack


def test_a_warm_attack_is_given_what_those_before_it_found(given):
    model, x, goal = given
    seen = []

    def warm(model, x, goal, start):
        seen.append(start)
        return ddn(model, x, goal, start)

    warm.__harness__ = {"attack": {"name": "warm", "finds": "minimal", "warm": True}}
    strongest(model, x, goal, {"deepfool": deepfool, "warm": warm})
    assert torch.equal(seen[0], deepfool(model, x[2:], goal[torch.arange(2, len(x))]).delta)


def test_a_claim_that_does_not_hold_counts_for_nothing(given):
    """An attack that says it fooled an image, with a perturbation that does not."""
    model, x, goal = given

    def liar(model, x, goal):
        found = deepfool(model, x, goal)
        return dataclasses.replace(found, delta=found.delta * 0.5, rmse=found.rmse * 0.5)

    found = strongest(model, x, goal, {"liar": liar})
    assert found.rmse[2:].isinf().all()
    assert found.winner.tolist() == [-1] * len(x)
    assert found.late[2:].all()


def test_settings_that_are_bound_hide_no_registration():
    assert registration(partial(partial(ddn, steps=3), gamma=0.1))["warm"] is True
    assert registration(lambda: None) == {}


def test_towards_another_image_is_the_boundary_on_the_way():
    """On a linear model the boundary on the segment to the other image is known."""
    model, x = linear(2, 5.0), images(6)
    with torch.no_grad():
        before = model(x)
        model[1].bias[0] -= (before[:, 0] - before[:, 1]).sort().values[2:4].mean()  # three images on each side
        logits = model(x)
    y = logits.argmax(1)
    one = 0
    others = x[y != y[one]]
    found = towards(model, x[one], Adversarial(y[one : one + 1]), others).item()
    margins = (logits[:, y[one]] - logits[:, 1 - y[one]]).detach()
    lengths = rmse(others - x[one])
    nearest = lengths.argmin()
    share = margins[one] / (margins[one] - margins[y != y[one]][nearest])
    assert found == pytest.approx((share * lengths[nearest]).item(), rel=1e-4)
    exact = distances(model, x, y)[one].item() / x[0].numel() ** 0.5
    assert found >= exact
    same = x[y == y[one]]
    assert torch.isnan(towards(model, x[one], Adversarial(y[one : one + 1]), same))


def test_a_sound_model_has_no_faults(given):
    model, x, goal = given
    assert faults(model, x, goal, exclusive=True) == []


def test_a_model_in_training_mode_is_no_fault_of_its_own():
    """Dropout that was left on answers the same image differently."""
    model = nn.Sequential(nn.Dropout(0.5), linear(3))
    x = images()
    goal = Adversarial(torch.zeros(len(x), dtype=torch.long))
    assert "random output" in faults(model.train(), x, goal, exclusive=True)
    assert "random output" not in faults(model.eval(), x, goal, exclusive=True)
