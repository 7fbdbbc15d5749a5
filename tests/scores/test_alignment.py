"""Alignment by hand, against plain loops and pandas, and at its chance level."""

import math

import pandas as pd
import pytest
import torch

from harness.scores.alignment import alignment, alignment_rank, chance, energy_of


def draws(n=6, size=10, seed=0, levels=None):
    rng = torch.Generator().manual_seed(seed)
    heat = torch.randn(n, size, size, generator=rng)
    if levels:
        heat = (heat * levels).round()
    return heat, torch.rand(n, size, size, generator=rng).double() ** 3


def test_by_hand():
    heat = torch.tensor([[[4.0, 1.0], [-2.0, 3.0]]])
    energy = torch.tensor([[[5.0, 1.0], [3.0, 1.0]]]).double()
    assert alignment(heat, energy, top=0.25).tolist() == [0.5]
    assert alignment(heat, energy, top=0.5).tolist() == [0.6]
    # ranks of the heat 4 2 1 3, of the energy 4 1.5 3 1.5, less 2.5: products 2.25 + 0.5 - 0.75 - 0.5
    assert alignment_rank(heat, energy).tolist() == pytest.approx([1.5 / math.sqrt(5 * 4.5)])
    delta = torch.tensor([[[[1.0]], [[-2.0]]]])
    assert energy_of(delta).tolist() == [[[5.0]]]


@pytest.mark.parametrize("levels", [None, 1, 3])
@pytest.mark.parametrize("top", [0.004, 0.1, 0.37])
def test_share_twin(levels, top):
    heat, energy = draws(levels=levels)
    for h, e, found in zip(heat, energy, alignment(heat, energy, top=top).tolist(), strict=True):
        pairs = sorted(zip(h.flatten().tolist(), e.flatten().tolist(), strict=True), reverse=True)
        count = max(1, round(top * len(pairs)))
        cut = pairs[count - 1][0]
        sure = [mass for value, mass in pairs if value > cut]
        tied = [mass for value, mass in pairs if value == cut]
        expected = sum(sure) + (count - len(sure)) * sum(tied) / len(tied)
        assert found == pytest.approx(expected / sum(mass for _, mass in pairs), rel=1e-12)
        assert count / len(pairs) == chance(100, top)


@pytest.mark.parametrize("levels", [None, 1])
def test_rank_correlation_as_pandas_has_it(levels):
    heat, energy = draws(levels=levels)
    energy = (energy * 20).round()
    for h, e, found in zip(heat, energy, alignment_rank(heat, energy).tolist(), strict=True):
        a, b = (pd.Series(values.flatten().numpy()).rank() for values in (h.double(), e))
        assert found == pytest.approx(a.corr(b), abs=1e-12)


def test_the_attacks_own_map_has_everything_and_its_opposite_nothing():
    _, energy = draws(size=20)
    assert alignment_rank(energy, energy).tolist() == pytest.approx([1.0] * 6)
    assert alignment_rank(-energy, energy).tolist() == pytest.approx([-1.0] * 6)
    best = alignment(energy, energy, top=0.1)
    assert (best > 0.3).all()
    assert (alignment(-energy, energy, top=0.1) < 0.001).all()
    assert (alignment(draws(size=20)[0], energy, top=0.1) < best).all()


def test_a_constant_map_scores_chance_and_has_no_ranks():
    _, energy = draws()
    flat = torch.full_like(energy, 2.5)
    assert alignment(flat, energy, top=0.1).tolist() == pytest.approx([0.1] * 6, rel=1e-12)
    assert alignment_rank(flat, energy).isnan().all()
    assert alignment_rank(energy, flat).isnan().all()


def test_noise_scores_chance():
    heat, energy = draws(n=2000, size=8)
    found, ranks = alignment(heat, energy, top=0.1), alignment_rank(heat, energy)
    assert abs(found.mean().item() - chance(64, 0.1)) < 4 * found.std().item() / 2000**0.5
    assert abs(ranks.mean().item()) < 4 / (63 * 2000) ** 0.5


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_maps_that_are_not_finite_and_attacks_of_no_size_are_missing(value):
    heat, energy = draws(n=3)
    heat[1, 0, 0] = value
    energy[2] = 0
    for found in (alignment(heat, energy, top=0.1), alignment_rank(heat, energy)):
        assert found.isnan().tolist() == [False, True, True]


def test_order_alone_counts():
    heat, energy = draws()
    for score in (lambda h, e: alignment(h, e, top=0.2), alignment_rank):
        torch.testing.assert_close(score(heat.double().exp() * 3 - 7, energy), score(heat, energy))
