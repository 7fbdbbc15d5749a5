"""foolbox's attacks that look for the smallest perturbation in L2, as oracles of ours and to search without gradients.

Source of all: foolbox 3.3.4, its defaults unless a docstring says otherwise. Not here: Brendel & Bethge's, which needs
numba, and the fast minimum norm, whose projection for L2 divides the norm by itself and so never projects (on a linear
model it ends at 1.6 to 1.8 times the distance of the boundary, whatever the steps). `black_box=True`: the attack sees
decisions only, no gradient, so that masked gradients cannot fool it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from harness.attacks.goals import Goal
from harness.attacks.library import at_least_one, load, minimal
from harness.attacks.minimal import Found
from harness.plugins import attack

BLENDS = 50  # steps of the linear search for a starting point, foolbox's


@attack("foolbox_ddn", source="Rony 2019, arXiv:1811.09600; foolbox 3.3.4", finds="minimal")
def foolbox_ddn(
    model: nn.Module, x: Tensor, goal: Goal, *, steps: int = 50, first_radius: float = 1.0, gamma: float = 0.05
) -> Found:
    """Decoupled direction and norm, as foolbox has it: on the cross-entropy of the margin as two logits."""
    at_least_one(steps=steps)
    made = load().attacks.DDNAttack(init_epsilon=first_radius, steps=steps, gamma=gamma)
    return minimal(model, x, goal, made.run, alone=False)


@attack("foolbox_deepfool", source="Moosavi-Dezfooli 2016, arXiv:1511.04599; foolbox 3.3.4", finds="minimal")
def foolbox_deepfool(model: nn.Module, x: Tensor, goal: Goal, *, steps: int = 50, overshoot: float = 0.02) -> Found:
    """DeepFool for L2 on the margin alone: one boundary, where DeepFool of several classes compares several."""
    at_least_one(steps=steps)
    made = load().attacks.L2DeepFoolAttack(steps=steps, overshoot=overshoot)
    return minimal(model, x, goal, made.run, alone=False)


@attack("foolbox_carlini_wagner", source="Carlini 2017, arXiv:1608.04644; foolbox 3.3.4", finds="minimal")
def foolbox_carlini_wagner(
    model: nn.Module, x: Tensor, goal: Goal, *, searches: int = 9, steps: int = 1000, step_size: float = 0.01,
    first_weight: float = 1e-3,
) -> Found:  # fmt: skip
    """Carlini & Wagner for L2: `searches` weights of the margin by bisection, `steps` passes each.

    1,000 steps where foolbox takes up to 10,000, and no early end: foolbox's looks at the whole batch.
    """
    at_least_one(searches=searches, steps=steps)
    made = load().attacks.L2CarliniWagnerAttack(
        binary_search_steps=searches, steps=steps, stepsize=step_size, initial_const=first_weight, abort_early=False
    )
    return minimal(model, x, goal, made.run, alone=False)


@attack("foolbox_boundary", source="Brendel 2018, arXiv:1712.04248; foolbox 3.3.4", finds="minimal", black_box=True)
def foolbox_boundary(
    model: nn.Module, x: Tensor, goal: Goal, *, steps: int = 5000, directions: int = 100, spherical_step: float = 0.01,
    source_step: float = 0.01,
) -> Found:  # fmt: skip
    """The boundary attack: a walk along the decision boundary, from the image blended with noise.

    5,000 steps where foolbox takes up to 25,000; up to `directions` draws of noise for a start.
    """
    at_least_one(steps=steps, directions=directions)
    made = load().attacks.BoundaryAttack(steps=steps, spherical_step=spherical_step, source_step=source_step)
    return _from_noise(model, x, goal, made, directions)


@attack("foolbox_hop_skip_jump", source="Chen 2020, arXiv:1904.02144; foolbox 3.3.4", finds="minimal", black_box=True)
def foolbox_hop_skip_jump(
    model: nn.Module, x: Tensor, goal: Goal, *, steps: int = 32, first_looks: int = 100, most_looks: int = 10000,
    directions: int = 100,
) -> Found:  # fmt: skip
    """HopSkipJump for L2: gradients of the boundary estimated from `first_looks` * sqrt(step) decisions each.

    32 steps where foolbox takes 64; up to `directions` draws of noise for a start.
    """
    at_least_one(steps=steps, first_looks=first_looks, most_looks=most_looks, directions=directions)
    made = load().attacks.HopSkipJumpAttack(
        steps=steps, initial_gradient_eval_steps=first_looks, max_gradient_eval_steps=most_looks
    )
    return _from_noise(model, x, goal, made, directions)


@attack("foolbox_salt_and_pepper", source="foolbox 3.3.4, SaltAndPepperNoiseAttack", finds="minimal", black_box=True)
def foolbox_salt_and_pepper(
    model: nn.Module, x: Tensor, goal: Goal, *, steps: int = 1000, across_channels: bool = True
) -> Found:
    """More and more pixels set to 0 or 1 until the goal is met; as few as `steps` draws can do with."""
    at_least_one(steps=steps)
    made = load().attacks.SaltAndPepperNoiseAttack(steps=steps, across_channels=across_channels, channel_axis=1)
    return minimal(model, x, goal, made.run, alone=True)


@attack("foolbox_blended_noise", source="foolbox 3.3.4, LinearSearchBlendedUniformNoiseAttack",
        finds="minimal", black_box=True)  # fmt: skip
def foolbox_blended_noise(
    model: nn.Module, x: Tensor, goal: Goal, *, directions: int = 100, steps: int = 1000
) -> Found:
    """The image blended with uniform noise, by a linear search in `steps`; up to `directions` draws of the noise."""
    at_least_one(directions=directions, steps=steps)
    made = load().attacks.LinearSearchBlendedUniformNoiseAttack(directions=directions, steps=steps)
    return minimal(model, x, goal, made.run, alone=True)


def _from_noise(model: nn.Module, x: Tensor, goal: Goal, made: Any, directions: int) -> Found:
    """Run an attack that needs a start beyond the boundary, from the image blended with noise; none, none found."""
    blended = load().attacks.LinearSearchBlendedUniformNoiseAttack(directions=directions, steps=BLENDS)

    def run(net: Any, images: Tensor, classes: Tensor) -> Tensor | None:
        with torch.no_grad():
            start = blended.run(net, images, classes)
            if not (net(start).argmax(1) != classes).all():
                return None
            return made.run(net, images, classes, starting_points=start)

    return minimal(model, x, goal, run, alone=True)
