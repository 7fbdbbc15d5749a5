"""What AutoAttack leaves of the accuracy (protocol.md, 3), per norm and radius."""

from typing import ClassVar

from harness.metrics.cells import Floats
from harness.metrics.scored import ScoreTable, mean
from harness.plugins import metric


class AutoAttackTable(ScoreTable):
    """`robust` of N images under each norm: 1 where the image is classified right as it is and after the attack."""

    evaluation: ClassVar[str] = "autoattack"
    scores: ClassVar[tuple[str, ...]] = ("robust",)


@metric("autoattack_accuracy", evaluation="autoattack", unit="", higher_is_better=True, digits=3, per="all",
        source="Croce & Hein 2020, arXiv:2003.01690", score="robust")  # fmt: skip
def autoattack_accuracy(table: AutoAttackTable, weights: Floats) -> Floats:
    """Share of the images that are classified right and stay so under AutoAttack, (R,C), in [0, 1]."""
    return mean(table, autoattack_accuracy, weights)
