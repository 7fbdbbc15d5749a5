"""Explainers against closed forms and slow twins, and that they leave the model as they found it."""

import pytest
import torch
from torch import nn

from harness.errors import UsageError
from harness.explainers.adversarial import AdversarialExplanation
from harness.explainers.cam import CAM
from harness.explainers.gradcam import GradCAM
from harness.explainers.integrated_gradients import IntegratedGradients
from harness.explainers.lime import LIME
from harness.explainers.occlusion import Occlusion
from harness.explainers.reference import Centre, RandomMap, WholeImage
from harness.explainers.rise import RISE
from harness.explainers.saliency import Saliency
from harness.explainers.smoothgrad import SmoothGrad
from harness.models.classifier import Classifier, GlobalAverageLinear, Normalise
from harness.plugins import BUILTIN_FOLDERS, catalogue

torch.set_num_threads(1)
EVERY = [
    CAM(), GradCAM(), Saliency(), RandomMap(), Centre(), WholeImage(), AdversarialExplanation(steps=3),
    IntegratedGradients(), SmoothGrad(), Occlusion(), LIME(samples=70), RISE(masks=70),
]  # fmt: skip
SEEDS = torch.tensor([11, 12, 13])
TARGET = torch.tensor([0, 3, 3])


@pytest.fixture
def model():
    torch.manual_seed(0)
    features = nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.BatchNorm2d(6), nn.ReLU(),
        nn.Conv2d(6, 5, 3, stride=2, padding=1), nn.ReLU(),
    )  # fmt: skip
    return Classifier(Normalise((0.4,) * 3, (0.2,) * 3), features, GlobalAverageLinear(5, 4), num_classes=4).eval()


@pytest.fixture
def x():
    return torch.rand(3, 3, 16, 12, generator=torch.Generator().manual_seed(1))


def hooks(model):
    return sum(
        len(getattr(m, name))
        for m in model.modules()
        for name in vars(m)
        if name.endswith("_hooks") and "state" not in name
    )


def test_cam_averages_to_the_logit_without_its_bias(model, x):
    heat = CAM()(model, x, TARGET, seeds=SEEDS).heat
    assert heat.shape == (3, 4, 3)
    logits = model(x).detach()
    expected = logits[torch.arange(3), TARGET] - model.head.bias.detach()[TARGET]
    torch.testing.assert_close(heat.mean((1, 2)), expected)
    assert heat.min() < 0  # no ReLU


def test_cam_twin(model, x):
    heat = CAM()(model, x, TARGET, seeds=SEEDS).heat
    maps = model.features(model.normalise(x)).detach()
    for b in range(3):
        total = torch.zeros(4, 3)
        for k in range(5):
            total += model.head.weight[TARGET[b], k].detach() * maps[b, k]
        torch.testing.assert_close(heat[b], total)


def test_cam_needs_its_head(model, x):
    model.head = nn.Sequential(nn.Flatten(), nn.Linear(60, 4))
    with pytest.raises(UsageError, match=r"global average and a linear layer, got Sequential.*gradcam"):
        CAM()(model, x, TARGET, seeds=SEEDS)


def test_gradcam_without_relu_is_cam_over_the_cells(model, x):
    cam = CAM()(model, x, TARGET, seeds=SEEDS).heat
    signed = GradCAM(relu_attributions=False)(model, x, TARGET, seeds=SEEDS).heat
    torch.testing.assert_close(signed, cam / (4 * 3))
    torch.testing.assert_close(GradCAM()(model, x, TARGET, seeds=SEEDS).heat, signed.clamp(min=0))


def test_gradcam_twin_behind_another_head(model, x):
    torch.manual_seed(1)
    model.head = nn.Sequential(nn.Flatten(), nn.Linear(60, 8), nn.Tanh(), nn.Linear(8, 4)).eval()
    heat = GradCAM(relu_attributions=False)(model, x, TARGET, seeds=SEEDS).heat
    for b in range(3):
        maps = model.features(model.normalise(x[b : b + 1])).detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(model.head(maps)[0, TARGET[b]], maps)
        expected = (gradient.mean((2, 3), keepdim=True) * maps).sum(1)[0].detach()
        torch.testing.assert_close(heat[b], expected)


def test_saliency_by_finite_differences(model, x):
    model, x = model.double(), x.double()
    heat = Saliency()(model, x, TARGET, seeds=SEEDS).heat
    step = 1e-6
    signs = set()
    for b, i, j in [(b, i, j) for b in range(3) for i in (0, 3, 8, 15) for j in (1, 4, 11)]:
        slopes = []
        for c in range(3):
            moved = x[b : b + 1].repeat(2, 1, 1, 1)
            moved[0, c, i, j] += step
            moved[1, c, i, j] -= step
            up, down = model(moved)[:, TARGET[b]].tolist()
            slopes.append((up - down) / (2 * step))
        largest = max(slopes, key=abs)
        assert heat[b, i, j].item() == pytest.approx(abs(largest), rel=1e-4, abs=1e-7)
        signs.add(largest > 0)
    assert signs == {True, False}


def test_saliency_of_a_batch_is_that_of_each_image(model, x):
    heat = Saliency()(model, x, TARGET, seeds=SEEDS).heat
    for b in range(3):
        one = Saliency()(model, x[b : b + 1], TARGET[b : b + 1], seeds=SEEDS[b : b + 1]).heat
        torch.testing.assert_close(heat[b : b + 1], one)


@pytest.mark.parametrize("explain", EVERY, ids=lambda e: type(e).__name__)
def test_leaves_the_model_and_the_image_as_they_were(explain, model, x):
    (model(x).sum() * 2).backward()
    gradients = [p.grad.clone() for p in model.parameters()]
    state = {k: v.clone() for k, v in model.state_dict().items()}
    before = x.clone()
    with torch.no_grad():
        found = explain(model, x, TARGET, seeds=SEEDS)
    assert found.heat.shape[0] == 3
    assert found.heat.ndim == 3
    assert found.heat.is_floating_point()
    assert not found.heat.requires_grad
    assert not model.training
    assert hooks(model) == 0
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), gradients, strict=True))
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert torch.equal(x, before)
    assert not x.requires_grad
    assert torch.equal(explain(model, x, TARGET, seeds=SEEDS).heat, found.heat)


@pytest.mark.parametrize("where", ["head", "features"])
def test_no_hooks_are_left_after_an_exception(where, model, x):
    class Fails(nn.Module):
        def forward(self, x):
            assert hooks(model) > 1  # captum's are there while it runs, or this test tests nothing
            raise RuntimeError("out of memory")

    kept = model.head.register_forward_hook(lambda *a: None) if where == "features" else None
    if where == "head":
        model.head = Fails()
        model.head.register_forward_hook(lambda *a: None)
    else:
        model.features.append(Fails())
    with pytest.raises(RuntimeError, match="out of memory"):
        GradCAM()(model, x, TARGET, seeds=SEEDS)
    assert hooks(model) == 1  # the one that was there before
    if kept is not None:
        kept.remove()


def test_random_map_depends_on_the_samples_seed_alone(model, x):
    heat = RandomMap()(model, x, TARGET, seeds=SEEDS).heat
    assert heat.shape == (3, 28, 28)
    again = RandomMap()(model, x[:2] * 0, TARGET[:2], seeds=SEEDS[[2, 0]]).heat
    assert torch.equal(again, heat[[2, 0]])
    assert not torch.equal(heat[0], heat[1])
    assert RandomMap(cells=7)(model, x, TARGET, seeds=SEEDS).heat.shape == (3, 7, 7)
    many = RandomMap()(model, x, TARGET, seeds=torch.arange(100)).heat
    assert abs(many.mean().item() - 0.5) < 0.01
    torch.manual_seed(5)
    drawn = torch.rand(1)
    torch.manual_seed(5)
    RandomMap()(model, x, TARGET, seeds=SEEDS)
    assert torch.equal(torch.rand(1), drawn)  # the global generator is nobody's


def test_centre_is_a_gaussian_of_a_quarter_of_the_side(model):
    x = torch.zeros(2, 3, 8, 8)
    heat = Centre()(model, x, TARGET[:2], seeds=SEEDS[:2]).heat
    assert heat.shape == (2, 8, 8)
    off = (5.5 / 8 - 0.5) / 0.25, (0.5 / 8 - 0.5) / 0.25
    assert heat[1, 5, 0].item() == pytest.approx(torch.exp(torch.tensor(-(off[0] ** 2 + off[1] ** 2) / 2)).item())
    assert torch.equal(heat, heat.flip(1))
    assert torch.equal(heat, heat.transpose(1, 2))


def test_whole_image_is_constant(model, x):
    heat = WholeImage()(model, x, TARGET, seeds=SEEDS).heat
    assert heat.shape == (3, 16, 12)
    assert heat.unique().numel() == 1


def test_catalogue_knows_which_are_reference_maps():
    assert "explainers" in BUILTIN_FOLDERS
    found = {c.name: c.options for c in catalogue().of("explainer")}
    assert {n for n, o in found.items() if o["reference"]} == {"random_map", "centre", "whole_image"}
    assert {n for n, o in found.items() if o["needs_exact_cam"]} == {"cam"}
    assert {"cam", "gradcam", "saliency"} <= set(found)
