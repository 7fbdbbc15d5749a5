"""One pass over all thresholds against 256 passes in plain loops, and the exactness of the 16-bit IoU."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import interpolate

from harness.errors import UsageError
from harness.scores.threshold_iou import counts, finite, iobb, iou, to_levels, upsample

torch.set_num_threads(1)


def loops(heat: Tensor, mask: Tensor) -> tuple[list[list[int]], list[list[int]]]:
    """256 passes over each pixel of maps at the mask's size, in exact arithmetic."""
    inside, region = [], []
    for h, m in zip(heat.double().tolist(), mask.tolist(), strict=True):
        values = [Fraction(v) for row in h for v in row]
        within = [b for row in m for b in row]
        low, high = min(values), max(values)
        scaled = [(v - low) * 255 / (high - low) if high > low else Fraction(0) for v in values]
        inside.append([sum(s >= t and b for s, b in zip(scaled, within, strict=True)) for t in range(256)])
        region.append([sum(s >= t for s in scaled) for t in range(256)])
    return inside, region


def maps(rng, size):
    """Random and degenerate maps, (B,size,size) float32."""
    noise = torch.randn(3, size, size, generator=rng)
    one_hot = torch.zeros(size, size)
    one_hot[1, 2] = 1
    ramp = torch.arange(size * size).view(size, size)
    return torch.stack([
        *noise, one_hot, -one_hot, one_hot * 1e-42, (2 * one_hot - 1) * 3e38,
        noise[1].clamp(-1, 1) * 3e38, noise[0] + 1e6, (noise[0] > 0).float(),
        ramp.float(), (ramp % 256).float(), ramp * 1e-30, torch.zeros(size, size), torch.full((size, size), -7.5),
    ])  # fmt: skip


def test_one_pass_is_256_passes_in_plain_loops():
    rng = torch.Generator().manual_seed(0)
    heat = maps(rng, 9)
    mask = torch.rand(heat.shape, generator=rng) < 0.3
    mask[1], mask[2] = True, False
    inside, region = counts(to_levels(heat, 9), mask)
    expected_inside, expected_region = loops(heat, mask)
    assert inside.dtype == torch.int64
    assert inside.shape == region.shape == (len(heat), 256)
    assert region.tolist() == expected_region
    assert inside.tolist() == expected_inside


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=9, max_size=9), st.integers(0, 511)
)
def test_one_pass_is_256_passes_for_any_map(values, bits):
    heat = torch.tensor(values, dtype=torch.float32).view(1, 3, 3)
    mask = torch.tensor([bool(bits >> i & 1) for i in range(9)]).view(1, 3, 3)
    inside, region = counts(to_levels(heat, 3), mask)
    assert (region[:, 0] == 9).all()
    # Exact but for values that no float tells apart from a whole level: these may fall one level lower or higher.
    low, high = Fraction(min(map(Fraction, values))), Fraction(max(map(Fraction, values)))
    scaled = [(Fraction(v) - low) * 255 / (high - low) for v in values] if high > low else [Fraction(0)] * 9
    if all(s == round(s) or abs(s - round(s)) > Fraction(1, 10**9) for s in scaled):
        expected_inside, expected_region = loops(heat, mask)
        assert region.tolist() == expected_region
        assert inside.tolist() == expected_inside


def test_counts_is_the_same_in_parts(monkeypatch):
    rng = torch.Generator().manual_seed(3)
    levels = torch.randint(0, 256, (7, 12, 12), generator=rng, dtype=torch.uint8)
    mask = torch.rand(levels.shape, generator=rng) < 0.2
    whole = counts(levels, mask)
    monkeypatch.setattr("harness.scores.threshold_iou.CHUNK", 12 * 12 * 2)
    for a, b in zip(whole, counts(levels, mask), strict=True):
        assert torch.equal(a, b)
    assert [c.shape for c in counts(levels[:0], mask[:0])] == [(0, 256)] * 2


def test_levels_answer_every_whole_threshold():
    heat = torch.arange(256.0).view(1, 16, 16)
    levels = to_levels(heat * 3 - 50, 16)
    assert torch.equal(levels.flatten().long(), torch.arange(256))
    assert to_levels(heat / 7, 16).max() == 255


def test_maximum_has_the_highest_level_and_a_constant_the_lowest():
    heat = torch.randn(200, 5, 5, generator=torch.Generator().manual_seed(0)) * torch.logspace(-30, 30, 200).view(
        -1, 1, 1
    )
    assert (to_levels(heat, 5).flatten(1).amax(1) == 255).all()
    # Spans of more bits than a float32 has: span * 255 / span would fall short of 255 for some of them.
    pair = torch.rand(5000, 1, 2, generator=torch.Generator().manual_seed(1)) * torch.tensor([1.0, -1e-7])
    assert (to_levels(pair.expand(-1, 2, 2), 2)[:, 0].tolist()) == [[255, 0]] * 5000
    constant = to_levels(torch.full((1, 7, 7), 0.3), 28)
    assert constant.max() == 0
    inside, region = counts(constant, torch.ones(1, 28, 28, dtype=torch.bool))
    assert region[0, 0] == inside[0, 0] == 28 * 28
    assert region[0, 1:].sum() == 0


def test_upsampling_is_bilinear_between_cell_centres():
    heat = torch.randn(2, 4, 4, generator=torch.Generator().manual_seed(0))
    up = upsample(heat, 12)
    assert up.shape == (2, 12, 12)
    torch.testing.assert_close(up[:, 1::3, 1::3], heat)  # the middle pixel of each 3x3 block lies on a cell's centre
    third = heat[:, 0, 0] * 2 / 3 + heat[:, 0, 1] / 3
    torch.testing.assert_close(up[:, 1, 2], third)
    torch.testing.assert_close(up, interpolate(heat[:, None], 12, mode="bilinear", align_corners=False)[:, 0])
    assert torch.equal(upsample(heat, 4), heat)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_maps_that_are_not_finite_are_not_scored(value):
    heat = torch.rand(3, 4, 4)
    heat[1, 2, 2] = value
    assert finite(heat).tolist() == [True, False, True]
    with pytest.raises(UsageError, match=r"1 of 3 maps \(the first is number 1\)"):
        to_levels(heat, 8)
    assert to_levels(heat[finite(heat)], 8).shape == (2, 8, 8)


def test_counts_refuses_shapes_that_would_broadcast():
    levels = torch.zeros(2, 4, 4, dtype=torch.uint8)
    for mask in (torch.zeros(1, 4, 4, dtype=torch.bool), torch.zeros(2, 4, 4)):
        with pytest.raises(UsageError, match="bool mask of one shape"):
            counts(levels, mask)


def test_iou_and_iobb_by_hand():
    levels = torch.tensor([[[255, 100], [100, 0]]], dtype=torch.uint8)
    mask = torch.tensor([[[True, False], [True, False]]])
    inside, region = counts(levels, mask)
    found, share = iou(inside, region, torch.tensor([2])), iobb(inside, region)
    assert found.dtype == share.dtype == torch.float64
    for t, union, area in ((0, 4, 4), (1, 3, 3), (100, 3, 3), (101, 2, 1), (255, 2, 1)):
        hits = 2 if t <= 100 else 1
        assert found[0, t] == hits / union
        assert share[0, t] == hits / area
    nothing = iou(inside * 0, region * 0, torch.tensor([0]))
    assert nothing.isnan().all()
    assert iobb(inside * 0, region * 0).isnan().all()
