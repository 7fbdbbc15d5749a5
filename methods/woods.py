"""The robust trainings of Woods, Chen & Teuscher 2019 (arXiv:1906.02494): eq. 4, half-Huber ReLU, adversaries.

Every part can be set in every method; a method is a set of defaults. Magnitudes are RMSE in [0,1] pixels. Where the
paper's text and the authors' code differ, the text is the default and `variant=code` the other. Departure: the authors
keep the last epoch's weights, here as everywhere those of the lowest validation loss (clean images, without eq. 4).
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch

from harness.api import (
    AdaptiveStrength,
    Supervised,
    choose,
    double_backward,
    draw,
    gradient_penalty,
    l2,
    l2_min,
    linf,
    method,
    noise,
    setting,
    with_half_huber,
)

PAPER = "Woods 2019, Methods"
TABLE = "Woods 2019, Table 1"
CODE = "Woods 2019, authors' code"


@dataclass(frozen=True, kw_only=True)
class Woods(Supervised):
    """What the methods of this file share."""

    psi: float = setting(0.0, source=TABLE, help="strength of eq. 4; 0 leaves it out")
    outputs: int = setting(1, unit="logits", source=TABLE, help="K of eq. 4: logits drawn for each image")
    power: float = setting(2.0, source=TABLE, help="z of eq. 4")
    zeta: float = setting(0.0, unit="of the images", source=PAPER, help="share that draws its true class")
    tandem: bool = setting(
        False, source=PAPER, help="instead of the true class alone, it minus its largest rival (single labels only)"
    )
    adaptive: bool = setting(False, source=CODE, help="let psi grow while the training loss is below target_loss")
    target_loss: float = setting(1.5, source=CODE, help="of a batch, without eq. 4")
    psi_rate: float = setting(0.02, source=CODE, help="adaptive: psi = psi0 * exp(psi_rate * S)")
    psi_rising: float = setting(1.0, unit="per batch", source=CODE, help="adaptive: largest step of S upwards")
    psi_falling: float = setting(0.01, unit="per batch", source=CODE, help="adaptive: largest step of S downwards")
    activation: Literal["relu", "hhrelu"] = setting("relu", source=TABLE)
    width: float = setting(0.5, unit="of the activation", source=CODE, help="d of the half-Huber ReLU")
    norm: Literal["none", "l2", "l2min", "linf"] = setting("none", source=PAPER, help="adversary of the training")
    epsilon: float = setting(0.01, unit="RMSE; linf: largest change of a pixel", source=CODE)
    steps: int = setting(7, source=PAPER)
    step_size: float = setting(2 / 255, unit="[0,1] pixels", source="Madry 2018, arXiv:1706.06083", help="linf only")
    share: float = setting(1.0, unit="of each batch", source=PAPER + "; 0.5 is half-half training (Tsipras 2018)")
    sigma: float = setting(0.0, unit="[0,1] pixels", source=PAPER, help="standard deviation of Gaussian noise")
    variant: Literal["paper", "code"] = setting(
        "paper", source="ours",
        help="code: as the authors' program, moved images may leave [0,1] (the text is silent; its Algorithm 1 clips), "
             "and the steps of l2 fall linearly and turn back at epsilon",
    )  # fmt: skip

    def adapt(self, model):
        """Replace the ReLUs where half-Huber ones are asked for."""
        return with_half_huber(model, self.width) if self.activation == "hhrelu" else model

    def memory(self):
        """Remember S of the adaptive psi."""
        return {"S": torch.zeros(())} if self.adaptive else {}

    def perturb(self, model, batch, task, rng):
        """Move `share` of the images by the adversary, and all by noise."""
        x = batch.x
        if self.norm != "none":
            chosen = choose(len(batch), share=self.share, rng=rng, device=x.device)
            if len(chosen):
                x = x.clone()
                x[chosen] = self.adversary(model, batch.x[chosen], batch.y[chosen], task, rng)
        if self.sigma:
            x = noise(x, sigma=self.sigma, rng=rng)
        return replace(batch, x=x.clamp(0, 1) if self.variant == "paper" else x)

    def adversary(self, model, x, y, task, rng):
        """Return the images moved by the adversary of `norm`."""
        options = {"epsilon": self.epsilon, "steps": self.steps}
        if self.norm == "l2":
            return l2(model, x, y, task.loss, ramped=self.variant == "code", **options)
        if self.norm == "l2min":
            return l2_min(model, x, y, task.loss, task.correct, **options)
        return linf(model, x, y, task.loss, step_size=self.step_size, rng=rng, **options)

    def step(self, model, batch, task, rng, memory):
        """Return the loss plus psi times eq. 4, both of one pass over the images that are learned from."""
        moved = self.perturb(model, batch, task, rng)
        if not self.psi:
            return self.loss(model, moved, task)
        x = moved.x.detach().requires_grad_(True)
        with double_backward():
            logits = model(x)
        loss = self.objective(logits, moved.y, task)
        psi = self.psi
        if self.adaptive:
            rule = AdaptiveStrength(
                start=self.psi, target=self.target_loss, rate=self.psi_rate, rising=self.psi_rising,
                falling=self.psi_falling,
            )  # fmt: skip
            memory["S"] = rule.updated(memory["S"], loss)
            psi = rule.psi(memory["S"])
        true = task.true(moved.y, logits.shape[1])
        tandem = self.tandem and task.exclusive
        chosen = draw(logits, true, outputs=self.outputs, share_true=self.zeta, tandem=tandem, rng=rng)
        return loss + psi * gradient_penalty(logits, x, chosen, power=self.power)


@method("lipschitz", source="arXiv:1906.02494, eq. 4 and Table 1")
@dataclass(frozen=True, kw_only=True)
class Lipschitz(Woods):
    """Penalise the input gradient of one logit drawn for each image."""

    psi: float = setting(220.0, source=TABLE, help="strength of eq. 4")


@method("lipschitz_hhrelu", source="arXiv:1906.02494, Table 1")
@dataclass(frozen=True, kw_only=True)
class LipschitzHHReLU(Woods):
    """Penalise the input gradient of a network with half-Huber ReLUs, which gives the penalty something to follow."""

    psi: float = setting(12000.0, source=TABLE, help="strength of eq. 4")
    activation: Literal["relu", "hhrelu"] = setting("hhrelu", source=TABLE)


@method("adversarial_training", source="arXiv:1906.02494, Methods; Madry 2018, arXiv:1706.06083")
@dataclass(frozen=True, kw_only=True)
class AdversarialTraining(Woods):
    """Train on images that an adversary has moved: `norm` is l2, l2min or linf."""

    norm: Literal["none", "l2", "l2min", "linf"] = setting("l2", source=PAPER, help="adversary of the training")


@method("lipschitz_hhrelu_adversarial", source="arXiv:1906.02494, Table 1, best; settings: authors' code")
@dataclass(frozen=True, kw_only=True)
class LipschitzHHReLUAdversarial(Woods):
    """The paper's best: tandem penalty of growing strength, half-Huber ReLUs, half of each batch moved by L2,min."""

    psi: float = setting(220.0, source=CODE, help="psi0, where the growing strength starts")
    zeta: float = setting(0.2, unit="of the images", source=CODE, help="share that draws its true class")
    tandem: bool = setting(True, source=PAPER, help="the true class minus its largest rival (single labels only)")
    adaptive: bool = setting(True, source=CODE, help="let psi grow while the training loss is below target_loss")
    activation: Literal["relu", "hhrelu"] = setting("hhrelu", source=TABLE)
    norm: Literal["none", "l2", "l2min", "linf"] = setting("l2min", source=PAPER, help="adversary of the training")
    epsilon: float = setting(0.1, unit="RMSE; linf: largest change of a pixel", source=CODE)
    share: float = setting(0.5, unit="of each batch", source=PAPER + ": half-half training")


@method("noise_training", source="arXiv:1906.02494, Methods")
@dataclass(frozen=True, kw_only=True)
class NoiseTraining(Woods):
    """Train on images with Gaussian noise."""

    sigma: float = setting(0.1, unit="[0,1] pixels", source="ours: the paper gives none")
