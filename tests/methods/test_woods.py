"""The robust trainings of Woods 2019: the paper's settings, what each adds to the loss, what moves."""

import dataclasses

import pytest
import torch
from torch import nn

from harness.models.activations import HalfHuberReLU
from harness.models.classifier import Classifier, GlobalAverageLinear, Normalise
from harness.plan import RunSpec, make
from harness.plugins import catalogue
from harness.tasks import MultiClass, MultiLabel
from harness.types import Batch

NAMES = ("lipschitz", "lipschitz_hhrelu", "adversarial_training", "lipschitz_hhrelu_adversarial", "noise_training")
METHODS = {name: catalogue().load("method", name) for name in NAMES}


def model(classes: int = 4) -> Classifier:
    torch.manual_seed(0)
    features = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 3))
    return Classifier(
        Normalise((0.5,) * 3, (0.25,) * 3), features, GlobalAverageLinear(6, classes), num_classes=classes
    )


def batch(n: int = 12, labels: bool = False) -> Batch:
    x = torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    y = torch.arange(n) % 4
    return Batch(x, nn.functional.one_hot(y, 4).float() if labels else y, torch.arange(n))


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lipschitz", {"psi": 220.0, "activation": "relu", "norm": "none", "outputs": 1, "power": 2.0}),
        ("lipschitz_hhrelu", {"psi": 12000.0, "activation": "hhrelu", "norm": "none"}),
        ("adversarial_training", {"psi": 0.0, "norm": "l2", "steps": 7, "epsilon": 0.01, "share": 1.0}),
        (
            "lipschitz_hhrelu_adversarial",
            {"psi": 220.0, "adaptive": True, "target_loss": 1.5, "zeta": 0.2, "tandem": True, "norm": "l2min",
             "epsilon": 0.1, "share": 0.5, "activation": "hhrelu"},
        ),
        ("noise_training", {"psi": 0.0, "norm": "none", "sigma": 0.1}),
    ],
)  # fmt: skip
def test_the_paper_s_settings(name, expected):
    found = dataclasses.asdict(METHODS[name]())
    assert {k: found[k] for k in expected} == expected


@pytest.mark.parametrize("task", [MultiClass(), MultiLabel()])
def test_the_loss_grows_by_psi_times_the_gradient_term(task):
    """Twice the psi adds the same again; without psi it is the plain loss."""
    net, data = model().eval(), batch(labels=not task.exclusive)
    losses = [METHODS["lipschitz"](psi=psi).step(net, data, task, rng(), {}).item() for psi in (0.0, 10.0, 20.0)]
    assert losses[0] == pytest.approx(task.loss(net(data.x), data.y).item(), rel=1e-6)
    assert losses[1] > losses[0] * 1.0001
    assert losses[2] - losses[0] == pytest.approx(2 * (losses[1] - losses[0]), rel=1e-3)


def test_the_gradient_is_of_raw_pixels():
    """A normalisation with a tenth of the deviation multiplies it by ten, its square by a hundred."""
    wide, narrow = model().eval(), model().eval()
    narrow.normalise = Normalise((0.5,) * 3, (0.025,) * 3)
    with torch.no_grad():
        for net in (wide, narrow):
            net.features[0].bias.zero_()
            net.features[2].bias.zero_()
    data = batch()
    terms = []
    for net in (wide, narrow):
        with_term, without = (METHODS["lipschitz"](psi=p).step(net, data, MultiClass(), rng(), {}) for p in (1.0, 0.0))
        terms.append((with_term - without).item())
    assert terms[1] == pytest.approx(100 * terms[0], rel=1e-2)


def test_adaptive_psi_is_remembered():
    method = METHODS["lipschitz_hhrelu_adversarial"](psi=1.0, target_loss=1e6)
    memory = method.memory()
    seen = []
    for _ in range(3):
        method.step(model(), batch(), MultiClass(), rng(), memory)
        seen.append(float(memory["S"]))
    assert seen == pytest.approx([1.0, 2.0, 3.0]), "far below its target the loss raises S by its full step"


@pytest.mark.parametrize(("name", "kinds"), [("lipschitz", nn.ReLU), ("lipschitz_hhrelu", HalfHuberReLU)])
def test_the_activation_is_the_method_s(name, kinds):
    found = [m for m in METHODS[name]().adapt(model()).modules() if isinstance(m, nn.ReLU | HalfHuberReLU)]
    assert found
    assert all(isinstance(m, kinds) for m in found)


@pytest.mark.parametrize("norm", ["l2", "l2min", "linf"])
@pytest.mark.parametrize("task", [MultiClass(), MultiLabel()])
def test_each_adversary_raises_the_loss_of_its_share_and_leaves_the_rest(norm, task):
    net, data = model().eval(), batch(40, labels=not task.exclusive)
    method = METHODS["adversarial_training"](norm=norm, epsilon=0.2, share=0.5)
    moved = method.perturb(net, data, task, rng())
    changed = (moved.x != data.x).flatten(1).any(1)
    assert 0 < int(changed.sum()) <= 20
    before, after = (task.loss(net(b.x[changed]), b.y[changed]).item() for b in (data, moved))
    assert after > before
    assert moved.x.min() >= 0
    assert moved.x.max() <= 1


def test_the_authors_variant_does_not_clip():
    net, data = model().eval(), batch()
    paper, code = (METHODS["adversarial_training"](epsilon=1.0, variant=v).perturb(net, data, MultiClass(), rng()).x
                   for v in ("paper", "code"))  # fmt: skip
    assert 0 <= paper.min() <= paper.max() <= 1
    assert code.min() < 0 or code.max() > 1


def test_settings_are_reached_from_the_command_line():
    plan = make(RunSpec(method="adversarial_training", dataset="phantom", sets=("norm=l2min", "epsilon=0.05")))
    assert (plan.recipe.norm, plan.recipe.epsilon) == ("l2min", 0.05)  # pyright: ignore
