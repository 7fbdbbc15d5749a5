"""Input gradients, and how far they bound the change of the logits under attack (Woods 2019, eqs 6-8)."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from harness.metrics.cells import Floats, ratio
from harness.metrics.scored import ScoreTable, mean, means
from harness.plugins import metric

ROUNDING = 1e-3  # relative: logits in float32, and a model that is linear meets the bound exactly


class GradientBoundTable(ScoreTable):
    """Gradients of N images, and the attack on each: the last three are NaN where none was needed or found."""

    evaluation: ClassVar[str] = "gradient_bound"
    scores: ClassVar[tuple[str, ...]] = (
        "gradient_mean",  # |dy/dx|, mean over the inputs and the outputs concerned
        "gradient_max",  # |dy/dx|, its maximum over the inputs, mean over the outputs concerned
        "gradient_sum",  # |dy/dx|, sum over the inputs and the outputs concerned; NaN where `change` is
        "distance",  # |dx|, mean over the inputs
        "change",  # |dy|, sum over the outputs concerned
        "bound",  # |dx| |dy/dx|, sum over the inputs and the outputs concerned
    )


def _harmonic(table: GradientBoundTable, weights: Floats) -> Floats:
    """Return the harmonic mean of the attacks' mean |dx|, (R,C)."""
    distance = table.values["distance"]
    return 1 / means(np.divide(1, distance, where=distance > 0, out=np.full_like(distance, np.nan)), weights)


def _by_eq_8(table: GradientBoundTable, weights: Floats) -> Floats:
    """Return the bound of eq. 8 from the set's harmonic mean |dx| and mean |dy/dx|, (R,C)."""
    return _harmonic(table, weights) * means(table.values["gradient_sum"], weights)


def _variants(linear: Floats, by_eq_8: Floats) -> Floats:
    """Return (R,C) twice as (R,C*2): both variants of a condition, condition after condition."""
    return np.stack([linear, by_eq_8], axis=2).reshape(len(linear), -1)


@metric("gradient_mean", evaluation="gradient_bound", unit="logits per unit of an input", higher_is_better=False,
        source="Woods 2019 (arXiv:1906.02494), Methods", digits=4, per="all", score="gradient_mean")  # fmt: skip
def gradient_mean(table: GradientBoundTable, weights: Floats) -> Floats:
    """Mean |dy/dx| over images, inputs and the outputs concerned (the paper's 0.051 for a ResNet-18), (R,C)."""
    return mean(table, gradient_mean, weights)


@metric("gradient_max", evaluation="gradient_bound", unit="logits per unit of an input", higher_is_better=False,
        source="Woods 2019 (arXiv:1906.02494), Methods", digits=3, per="all", score="gradient_max")  # fmt: skip
def gradient_max(table: GradientBoundTable, weights: Floats) -> Floats:
    """Mean over the images of an output's largest |dy/dx| (the paper's 3.9), (R,C)."""
    return mean(table, gradient_max, weights)


@metric("attack_distance", evaluation="gradient_bound", unit="mean |dx| in [0,1] pixels", higher_is_better=True,
        source="Woods 2019 (arXiv:1906.02494), Methods", digits=5, per="all", score="distance")  # fmt: skip
def attack_distance(table: GradientBoundTable, weights: Floats) -> Floats:
    """Harmonic mean over the attacks of their mean |dx| (the paper's 0.0033), (R,C)."""
    return _harmonic(table, weights)


@metric("logit_change", evaluation="gradient_bound", unit="logits", higher_is_better=False,
        source="Woods 2019 (arXiv:1906.02494), eq. 6", digits=3, per="all", score="change")  # fmt: skip
def logit_change(table: GradientBoundTable, weights: Floats) -> Floats:
    """Mean over the attacks of the |dy| of the outputs concerned, added up (the paper's 26.1), (R,C)."""
    return mean(table, logit_change, weights)


@metric("linear_bound", evaluation="gradient_bound", unit="logits", higher_is_better=False,
        source="Woods 2019 (arXiv:1906.02494), eqs 7 and 8", digits=3, per="all", variants=("", "eq8"),
        score="bound")  # fmt: skip
def linear_bound(table: GradientBoundTable, weights: Floats) -> Floats:
    """What the |dy| may add up to if the model is linear, (R,C*2): mean of each attack's own bound, eq. 7.

    `eq8`: the paper's 50.7, inputs times harmonic mean |dx| times mean |dy/dx|, for each of the outputs concerned. It
    takes |dx| and |dy/dx| for independent, which an attack along the gradient is not: a guideline, and no bound.
    """
    return _variants(mean(table, linear_bound, weights), _by_eq_8(table, weights))


@metric("bound_ratio", evaluation="gradient_bound", unit="", higher_is_better=False,
        source="Woods 2019 (arXiv:1906.02494), eqs 6-8", digits=3, per="all", variants=("", "eq8"),
        score="change")  # fmt: skip
def bound_ratio(table: GradientBoundTable, weights: Floats) -> Floats:
    """Observed change of the logits by its bound, (R,C*2): mean over the attacks of that by eq. 7.

    Above 1 the model is not linear on the way. `eq8`: mean change by the bound of eq. 8 (the paper's 26.1 / 50.7).
    """
    change, bound = table.values["change"], table.values["bound"]
    own = np.divide(change, bound, where=bound > 0, out=np.full_like(change, np.nan))
    return _variants(means(own, weights), ratio(means(change, weights), _by_eq_8(table, weights)))


@metric("within_bound", evaluation="gradient_bound", unit="", higher_is_better=True,
        source="Woods 2019 (arXiv:1906.02494), eqs 6-8", digits=3, per="all", variants=("", "eq8"),
        score="change")  # fmt: skip
def within_bound(table: GradientBoundTable, weights: Floats) -> Floats:
    """Share of the attacks whose change is at most the bound of eq. 7, up to rounding, (R,C*2), in [0, 1].

    `eq8`: at most the attack's own mean |dx| times the image's sum of |dy/dx|.
    """
    change = table.values["change"]

    def share(bound: Any) -> Floats:
        return means(np.where(np.isnan(change), np.nan, change <= bound * (1 + ROUNDING)), weights)

    return _variants(share(table.values["bound"]), share(table.values["distance"] * table.values["gradient_sum"]))
