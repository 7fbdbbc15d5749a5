"""Losses of the tasks against plain arithmetic and torch."""

import numpy as np
import pytest
import torch

from harness.tasks import MultiClass, MultiLabel


def by_hand(logits, y):
    p = 1 / (1 + np.exp(-logits))
    beta = (y == 0).sum() / max((y == 1).sum(), 1) if (y == 1).any() else 1.0
    per_image = [-sum(beta * t * np.log(q) + (1 - t) * np.log(1 - q) for t, q in zip(*row, strict=True))
                 for row in zip(y, p, strict=True)]  # fmt: skip
    return np.mean(per_image)


@pytest.mark.parametrize("positives", [0, 1, 5, 12])
def test_weighted_loss_is_equation_1(positives):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4, 3))
    y = np.zeros(12)
    y[rng.choice(12, positives, replace=False)] = 1
    y = y.reshape(4, 3)
    found = MultiLabel().loss(torch.tensor(logits), torch.tensor(y))
    assert float(found) == pytest.approx(by_hand(logits, y), rel=1e-5)


def test_unweighted_loss():
    logits, y = torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, 0.0]])
    expected = np.log(2) + np.log(1 + np.exp(2))
    assert float(MultiLabel().loss(logits, y, weighted=False)) == pytest.approx(expected, rel=1e-6)


def test_multiclass():
    labels = torch.tensor([[0, 1, 0], [1, 0, 0]], dtype=torch.uint8)
    y = MultiClass().encode(labels)
    assert y.tolist() == [1, 0]
    logits = torch.randn(2, 3)
    assert MultiClass().probability(logits).sum(1).tolist() == pytest.approx([1, 1])
    expected = -logits.log_softmax(1)[[0, 1], [1, 0]].mean()
    assert float(MultiClass().loss(logits, y)) == pytest.approx(float(expected), rel=1e-5)
