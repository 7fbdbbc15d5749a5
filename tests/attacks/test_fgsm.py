"""FGSM against its closed form on a linear model, and the choice of the images it moves."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from harness.attacks.fgsm import choose, fgsm
from harness.errors import UsageError
from harness.tasks import MultiClass, MultiLabel

torch.set_num_threads(1)


def linear(classes=2, seed=0):
    rng = torch.Generator().manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, classes))
    with torch.no_grad():
        model[1].weight.copy_(torch.randn(classes, 12, generator=rng))
    return model


def images(n, seed=1, low=0.3, high=0.7):
    return torch.rand(n, 3, 2, 2, generator=torch.Generator().manual_seed(seed)) * (high - low) + low


def test_closed_form_for_two_classes():
    model, x, y = linear(), images(6), torch.tensor([0, 1, 0, 1, 1, 0])
    moved = fgsm(model, x, y, MultiClass().loss, epsilon=0.01)
    direction = (model[1].weight[1] - model[1].weight[0]).sign().view(1, 3, 2, 2)  # up the loss of class 0
    signs = torch.where(y == 0, 1.0, -1.0).view(-1, 1, 1, 1)
    torch.testing.assert_close(moved, x + 0.01 * signs * direction, rtol=0, atol=1e-7)


def test_twin_image_by_image_for_several_labels():
    model, x = linear(classes=4), images(5)
    y = (torch.rand(5, 4, generator=torch.Generator().manual_seed(2)) > 0.5).float()

    def loss(logits, y):
        return MultiLabel().loss(logits, y, weighted=False)

    moved = fgsm(model, x, y, loss, epsilon=0.02)
    for i in range(5):
        p = model(x[i : i + 1]).sigmoid()[0].detach()
        gradient = sum(((p[j] - y[i, j]) * model[1].weight[j] for j in range(4)), torch.zeros(12))
        torch.testing.assert_close(moved[i].flatten(), x[i].flatten() + 0.02 * gradient.detach().sign())


def test_result_stays_in_the_image_range():
    model, x, y = linear(), images(8, low=0.0, high=1.0), torch.zeros(8, dtype=torch.long)
    x[0], x[1] = 0.0, 1.0
    moved = fgsm(model, x, y, MultiClass().loss, epsilon=0.25)
    assert moved.min() == 0.0
    assert moved.max() == 1.0
    assert (moved - x).abs().max() <= 0.25 + 1e-6


def test_pixels_without_gradient_stay():
    model, x = linear(), images(2)
    with torch.no_grad():
        model[1].weight[:, :4] = 0
    moved = fgsm(model, x, torch.tensor([0, 1]), MultiClass().loss, epsilon=0.1)
    assert torch.equal(moved[:, 0], x[:, 0])
    assert not (moved[:, 1:] == x[:, 1:]).any()


@pytest.mark.parametrize("training", [True, False])
def test_leaves_the_model_as_it_was(training):
    # No ReLU: random weights can leave all of its units dead, and then nothing moves.
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Softplus(), nn.Flatten(), nn.Linear(16, 2))
    model.train(training)
    x, y = images(4), torch.tensor([0, 1, 0, 1])
    (model(x).sum() * 3).backward()
    gradients = [p.grad.clone() for p in model.parameters()]
    before = x.clone()
    with torch.no_grad():  # also where the caller has gradients off
        moved = fgsm(model, x, y, MultiClass().loss, epsilon=0.01)
    assert not torch.equal(moved, x)
    assert model.training is training
    assert model[1].training is training
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), gradients, strict=True))
    assert torch.equal(x, before)
    assert not x.requires_grad
    assert not moved.requires_grad


def test_no_image_is_no_work():
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 2))
    empty = torch.zeros(0, 3, 2, 2)
    assert fgsm(model, empty, torch.zeros(0, dtype=torch.long), MultiClass().loss, epsilon=0.1).shape == empty.shape
    assert model[0].num_batches_tracked == 0  # no pass was made


@settings(deadline=None, max_examples=50)
@given(n=st.integers(0, 200), share=st.floats(0, 1), seed=st.integers(0, 2**31))
def test_choose_takes_exactly_the_share(n, share, seed):
    chosen = choose(n, share=share, rng=torch.Generator().manual_seed(seed))
    assert chosen.dtype == torch.int64
    assert len(chosen) == round(share * n)
    assert (chosen.diff() > 0).all(), "ascending, none twice"
    assert not len(chosen) or 0 <= chosen[0] <= chosen[-1] < n


def test_choose_is_random_over_places_and_repeats():
    rng = torch.Generator().manual_seed(0)
    draws = torch.cat([choose(10, share=0.5, rng=rng) for _ in range(400)])
    assert (draws.bincount(minlength=10) / 400 - 0.5).abs().max() < 0.1  # four standard deviations
    one, two = (choose(64, share=0.5, rng=torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(one, two)
    with pytest.raises(UsageError, match=r"from 0 to 1, got 1\.5"):
        choose(4, share=1.5, rng=rng)
