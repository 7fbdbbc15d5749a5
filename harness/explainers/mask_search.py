"""How a mask is found: the authors' line search, a cheaper one, and fixed steps (Khorram 2021, Algorithm 1).

All work on masks (B,J,h,w) in [0,1]. Every image goes its own way, whatever its batch; images that are done are left
out of the next pass on a CPU, and only masked on a GPU, where asking which ones stops it each time.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from harness.explainers.mask_objective import Objective

SHRINK, DECREASE, SHORTEST = 0.2, 1e-4, 1e-5  # of the authors' line search: factor, sufficient decrease, last step
LONGEST = 1000.0  # the step that their line search starts from, unless told
LOOKS = 2  # points that the cheap search looks at per iteration of theirs
FIRST = 16.0  # of the first step: how far it would take the cell of the steepest slope, were there no bounds
ROUND = 6  # looks that share their noise
STRETCH, CUT = 10.0, 4.0  # by which one step may differ from the last one; of a step that did not do
STILL = 1e-3  # of a mask's range: an image of which no cell would move by as much is done for this round
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
        return cls(masks.clone(), none, none.clone(), none.clone())


def moved(masks: Tensor, gradient: Tensor, length: Tensor) -> Tensor:
    """Return the masks after a step of each image's length (B,) down its gradient, within [0,1]."""
    return (masks - length.view(-1, 1, 1, 1) * gradient).clamp(0, 1)


def squared(x: Tensor) -> Tensor:
    """Return the squared length of each image's part of (B,...), (B,)."""
    return x.flatten(1).square().sum(1)


def line_search(objective: Objective, masks: Tensor, *, iterations: int, longest: float = LONGEST) -> Found:
    """Search as the authors' program does: from the longest step down, in every iteration anew.

    A step is taken where the objective, itself the mean over the points, falls by 1e-4 of its length times the squared
    length of the gradient (the revised Armijo condition). Every value has noise of its own. An image without such a
    step stays for this iteration.
    """
    found = Found.start(masks)
    tried = [longest]
    while tried[-1] * SHRINK >= SHORTEST:
        tried.append(tried[-1] * SHRINK)
    for iteration in range(iterations):
        draw = iteration * (len(tried) + 2)
        _, gradient = objective.slopes(found.masks, draw)
        found.values = before = objective.value(found.masks, draw + 1)
        found.backwards += objective.passes
        found.forwards += objective.passes
        lengths = _backtracked(objective, found, gradient, before, draw + 2, tried)
        found.masks = moved(found.masks, gradient, lengths)
        found.lengths.append(lengths)
    return found


def _backtracked(
    objective: Objective, found: Found, gradient: Tensor, before: Tensor, draw: int, tried: list[float]
) -> Tensor:
    """Return the longest step (B,) of those tried that the condition allows each image, 0 where it allows none."""
    lengths = torch.zeros_like(before)
    rows = torch.arange(len(lengths), device=lengths.device)
    searching = torch.ones_like(rows, dtype=torch.bool)
    for trial, length in enumerate(tried):
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


@dataclass(frozen=True)
class _State:
    """Where the cheap search stands on some of the images, `rows` (b,) of the batch."""

    objective: Objective
    rows: Tensor
    masks: Tensor  # (b,J,h,w)
    gradient: Tensor  # (b,J,h,w)
    recent: Tensor  # (b,MEMORY): the objective at the last points taken
    length: Tensor  # (b,): of the next step
    going: Tensor  # (b,) bool

    def of_those_going(self) -> _State:
        """Return the state without the images that are done."""
        if self.going.all():
            return self
        names = ("objective", "rows", "masks", "gradient", "recent", "length", "going")
        return _State(**{name: getattr(self, name)[self.going] for name in names})


def fast_search(objective: Objective, masks: Tensor, *, iterations: int) -> Found:
    """Look at no more than two points per iteration of the authors', each once, for value and gradient together.

    The next point is a spectral projected step away (Birgin, Martinez & Raydan 2000): as far as the last change of the
    gradient says; the first is long, and often takes the mask out of a corner where the network is too sure to have a
    slope. It is taken where the objective falls below the largest of its last values by 1e-4 of what the gradient
    promises; what was seen there is then the next step's start, and cost nothing more. Where not, a shorter step is
    tried. All looks of a round share their noise, so that values can be compared, and the best point goes on to the
    next round, with new noise: masks learn one round's by heart. An image that took no step in a round, and of which
    none is left that would move it, is done.
    """
    found, looks = Found.start(masks), LOOKS * iterations
    everyone = torch.arange(len(masks), device=masks.device)
    going, length = torch.ones_like(everyone, dtype=torch.bool), torch.zeros_like(found.values)
    span = ROUND if objective.noise.sd else looks
    for number, first in enumerate(range(0, looks, span)):
        rows = everyone[going] if leaves_out(masks) else everyone
        if not len(rows):
            break
        part = objective if len(rows) == len(masks) else objective[rows]
        part = replace(part, noise=part.noise.renewed(number, objective.points, part.x))
        going[rows] = _round(part, rows, going[rows], length, found, min(span, looks - first))
    return found


def _round(objective: Objective, rows: Tensor, going: Tensor, length: Tensor, found: Found, looks: int) -> Tensor:
    """Search from the masks found of the images `rows` (b,) on; return which of them took a step, or still may (b,).

    `length` (B,) is what each image's next step will be, 0 before its first; it is kept up to date.
    """
    value, gradient = objective.slopes(found.masks[rows], 0)
    found.backwards[rows] += objective.passes * going
    found.values[rows] = torch.where(going, value, found.values[rows])
    first = FIRST / gradient.flatten(1).abs().amax(1).clamp(min=TINY)
    length[rows] = torch.where(length[rows] > 0, length[rows], first)
    took, left = torch.zeros_like(found.values), torch.zeros(len(found.values), dtype=torch.bool, device=rows.device)
    at = _State(objective, rows, found.masks[rows], gradient, value[:, None].repeat(1, MEMORY), length[rows], going)
    for _ in range(1, looks):
        step = moved(at.masks, at.gradient, at.length) - at.masks
        at = replace(at, going=at.going & (step.flatten(1).abs().amax(1) >= STILL))
        if leaves_out(took):
            step, at = step[at.going], at.of_those_going()
        if not len(at.rows):
            break
        at = _looked(at, step, found)
        took += found.lengths[-1]
        length[at.rows] = at.length
    left[at.rows] = at.going  # of those that the looks of a round were too few for
    return (took[rows] > 0) | left[rows]


def _looked(at: _State, step: Tensor, found: Found) -> _State:
    """Look at the points a step away, note what is better than all before, and return where the search stands then."""
    here = at.masks + step
    value, gradient = at.objective.slopes(here, 0)
    found.backwards[at.rows] += at.objective.passes * at.going
    promised = (at.gradient * step).flatten(1).sum(1)
    taken = at.going & (value <= at.recent.amax(1) + DECREASE * promised)
    better = taken & (value < found.values[at.rows])
    found.masks[at.rows] = torch.where(better.view(-1, 1, 1, 1), here, found.masks[at.rows])
    found.values[at.rows] = torch.where(better, value, found.values[at.rows])
    lengths = torch.zeros_like(found.values)
    lengths[at.rows] = torch.where(taken, at.length, 0.0)
    found.lengths.append(lengths)
    bend = (step * (gradient - at.gradient)).flatten(1).sum(1)
    spectral = torch.where(bend > 0, squared(step) / bend.clamp(min=TINY), at.length * STRETCH)
    longer = torch.minimum(torch.maximum(spectral, at.length / STRETCH), at.length * STRETCH)
    where = taken.view(-1, 1, 1, 1)
    return replace(
        at,
        masks=torch.where(where, here, at.masks),
        gradient=torch.where(where, gradient, at.gradient),
        recent=torch.where(taken[:, None], torch.cat([at.recent[:, 1:], value[:, None]], 1), at.recent),
        length=torch.where(taken, longer, at.length / CUT),
    )


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
