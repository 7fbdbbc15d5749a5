"""The input-gradient penalty against closed forms: linear models, finite differences, the authors' update of psi."""

import math

import pytest
import torch
from torch import nn

from harness.errors import UsageError
from harness.regularisers.lipschitz import AdaptiveStrength, draw, gradient_penalty

B, V, PIXELS = 40, 5, 12


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def one_hot(y: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.one_hot(y, V).bool()


@pytest.fixture
def linear() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, V)).double()


def images() -> torch.Tensor:
    return torch.rand(B, 3, 2, 2, dtype=torch.float64, generator=generator(1)).requires_grad_(True)


@pytest.mark.parametrize("power", [1.0, 2.0, 3.0])
def test_on_a_linear_model_it_is_the_mean_power_of_the_chosen_weights(linear, power):
    x = images()
    logits = linear(x)
    chosen = draw(logits, one_hot(torch.arange(B) % V), outputs=2, share_true=0.0, tandem=False, rng=generator())
    weight = linear[1].weight.detach()
    by_hand = torch.stack([weight[c.argmax(1)].abs().pow(power).mean(1).mean() for c in chosen]).mean()
    assert gradient_penalty(logits, x, chosen, power=power).item() == pytest.approx(float(by_hand), rel=1e-12)


def test_its_derivative_is_that_of_finite_differences():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, 6), nn.Tanh(), nn.Linear(6, V)).double()
    x = images()
    chosen = draw(model(x), one_hot(torch.arange(B) % V), outputs=1, share_true=0.5, tandem=True, rng=generator())

    def value() -> torch.Tensor:
        return gradient_penalty(model(x), x, chosen)

    value().backward()
    parameter = model[1].weight
    assert parameter.grad is not None
    for place in ((0, 0), (3, 5), (5, 11)):
        before, around = parameter[place].item(), []
        for moved in (before + 1e-5, before - 1e-5, before):
            parameter.data[place] = moved
            around.append(value().item())
        above, below, _ = around
        assert parameter.grad[place].item() == pytest.approx((above - below) / 2e-5, rel=1e-5)


def test_outputs_are_drawn_without_replacement_and_alike_often():
    logits = torch.zeros(4000, V)
    chosen = draw(logits, one_hot(torch.arange(4000) % V), outputs=3, share_true=0.0, tandem=False, rng=generator())
    assert (chosen.sum(0).max(1).values == 1).all(), "no class twice for an image"
    frequency = chosen.sum((0, 1)) / 4000
    assert frequency.numpy() == pytest.approx([3 / V] * V, abs=0.04)


def test_the_true_class_is_drawn_more_often_by_zeta():
    y = torch.arange(6000) % V
    chosen = draw(torch.zeros(6000, V), one_hot(y), outputs=1, share_true=0.2, tandem=False, rng=generator())[0]
    hit = (chosen.argmax(1) == y).float().mean()
    assert float(hit) == pytest.approx(0.2 + 0.8 / V, abs=0.02)


def test_tandem_is_the_true_class_minus_its_largest_rival():
    logits = torch.randn(200, V, generator=generator(3))
    y = torch.arange(200) % V
    chosen = draw(logits, one_hot(y), outputs=1, share_true=1.0, tandem=True, rng=generator())[0]
    margin = (logits * chosen).sum(1)
    others = logits.clone()
    others[torch.arange(200), y] = -torch.inf
    assert torch.allclose(margin, logits[torch.arange(200), y] - others.max(1).values)


def test_of_several_labels_one_true_one_is_drawn_and_none_where_there_is_none():
    true = torch.zeros(3000, V, dtype=torch.bool)
    true[:2000, 1] = true[:2000, 3] = True
    chosen = draw(torch.zeros(3000, V), true, outputs=1, share_true=1.0, tandem=False, rng=generator())[0]
    picked = chosen.argmax(1)
    assert set(picked[:2000].tolist()) == {1, 3}
    assert float((picked[:2000] == 1).float().mean()) == pytest.approx(0.5, abs=0.05)
    assert set(picked[2000:].tolist()) == set(range(V))


def test_more_outputs_than_classes_are_refused():
    with pytest.raises(UsageError, match="expected 1 to 5"):
        draw(torch.zeros(2, V), one_hot(torch.zeros(2, dtype=torch.long)), outputs=6, share_true=0, tandem=False,
             rng=generator())  # fmt: skip


def test_psi_follows_the_authors_rule():
    """By hand, in Python's floats: rises by ln(target/L) up to 1, falls by at most 0.01, never below psi0."""
    rule = AdaptiveStrength(start=220.0, target=1.5, rate=0.02, rising=1.0, falling=0.01)
    state, by_hand = torch.zeros(()), 0.0
    for loss in (3.0, 2.0, 1.4, 0.2, 0.9, 1.6, 50.0, 1.5):
        by_hand = max(0.0, by_hand + min(1.0, max(-0.01, -math.log(loss / 1.5))))
        state = rule.updated(state, torch.tensor(loss))
        assert float(state) == pytest.approx(by_hand, abs=1e-6)
        assert float(rule.psi(state)) == pytest.approx(220 * math.exp(0.02 * by_hand), rel=1e-6)
    assert float(rule.psi(torch.zeros(()))) == 220
