"""NIH* of Khakzar, Albarqouni & Navab 2019 (arXiv:1905.03767, 4.1): Wang 2017's network under their protocol."""

from dataclasses import dataclass

from harness.api import Supervised, method


@method("nih_star", source="arXiv:1905.03767, 4.1, after Wang 2017 (arXiv:1705.02315)")
@dataclass(frozen=True, kw_only=True)
class NIHStar(Supervised):
    """Train ResNet-50 with the weighted binary cross-entropy of eq. 1.

    The paper says "ResNet50 without transition layer": Wang's transition layer, between the last stage and the
    pooling, is what is left out, so that the plain ResNet-50 remains, with maps of 7x7 at 224 px. An interpretation
    under which the last stage is not downsampled either (14x14 maps) is `--set last_stride=1`. Wang's log-sum-exp
    pooling is not used: the maps would no longer be exact CAMs.
    """

    model = "resnet50"
