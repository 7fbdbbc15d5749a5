"""Linear classifiers on random images as subjects of an evaluation: what an attack finds is known in closed form."""

import numpy as np
import pandas as pd
import torch

from harness.attacks.algorithm1 import algorithm1
from harness.attacks.ddn import ddn
from harness.attacks.deepfool import deepfool
from harness.data.cache import Prepared
from harness.data.index import Index
from harness.device import resolve
from harness.evaluations.subject import Subject
from harness.models.classifier import Classifier, Normalise
from harness.tasks import MultiClass, MultiLabel

SIZE, STD = 8, 0.25
PIXELS = 3 * SIZE * SIZE
ATTACKS = {"deepfool": deepfool, "ddn": ddn, "algorithm1": algorithm1}
FINDINGS = MultiLabel()


def linear(weight: torch.Tensor, bias: torch.Tensor | None = None) -> Classifier:
    """A classifier with logits weight @ (x - 0.5) / STD + bias."""
    head = torch.nn.Linear(PIXELS, len(weight))
    with torch.no_grad():
        head.weight.copy_(weight)
        head.bias.copy_(torch.zeros(len(weight)) if bias is None else bias)
    model = Classifier(Normalise((0.5,) * 3, (STD,) * 3), torch.nn.Flatten(), head, num_classes=len(weight))
    return model.eval().requires_grad_(False)


def weights(classes: int, scale: float = 0.2, seed: int = 0) -> torch.Tensor:
    return scale * torch.randn(classes, PIXELS, generator=torch.Generator().manual_seed(seed))


def subject(*models: Classifier, n: int = 20, task=None, labels=None, **changes) -> Subject:
    """Images near grey, so that nothing is clipped; each has the class that the first model gives it.

    Several models: as many folds, sample i in fold i mod their number.
    """
    task = task or MultiClass()
    images = np.random.default_rng(0).integers(112, 144, (n, 3, SIZE, SIZE), np.uint8)
    names = [f"i{i}" for i in range(n)]
    classes = models[0].num_classes
    if labels is None:
        with torch.no_grad():
            labels = np.eye(classes, dtype=np.uint8)[models[0](torch.from_numpy(images) / 255).argmax(1).numpy()]
    splits = {"split": ["test"] * n}
    if len(models) > 1:
        splits = {
            f"split_{k}": ["test" if i % len(models) == k else "train" for i in range(n)] for k in range(len(models))
        }
    index = Index(pd.DataFrame({"id": names, "patient": names, **splits}), labels, tuple("abcdef"[:classes]))
    prepared = Prepared(None, index, images, "f")  # pyright: ignore
    return Subject(models, task, prepared, resolve("cpu"), attacks=ATTACKS, **changes)


def pixels(subject: Subject) -> torch.Tensor:
    return torch.from_numpy(np.asarray(subject.prepared.images)) / 255
