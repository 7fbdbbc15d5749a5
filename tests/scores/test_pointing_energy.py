"""Pointing game and energy, by hand, against plain loops, and at their chance level."""

import math

import pytest
import torch

from harness.scores.energy import energy
from harness.scores.pointing import chance, pointing

HEAT = torch.tensor([[[-2.0, 0.0], [1.0, 3.0]]])
RIGHT = torch.tensor([[[False, True], [False, True]]])


def test_by_hand():
    assert pointing(HEAT, RIGHT).tolist() == [1.0]
    assert pointing(HEAT, ~RIGHT).tolist() == [0.0]
    assert energy(HEAT, RIGHT).tolist() == [(2 + 5) / (0 + 2 + 3 + 5)]
    assert chance(RIGHT).tolist() == [0.5]


def test_tied_maxima_count_by_their_share():
    heat = torch.tensor([[[3.0, 3.0], [3.0, 0.0]]])
    mask = torch.tensor([[[True, False], [True, True]]])
    assert pointing(heat, mask).tolist() == [2 / 3]


def test_a_constant_map_points_at_chance_and_has_no_energy():
    heat, mask = torch.full((1, 4, 4), 2.5), torch.zeros(1, 4, 4, dtype=torch.bool)
    mask[0, :2, :3] = True
    assert torch.equal(pointing(heat, mask), chance(mask))
    assert chance(mask).tolist() == [6 / 16]
    assert energy(heat, mask).isnan().all()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_maps_that_are_not_finite_are_missing(value):
    heat = HEAT.repeat(2, 1, 1)
    heat[1, 0, 0] = value
    for score in (pointing, energy):
        found = score(heat, RIGHT.repeat(2, 1, 1))
        assert found.isnan().tolist() == [False, True]


def test_energy_twin():
    rng = torch.Generator().manual_seed(0)
    heat = torch.randn(4, 6, 6, generator=rng)
    mask = torch.rand(4, 6, 6, generator=rng) < 0.3
    for found, h, m in zip(energy(heat, mask).tolist(), heat.tolist(), mask.tolist(), strict=True):
        low = min(v for row in h for v in row)
        inside = total = 0.0
        for row, flags in zip(h, m, strict=True):
            for v, flag in zip(row, flags, strict=True):
                total += v - low
                inside += (v - low) * flag
        assert found == pytest.approx(inside / total, rel=1e-12)
        assert 0 <= found <= 1


def test_scale_and_shift_change_nothing():
    heat = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(1)).double()
    mask = torch.zeros(3, 8, 8, dtype=torch.bool)
    mask[:, 2:5, 3:8] = True
    for score in (pointing, energy):
        torch.testing.assert_close(score(heat * 3 - 7, mask), score(heat, mask))


def test_noise_scores_chance():
    heat = torch.rand(2000, 8, 8, generator=torch.Generator().manual_seed(2))
    mask = torch.zeros(2000, 8, 8, dtype=torch.bool)
    mask[:, :4, :4] = True
    assert abs(pointing(heat, mask).mean().item() - 0.25) < 0.04  # four standard errors
    assert abs(energy(heat, mask).mean().item() - 0.25) < 0.01
