"""robustbench imports, and AutoAttack does what is known in closed form on linear models."""

import subprocess
import sys

import pytest
import torch
from linear_models import at_distance, distances, images, linear
from torch import nn

from harness.errors import HarnessError, UsageError
from harness.robustbench_adapter import attacks_of, autoattack

IMPORT = """
import random, sys, warnings
import numpy, torch
from harness.robustbench_adapter import robustbench
random.seed(0), numpy.random.seed(0), torch.manual_seed(0)
before = (torch.get_default_dtype(), torch.get_num_threads(), torch.backends.cudnn.benchmark, torch.get_rng_state().sum(),
          torch.is_grad_enabled(), list(warnings.filters), sys.path[:], random.getstate(), numpy.random.get_state()[2])
zoo = robustbench("robustbench.model_zoo")
assert len(zoo.model_dicts) == 3
assert robustbench("robustbench.model_zoo") is zoo
after = (torch.get_default_dtype(), torch.get_num_threads(), torch.backends.cudnn.benchmark, torch.get_rng_state().sum(),
         torch.is_grad_enabled(), list(warnings.filters), sys.path[:], random.getstate(), numpy.random.get_state()[2])
assert before == after, [a == b for a, b in zip(before, after)]
try:
    robustbench("robustbench.nothing")
except Exception as error:
    assert "robustbench.nothing: cannot be imported" in str(error), error
assert not {"autoattack", "autoattack.state", "pkg_resources"} & set(sys.modules)
folder = sys.modules["robustbench.loaders"].pkg_resources
import os
assert os.path.isfile(folder.resource_filename("robustbench.loaders", "helper_files/imagenet_test_image_ids.txt"))
"""


def test_robustbench_imports_and_leaves_nothing_behind():
    done = subprocess.run([sys.executable, "-W", "error", "-c", IMPORT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def l2_robust(model, x, y, epsilon):
    return distances(model, x, y) > epsilon


def linf_robust(model, x, y, epsilon):
    """For each other class a linear gap falls by epsilon times the L1 length of the difference of weights."""
    w, b = model[1].weight.detach(), model[1].bias.detach()
    logits = x.flatten(1) @ w.T + b
    gap = logits.gather(1, y[:, None]) - logits
    reach = (w[y][:, None] - w[None]).abs().sum(2)
    return (torch.where(reach > 0, gap / reach, torch.inf).min(1).values) > epsilon


ROBUST = {"l2": l2_robust, "linf": linf_robust}


@pytest.mark.parametrize("norm", ROBUST)
@pytest.mark.parametrize("classes", [2, 3, 4, 10])
def test_on_linear_models_it_fools_exactly_those_within_reach(classes, norm):
    model, x = linear(classes), images(10)
    y = model(x).argmax(1)
    if classes == 2:
        model, y = at_distance(model, x, 0.1)
    own = ROBUST[norm]
    radii = torch.linspace(1e-4, 1.0, 2000)
    counts = torch.stack([own(model, x, y, r).sum() for r in radii])
    epsilon = float(radii[(counts - len(x) / 2).abs().argmin()])  # about half of the images are within reach
    clear = own(model, x, y, 0.97 * epsilon) == own(model, x, y, 1.03 * epsilon)  # not on the edge of it
    expected = own(model, x, y, epsilon)
    assert 0 < expected.sum() < len(x)
    moved = autoattack(model, x, y, norm=norm, epsilon=epsilon, version="apgd")
    held = model(moved).argmax(1) == y
    assert torch.equal(held[clear], expected[clear])
    assert clear.sum() > len(x) // 2
    delta = (moved - x).flatten(1)
    length = delta.norm(dim=1) if norm == "l2" else delta.abs().amax(1)
    assert length.max() <= epsilon * (1 + 1e-4)
    assert torch.equal(moved[held], x[held])
    assert moved.min() >= 0
    assert moved.max() <= 1


def test_the_standard_version_runs_all_four_and_repeats_bit_for_bit(monkeypatch):
    import pyautoattack.autoattack

    class Short(pyautoattack.autoattack.SquareAttack):
        def __init__(self, *arguments, **settings):
            super().__init__(*arguments, **settings | {"n_queries": 20})

    monkeypatch.setattr(pyautoattack.autoattack, "SquareAttack", Short)
    ran = []
    for name, kind in (("apgd", "APGDAttack"), ("fab", "FABAttack_PT"), ("square", "SquareAttack")):
        cls = getattr(pyautoattack.autoattack, kind)
        original = cls.perturb

        def perturb(self, x, y, original=original, name=name):
            ran.append(name)
            return original(self, x, y)

        monkeypatch.setattr(cls, "perturb", perturb)
    model, x = linear(4), images(4)
    y = model(x).argmax(1)
    epsilon = float(distances(model, x, y).median())
    torch.manual_seed(5)
    state = torch.get_rng_state()
    a, b = (autoattack(model, x, y, norm="l2", epsilon=epsilon, seed=3) for _ in range(2))
    assert ran[:3] == ["apgd", "fab", "square"]
    assert torch.equal(a, b)
    assert torch.equal(torch.get_rng_state(), state), "the caller's random numbers are its own"
    assert not torch.equal(a, autoattack(model, x, y, norm="l2", epsilon=epsilon, seed=4))


def test_which_attacks_there_are_for_few_classes():
    assert attacks_of("standard", 10) == ("apgd-ce", "apgd-t", "fab-t", "square")
    assert attacks_of("standard", 3) == ("apgd-ce", "apgd-dlr", "fab-t", "square")
    assert attacks_of("apgd", 2) == ("apgd-ce",)
    with pytest.raises(UsageError, match="at least 2 classes, got 1"):
        attacks_of("standard", 1)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_memory_formats(memory_format):
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4))
    net = net.eval().requires_grad_(False).to(memory_format=memory_format)
    x = torch.rand(3, 3, 8, 8).to(memory_format=memory_format)
    moved = autoattack(net, x, net(x).argmax(1), norm="linf", epsilon=0.3, version="apgd")
    assert moved.shape == x.shape
    assert not (moved - x).requires_grad


def test_gradients_may_have_any_strides():
    class Permuted(nn.Module):
        weight = torch.rand(8 * 8 * 3, 4, generator=torch.Generator().manual_seed(0))

        def forward(self, x):
            return x.permute(0, 2, 3, 1).flatten(1) @ self.weight

    x = images(2)
    moved = autoattack(Permuted(), x, Permuted()(x).argmax(1), norm="l2", epsilon=1.0, version="apgd")
    assert moved.shape == x.shape


def test_what_it_warns_of_is_told(capsys):
    class Constant(nn.Module):
        def forward(self, x):
            return 0 * x.flatten(1)[:, :4] + torch.tensor([1.0, 0.5, 0.2, 0.1])

    remarks: list[str] = []
    autoattack(Constant(), images(2), torch.zeros(2, dtype=torch.long), norm="l2", epsilon=0.1, version="apgd",
               remarks=remarks)  # fmt: skip
    assert any("zero gradient" in r for r in remarks)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("norm", "epsilon"), [("l1", 1.0), ("l2", 0.0), ("linf", float("nan"))])
def test_bad_arguments(norm, epsilon):
    with pytest.raises(UsageError, match="norm linf or l2 and a radius above 0"):
        autoattack(linear(4), images(2), torch.zeros(2, dtype=torch.long), norm=norm, epsilon=epsilon)


def test_images_that_are_not_numbers_afterwards_are_an_error(monkeypatch):
    import pyautoattack

    monkeypatch.setattr(pyautoattack.AutoAttack, "run_standard_evaluation", lambda s, x, y, batch_size: (x / 0, y))
    with pytest.raises(HarnessError, match="NaN or infinity"):
        autoattack(linear(4), images(2), torch.zeros(2, dtype=torch.long), norm="l2", epsilon=0.1)
