"""How often a GPU is waited for inside the loops of attacks, explainers and training: by a GPU that is pretended.

python tests/test_host_reads.py     the table of docs/one_gpu.md
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pretended_gpu import GPU, OnGPU, PretendedGPU, on_gpu, on_host
from support import REPOSITORY
from test_golden import COMPONENTS, data, network, thirds
from torch import nn

from harness.attacks import adversaries
from harness.attacks.explain import explain
from harness.attacks.goals import Adversarial, BetterThanRandom, Flip
from harness.attacks.strongest import strongest
from harness.config import build
from harness.data.batches import Feed
from harness.device import Compute
from harness.fit import state
from harness.fit.loop import LOOK_EVERY, _Training
from harness.plugins import Component, catalogue
from harness.tasks import MultiClass

STEPS, IMAGES = 4, 4  # and twice as many steps
DOCS = REPOSITORY / "docs" / "one_gpu.md"
GOALS = {
    "adv": Adversarial,
    "btr": BetterThanRandom,
    "flip": lambda y: Flip(y, torch.ones_like(y).float(), torch.zeros_like(y).float()),
}
Run = Callable[[Any, torch.Tensor, torch.Tensor, int], Any]  # (network, images, classes, steps) -> tensors


def _minimal(name: str, goal: str, **options: Any) -> Run:
    attack = catalogue().load("attack", name)
    return lambda net, x, y, steps: attack(net, x, GOALS[goal](y), steps=steps, **options).delta


def _bounded(norm: str, goal: str) -> Run:
    attack = catalogue().load("attack", "pgd")
    return lambda net, x, y, steps: attack(net, x, GOALS[goal](y), norm=norm, radius=0.05, steps=steps)


def _trained(name: str, **options: Any) -> Run:
    """Return an adversary of a training."""
    loss = nn.functional.cross_entropy

    def run(net: Any, x: torch.Tensor, y: torch.Tensor, steps: int) -> torch.Tensor:
        more = {**options, **({"rng": torch.Generator().manual_seed(0)} if name == "linf" else {})}
        more |= {"correct": lambda logits, y: logits.argmax(1) == y} if name == "l2_min" else {}
        return getattr(adversaries, name)(net, x, y, loss, epsilon=0.05, steps=steps, **more)

    return run


def _all_together(net: Any, x: torch.Tensor, y: torch.Tensor, steps: int) -> torch.Tensor:
    named = {n: catalogue().load("attack", n) for n in ("deepfool", "ddn", "algorithm1")}
    bound = {n: lambda *a, attack=attack: attack(*a, steps=steps) for n, attack in named.items()}
    return strongest(net, x, Adversarial(y), bound).delta


ATTACKS: dict[str, Run] = {
    "fgsm": lambda net, x, y, steps: catalogue().load("attack", "fgsm")(
        net, x, y, nn.functional.cross_entropy, epsilon=0.02
    ),
    **{f"pgd, {norm}, {goal}": _bounded(norm, goal) for norm in ("linf", "l2") for goal in GOALS},
    **{f"{name}, {goal}": _minimal(name, goal) for name in ("ddn", "deepfool", "algorithm1") for goal in GOALS},
    "algorithm1, code, adv": _minimal("algorithm1", "adv", variant="code"),
    "deepfool, ddn and algorithm1 together": _all_together,
    "adversaries l2": _trained("l2"),
    "adversaries l2, ramped": _trained("l2", ramped=True),
    "adversaries l2_min": _trained("l2_min"),
    "adversaries linf": _trained("linf", step_size=0.02),
    "explain": lambda net, x, y, steps: explain(
        net, x, BetterThanRandom(y), rho=0.05, direction="minus", steps=steps
    ).delta,
    "explain, code": lambda net, x, y, steps: explain(
        net, x, BetterThanRandom(y), rho=0.05, direction="plus", variant="code", steps=steps
    ).delta,
}  # fmt: skip

# Which setting is the number of steps, and what else is set; {} where there is no loop.
CHEAP = {"l1": 0.001, "l2": 0.001}
EXPLAINERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "saliency": ("saliency", "", {}),
    "cam": ("cam", "", {}),
    "gradcam": ("gradcam", "", {}),
    "random_map": ("random_map", "", {}),
    "centre": ("centre", "", {}),
    "whole_image": ("whole_image", "", {}),
    "adversarial": ("adversarial", "steps", {}),
    "mask": ("mask", "iterations", {}),
    **{
        f"{name}, {search}": (name, "iterations", {**CHEAP, "points": 3, "search": search})
        for name in ("igos", "igos_p", "igos_pp")
        for search in ("fast", "full", "fixed", "nesterov")
    },
    "igos_pp, code": ("igos_pp", "iterations", {"points": 3, "variant": "code", "search": "fixed"}),
    "smoothgrad": ("smoothgrad", "samples", {"batch": IMAGES}),
    "rise": ("rise", "masks", {"batch": IMAGES}),
    "lime": ("lime", "samples", {"batch": IMAGES}),
    "occlusion": ("occlusion", "cells", {"batch": IMAGES, "shifts": 1}),
    "integrated_gradients": ("integrated_gradients", "steps", {"batch": IMAGES}),
}
PER_STEP = {"integrated_gradients": 1}  # captum makes the points of each pass on the host


def explained(name: str) -> Run:
    component, counted, options = EXPLAINERS[name]

    def run(net: Any, x: torch.Tensor, y: torch.Tensor, steps: int) -> torch.Tensor:
        settings = {**options, **({counted: steps} if counted else {})}
        explainer, _ = build(catalogue().load("explainer", component), component, ("test", settings))
        return explainer(net, x, y, seeds=torch.arange(len(x))).heat

    return run


def waits(run: Run, net: nn.Module, steps: int) -> tuple[PretendedGPU, torch.Tensor]:
    """Return what a run waited for on the pretended GPU, and what came of it."""
    images, labels = data(IMAGES)
    x, y = on_gpu(images / 255), on_gpu(torch.from_numpy(labels))
    with PretendedGPU() as gpu:
        found = run(on_gpu(net), x, y, steps)
        assert isinstance(found, OnGPU), "the result is on the host"
    return gpu, on_host(found)


def on_the_host(run: Run, net: nn.Module) -> torch.Tensor:
    images, labels = data(IMAGES)
    return run(net, images / 255, torch.from_numpy(labels), STEPS)


def measured(run: Run, make: Callable[[], nn.Module]) -> tuple[int, float]:
    """Return how often a call waits besides its steps, and how often in each step."""
    few, many = (waits(run, make(), steps)[0].waits for steps in (STEPS, 2 * STEPS))
    per_step = (many - few) / STEPS
    return round(few - per_step * STEPS), per_step


def conv() -> nn.Module:
    return network().eval().requires_grad_(False)


CASES = {
    **{f"attack {n}": (run, thirds) for n, run in ATTACKS.items()},
    **{f"explainer {n}": (explained(n), conv) for n in EXPLAINERS},
}


@pytest.mark.parametrize("name", CASES)
def test_no_step_waits_for_the_gpu(name):
    once, per_step = measured(*CASES[name])
    assert per_step == PER_STEP.get(name.split(maxsplit=1)[1], 0)
    assert line_of(name, once, per_step) in DOCS.read_text(), "python tests/test_host_reads.py prints the table"


@pytest.mark.parametrize("name", CASES)
def test_the_branch_of_the_gpu_gives_what_that_of_the_cpu_gives(name):
    """Images that are done are left out on a CPU and masked on a GPU."""
    run, make = CASES[name]
    _, there = waits(run, make(), STEPS)
    torch.testing.assert_close(there, on_the_host(run, make()), rtol=1e-4, atol=1e-5, equal_nan=True)


def test_every_attack_and_explainer_is_looked_at():
    attacks = {c.name for c in COMPONENTS if c.kind == "attack"} | {"explain"}
    assert attacks == {n.split(",")[0] for n in ATTACKS} - {n for n in ATTACKS if n.startswith("adversaries")}
    assert {c.name for c in COMPONENTS if c.kind == "explainer"} == {of for of, _, _ in EXPLAINERS.values()}


# ---- training -------------------------------------------------------------------------------------------------------

OF_TRAINING = "| training step, every method | 0 | 0 |"


def trained(component: Component, steps: int, augment: str = "pad_crop_flip") -> PretendedGPU:
    """Return what `steps` steps of a training wait for, their losses not looked at."""
    smoke = {k: v for k, v in getattr(component.load(), "smoke", {}).items() if v is not None}
    method, _ = build(component.load(), component.name, ("smoke", smoke | {"batch_size": 4, "augment": augment}))
    images, labels = data(32)
    compute = Compute(GPU, "fp32")
    model = on_gpu(method.adapt(network()))
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    feed = Feed(on_gpu(images), on_gpu(torch.from_numpy(labels)), np.arange(32), compute)
    memory = {k: on_gpu(v) for k, v in method.memory().items()}
    at = state.Position()
    work = _Training(method, model, MultiClass(), feed, optimiser, compute, 0, Path(), at, {}, memory, str, print)
    batches = [np.arange(4 * (s % 8), 4 * (s % 8) + 4) for s in range(steps)]
    with PretendedGPU() as gpu:
        model.train()
        for step, batch in enumerate(feed.stream(batches)):
            work.step(step, batch)
    return gpu


@pytest.mark.parametrize("component", [c for c in COMPONENTS if c.kind == "method"], ids=lambda c: c.name)
def test_no_training_step_waits_for_the_gpu(component):
    few, many = (trained(component, steps).waits for steps in (2, 4))
    assert few == many == 0


@pytest.mark.parametrize("augment", ["none", "flip", "pad_crop_flip"])
def test_augmentation_does_not_wait(augment):
    (baseline,) = (c for c in COMPONENTS if (c.kind, c.name) == ("method", "baseline"))
    assert trained(baseline, 4, augment).waits == 0


# ---- the pretended GPU itself ----------------------------------------------------------------------------------------

ASKED: dict[str, Callable[[torch.Tensor], Any]] = {
    "float": lambda x: float(x.sum()),
    "if": lambda x: bool(x.any()),
    "item": lambda x: x.max().item(),
    "tolist": lambda x: x.tolist(),
    "cpu": lambda x: x.cpu(),
    "to cpu": lambda x: x.to("cpu"),
    "nonzero": lambda x: x.nonzero(),
    "mask": lambda x: x[x > 0.5],
    "a mask to write at": lambda x: x.clone().__setitem__(x > 0.5, x[:1].expand(0)),
    "equal": lambda x: torch.equal(x, x),
    "unique": lambda x: x.unique(),
    "solve": lambda x: torch.linalg.solve(torch.eye(5, device=x.device), x[:, None]),
    "a list as index": lambda x: x[[0, 1]],
    "an index of the host": lambda x: x[torch.tensor([0, 1])],
    "tensor": lambda x: torch.tensor([1.0], device=x.device),
    "to": lambda x: torch.zeros(3).to(x.device),
    "not page-locked": lambda x: torch.zeros(3).to(x.device, non_blocking=True),
}
NOT_ASKED: dict[str, Callable[[torch.Tensor], Any]] = {
    "where": lambda x: torch.where(x > 0.5, x, 0),
    "an index of the device": lambda x: x[torch.arange(2, device=x.device)],
    "slice": lambda x: x[1:3],
    "one number at a mask": lambda x: x.clone().__setitem__(x > 0.5, 0.0),
    "fill": lambda x: x.new_full((3,), 2.0),
    "page-locked": lambda x: torch.zeros(3).pin_memory().to(x.device, non_blocking=True),
    "one_hot": lambda x: nn.functional.one_hot(x.long(), 3),
    "on the host": lambda x: float(torch.zeros(3).sum()),
    "gradient": lambda x: x.detach().requires_grad_(True).square().sum().backward(),
}


@pytest.mark.parametrize("name", ASKED)
def test_what_a_gpu_is_waited_for_is_counted(name):
    with PretendedGPU() as gpu:
        try:
            ASKED[name](on_gpu(torch.rand(5)))
        except (RuntimeError, ValueError, IndexError):
            assert name == "a mask to write at"
    assert gpu.waits >= 1


@pytest.mark.parametrize("name", NOT_ASKED)
def test_what_it_is_not_waited_for_is_not(name):
    with PretendedGPU() as gpu:
        NOT_ASKED[name](on_gpu(torch.rand(5)))
    assert gpu.waits == 0, (gpu.reads, gpu.copies)


def test_two_devices_in_one_operation_are_an_error():
    with PretendedGPU(), pytest.raises(RuntimeError, match="same device"):
        on_gpu(torch.rand(3)) + torch.rand(3)
    with PretendedGPU(), pytest.raises(TypeError, match="numpy"):
        on_gpu(torch.rand(3)).numpy()


# ---- the table of the documentation -----------------------------------------------------------------------------------


def line_of(name: str, once: int, per_step: float) -> str:
    _, counted, _ = EXPLAINERS.get(name.removeprefix("explainer "), ("", "steps", {}))
    return f"| {name} | {once} | {f'{per_step:g}' if counted and name != 'attack fgsm' else 'no loop'} |"


def test_the_documentation_says_what_training_waits_for():
    assert OF_TRAINING in DOCS.read_text()
    assert f"every {LOOK_EVERY} steps" in DOCS.read_text()


if __name__ == "__main__":
    torch.set_num_threads(1)
    lines = ["| loop | waits per call | waits per step |", "|---|---|---|"]
    lines += [line_of(name, *measured(*case)) for name, case in CASES.items()]
    sys.stdout.write("\n".join([*lines, OF_TRAINING]) + "\n")
