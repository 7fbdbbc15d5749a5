"""What adversarial explanations reach (protocol.md, 5): probability of the class at RMSE rho, before and after.

No value is a merit by itself, so none is ranked: a network without robustness is taken anywhere by noise.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from harness.metrics.cells import Floats
from harness.metrics.scored import ScoreTable, mean
from harness.plugins import metric


class ExplanationTable(ScoreTable):
    """Scores of N images under explain+ and explain-: for a true class and for the most probable other one.

    Of each: probability before and after, and the RMSE of the change.
    """

    evaluation: ClassVar[str] = "adversarial_explanations"
    scores: ClassVar[tuple[str, ...]] = ("true_before", "true_after", "true_rmse",
                                         "other_before", "other_after", "other_rmse")  # fmt: skip


def _variants(table: ScoreTable, of: object, weights: Floats, role: str) -> Floats:
    """Return before, after and gain under each condition, (R, C*3)."""
    before, after = (mean(table, of, weights, f"{role}_{when}") for when in ("before", "after"))  # (R,C) each
    return np.stack([before, after, after - before], axis=2).reshape(len(weights), -1)


@metric("explained_probability", evaluation="adversarial_explanations", unit="probability", higher_is_better=True,
        source="Woods 2019 (arXiv:1906.02494, eq. 2, Fig. 4): protocol 5", digits=3, per="all",
        variants=("before", "after", "gain"), score="true_after")  # fmt: skip
def explained_probability(table: ScoreTable, weights: Floats) -> Floats:
    """Mean probability of a true class, of its adversarial explanation, and their difference, (R, 2*3), in [-1, 1]."""
    return _variants(table, explained_probability, weights, "true")


@metric("counterfactual_probability", evaluation="adversarial_explanations", unit="probability", higher_is_better=True,
        source="Woods 2019 (arXiv:1906.02494, eq. 2, Fig. 1): protocol 5", digits=3, per="all",
        variants=("before", "after", "gain"), score="other_after")  # fmt: skip
def counterfactual_probability(table: ScoreTable, weights: Floats) -> Floats:
    """Mean probabilities of the most probable class that is not true, like `explained_probability`, (R, 2*3)."""
    return _variants(table, counterfactual_probability, weights, "other")


@metric("explanation_rmse", evaluation="adversarial_explanations", unit="RMSE, [0,1] pixels", higher_is_better=False,
        source="Woods 2019 (arXiv:1906.02494, eq. 2): protocol 5", digits=4, per="all", variants=("reached",),
        score="true_rmse")  # fmt: skip
def explanation_rmse(table: ScoreTable, weights: Floats) -> Floats:
    """Mean RMSE of the explanations of a true class, (R, 2): at most rho but for variant=code of the attack."""
    return mean(table, explanation_rmse, weights)


@metric("counterfactual_rmse", evaluation="adversarial_explanations", unit="RMSE, [0,1] pixels", higher_is_better=False,
        source="Woods 2019 (arXiv:1906.02494, eq. 2): protocol 5", digits=4, per="all", variants=("reached",),
        score="other_rmse")  # fmt: skip
def counterfactual_rmse(table: ScoreTable, weights: Floats) -> Floats:
    """Mean RMSE of the explanations of the most probable class that is not true, (R, 2)."""
    return mean(table, counterfactual_rmse, weights)
