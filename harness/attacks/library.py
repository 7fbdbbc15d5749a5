"""Attacks of foolbox (Rauber et al. 2020, JOSS 5(53), 2607) behind our interface: goals, [0,1], seeds, passes counted.

foolbox knows classes, not goals: it sees the margin as two logits (goals.TwoLogits) and class 0. What it returns is
looked at again by a pass of our own. Attacks that draw random numbers are run image by image, each from the image's own
seed: in a batch foolbox's draws, and so the result, would depend on the other images. Its random state is torch's and
numpy's global one, which is put back afterwards.
"""

from __future__ import annotations

import os
import random
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from harness.attacks.balls import NORMS, Norm, check_ball, into_ball, seeds_of
from harness.attacks.goals import Goal, TwoLogits
from harness.attacks.minimal import Found, rmse
from harness.errors import UsageError

GIT_PYTHON = "GIT_PYTHON_REFRESH"  # foolbox imports GitPython, which fails where there is no git unless it is "quiet"
Run = Callable[[Any, Tensor, Tensor], Tensor | None]  # (foolbox model, images, classes) -> images; None: none found


class Watched(TwoLogits):
    """TwoLogits for a library, which also counts the calls and notes at which of them each image met its goal.

    foolbox takes a gradient's length for at least 1e-12: its L2 attacks see gradients up to a margin of about 27.
    """

    def __init__(self, model: nn.Module, goal: Goal):
        super().__init__(model, goal)
        self.training = False  # of this wrapper alone: foolbox warns about it; the model stays in its mode
        self.calls = 0
        self.first = torch.full_like(goal.target, -1)  # (B,) number of the call, from 1; -1 never

    def forward(self, x: Tensor) -> Tensor:
        """Return [margin/2, -margin/2], (B,2), the last a hair lower: a goal not quite reached is class 0 for sure."""
        logits = self.model(x)
        margin = self.goal.margin(logits)
        self.calls += 1
        self.first = torch.where(self.goal.reached(logits.detach()) & (self.first < 0), self.calls, self.first)
        return torch.stack([margin / 2, -margin / 2 - torch.finfo(margin.dtype).tiny], dim=1)


def load() -> Any:
    """Return `foolbox`, imported without leaving a trace in the environment."""
    before = os.environ.get(GIT_PYTHON)
    os.environ[GIT_PYTHON] = "quiet"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import foolbox
    finally:
        if before is None:
            del os.environ[GIT_PYTHON]
        else:
            os.environ[GIT_PYTHON] = before
    return foolbox


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the global random states of torch, numpy and Python; put them back at the end."""
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002 (foolbox draws from it)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(numpy_state)  # noqa: NPY002
            random.setstate(python_state)


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Keep foolbox's backward passes from writing gradients into the parameters."""
    asked = [p for p in model.parameters() if p.requires_grad]
    for p in asked:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in asked:
            p.requires_grad_(True)


def _attack(model: nn.Module, x: Tensor, goal: Goal, run: Run) -> tuple[Tensor | None, Watched]:
    """Return what foolbox makes of images (B,C,H,W), clipped to [0,1], and what its calls of the model said."""
    foolbox, view = load(), Watched(model, goal)
    with frozen(model), torch.enable_grad(), seeded(seeds_of(x[:1])[0], x.device), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it did not find is said by the result
        moved = run(foolbox.models.PyTorchModel(view, bounds=(0, 1), device=x.device), x, torch.zeros_like(goal.target))
    return (None if moved is None else moved.detach().clamp(0, 1)), view


def _begin(model: nn.Module, x: Tensor, goal: Goal, *, alone: bool) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Return where the goal holds at the start (B,), where logits are not finite (B,), and the groups to attack."""
    with torch.no_grad():
        logits = model(x)
    done, lost = goal.reached(logits), ~logits.isfinite().all(1)
    rows = torch.nonzero(~done & ~lost)[:, 0]
    groups = list(rows.split(1 if alone else len(rows))) if len(rows) else []
    return done, lost, groups


def minimal(model: nn.Module, x: Tensor, goal: Goal, run: Run, *, alone: bool) -> Found:
    """Return what a minimal attack of foolbox finds for images x (B,C,H,W), `alone`: image by image.

    A perturbation counts where a pass of our own confirms the goal. `passes` are all that foolbox spent on the
    image's group, ours included, one at the start and two at the end; `first` is the number of foolbox's first call
    that met the goal. Images with logits that are not finite are not attacked: infinite.
    """
    done, _, groups = _begin(model, x, goal, alone=alone)
    delta, size = torch.zeros_like(x), torch.where(done, 0.0, torch.inf).to(x.dtype)
    passes, first = torch.ones_like(goal.target), torch.where(done, 0, -1)
    for rows in groups:
        moved, view = _attack(model, x[rows], goal[rows], run)
        passes[rows] += view.calls
        if moved is None:
            continue
        step, found = _confirmed(model, moved - x[rows], x[rows], goal[rows])
        found &= view.first > 0  # some return a black image where they have found nothing
        delta[rows] = torch.where(found.view(-1, 1, 1, 1), step, 0.0)
        size[rows] = torch.where(found, rmse(step), torch.inf)
        passes[rows] += 2
        first[rows] = torch.where(found, view.first, -1)
    return Found(delta, size, passes, first, first < 0)  # what it does after that is foolbox's own


@torch.no_grad()
def _confirmed(model: nn.Module, delta: Tensor, x: Tensor, goal: Goal) -> tuple[Tensor, Tensor]:
    """Return perturbations (B,C,H,W) and where x + delta reaches the goal (B,), by two passes of our own.

    Decision-based attacks end on the boundary itself, where rounding decides: the second look is a thousandth longer.
    """
    longer = (x + 1.001 * delta).clamp(0, 1) - x
    exact, stretched = (goal.reached(model(x + d)) for d in (delta, longer))
    return torch.where(exact.view(-1, 1, 1, 1), delta, longer), exact | stretched


def bounded(
    model: nn.Module, x: Tensor, goal: Goal, norm: Norm, radius: float, attacks: Mapping[Norm, Any], *, alone: bool
) -> Tensor:
    """Return images (B,C,H,W) moved by the bounded attack of foolbox for the norm, in the ball and in [0,1].

    Images that reach the goal as they are come back as they are; with logits that are not finite, as NaN. Raises
    `UsageError` for a norm that the attack does not have.
    """
    check_ball(norm, radius)
    if norm not in attacks:
        have = [n for n in NORMS if n in attacks]
        raise UsageError(
            f"norm: this attack of foolbox has {' and '.join(have)}, got {norm!r}. Set no radius of that norm."
        )
    epsilon = radius * (x[0].numel() ** 0.5 if norm == "l2" else 1) if len(x) else radius
    _, lost, groups = _begin(model, x, goal, alone=alone)
    result = torch.where(lost.view(-1, 1, 1, 1), torch.nan, x)
    for rows in groups:
        moved, _ = _attack(
            model, x[rows], goal[rows], lambda net, images, y: attacks[norm].run(net, images, y, epsilon=epsilon)
        )
        assert moved is not None
        result[rows] = into_ball(moved, x[rows], norm, radius)
    return result


def at_least_one(**counts: int) -> None:
    """Raise `UsageError` for a count below 1."""
    for name, count in counts.items():
        if count < 1:
            raise UsageError(f"{name}: expected at least 1, got {count}.")
