"""foolbox's attacks inside a ball, as oracles of ours, and noise as the floor that any attack must beat.

Source of all: foolbox 3.3.4, its defaults unless a docstring says otherwise. Radii as in balls.py. Gradients are those
of the cross-entropy of the margin as two logits.
"""

from __future__ import annotations

from torch import Tensor, nn

from harness.attacks.balls import Norm
from harness.attacks.goals import Goal
from harness.attacks.library import at_least_one, bounded, load
from harness.plugins import attack


@attack("foolbox_pgd", source="Madry 2018, arXiv:1706.06083; foolbox 3.3.4", finds="bounded")
def foolbox_pgd(
    model: nn.Module, x: Tensor, goal: Goal, *, norm: Norm, radius: float, steps: int = 20,
    step_size: float | None = None, start_at_random: bool = True,
) -> Tensor:  # fmt: skip
    """Projected gradient descent, the last step's image; `step_size` is a share of the radius, by default 2.5 / steps.

    Random starts are run image by image.
    """
    at_least_one(steps=steps)
    kinds, share = load().attacks, 2.5 / steps if step_size is None else step_size
    options = {"steps": steps, "rel_stepsize": share, "random_start": start_at_random}
    linf, l2 = kinds.LinfProjectedGradientDescentAttack, kinds.L2ProjectedGradientDescentAttack
    return bounded(model, x, goal, norm, radius, {"linf": linf(**options), "l2": l2(**options)}, alone=start_at_random)


@attack("foolbox_basic_iterative", source="Kurakin 2017, arXiv:1607.02533; foolbox 3.3.4", finds="bounded")
def foolbox_basic_iterative(
    model: nn.Module, x: Tensor, goal: Goal, *, norm: Norm, radius: float, steps: int = 10, step_size: float = 0.2
) -> Tensor:
    """The basic iterative method: from the image itself, `step_size` is a share of the radius."""
    at_least_one(steps=steps)
    kinds, options = load().attacks, {"steps": steps, "rel_stepsize": step_size}
    linf, l2 = kinds.LinfBasicIterativeAttack, kinds.L2BasicIterativeAttack
    return bounded(model, x, goal, norm, radius, {"linf": linf(**options), "l2": l2(**options)}, alone=False)


@attack("foolbox_fgsm", source="Goodfellow 2015, arXiv:1412.6572; foolbox 3.3.4", finds="bounded")
def foolbox_fgsm(model: nn.Module, x: Tensor, goal: Goal, *, norm: Norm, radius: float) -> Tensor:
    """One step to the border of the ball: along the gradient's sign (Linf) or the gradient (L2)."""
    kinds = load().attacks
    linf, l2 = kinds.LinfFastGradientAttack(), kinds.L2FastGradientAttack()
    return bounded(model, x, goal, norm, radius, {"linf": linf, "l2": l2}, alone=False)


@attack("foolbox_gaussian_noise", source="foolbox 3.3.4, L2ClippingAwareRepeatedAdditiveGaussianNoiseAttack",
        finds="bounded", black_box=True)  # fmt: skip
def foolbox_gaussian_noise(
    model: nn.Module, x: Tensor, goal: Goal, *, norm: Norm, radius: float, draws: int = 100
) -> Tensor:
    """Gaussian noise of the radius' length after clipping, L2 only: the first of `draws` that reaches the goal."""
    at_least_one(draws=draws)
    made = load().attacks.L2ClippingAwareRepeatedAdditiveGaussianNoiseAttack(repeats=draws)
    return bounded(model, x, goal, norm, radius, {"l2": made}, alone=True)


@attack("foolbox_uniform_noise", source="foolbox 3.3.4, LinfRepeatedAdditiveUniformNoiseAttack and its L2 kin",
        finds="bounded", black_box=True)  # fmt: skip
def foolbox_uniform_noise(
    model: nn.Module, x: Tensor, goal: Goal, *, norm: Norm, radius: float, draws: int = 100
) -> Tensor:
    """Uniform noise in the ball: the first of `draws` that reaches the goal."""
    at_least_one(draws=draws)
    kinds = load().attacks
    linf, l2 = kinds.LinfRepeatedAdditiveUniformNoiseAttack, kinds.L2ClippingAwareRepeatedAdditiveUniformNoiseAttack
    return bounded(model, x, goal, norm, radius, {"linf": linf(repeats=draws), "l2": l2(repeats=draws)}, alone=True)
