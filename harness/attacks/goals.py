"""What an attack has to reach, as a margin of the logits that is negative where it is reached (protocol.md, 3).

A goal belongs to a batch: it knows the class of each image. Everything an attack asks of it is a function of logits
(B,V), so that one attack serves all goals, on one label or several.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, logsigmoid


@dataclass(frozen=True)
class Goal:
    """Base: `target` (B,) long is the class that each image is attacked in."""

    target: Tensor

    def __len__(self) -> int:
        return len(self.target)

    def __getitem__(self, rows: Tensor | slice) -> Self:
        """Return the goal of some of the images."""
        return replace(self, target=self.target[rows])

    def margin(self, logits: Tensor) -> Tensor:
        """Return how far the goal is, (B,): it is reached below 0."""
        raise TypeError(f"{type(self).__name__} does not define margin(logits)")

    def reached(self, logits: Tensor) -> Tensor:
        """Return where the goal holds, (B,) bool. Logits that are not finite reach nothing."""
        return (self.margin(logits) < 0) & logits.isfinite().all(1)

    def score(self, logits: Tensor) -> Tensor:
        """Return the probability that the attack brings down, (B,): s_t of Woods 2019."""
        return self.target_of(logits.softmax(1))

    def loss(self, logits: Tensor) -> Tensor:
        """Return what the authors' program climbs instead, (B,): the cross-entropy of the class."""
        return cross_entropy(logits, self.target, reduction="none")

    def target_of(self, values: Tensor) -> Tensor:
        """Return each image's entry of (B,V) at its class, (B,)."""
        return values.gather(1, self.target[:, None])[:, 0]


@dataclass(frozen=True)
class Adversarial(Goal):
    """Another class is more probable: s_t - max_{j != t} s_j < 0 (Woods 2019, g_adv), as a difference of logits."""

    def margin(self, logits: Tensor) -> Tensor:
        """Return y_t - max_{j != t} y_j."""
        others = logits.scatter(1, self.target[:, None], -torch.inf)
        return self.target_of(logits) - others.max(1).values


@dataclass(frozen=True)
class BetterThanRandom(Goal):
    """The class has less than its share by chance: s_t < 1/V (Woods 2019, g_BTR), also on unbalanced data."""

    def margin(self, logits: Tensor) -> Tensor:
        """Return y_t - log(sum_{j != t} exp y_j) + log(V - 1): the log odds of the class above those of chance.

        s_t < 1/V if and only if it is negative; its gradient does not vanish where the probability saturates.
        """
        others = logits.scatter(1, self.target[:, None], -torch.inf)
        chance = logits.new_full((), float(logits.shape[1] - 1)).log()
        return self.target_of(logits) - others.logsumexp(1) + chance


@dataclass(frozen=True)
class Flip(Goal):
    """The decision on one finding among several changes sides (protocol.md, 3, MultiLabel).

    `sign` (B,) is 1 where the finding is present and -1 where it is not, `point` (B,) the logit of the operating
    point. An image that is decided wrongly reaches the goal as it is.
    """

    sign: Tensor
    point: Tensor

    def __getitem__(self, rows: Tensor | slice) -> Self:
        """Return the goal of some of the images."""
        return replace(self, target=self.target[rows], sign=self.sign[rows], point=self.point[rows])

    def margin(self, logits: Tensor) -> Tensor:
        """Return sign * (y_c - operating point)."""
        return self.sign * (self.target_of(logits) - self.point)

    def score(self, logits: Tensor) -> Tensor:
        """Return the probability of the right decision, (B,)."""
        return self.margin(logits).sigmoid()

    def loss(self, logits: Tensor) -> Tensor:
        """Return the binary cross-entropy of the right decision, (B,)."""
        return -logsigmoid(self.margin(logits))


@dataclass(frozen=True)
class Against(Flip):
    """As far against the image's own label as the radius allows: a decision that has changed is not the end.

    For attacks inside a ball, whose worst image is wanted (robust AUROC, protocol.md, 3).
    """

    def reached(self, logits: Tensor) -> Tensor:
        """Return that it never holds, (B,) bool."""
        return torch.zeros(len(logits), dtype=torch.bool, device=logits.device)


class TwoLogits(nn.Module):
    """A model seen through a goal: images (B,C,H,W) to [margin/2, -margin/2] (B,2), class 0 until it is reached.

    Two logits that differ by the margin, as [margin, 0] would: of that the gradient of float32 cross-entropy is exactly
    0 from a margin of 17 on, where 1 - p rounds to 0, and attacks that climb it stand still.

    With it an attack of a library that knows only classes serves every goal. The images must be those of the goal,
    in its order.
    """

    def __init__(self, model: nn.Module, goal: Goal):
        super().__init__()
        self.model = model
        self.goal = goal

    def forward(self, x: Tensor) -> Tensor:
        """Return [margin/2, -margin/2]."""
        half = self.goal.margin(self.model(x)) / 2
        return torch.stack([half, -half], dim=1)
