"""CheXNet as Khakzar, Albarqouni & Navab 2019 (arXiv:1905.03767, 3.2 and 4.1) compare with it."""

from dataclasses import dataclass

from harness.api import Supervised, method


@method("chexnet", source="arXiv:1905.03767, 4.1, after Rajpurkar 2017 (arXiv:1711.05225)")
@dataclass(frozen=True, kw_only=True)
class CheXNet(Supervised):
    """Train the whole DenseNet-121 with the unweighted binary cross-entropy.

    Trained as "all our experiments" of the 2019 paper: SGD, 0.01, batch 32. Rajpurkar's own recipe differs (Adam,
    learning rate / 10 on plateaus, ImageNet weights, flips), and his figures are of another, random split. The
    validation loss that picks the weights is unweighted too: weighted, it would prefer a model this loss never aims
    at. For single classes the loss is the cross-entropy.
    """

    model = "densenet121"

    def objective(self, logits, y, task):
        """Return the cross-entropy in which positives and negatives count alike."""
        return task.loss(logits, y, weighted=False)
