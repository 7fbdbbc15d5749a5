"""Goals: a margin is negative exactly where the paper's condition on probabilities holds."""

import pytest
import torch
from torch import nn

from harness.attacks.goals import Adversarial, BetterThanRandom, Flip, TwoLogits

N, V = 500, 6


@pytest.fixture
def logits() -> torch.Tensor:
    return 3 * torch.randn(N, V, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture
def target() -> torch.Tensor:
    return torch.arange(N) % V


def test_adversarial_is_another_class_being_more_probable(logits, target):
    s = logits.softmax(1)
    mine = s[torch.arange(N), target]
    others = s.clone()
    others[torch.arange(N), target] = -1
    assert torch.equal(Adversarial(target).reached(logits), mine < others.max(1).values)
    assert torch.allclose(Adversarial(target).score(logits), mine)


def test_better_than_random_is_less_than_one_in_v(logits, target):
    mine = logits.softmax(1)[torch.arange(N), target]
    assert torch.equal(BetterThanRandom(target).reached(logits), mine < 1 / V)


def test_for_two_classes_both_are_the_same(target):
    logits = torch.randn(N, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    y = target % 2
    assert torch.allclose(Adversarial(y).margin(logits), BetterThanRandom(y).margin(logits))


def test_the_margin_moves_where_the_probability_does_not():
    logits = torch.tensor([[60.0, 0.0, 0.0]], requires_grad=True)
    goal = BetterThanRandom(torch.tensor([0]))
    (of_score,) = torch.autograd.grad(goal.score(logits).sum(), logits)
    (of_margin,) = torch.autograd.grad(goal.margin(logits).sum(), logits)
    assert of_score.abs().max() < 1e-20
    assert of_margin.abs().max() == 1


def test_flip_is_the_decision_on_one_finding(logits, target):
    point = torch.full((N,), 0.7, dtype=torch.float64)
    present = torch.arange(N) % 3 == 0
    goal = Flip(target, torch.where(present, 1.0, -1.0).double(), point)
    decided = logits[torch.arange(N), target] > 0.7
    assert torch.equal(goal.reached(logits), decided != present)
    assert torch.allclose(goal.loss(logits), -goal.score(logits).log())


def test_a_part_of_a_goal_is_the_goal_of_that_part(logits, target):
    rows = torch.tensor([5, 3, 99])
    goal = Flip(target, torch.ones(N).double(), torch.arange(N).double())
    for whole in (goal, Adversarial(target), BetterThanRandom(target)):
        assert len(whole[rows]) == 3
        assert torch.equal(whole[rows].margin(logits[rows]), whole.margin(logits)[rows])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_broken_logits_reach_nothing(value):
    """A failing model is never a success of the attack."""
    logits = torch.tensor([[value, 1.0], [0.0, 1.0]])
    for goal in (Adversarial(torch.tensor([0, 0])), BetterThanRandom(torch.tensor([0, 0]))):
        assert goal.reached(logits).tolist() == [False, True]


def test_two_logits_show_a_goal_to_a_library(logits, target):
    view = TwoLogits(nn.Identity(), BetterThanRandom(target))
    found = view(logits)
    assert found.shape == (N, 2)
    assert torch.equal(found.argmax(1) == 1, BetterThanRandom(target).margin(logits) < 0)
