"""Rank correlation and overlap of maps against scipy and plain loops."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from harness.scores.agreement import rank_agreement, resized, top_overlap


def maps(n=6, side=7, seed=0):
    rng = np.random.default_rng(seed)
    return [torch.from_numpy(rng.integers(0, 9, (n, side, side)).astype(np.float32)) for _ in range(2)]  # many ties


def test_rank_correlation_is_scipy_s():
    a, b = maps()
    expected = [spearmanr(x.flatten(), y.flatten()).statistic for x, y in zip(a, b, strict=True)]
    assert rank_agreement(a, b).tolist() == pytest.approx(expected, abs=1e-12)
    assert rank_agreement(a, -a).tolist() == pytest.approx([-1] * 6)
    assert rank_agreement(a, a**3).tolist() == pytest.approx([1] * 6)


@pytest.mark.parametrize("top", [0.1, 0.5])
def test_overlap_without_ties(top):
    rng = np.random.default_rng(3)
    a, b = (torch.from_numpy(rng.random((5, 6, 6))) for _ in range(2))
    count = round(top * 36)
    for x, y, found in zip(a, b, top_overlap(a, b, top=top), strict=True):
        best = [set(np.argsort(-m.flatten().numpy())[:count].tolist()) for m in (x, y)]
        assert float(found) == pytest.approx(len(best[0] & best[1]) / count)


def test_overlap_with_ties_is_what_random_places_give():
    a = torch.tensor([[[5.0, 3, 3, 3], [1, 1, 1, 1]]])
    b = torch.tensor([[[0.0, 9, 9, 0], [0, 0, 0, 0]]])
    # Two places: a holds cell 0 surely and one of cells 1, 2, 3; b holds cells 1 and 2.
    assert float(top_overlap(a, b, top=0.25)) == pytest.approx((1 / 3 + 1 / 3) / 2)
    flat = torch.ones(1, 2, 4)
    assert float(top_overlap(flat, b, top=0.25)) == pytest.approx(0.25), "a constant map scores chance"


def test_maps_without_an_order_or_without_numbers_are_missing():
    a, b = maps()
    a[1], a[2, 0, 0], b[3, 1, 1] = 4.0, torch.nan, torch.inf
    assert torch.isnan(rank_agreement(a, b)).tolist() == [False, True, True, True, False, False]
    assert torch.isnan(top_overlap(a, b, top=0.1)).tolist() == [False, False, True, True, False, False]


def test_resized():
    heat = torch.arange(16.0).view(1, 4, 4)
    assert resized(heat, 4, 4) is heat
    assert resized(heat, 2, 2)[0].tolist() == [[2.5, 4.5], [10.5, 12.5]]
    assert resized(heat, 8, 8).shape == (1, 8, 8)
    assert float(resized(torch.ones(1, 5, 5), 3, 2).std()) == 0
