"""The objective and its integrated gradient against a twin written from the equation."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.functional import interpolate

from harness.explainers.mask_noise import Noise
from harness.explainers.mask_objective import Objective, Term
from harness.explainers.mask_smoothness import Cost, edge_weights
from harness.masking import blurred
from harness.models.classifier import Classifier, GlobalAverageLinear, Normalise

SEEDS = torch.tensor([3, 4, 5])
FOUR = (Term((0,), False), Term((1,), True), Term((0, 1), False), Term((0, 1), True))


@pytest.fixture(params=[True, False], ids=["exclusive", "many labels"])
def model(request):
    torch.manual_seed(0)
    features = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.SiLU(), nn.Conv2d(6, 8, 3, stride=2), nn.SiLU())
    made = Classifier(Normalise((0.4,) * 3, (0.1,) * 3), features, GlobalAverageLinear(8, 4), num_classes=4)
    made.exclusive = request.param
    return made.double().eval().requires_grad_(False)


def objective(model, *, terms=FOUR, points=5, sd=0.0, shared=True, aligned=False, slope=1.0, n=3):
    x = torch.rand(n, 3, 11, 13, generator=torch.Generator().manual_seed(1), dtype=torch.double)
    noise = Noise(SEEDS[:n], sd)
    noise = noise.renewed(0, points, x) if shared else noise
    cost = Cost(0.3, 2.0, edge_weights(x, 0.3))
    target = torch.tensor([1, 0, 3])[:n]
    return Objective(model, x, blurred(x), target, terms, points, cost, noise, aligned, slope)


def two_masks(n=3, size=(4, 5)):
    return torch.rand(n, 2, *size, generator=torch.Generator().manual_seed(2), dtype=torch.double)


def twin(o, masks, noise=0.0, aligned=False):
    """One image, one term, one point at a time."""
    values = []
    for b in range(len(masks)):
        total = o.cost[torch.tensor([b])](masks[b : b + 1])[0]
        for s in range(1, o.points + 1):
            large = [
                interpolate(masks[b : b + 1, j : j + 1], size=(11, 13), mode="bilinear", align_corners=aligned)
                for j in (0, 1)
            ]
            product = masks[b : b + 1, :1] * masks[b : b + 1, 1:]
            tied = large[0] * large[1] if aligned else interpolate(product, size=(11, 13), mode="bilinear")

            def f(kept, b=b, s=s):
                x, blur = o.x[b : b + 1], o.baseline[b : b + 1]
                added = noise[s - 1, b] if isinstance(noise, torch.Tensor) else 0
                logits = o.model(x * kept + blur * (1 - kept) + added)[0]
                every = logits.softmax(0) if o.model.exclusive else logits.sigmoid()
                return every[o.target[b]]

            part = s / o.points
            here = f(part * large[0]) - f(1 - part * large[1]) + f(part * tied) - f(1 - part * tied)
            total = total + here / o.points
        values.append(total)
    return torch.stack(values)


@pytest.mark.parametrize("aligned", [False, True])
def test_value_and_gradient_are_the_equation_s(model, aligned):
    o, masks = objective(model, aligned=aligned), two_masks().requires_grad_(True)
    expected = twin(o, masks, aligned=aligned)
    (slopes,) = torch.autograd.grad(expected.sum(), masks)
    torch.testing.assert_close(o.value(masks, 0), expected.detach())
    value, gradient = o.slopes(masks, 0)
    torch.testing.assert_close(value, expected.detach())
    torch.testing.assert_close(gradient, slopes)
    assert not gradient.requires_grad


def test_noise_of_the_bank_is_that_of_each_point(model):
    o, masks = objective(model, sd=0.1), two_masks()
    torch.testing.assert_close(o.value(masks, 7), twin(o, masks, noise=o.noise.bank))
    assert o.noise.bank.std().item() == pytest.approx(0.1, rel=0.05)
    assert torch.equal(o.value(masks, 7), o.value(masks, 8))
    other = replace(o, noise=o.noise.renewed(1, 5, o.x))
    assert (other.value(masks, 7) != o.value(masks, 7)).all()


def test_noise_without_a_bank_is_new_in_every_draw_and_of_each_image_alone(model):
    o, masks = objective(model, sd=0.1, shared=False), two_masks()
    assert torch.equal(o.value(masks, 7), o.value(masks, 7))
    assert (o.value(masks, 7) != o.value(masks, 8)).all()
    torch.testing.assert_close(o.slopes(masks, 7)[0], o.value(masks, 7))
    rows = torch.tensor([2, 0])
    torch.testing.assert_close(o[rows].value(masks[rows], 7), o.value(masks, 7)[rows])


def test_the_global_generator_is_nobody_s(model):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    objective(model, sd=0.1, shared=False).value(two_masks(), 0)
    assert torch.equal(torch.rand(1), expected)


def test_some_of_the_images(model):
    o, masks, rows = objective(model, sd=0.1), two_masks(), torch.tensor([2, 1])
    for part, whole in zip(o[rows].slopes(masks[rows], 0), o.slopes(masks, 0), strict=True):
        torch.testing.assert_close(part, whole[rows])


def test_half_of_the_network_s_slope_and_all_of_the_cost_s(model):
    o, masks = objective(model), two_masks().requires_grad_(True)
    (cost,) = torch.autograd.grad(o.cost(masks).sum(), masks)
    whole, half = (replace(o, slope=s).slopes(masks, 0)[1] - cost for s in (1.0, 0.5))
    torch.testing.assert_close(half, whole / 2)


@pytest.mark.parametrize("rows", [1, 7, 1000])
def test_the_size_of_a_pass_changes_nothing(model, rows, monkeypatch):
    o, masks = objective(model, sd=0.1), two_masks()
    expected = o.slopes(masks, 0)
    monkeypatch.setattr("harness.explainers.mask_objective.ROWS", rows)
    for here, there in zip(o.slopes(masks, 0), expected, strict=True):
        torch.testing.assert_close(here, there)


def test_passes_are_counted_as_the_network_sees_them(model):
    o = objective(model, points=5)
    seen = 0

    def count(module, inputs):
        nonlocal seen
        seen += len(inputs[0])

    handle = model.register_forward_pre_hook(count)
    o.value(two_masks(), 0)
    handle.remove()
    assert seen == o.passes * 3 == 60
