"""How a mask is found: the authors' line search, a cheaper one, and fixed steps (Khorram 2021, Algorithm 1).

All work on masks (B,J,h,w) in [0,1]. Every image goes its own way, whatever its batch; images that are done are left
out of the next pass on a CPU, and only masked on a GPU, where asking which ones stops it each time.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from harness.explainers.mask_objective import Objective

SHRINK, DECREASE, SHORTEST = 0.2, 1e-4, 1e-5  # of the authors' line search: factor, sufficient decrease, last step
FIRST = 1000.0  # their longest step
LOOKS = 2  # points that the cheap search looks at per iteration of theirs
TINY = 1e-30
MEMORY = 3  # values back over which the cheap search asks for a decrease (Grippo 1986)


@dataclass
class Found:
    """Masks (B,J,h,w), and per image (B,) the objective where last seen, the passes spent, and each step's length."""

    masks: Tensor
    values: Tensor
    forwards: Tensor
    backwards: Tensor
    lengths: list[Tensor] = field(default_factory=list)

    @classmethod
    def start(cls, masks: Tensor) -> Found:
        """Return masks to start from."""
        none = masks.new_zeros(len(masks))
        return cls(masks, none, none.clone(), none.clone())


def moved(masks: Tensor, gradient: Tensor, length: Tensor) -> Tensor:
    """Return the masks after a step of each image's length (B,) down its gradient, within [0,1]."""
    return (masks - length.view(-1, 1, 1, 1) * gradient).clamp(0, 1)


def squared(x: Tensor) -> Tensor:
    """Return the squared length of each image's part of (B,...), (B,)."""
    return x.flatten(1).square().sum(1)


def line_search(objective: Objective, masks: Tensor, *, iterations: int) -> Found:
    """Search as the authors' program does: from the longest step down, in every iteration anew.

    A step is taken where the objective, itself the mean over the points, falls by 1e-4 of its length times the squared
    length of the gradient (the revised Armijo condition). Every value has noise of its own. An image without such a
    step stays for this iteration.
    """
    found = Found.start(masks)
    trials = 1
    while FIRST * SHRINK**trials >= SHORTEST:
        trials += 1
    for iteration in range(iterations):
        draw = iteration * (trials + 2)
        _, gradient = objective.slopes(found.masks, draw)
        found.values = before = objective.value(found.masks, draw + 1)
        found.backwards += objective.passes
        found.forwards += objective.passes
        lengths = _backtracked(objective, found, gradient, before, draw + 2, trials)
        found.masks = moved(found.masks, gradient, lengths)
        found.lengths.append(lengths)
    return found


def _backtracked(
    objective: Objective, found: Found, gradient: Tensor, before: Tensor, draw: int, trials: int
) -> Tensor:
    """Return the longest step (B,) of each image that the condition allows, 0 where there is none."""
    lengths = torch.zeros_like(before)
    rows = torch.arange(len(lengths), device=lengths.device)
    searching = torch.ones_like(rows, dtype=torch.bool)
    for trial in range(trials):
        length = FIRST * SHRINK**trial
        part = objective if len(rows) == len(lengths) else objective[rows]
        here = moved(found.masks[rows], gradient[rows], lengths.new_full((len(rows),), length))
        enough = part.value(here, draw + trial) <= before[rows] - length * DECREASE * squared(gradient[rows])
        found.forwards[rows] += objective.passes * searching
        lengths[rows] = torch.where(enough & searching, length, lengths[rows])
        searching = searching & ~enough
        if leaves_out(lengths):
            rows, searching = rows[searching], searching[searching]
        if not len(rows):
            break
    return lengths


def leaves_out(x: Tensor) -> bool:
    """Return whether images that are done are left out of the next pass."""
    return not x.is_cuda


def fast_search(objective: Objective, masks: Tensor, *, iterations: int) -> Found:
    """Search with one pass for value and gradient together, at two points that are looked at per iteration.

    The next point is a spectral step away (Birgin, Martinez & Raydan 2000): as long as the gradient's last change says,
    first as long as moves one cell all the way. Where the objective falls below the largest of its last values, by
    1e-4 of what the gradient promises, the point is taken, and what was seen there is the next step's value and
    gradient; else the step is shrunk.
    """
    found = Found.start(masks)
    value, gradient = objective.slopes(found.masks, 0)
    found.backwards += objective.passes
    best, best_value = found.masks, value
    recent = value[None].repeat(MEMORY, 1)
    length = 1 / gradient.flatten(1).abs().amax(1).clamp(min=TINY)
    for look in range(1, LOOKS * iterations):
        here = moved(found.masks, gradient, length)
        seen, slope = objective.slopes(here, look)
        found.backwards += objective.passes
        step = here - found.masks
        promised = (gradient * step).flatten(1).sum(1)
        enough = seen <= recent.amax(0) + DECREASE * promised
        bend = (step * (slope - gradient)).flatten(1).sum(1)
        spectral = torch.where(bend > 0, squared(step) / bend.clamp(min=TINY), length * 4)
        found.lengths.append(torch.where(enough, length, torch.zeros_like(length)))
        grown = torch.minimum(torch.maximum(spectral, length / 10), length * 10).clamp(max=FIRST)
        length = torch.where(enough, grown, length * 0.25)
        take = enough.view(-1, 1, 1, 1)
        found.masks = torch.where(take, here, found.masks)
        gradient = torch.where(take, slope, gradient)
        recent = torch.where(enough, torch.cat([recent[1:], seen[None]]), recent)
        better = enough & (seen < best_value)
        best = torch.where(better.view(-1, 1, 1, 1), here, best)
        best_value = torch.where(better, seen, best_value)
    found.masks, found.values = best, best_value
    return found


def fixed_steps(objective: Objective, masks: Tensor, *, iterations: int, step: float, momentum: bool) -> Found:
    """Go `step` times the gradient in every iteration; with momentum, Nesterov's, its slope is taken further on.

    The momentum is that of Nesterov 1983 as FISTA has it (Beck & Teboulle 2009), k / (k + 3) after k steps.
    """
    found = Found.start(masks)
    length = masks.new_full((len(masks),), step)
    before = ahead = found.masks
    for iteration in range(iterations):
        found.values, gradient = objective.slopes(ahead, iteration)
        found.backwards += objective.passes
        found.masks = moved(ahead, gradient, length)
        push = iteration / (iteration + 3) if momentum else 0.0
        ahead = (found.masks + push * (found.masks - before)).clamp(0, 1)
        before = found.masks
        found.lengths.append(length)
    return found
