"""I-GOS (Qi, Khorram & Li 2020, AAAI) and iGOS++ (Khorram, Lawson & Li 2021, arXiv:2012.15783): masks that explain.

variant "paper": the text, as far as the poster and the pages of the papers give it. variant "code": the authors'
published program. Where they part:

                  paper                                   code
    masks         multiplied, then upsampled              upsampled with aligned corners, then multiplied
    BTV           over the image's pixels, per cell       half the plain variation of the cells, half BTV, a mean over
                  of the mask; both directions alike      pixels; the two directions differ (mask_smoothness.py)
    gradient      the sum of the four terms'              half of that, plus all of the cost's
    iterations    15 with 20 points                       20 with 15 points: the program swaps its two settings
    area          its slope counts at 1 too               a cell at 1 feels no slope of its area
    search        fast                                    full

In both the area and the variation are means over the cells, as the published weights need (the text writes sums), and
sigma is squared: its default in `code` makes the program's divisor 0.01, which is called sigma there. The program takes
its noise and the image's edges from what its network is fed; here these are pixels in [0,1]. Its blur has one kernel
for every size, of 8-bit pixels (masking.py). A program of I-GOS that lowers l1 on the way was read in an altered copy
only, and is not followed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from torch import Tensor

from harness.config import setting
from harness.errors import UsageError
from harness.explainers import target as targets
from harness.explainers.mask_noise import Noise
from harness.explainers.mask_objective import Objective, Term
from harness.explainers.mask_search import Found, fast_search, fixed_steps, line_search
from harness.explainers.mask_smoothness import Cost, edge_weights, edge_weights_of_the_program
from harness.explainers.masks import grid, heat_of
from harness.masking import blurred
from harness.plugins import explainer
from harness.types import Explanation

if TYPE_CHECKING:
    from harness.models.classifier import Classifier

DELETION, INSERTION = Term((0,), inserts=False), Term((0,), inserts=True)
FINE = 112  # cells per side from which a mask has room to fool the network and l1 is the authors' larger one


@dataclass(frozen=True, kw_only=True)
class Masked:
    """What the three share: the settings, and the way from an image to its masks."""

    cells: int | None = setting(None, unit="cells of the shorter side", source="Khorram 2021: 7, 28, 224",
                                help="not given: a quarter of the side, from 8 to 28")  # fmt: skip
    variant: Literal["paper", "code"] = setting("paper", help="code: the authors' published program")
    iterations: int | None = setting(None, unit="steps", source="authors' program: 15 (paper), run as 20 (code)")
    points: int | None = setting(None, unit="points of the integral", source="authors' program: 20, run as 15 (code)")
    l1: float | None = setting(None, source="authors' program: 1, and 10 at 224", help="weight of the area")
    l2: float = setting(20.0, source="authors' program", help="weight of the variation")
    noise: float | None = setting(
        None,
        unit="[0,1] pixels",
        source="authors' program: 0.2 of normalised pixels = 0.045",
        help="0: none (the poster's ablation); not given: 0.045, in the variant code 0.2",
    )
    search: Literal["fast", "full", "fixed", "nesterov"] | None = setting(
        None, source="full: authors' line search; fast: ours", help="fixed, nesterov: every step `step` times the slope"
    )
    longest: float = setting(1000.0, source="authors' program", help="step that the search full starts from")
    step: float = setting(1.0, source="ours", help="of the searches fixed and nesterov")

    terms = (DELETION,)
    number = 1  # of masks

    def find(self, model: Classifier, x: Tensor, target: Tensor, *, seeds: Tensor, baseline: Tensor) -> Found:
        """Return the masks of images x (B,C,H,W) whose blurred images are `baseline`. Raises `UsageError`."""
        self._check(model, x, target)
        code = self.variant == "code"
        search = self.search or ("full" if code else "fast")
        iterations, points = self.iterations or (20 if code else 15), self.points or (15 if code else 20)
        sd = self.noise if self.noise is not None else (0.2 if code else 0.045)
        masks = x.new_ones(len(x), self.number, *grid(x, self.cells))
        noise = Noise(seeds.cpu(), sd)  # new at each look, where a search does not say otherwise
        objective = Objective(
            model, x, baseline, target, self._terms(), points, self._cost(x, max(masks.shape[-2:])), noise,
            aligned=code, slope=0.5 if code and self.number == 2 else 1.0,
        )  # fmt: skip
        if search == "full":
            return line_search(objective, masks, iterations=iterations, longest=self.longest)
        if search == "fast":
            return fast_search(objective, masks, iterations=iterations)
        return fixed_steps(objective, masks, iterations=iterations, step=self.step, momentum=search == "nesterov")

    def __call__(self, model: Classifier, x: Tensor, target: Tensor, *, seeds: Tensor) -> Explanation:
        """Return heat (B,h,w) for images x (B,C,H,W) and classes `target` (B,). Raises `UsageError`."""
        found = self.find(model, x, target, seeds=seeds, baseline=blurred(x))
        return Explanation(
            heat_of(self._final(found.masks), found.values),
            forwards=float(found.forwards.mean()), backwards=float(found.backwards.mean()),
        )  # fmt: skip

    def _check(self, model: Classifier, x: Tensor, target: Tensor) -> None:
        for name, least in (
            ("iterations", 1),
            ("points", 1),
            ("l1", 0),
            ("l2", 0),
            ("noise", 0),
            ("step", 0),
            ("longest", 0),
        ):
            value = getattr(self, name)
            if value is not None and not value >= least:
                raise UsageError(f"{name}: expected at least {least}, got {value}.")
        targets.check(model, x, target)

    def _terms(self) -> tuple[Term, ...]:
        return self.terms

    def _area_weight(self, cells: int) -> float:
        return self.l1 if self.l1 is not None else (10.0 if cells >= FINE else 1.0)

    def _cost(self, x: Tensor, cells: int) -> Cost:
        return Cost(self._area_weight(cells), self.l2, program=self.variant == "code")

    def _final(self, masks: Tensor) -> Tensor:
        return masks[:, 0]


@explainer("igos", source="Qi 2020, AAAI; Khorram 2021, arXiv:2012.15783: authors' program", needs_exact_cam=False,
           reference=False, version=2)  # fmt: skip
@dataclass(frozen=True, kw_only=True)
class IGOS(Masked):
    """Smallest smooth mask under which the class is no longer seen, found by integrated gradients; heat = 1 - mask."""

    loss: Literal["deletion", "insertion"] = setting("deletion", source="Qi 2020; insertion: Khorram 2021, Table 2")

    def _terms(self) -> tuple[Term, ...]:
        return (DELETION,) if self.loss == "deletion" else (INSERTION,)


@dataclass(frozen=True, kw_only=True)
class Bilateral(Masked):
    """What those with an insertion term share: a variation that the image's own edges excuse."""

    smoothness: Literal["btv", "tv", "none"] = setting("btv", source="Khorram 2021", help="tv, none: its ablations")
    sigma: float | None = setting(None, unit="[0,1] pixels", source="authors' program: 0.1 of normalised pixels",
                                  help="not given: 0.0226, in the variant code 0.1")  # fmt: skip

    def _check(self, model: Classifier, x: Tensor, target: Tensor) -> None:
        super()._check(model, x, target)
        if self.sigma is not None and not self.sigma > 0:
            raise UsageError(f"sigma: expected more than 0, got {self.sigma}.")

    def _cost(self, x: Tensor, cells: int) -> Cost:
        l1, code = self._area_weight(cells), self.variant == "code"
        if self.smoothness != "btv":
            return Cost(l1, self.l2 if self.smoothness == "tv" else 0.0, program=code)
        sigma = self.sigma if self.sigma is not None else (0.1 if code else 0.0226)
        return Cost(l1, self.l2, (edge_weights_of_the_program if code else edge_weights)(x, sigma), program=code)


@explainer("igos_p", source="Khorram 2021, arXiv:2012.15783, Table 2: I-GOS + insertion (naive)", needs_exact_cam=False,
           reference=False, version=2)  # fmt: skip
@dataclass(frozen=True, kw_only=True)
class IGOSPlus(Bilateral):
    """Smallest smooth mask that takes the class away and by itself brings it back; heat = 1 - mask.

    The sources name an I-GOS with the insertion loss added and do not define it: here one mask serves both terms.
    """

    terms = (DELETION, INSERTION)


@explainer("igos_pp", source="Khorram 2021, arXiv:2012.15783, Algorithm 1", needs_exact_cam=False,
           reference=False, version=2)  # fmt: skip
@dataclass(frozen=True, kw_only=True)
class IGOSPlusPlus(Bilateral):
    """Two masks, one to delete and one to insert, tied together by their product; heat = 1 - product."""

    tied: bool = setting(True, source="Khorram 2021", help="false: no terms of the product, only its cost")
    final: Literal["xy", "x", "y"] = setting("xy", source="Khorram 2021, Table 3", help="x: deletion's, y: insertion's")

    terms = (Term((0,), inserts=False), Term((1,), inserts=True))
    number = 2

    def _terms(self) -> tuple[Term, ...]:
        product = (Term((0, 1), inserts=False), Term((0, 1), inserts=True))
        return self.terms + product if self.tied else self.terms

    def _final(self, masks: Tensor) -> Tensor:
        return masks.prod(1) if self.final == "xy" else masks[:, "xy".index(self.final)]
