"""Several attacks on the same images: the smallest perturbation that any of them found, looked at once more."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from harness.attacks.goals import Goal
from harness.attacks.minimal import Found, rmse
from harness.memory import at_once

Attack = Callable[..., Found]


@dataclass(frozen=True)
class Strongest:
    """What was found for each of B images by A attacks, in the order of their names."""

    names: tuple[str, ...]
    delta: Tensor  # (B,C,H,W); 0 where the goal held at the start or was never reached
    rmse: Tensor  # (B,) of delta; infinite where no attack reached the goal
    winner: Tensor  # (B,) long, number of the attack; -1 where the goal held at the start or was never reached
    each: Tensor  # (B,A) RMSE of each attack; infinite where it did not reach the goal, or not again when looked at
    passes: Tensor  # (B,) of all attacks together
    late: Tensor  # (B,) bool: every attack got there late or not at all


def strongest(model: nn.Module, x: Tensor, goal: Goal, attacks: Mapping[str, Attack]) -> Strongest:
    """Return the best of `attacks` on images x (B,C,H,W) in [0,1].

    An attack that is registered with warm=True begins with the best perturbation of those before it. What an attack
    claims counts only if a plain forward pass says so too. Images that reach the goal as they are cost one pass.
    """
    with torch.no_grad():
        done = goal.reached(model(x))
    size = torch.where(done, 0.0, torch.inf).to(x.dtype)
    delta, each = torch.zeros_like(x), size[:, None].repeat(1, len(attacks))
    winner, late = torch.full_like(done, -1, dtype=torch.long), ~done
    passes = torch.ones_like(winner)
    rows = torch.nonzero(~done)[:, 0]
    for number, attack in enumerate(attacks.values() if len(rows) else ()):
        warm = (delta[rows],) if registration(attack).get("warm") else ()
        found = attack(model, x[rows], goal[rows], *warm)
        with torch.no_grad():
            holds = goal[rows].reached(model(x[rows] + found.delta)) & found.rmse.isfinite()
        mine = torch.where(holds, rmse(found.delta), torch.inf)
        better = mine < size[rows]
        delta[rows] = torch.where(better.view(-1, 1, 1, 1), found.delta, delta[rows])
        winner[rows] = torch.where(better, number, winner[rows])
        size[rows] = torch.where(better, mine, size[rows])
        each[rows, number] = mine
        passes[rows] += found.passes + 1
        late[rows] &= found.late | ~holds
    return Strongest(tuple(attacks), delta, size, winner, each, passes, late)


def registration(attack: Attack) -> dict[str, Any]:
    """Return what @attack(...) said of an attack, whose settings may be bound already; {} of one without."""
    return getattr(getattr(attack, "func", attack), "__harness__", {}).get("attack", {})


def towards(model: nn.Module, x: Tensor, goal: Goal, others: Tensor, *, steps: int = 20) -> Tensor:
    """Return how far each image must go towards one of `others` to reach the goal: an upper bound of the smallest RMSE.

    For an image that no attack fooled (protocol.md, 3). x (C,H,W), `goal` that of this one image, others (K,C,H,W).
    The nearest of those that reach the goal is approached by `steps` bisections. Returns a scalar, NaN where none of
    them reaches it.
    """
    several = goal[torch.zeros(len(others), dtype=torch.long, device=x.device)]
    with torch.no_grad():
        held = several.reached(torch.cat([model(part) for part in others.split(at_once(len(others)))]))
        distance = torch.where(held, rmse(others - x), torch.inf)
        nearest = others[distance.argmin()] - x
        low, high = torch.zeros_like(distance[:1]), torch.ones_like(distance[:1])
        for _ in range(steps):
            middle = (low + high) / 2
            there = goal.reached(model(x + middle.view(1, 1, 1, 1) * nearest))
            low, high = torch.where(there, low, middle), torch.where(there, middle, high)
    return torch.where(held.any(), high[0] * rmse(nearest[None])[0], torch.nan)
