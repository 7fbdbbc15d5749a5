"""DDN and DeepFool against the closed form on linear models and against foolbox's loops."""

import pytest
import torch
from linear_models import at_distance, distances, images, l2_of, linear
from torch import nn

from harness.attacks.ddn import ddn
from harness.attacks.deepfool import deepfool
from harness.attacks.goals import Adversarial, BetterThanRandom, Flip
from harness.errors import UsageError


@pytest.mark.parametrize("goal", [Adversarial, BetterThanRandom])
@pytest.mark.parametrize("l2", [0.06, 0.3, 1.0, 2.5])
def test_the_boundary_of_two_classes(l2, goal):
    x = images()
    model, y = at_distance(linear(2, 5.0), x, l2)
    expected = distances(model, x, y)
    by_ddn, by_deepfool = ddn(model, x, goal(y)), deepfool(model, x, goal(y))
    for found in (by_ddn, by_deepfool):
        assert (l2_of(found) >= expected * 0.9999).all()
        assert goal(y).reached(model(x + found.delta)).all()
    warm = ddn(model, x, goal(y), by_deepfool.delta)
    for found in (by_ddn, warm):
        assert l2_of(found).tolist() == pytest.approx(expected.tolist(), rel=0.02)
    assert l2_of(by_deepfool).tolist() == pytest.approx((1.02 * expected).tolist(), rel=0.01)
    assert by_deepfool.passes.max() <= 3


def test_deepfool_takes_the_nearest_of_several_boundaries():
    x, model = images(), linear(6, 8.0)
    y = model(x).argmax(1)
    found = deepfool(model, x, Adversarial(y))
    assert l2_of(found).tolist() == pytest.approx((1.02 * distances(model, x, y)).tolist(), rel=0.01)


def test_one_finding_of_several_is_flipped_both_ways():
    x, model = images(), linear(4, 5.0)
    logits = model(x).detach()
    c = torch.arange(12) % 4
    point = torch.full((12,), 0.1)
    present = logits[torch.arange(12), c] > point
    goal = Flip(c, torch.where(present, 1.0, -1.0), point)
    w = model[1].weight.detach()[c].norm(dim=1)
    expected = (logits[torch.arange(12), c] - point).abs() / w
    for attack, rel in ((ddn, 0.02), (deepfool, 0.03)):
        found = attack(model, x, goal)
        assert goal.reached(model(x + found.delta)).all()
        assert l2_of(found).tolist() == pytest.approx(expected.tolist(), rel=rel)


def test_a_gpu_is_not_asked_which_images_are_done(monkeypatch):
    """There they are walked along, and neither their result nor their passes change."""
    x, model = images(), linear(6, 8.0)
    y = model(x).argmax(1)
    y[:3] = (y[:3] + 1) % 6
    here = deepfool(model, x, Adversarial(y))
    monkeypatch.setattr("harness.attacks.deepfool.leaves_out", lambda x: False)
    there = deepfool(model, x, Adversarial(y))
    for name in ("rmse", "passes", "first", "delta"):
        assert torch.allclose(getattr(here, name), getattr(there, name), atol=1e-7), name


@pytest.mark.parametrize("attack", [ddn, deepfool])
def test_done_images_cost_one_pass_and_unreachable_ones_are_infinite(attack):
    x, model = images(), linear(3, 5.0)
    y = model(x).argmax(1)
    y[:4] = (y[:4] + 1) % 3
    found = attack(model, x, Adversarial(y), steps=5)
    assert found.rmse[:4].tolist() == [0.0] * 4
    assert found.passes[:4].max() <= 2
    flat = nn.Sequential(nn.Flatten(), nn.Linear(x[0].numel(), 2))
    with torch.no_grad():
        flat[1].weight.zero_()
        flat[1].bias.copy_(torch.tensor([1.0, 0.0]))
    lost = attack(flat, x, Adversarial(torch.zeros(12, dtype=torch.long)), steps=5)
    assert lost.rmse.isinf().all()
    assert lost.delta.isfinite().all()


@pytest.mark.parametrize("attack", [ddn, deepfool])
def test_no_steps_are_refused(attack):
    with pytest.raises(UsageError, match="at least 1, got 0"):
        attack(linear(2), images(2), Adversarial(torch.zeros(2, dtype=torch.long)), steps=0)
