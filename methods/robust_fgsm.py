"""FGSM adversarially robust optimisation (Khakzar, Albarqouni & Navab 2019, arXiv:1905.03767, 2.2 and 3.4)."""

from dataclasses import dataclass

from harness.api import Supervised, choose, fgsm, method, setting

PAPER = "Khakzar 2019, 3.4"


@method("robust_fgsm", source="arXiv:1905.03767, 3.4")
@dataclass(frozen=True, kw_only=True)
class RobustFGSM(Supervised):
    """Continue a trained baseline on batches of which half is moved one FGSM step."""

    start_from: str | None = setting(
        "baseline", source=PAPER, help="clean training first: from scratch, moved images hide the data's features"
    )
    epsilon: float = setting(
        0.005, unit="Linf radius in [0,1] pixels", source=PAPER + "; range before normalisation is our reading"
    )
    share: float = setting(0.5, unit="of each batch", source=PAPER + ", after Tsipras 2018")

    def perturb(self, model, batch, task, rng):
        """Move `share` of the images by epsilon * sign(gradient), clipped to [0,1].

        BatchNorm stays in train mode during the attack, as in the step that follows: the paper does not say.
        """
        chosen = choose(len(batch), share=self.share, rng=rng, device=batch.x.device)
        return batch.moved(chosen, fgsm(model, batch.x[chosen], batch.y[chosen], task.loss, epsilon=self.epsilon))
