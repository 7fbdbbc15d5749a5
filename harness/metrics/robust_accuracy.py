"""Accuracy under bounded attacks, beside the accuracy of the same images without one."""

from typing import ClassVar

from harness.metrics.cells import Floats
from harness.metrics.scored import ScoreTable, mean
from harness.plugins import metric


class RobustAccuracyTable(ScoreTable):
    """Whether each image is right, 0 or 1, as it is (variant `clean`) and under each attack in each ball.

    The variant is the ball's norm, `linf` or `l2`, and the radius its own.
    """

    evaluation: ClassVar[str] = "robust_accuracy"
    scores: ClassVar[tuple[str, ...]] = ("right",)


@metric("robust_accuracy", evaluation="robust_accuracy", unit="", higher_is_better=True, digits=3, per="all",
        score="right", source="Madry 2018, arXiv:1706.06083; protocol.md, 3")  # fmt: skip
def robust_accuracy(table: RobustAccuracyTable, weights: Floats) -> Floats:
    """Share of the images that are right as they are and after the attack, (R,C), in [0, 1]; `clean` without one."""
    return mean(table, robust_accuracy, weights)
