"""What an evaluation is given: of several models each scores the samples that are its own."""

import numpy as np
import pandas as pd
import pytest
import torch

from harness.data.cache import Prepared
from harness.data.index import Index
from harness.device import resolve
from harness.evaluations.classification import Classification
from harness.evaluations.localisation import explain, pairs_of
from harness.evaluations.subject import Subject
from harness.models.classifier import Classifier, GlobalAverageLinear, Normalise
from harness.tasks import MultiLabel
from harness.types import Explanation

N, FOLDS = 60, 3


@pytest.fixture
def subject() -> Subject:
    """Three models whose logit is their number; sample i belongs to fold i mod 3."""
    names = [f"i{i}" for i in range(N)]
    columns = {
        f"split_{k}": ["test" if i % FOLDS == k else "validation" if i % 5 == 0 else "train" for i in range(N)]
        for k in range(FOLDS)
    }
    labels = (np.arange(N)[:, None] // 7 % 2 == [0, 1]).astype(np.uint8)
    boxes = pd.DataFrame({"id": names[:40], "class_name": "a", "x0": 0.1, "y0": 0.1, "x1": 0.6, "y1": 0.6})
    index = Index(pd.DataFrame({"id": names, "patient": names, **columns}), labels, ("a", "b"), boxes)
    images = np.random.default_rng(0).integers(0, 256, (N, 1, 8, 8), np.uint8)
    return Subject(tuple(map(constant, range(FOLDS))), MultiLabel(), Prepared(None, index, images, "f"), resolve("cpu"))  # pyright: ignore


def constant(value: float) -> Classifier:
    model = Classifier(Normalise((0.0,), (1.0,)), torch.nn.Identity(), GlobalAverageLinear(1, 2), num_classes=2)
    torch.nn.init.zeros_(model.head.weight)
    torch.nn.init.constant_(model.head.bias, value)
    return model.eval().requires_grad_(False)


def test_logits_come_from_the_model_that_did_not_see_the_sample(subject):
    order = np.random.default_rng(1).permutation(N)
    batch = subject.feed(order).batch(np.arange(N))
    expected = torch.from_numpy(order % FOLDS).float()[:, None].expand(N, 2)
    assert torch.equal(subject.logits(batch), expected)


@pytest.mark.parametrize("memory_batch", [None, 1, 7, 1000])
def test_memory_splits_change_nothing(subject, memory_batch):
    import dataclasses

    small = dataclasses.replace(subject, memory_batch=memory_batch)
    sizes = [len(rows) for _, rows in small.shares(np.arange(N))]
    assert sum(sizes) == N
    assert max(sizes) <= (memory_batch or N)
    batch = subject.feed(np.arange(N)).batch(np.arange(N))
    assert torch.equal(small.logits(batch), subject.logits(batch))


def test_maps_come_from_the_model_that_did_not_see_the_image(subject):
    pairs = pairs_of(subject.prepared)
    assert len(pairs) == 40

    def number(model, x, target, *, seeds):
        return Explanation(model.head.bias[0].expand(len(x), 2, 2) + 0 * x[:, 0, :2, :2], 1.0, 0.0)

    heat = explain(subject, number, pairs)[0].heat
    assert heat[:, 0, 0].tolist() == [float(p % FOLDS) for p in pairs.position]


def test_classification_keeps_the_fold_of_every_sample(subject):
    frame = Classification(batch=16).score(subject).samples
    assert len(frame) == N
    assert (frame["fold"] == [int(i[1:]) % FOLDS for i in frame["id"]]).all()
    assert np.allclose(frame["probability:a"], 1 / (1 + np.exp(-frame["fold"].to_numpy(float))))


def test_a_limit_takes_a_prefix_of_the_fixed_order(subject):
    import dataclasses

    parts = [dataclasses.replace(subject, limit=n).positions for n in (10, 20)]
    assert [len(p) for p in parts] == [10, 20]
    assert set(parts[0]) < set(parts[1])
