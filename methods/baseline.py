"""Clean training (Khakzar, Albarqouni & Navab 2019, arXiv:1905.03767, 2.1 and 3.2)."""

from dataclasses import dataclass

from harness.api import Supervised, method


@method("baseline", source="arXiv:1905.03767, 2.1 and 3.2")
@dataclass(frozen=True, kw_only=True)
class Baseline(Supervised):
    """Train on the images as they are.

    The loss is the task's: for findings the weighted binary cross-entropy of eq. 1, for single classes the
    cross-entropy. Architecture and schedule are the dataset's, unless --model and --set say otherwise.
    """
