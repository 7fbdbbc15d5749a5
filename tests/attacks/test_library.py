"""foolbox's attacks behind our interface: every goal, in [0,1], confirmed, seeded, and nothing left behind."""

import inspect
import os
import random

import numpy as np
import pytest
import torch
from linear_models import PIXELS, at_distance, distances, images, l2_of, linear
from torch import nn

from harness.attacks.balls import length
from harness.attacks.goals import Adversarial, BetterThanRandom, Flip, Goal
from harness.attacks.library import load
from harness.attacks.minimal import rmse
from harness.errors import UsageError
from harness.plugins import catalogue

FOUND = [c for c in catalogue().of("attack") if c.name.startswith("foolbox_")]
MINIMAL = [c for c in FOUND if c.options["finds"] == "minimal"]
BOUNDED = [c for c in FOUND if c.options["finds"] == "bounded"]
FAST = {  # so that each runs in a moment
    "foolbox_carlini_wagner": {"searches": 4, "steps": 30, "step_size": 0.03, "first_weight": 0.1},
    "foolbox_boundary": {"steps": 40},
    "foolbox_hop_skip_jump": {"steps": 3, "first_looks": 20},
    "foolbox_salt_and_pepper": {"steps": 50},
    "foolbox_gaussian_noise": {"draws": 10},
    "foolbox_uniform_noise": {"draws": 10},
    "foolbox_blended_noise": {"steps": 50},
}
ONLY = {"foolbox_gaussian_noise": ("l2",)}

minimal_ones = pytest.mark.parametrize("component", MINIMAL, ids=lambda c: c.name)
bounded_ones = pytest.mark.parametrize(
    ("component", "norm"), [(c, n) for c in BOUNDED for n in ONLY.get(c.name, ("linf", "l2"))],
    ids=lambda p: getattr(p, "name", p),
)  # fmt: skip


def run(component, model, x, goal, **options):
    return component.load()(model, x, goal, **FAST.get(component.name, {}), **options)


def goals(model, x) -> dict[str, Goal]:
    """Every kind of goal; the last image reaches its goal as it is."""
    logits = model(x).detach()
    y = logits.argmax(1)
    y[-1] = logits[-1].argmin()
    point = logits[:, 0].median() + 0.1
    present = logits[:, 0] > point
    sign = torch.where(present, 1.0, -1.0)
    sign[-1] *= -1
    flip = Flip(torch.zeros_like(y), sign, point.expand(len(x)))
    return {"adv": Adversarial(y), "btr": BetterThanRandom(y), "flip": flip}


def wide(scale: float = 8.0, n: int = 4) -> tuple[nn.Sequential, torch.Tensor]:
    """A model of three classes on images all over [0,1], none of them far from another class."""
    model = linear(3, scale)
    x = torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        model[1].bias -= model(x).mean(0)
    return model, x


def test_the_zoo_is_listed():
    assert {c.name for c in BOUNDED} >= {"foolbox_pgd", "foolbox_basic_iterative", "foolbox_fgsm"}
    black = {c.name for c in FOUND if c.options.get("black_box")}
    assert black >= {"foolbox_boundary", "foolbox_hop_skip_jump", "foolbox_salt_and_pepper", "foolbox_blended_noise"}
    assert len(MINIMAL) == 7


@pytest.mark.parametrize("name", ["adv", "btr", "flip"])
@minimal_ones
def test_minimal_attacks_serve_every_goal(component, name):
    model, x = wide()
    goal = goals(model, x)[name]
    found = run(component, model, x, goal)
    moved = x + found.delta
    assert found.rmse.isfinite().all()
    assert goal.reached(model(moved)).all(), "what counts is reached"
    assert torch.allclose(found.rmse, rmse(found.delta))
    assert moved.min() >= -1e-6
    assert moved.max() <= 1 + 1e-6
    assert (found.rmse[-1], int(found.passes[-1]), int(found.first[-1])) == (0, 1, 0)
    assert (found.rmse[:-1] > 0).all()
    assert (found.passes[:-1] > 3).all()
    assert (found.first[:-1] > 0).all()
    assert (found.first < found.passes).all()


@pytest.mark.parametrize(("name", "factor"), [("ddn", 1.1), ("deepfool", 1.03), ("carlini_wagner", 1.3),
                                              ("boundary", 6.0), ("hop_skip_jump", 2.5)])  # fmt: skip
def test_the_boundary_of_two_classes(name, factor):
    """None goes below the closed form; white-box ones come near it, decision-based ones within a small factor."""
    x = images(2)
    model, y = at_distance(linear(2, 5.0), x, 0.6)
    component = next(c for c in FOUND if c.name == f"foolbox_{name}")
    options = {"boundary": {"steps": 600}, "hop_skip_jump": {"steps": 8}}.get(name, FAST.get(component.name, {}))
    found = component.load()(model, x, Adversarial(y), **options)
    share = l2_of(found) / distances(model, x, y)
    assert share.min() >= 0.9999
    assert share.max() < factor


@pytest.mark.parametrize("name", ["adv", "btr", "flip"])
@bounded_ones
def test_bounded_attacks_serve_every_goal(component, norm, name):
    model, x = wide()
    goal = goals(model, x)[name]
    moved = run(component, model, x, goal, norm=norm, radius=0.02)
    assert (length(moved - x, norm) <= 0.02 + 1e-6).all()
    assert moved.min() >= 0
    assert moved.max() <= 1
    assert torch.equal(moved[-1], x[-1]), "an image that reaches the goal stays"
    if component.options.get("black_box"):
        return
    before, after = (goal.margin(model(images).detach())[:-1] for images in (x, moved))
    assert (after < before).all()


@bounded_ones
def test_a_large_ball_reaches_the_goal(component, norm):
    model, x = wide(20.0)
    with torch.no_grad():
        y = model(x).topk(2).indices[:, 0]
    moved = run(component, model, x, Adversarial(y), norm=norm, radius=0.5 if norm == "linf" else 0.3)
    assert Adversarial(y).reached(model(moved)).float().mean() >= (0.25 if component.options.get("black_box") else 1)


@pytest.mark.parametrize("name", ["ddn", "basic_iterative", "fgsm"])
def test_a_saturated_softmax_stops_no_attack(name):
    """A margin above 20: the probability of the class is 1 in float32."""
    x = images(3)
    model, y = at_distance(linear(2, 28.0), x, 1.0)
    goal = Adversarial(y)
    assert goal.margin(model(x)).min() > 20
    component = catalogue().load("attack", f"foolbox_{name}")
    if name == "ddn":
        assert (l2_of(component(model, x, goal)) < 1.1 * distances(model, x, y)).all()
    else:
        assert goal.reached(model(component(model, x, goal, norm="l2", radius=0.1))).all()


@pytest.mark.parametrize("component", FOUND, ids=lambda c: c.name)
def test_same_bits_twice_and_in_any_batch_and_nothing_left_behind(component):
    model, x = wide()
    goal = goals(model, x)["adv"]
    ball = {"norm": "l2", "radius": 0.02} if component in BOUNDED else {}

    def once(rows):
        found = run(component, model, x[rows], goal[rows], **ball)
        return found if isinstance(found, torch.Tensor) else found.delta

    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    kept, every = x.clone(), torch.arange(4)
    first = once(every)
    assert torch.equal(first, once(every))
    torch.manual_seed(5)
    assert torch.equal(first, once(every)), "the global state of torch plays no part"
    torch.set_rng_state(states[0])
    assert torch.allclose(torch.cat([once(every[2:]), once(every[:2])]), first[[2, 3, 0, 1]], atol=2e-4)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.random.get_state()[1].tolist() == states[1]  # noqa: NPY002
    assert random.getstate() == states[2]
    assert torch.equal(x, kept)
    assert model.training
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    with torch.no_grad():
        assert torch.equal(first, once(every)), "also where the caller has gradients off"


@pytest.mark.parametrize("component", FOUND, ids=lambda c: c.name)
def test_what_cannot_be_attacked_is_never_a_success(component):
    flat = nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, 2))
    with torch.no_grad():
        flat[1].weight.zero_()
        flat[1].bias.copy_(torch.tensor([1.0, 0.0]))

    class Broken(nn.Module):
        """NaN logits for the second image's brightness."""

        def forward(self, x):
            return torch.where(x.flatten(1).mean(1, keepdim=True) > 0.9, torch.nan, flat(x))

    x = torch.cat([images(1), torch.full((1, 3, 8, 8), 0.99)])
    goal = Adversarial(torch.zeros(2, dtype=torch.long))
    options = dict(FAST.get(component.name, {}))
    if "directions" in inspect.signature(component.load()).parameters:
        options["directions"] = 3
    if component in BOUNDED:
        moved = component.load()(Broken(), x, goal, norm="l2", radius=0.1, **options)
        assert moved[0].isfinite().all()
        assert moved[1].isnan().all()
        return
    found = component.load()(Broken(), x, goal, **options)
    assert found.rmse.isinf().all()
    assert (found.delta == 0).all()
    assert found.first.tolist() == [-1, -1]


def test_the_import_leaves_the_environment_alone(monkeypatch):
    monkeypatch.delenv("GIT_PYTHON_REFRESH", raising=False)
    assert load().__version__
    assert "GIT_PYTHON_REFRESH" not in os.environ
    monkeypatch.setenv("GIT_PYTHON_REFRESH", "warn")
    load()
    assert os.environ["GIT_PYTHON_REFRESH"] == "warn"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("foolbox_pgd", {"norm": "l2", "radius": 0.0}, "above 0, in .* got 0.0"),
        ("foolbox_pgd", {"norm": "l1", "radius": 0.1}, "expected linf or l2, got 'l1'"),
        ("foolbox_gaussian_noise", {"norm": "linf", "radius": 0.1}, "has l2, got 'linf'"),
        ("foolbox_pgd", {"norm": "l2", "radius": 0.1, "steps": 0}, "steps: expected at least 1, got 0"),
        ("foolbox_boundary", {"directions": 0}, "directions: expected at least 1, got 0"),
    ],
)
def test_bad_options(name, options, message):
    with pytest.raises(UsageError, match=message):
        catalogue().load("attack", name)(linear(2), images(2), Adversarial(torch.zeros(2, dtype=torch.long)), **options)
