"""Attributions by gradients along a path or under noise, and by hiding parts: closed forms, slow twins, captum."""

import itertools
import warnings
from dataclasses import replace

import captum.attr
import numpy as np
import pytest
import torch
from captum._utils.models.linear_model import SkLearnRidge
from sklearn.linear_model import Ridge
from torch import nn

from harness import masking
from harness.errors import UsageError
from harness.explainers.adversarial import AdversarialExplanation
from harness.explainers.cam import CAM
from harness.explainers.gradcam import GradCAM
from harness.explainers.integrated_gradients import IntegratedGradients
from harness.explainers.lime import LIME, ridge_regression
from harness.explainers.masked import baseline_of, outputs
from harness.explainers.occlusion import Occlusion
from harness.explainers.rise import RISE, masks_of
from harness.explainers.saliency import Saliency
from harness.explainers.smoothgrad import SmoothGrad
from harness.explainers.target import output_of
from harness.models.classifier import Classifier, GlobalAverageLinear, Normalise

torch.set_num_threads(1)
HEIGHT, WIDTH, CLASSES = 13, 9, 3
TARGET, SEEDS = torch.tensor([0, 2, 1]), torch.tensor([5, 6, 7])
MEAN = (0.3, 0.45, 0.6)
FIVE = [IntegratedGradients(), SmoothGrad(), Occlusion(), LIME(samples=70), RISE(masks=70)]
OF_CLASSES = [*FIVE, CAM(), GradCAM(), Saliency(), AdversarialExplanation(steps=2)]
BASELINES = ("mean", "black", "blurred")
five = pytest.mark.parametrize("explainer", FIVE, ids=lambda e: type(e).__name__)
of_classes = pytest.mark.parametrize("explainer", OF_CLASSES, ids=lambda e: type(e).__name__)


@pytest.fixture
def x():
    return torch.rand(3, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1))


def linear(height=HEIGHT, width=WIDTH):
    """Logits linear in the pixels; returns the model in double precision."""
    torch.manual_seed(0)
    head = nn.Sequential(nn.Flatten(), nn.Linear(3 * height * width, CLASSES))
    return Classifier(Normalise(MEAN, (0.2,) * 3), nn.Identity(), head, num_classes=CLASSES).double().eval()


def weights(model, height=HEIGHT, width=WIDTH):
    """The logits' gradient with respect to the pixels of each target, (B,3,H,W)."""
    return model.head[1].weight.detach().view(CLASSES, 3, height, width)[TARGET] / 0.2


@pytest.fixture
def curved():
    """A small convolutional network with in-place activations."""
    torch.manual_seed(0)
    features = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True),
                             nn.Conv2d(6, 5, 3, padding=1), nn.Softplus())  # fmt: skip
    model = Classifier(Normalise(MEAN, (0.2,) * 3), features, GlobalAverageLinear(5, CLASSES), num_classes=CLASSES)
    with torch.no_grad():
        model.head.weight.mul_(10)
    return model.eval().requires_grad_(False)


def counted(model):
    """Count the images that pass forward, and those of them that pass backward too."""
    seen = {"forward": 0, "backward": 0}

    def hook(module, inputs, logits):
        seen["forward"] += len(logits)
        if logits.requires_grad:
            seen["backward"] += len(logits)

    return model.register_forward_hook(hook), seen


# ------------------------------------------------------------------------------------------------- closed forms


@pytest.mark.parametrize("baseline", BASELINES)
@pytest.mark.parametrize("method", ["gausslegendre", "riemann_left", "riemann_right", "riemann_middle"])
def test_integrated_gradients_of_a_linear_model_are_exact(x, baseline, method):
    model, x = linear(), x.double()
    heat = IntegratedGradients(baseline=baseline, output="logit", steps=3, method=method)(
        model, x, TARGET, seeds=SEEDS
    ).heat
    expected = (weights(model) * (x - baseline_of(model, x, baseline))).sum(1)
    torch.testing.assert_close(heat, expected.float(), rtol=1e-4, atol=1e-5)
    sized = IntegratedGradients(baseline=baseline, output="logit", steps=3, method=method, signed=False)
    torch.testing.assert_close(sized(model, x, TARGET, seeds=SEEDS).heat, heat.abs())


def test_smoothgrad_of_a_linear_model_is_its_gradient(x):
    model, x = linear(), x.double()
    size = weights(model).abs()
    summed = SmoothGrad(samples=3)(model, x, TARGET, seeds=SEEDS).heat
    torch.testing.assert_close(summed, size.sum(1).float())
    largest = SmoothGrad(samples=3, channels="max")(model, x, TARGET, seeds=SEEDS).heat
    torch.testing.assert_close(largest, Saliency()(model, x, TARGET, seeds=SEEDS).heat)


@pytest.mark.parametrize("baseline", BASELINES)
def test_occlusion_of_a_linear_model_is_what_the_windows_hide(x, baseline):
    model, x = linear(), x.double()
    heat = Occlusion(cells=4, shifts=2, baseline=baseline, output="logit")(model, x, TARGET, seeds=SEEDS).heat
    share = (weights(model) * (x - baseline_of(model, x, baseline))).sum(1)  # (B,H,W)
    total, covered = torch.zeros_like(share), torch.zeros(HEIGHT, WIDTH)
    for top, left in itertools.product(range(0, 11, 2), range(0, 7, 1)):  # windows of 4 x 3, the lowest sticks out
        here = (slice(None), slice(top, top + 4), slice(left, left + 3))
        total[here] += share[here].sum((1, 2), keepdim=True)
        covered[here[1:]] += 1
    assert covered.min() >= 1
    torch.testing.assert_close(heat, (total / covered).float(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("baseline", BASELINES)
def test_lime_of_a_linear_model_without_penalty_is_the_share_of_each_cell(x, baseline):
    model, x = linear(), x.double()
    lime = LIME(cells=4, samples=200, ridge=1e-9, baseline=baseline, output="logit")
    heat = lime(model, x, TARGET, seeds=SEEDS).heat
    share = (weights(model) * (x - baseline_of(model, x, baseline))).sum(1)
    expected = torch.zeros(3, 4, 4, dtype=torch.float64)
    for i, j in itertools.product(range(HEIGHT), range(WIDTH)):
        expected[:, i * 4 // HEIGHT, j * 4 // WIDTH] += share[:, i, j]
    torch.testing.assert_close(heat, expected.float(), rtol=1e-3, atol=1e-4)
    small = LIME(cells=4, samples=200, ridge=1e3, baseline=baseline, output="logit")
    assert small(model, x, TARGET, seeds=SEEDS).heat.norm() < 0.5 * heat.norm()


@pytest.mark.parametrize("share", [0.5, 0.25])
def test_rise_is_the_mean_over_every_mask_in_the_limit(share):
    torch.manual_seed(3)
    model = linear(4, 3)
    x = torch.rand(1, 3, 4, 3, dtype=torch.float64)
    target = torch.tensor([1])
    grids = torch.tensor(list(itertools.product([0.0, 1.0], repeat=4)), dtype=torch.float64).view(-1, 2, 2)
    cell = (2, 2)  # of 4 and of 3 pixels by two cells, rounded up
    chance = share ** grids.sum((1, 2)) * (1 - share) ** (4 - grids.sum((1, 2)))
    hidden = baseline_of(model, x, "mean")
    mean, square = torch.zeros(4, 3, dtype=torch.float64), torch.zeros(4, 3, dtype=torch.float64)
    for shift in itertools.product(range(2), range(2)):
        masks = masks_of(grids, torch.tensor(shift).expand(len(grids), 2), cell, 4, 3)
        found = outputs(model, x, hidden, masks[None], target, "probability")[0]
        each = found[:, None, None] * masks / share
        mean += (chance[:, None, None] * each).sum(0) / 4
        square += (chance[:, None, None] * each.square()).sum(0) / 4
    n = 20000
    heat = RISE(masks=n, cells=2, share=share, batch=5000)(model, x, target, seeds=torch.tensor([4])).heat[0]
    error = ((square - mean.square()) / n).sqrt()
    assert ((heat - mean).abs() < 5 * error).all()
    assert (error < 0.1 * (mean.max() - mean.min())).all()  # else the line above would say nothing


def test_rise_masks_are_the_grid_between_the_middles_of_its_cells():
    grid = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
    whole = masks_of(grid, torch.zeros(1, 2, dtype=torch.long), (4, 4), 8, 8)[0]
    assert whole[0, 0] == 1
    assert whole.shape == (8, 8)
    along = [float(min(1, max(0, 1 - ((i + 0.5) * 2 / 12 - 0.5)))) for i in range(12)]  # 2 cells over 12 pixels
    torch.testing.assert_close(whole[0], torch.tensor(along[:8]))
    moved = masks_of(grid, torch.tensor([[1, 3]]), (4, 4), 8, 8)[0]
    torch.testing.assert_close(moved[0] / moved[0, 0], torch.tensor(along[3:11]) / along[3])
    torch.testing.assert_close(moved[:, 0] / moved[0, 0], torch.tensor(along[1:9]) / along[1])


# ------------------------------------------------------------------------------------- a slow twin, and captum


@pytest.mark.parametrize("output", ["logit", "probability"])
@pytest.mark.parametrize("exclusive", [True, False])
def test_integrated_gradients_are_complete(curved, x, output, exclusive):
    curved.exclusive = exclusive
    for baseline in BASELINES:
        found = IntegratedGradients(steps=300, baseline=baseline, output=output)(curved, x, TARGET, seeds=SEEDS).heat
        at_ends = [output_of(curved, i, TARGET, output) for i in (x, baseline_of(curved, x, baseline))]
        torch.testing.assert_close(found.sum((1, 2)), at_ends[0] - at_ends[1], rtol=2e-3, atol=2e-4)


def test_integrated_gradients_twin(curved, x):
    heat = IntegratedGradients(steps=7, method="riemann_right", batch=5)(curved, x, TARGET, seeds=SEEDS).heat
    total = torch.zeros_like(x)
    for k in range(1, 8):
        at = (x * k / 7).requires_grad_(True)
        (gradient,) = torch.autograd.grad(output_of(curved, at, TARGET, "probability").sum(), at)
        total += gradient / 7
    torch.testing.assert_close(heat, (total * x).sum(1), rtol=1e-4, atol=1e-6)


def test_smoothgrad_twin(curved, x):
    heat = SmoothGrad(samples=7, noise=0.2, output="probability", batch=4)(curved, x, TARGET, seeds=SEEDS).heat
    for b in range(3):
        rng = torch.Generator().manual_seed(int(SEEDS[b]))
        total = torch.zeros(3, HEIGHT, WIDTH)
        for _ in range(7):
            at = x[b] + 0.2 * (x[b].max() - x[b].min()) * torch.randn(x.shape[1:], generator=rng)
            at = at[None].requires_grad_(True)
            (gradient,) = torch.autograd.grad(output_of(curved, at, TARGET[b : b + 1], "probability").sum(), at)
            total += gradient[0] / 7
        torch.testing.assert_close(heat[b], total.abs().sum(0), rtol=1e-4, atol=1e-6)


def test_smoothgrad_is_captums_but_for_the_draw(curved, x):
    n, x, target = 3000, x[:1], TARGET[:1]
    ours = SmoothGrad(samples=n, batch=500)(curved, x, target, seeds=SEEDS[:1]).heat
    tunnel = captum.attr.NoiseTunnel(captum.attr.Saliency(curved))
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # captum's, that it sets requires_grad
        theirs = tunnel.attribute(x.clone(), nt_samples=n, nt_samples_batch_size=500, abs=False, target=target,
                                  stdevs=0.15 * float(x.max() - x.min()))  # fmt: skip
    theirs = theirs.abs().sum(1).detach()
    plain = SmoothGrad(samples=1, noise=0)(curved, x, target, seeds=SEEDS[:1]).heat
    assert (ours - theirs).norm() < 0.05 * theirs.norm()
    assert (ours - plain).norm() > 0.1 * plain.norm()  # the noise matters here


@pytest.mark.parametrize(("cells", "shifts"), [(7, 2), (4, 3), (1, 1), (40, 1)])
def test_occlusion_is_captums(curved, x, cells, shifts):
    ours = Occlusion(cells=cells, shifts=shifts, batch=5)(curved, x, TARGET, seeds=SEEDS)
    window = [-(-side // cells) for side in (HEIGHT, WIDTH)]
    theirs = captum.attr.Occlusion(lambda i: output_of(curved, i, TARGET, "probability")).attribute(
        x, sliding_window_shapes=(3, *window), strides=(3, *(max(1, w // shifts) for w in window)),
        baselines=baseline_of(curved, x, "mean"),
    )  # fmt: skip
    torch.testing.assert_close(ours.heat, theirs[:, 0], rtol=1e-4, atol=1e-6)


def test_lime_is_captums_on_the_same_samples(curved, x):
    lime = LIME(cells=3, samples=60, ridge=0.4)
    ours = lime(curved, x, TARGET, seeds=SEEDS).heat
    cells = torch.arange(HEIGHT)[:, None] * 3 // HEIGHT * 3 + torch.arange(WIDTH) * 3 // WIDTH  # (H,W) 0..8
    for b in range(3):

        def samples(original, b=b, **_):
            yield from lime._draw(int(SEEDS[b]), 9)[:, None].float()

        def similarity(original, perturbed, shown, **_):
            both = torch.cosine_similarity(shown, torch.ones(1, 9)).item()
            return float(np.sqrt(np.exp(-((1 - both) ** 2) / 0.25**2)))

        theirs = captum.attr.Lime(
            lambda i, b=b: output_of(curved, i, TARGET[b : b + 1], "probability"),
            interpretable_model=SkLearnRidge(alpha=0.4), similarity_func=similarity, perturb_func=samples,
        ).attribute(
            x[b : b + 1], baselines=baseline_of(curved, x[b : b + 1], "mean"), n_samples=60,
            feature_mask=cells[None, None], return_input_shape=False,
        )  # fmt: skip
        torch.testing.assert_close(ours[b].flatten(), theirs[0].float(), rtol=1e-3, atol=1e-6)


def test_lime_begins_with_the_whole_image_and_hides_half_of_the_cells():
    shown = LIME(samples=2000)._draw(0, 49)
    assert shown[0].all()
    assert abs(shown[1:].float().mean().item() - 0.5) < 0.01


def test_baselines(curved, x):
    mean = torch.tensor(MEAN)[:, None, None].expand_as(x)
    assert torch.equal(baseline_of(curved, x, "mean"), mean)
    assert curved.normalise(mean).abs().max() == 0
    assert torch.equal(baseline_of(curved, x, "black"), torch.zeros_like(x))
    assert torch.equal(baseline_of(curved, x, "blurred"), masking.blurred(x))


def test_ridge_regression_is_scikit_learns():
    rng = np.random.default_rng(0)
    z, y, weight = rng.integers(0, 2, (2, 40, 6)).astype(float), rng.normal(size=(2, 40)), rng.random((2, 40))
    found = ridge_regression(*(torch.from_numpy(a) for a in (z, y, weight)), 0.7)
    for b in range(2):
        expected = Ridge(alpha=0.7).fit(z[b], y[b], sample_weight=weight[b]).coef_
        np.testing.assert_allclose(found[b].numpy(), expected, rtol=1e-8)


def test_rise_twin(curved, x):
    heat = RISE(masks=9, cells=3, share=0.6, baseline="blurred", batch=4)(curved, x, TARGET, seeds=SEEDS).heat
    blurred = masking.blurred(x)
    for b in range(3):
        rng = torch.Generator().manual_seed(int(SEEDS[b]))
        grids = (torch.rand(9, 3, 3, generator=rng) < 0.6).float()
        down, right = torch.randint(5, (9,), generator=rng), torch.randint(3, (9,), generator=rng)
        total = torch.zeros(HEIGHT, WIDTH)
        for grid, i, j in zip(grids, down.tolist(), right.tolist(), strict=True):
            large = nn.functional.interpolate(grid[None, None], size=(4 * 5, 4 * 3), mode="bilinear")[0, 0]
            mask = large[i : i + HEIGHT, j : j + WIDTH]
            shown = mask * x[b] + (1 - mask) * blurred[b]
            total += curved(shown[None]).softmax(1)[0, TARGET[b]] * mask
        torch.testing.assert_close(heat[b], total / (9 * 0.6), rtol=1e-4, atol=1e-6)


# ------------------------------------------------------------------------------------------- what holds for all


@five
def test_passes_are_counted(explainer, curved, x):
    handle, seen = counted(curved)
    found = explainer(curved, x, TARGET, seeds=SEEDS)
    handle.remove()
    assert seen["backward"] == 3 * found.backwards
    assert seen["forward"] == 3 * (found.forwards + found.backwards)
    assert found.forwards + found.backwards > 1


@five
def test_size_of_a_pass_and_other_images_change_nothing(explainer, curved, x):
    heat = explainer(curved, x, TARGET, seeds=SEEDS).heat
    assert heat.flatten(1).std(1).min() > 0
    for batch in (1, 7, 1000):
        other = replace(explainer, batch=batch)(curved, x[[2, 0]], TARGET[[2, 0]], seeds=SEEDS[[2, 0]]).heat
        torch.testing.assert_close(other, heat[[2, 0]], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("explainer", [SmoothGrad(), LIME(samples=70), RISE(masks=70)], ids=lambda e: type(e).__name__)
def test_the_seed_decides_and_nothing_else(explainer, curved, x):
    torch.manual_seed(0)
    heat = explainer(curved, x, TARGET, seeds=SEEDS).heat
    after = torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(torch.rand(1), after)  # the global generator is nobody's
    assert torch.equal(explainer(curved, x, TARGET, seeds=SEEDS).heat, heat)
    assert not torch.allclose(explainer(curved, x, TARGET, seeds=SEEDS + 1).heat, heat, rtol=1e-2)


@five
def test_the_output_and_the_class_are_what_is_asked_for(explainer, curved, x):
    def heat(target=TARGET, **changes):
        return replace(explainer, **changes)(curved, x, target, seeds=SEEDS).heat

    logit = heat(output="logit")
    softmax = heat(output="probability")
    assert not torch.allclose(heat(TARGET.roll(1)), heat(), rtol=0.05)
    curved.exclusive = False
    sigmoid = heat(output="probability")
    assert torch.equal(heat(output="logit"), logit)
    assert not torch.allclose(logit, softmax, rtol=0.05)
    assert not torch.allclose(sigmoid, softmax, rtol=0.05)
    assert not torch.allclose(sigmoid, logit, rtol=0.05)


@five
@pytest.mark.parametrize("value", [0.0, 1.0, 0.37])
def test_constant_images(explainer, curved, value):
    x = torch.full((2, 3, HEIGHT, WIDTH), value)
    assert explainer(curved, x, TARGET[:2], seeds=SEEDS[:2]).heat.isfinite().all()


@five
@pytest.mark.parametrize("size", [(1, 1), (1, 5), (2, 2), (31, 17)])
def test_any_size(explainer, curved, size):
    x = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    heat = explainer(curved, x, TARGET[:2], seeds=SEEDS[:2]).heat
    assert heat.isfinite().all()
    cells = tuple(min(7, side) for side in size)
    assert heat.shape[1:] == (cells if isinstance(explainer, LIME) else size)


@five
def test_an_image_that_is_no_number_loses_its_own_map_alone(explainer, curved, x):
    heat = explainer(curved, x, TARGET, seeds=SEEDS).heat
    broken = x.clone()
    broken[1, 0, 3, 4] = torch.nan
    found = explainer(curved, broken, TARGET, seeds=SEEDS).heat
    assert not found[1].isfinite().all()
    torch.testing.assert_close(found[[0, 2]], heat[[0, 2]])


@five
def test_hooks_are_not_needed(explainer, curved, x, monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("this module takes no hooks")

    expected = explainer(curved, x, TARGET, seeds=SEEDS).heat
    for name in ("register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook"):
        monkeypatch.setattr(nn.Module, name, refuse)
    assert torch.equal(explainer(curved, x, TARGET, seeds=SEEDS).heat, expected)


@of_classes
def test_classes_that_the_model_does_not_have_are_refused(explainer, curved, x):
    for wrong in (torch.tensor([0, 3, 1]), torch.tensor([0, 2, -1])):
        with pytest.raises(UsageError, match=r"expected a class number from 0 to 2.*got \[(3|-1)\]"):
            explainer(curved, x, wrong, seeds=SEEDS)
    for wrong in (TARGET[:2], TARGET[:, None], TARGET.float()):
        with pytest.raises(UsageError, match="for each of the images"):
            explainer(curved, x, wrong, seeds=SEEDS)
    with pytest.raises(UsageError, match="for each of the images"):
        explainer(curved, x[:0], TARGET[:0], seeds=SEEDS[:0])


@pytest.mark.parametrize(
    ("explainer", "settings", "message"),
    [
        (IntegratedGradients, {"steps": 0}, "steps: expected at least 1, got 0"),
        (IntegratedGradients, {"steps": 1, "method": "riemann_trapezoid"}, "steps: expected at least 2"),
        (SmoothGrad, {"samples": 0}, "samples: expected at least 1"),
        (SmoothGrad, {"noise": -0.1}, "noise: expected at least 0"),
        (SmoothGrad, {"noise": float("nan")}, "noise: expected at least 0"),
        (Occlusion, {"cells": 0}, "cells: expected at least 1"),
        (Occlusion, {"shifts": 0}, "shifts: expected at least 1"),
        (LIME, {"samples": 0}, "samples: expected at least 1"),
        (LIME, {"ridge": 0.0}, "expected numbers above 0, got 0.0"),
        (LIME, {"kernel_width": -1.0}, "expected numbers above 0"),
        (RISE, {"masks": 0}, "masks: expected at least 1"),
        (RISE, {"share": 0.0}, "share: expected .* above 0 and at most 1, got 0.0"),
        (RISE, {"share": 1.1}, "at most 1, got 1.1"),
        *((e, {"batch": 0}, "batch: expected at least 1") for e in map(type, FIVE)),
    ],
)  # fmt: skip
def test_settings_without_sense_are_refused(explainer, settings, message):
    with pytest.raises(UsageError, match=message):
        explainer(**settings)
