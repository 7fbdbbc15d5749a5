"""Insertion and deletion: orders, steps, areas and curves against plain loops, closed forms and what tied maps mean."""

import numpy as np
import pytest
import torch
from torch import nn

from harness.errors import UsageError
from harness.masking import blurred
from harness.models.classifier import Classifier, Normalise
from harness.scores.insertion import area, cell_means, counts, curve, deletion, insertion, places, resolutions_of


class Linear(Classifier):
    """Two findings, the probability of which is linear in the shown pixels: their logits are those of that share."""

    def __init__(self, weight: torch.Tensor):
        super().__init__(Normalise((0.0,), (1.0,)), nn.Identity(), nn.Identity(), num_classes=2)
        self.weight = weight
        self.exclusive = False

    def forward(self, x):
        share = (x * self.weight).sum((1, 2, 3)).clamp(1e-6, 1 - 1e-6)
        return torch.stack([share.logit(), (1 - share).logit()], dim=1)


def seeds(n: int) -> torch.Tensor:
    return torch.arange(n)


@pytest.mark.parametrize(("side", "expected"), [(224, (7, 28, 224)), (112, (7, 28, 112)), (96, (8, 24, 96)),
                                                (64, (8, 16, 64)), (32, (8, 32)), (8, (8,)), (37, (37,)), (1, (1,))])  # fmt: skip
def test_resolutions_are_the_protocol_s_and_divide_the_side(side, expected):
    assert resolutions_of(side) == expected
    assert all(side % r == 0 for r in expected)


@pytest.mark.parametrize("cells", [1, 2, 49, 50, 51, 64, 576, 784, 1024, 50176])
def test_steps_are_fifty_or_one_per_cell(cells):
    found = counts(cells)
    steps = min(50, cells)
    assert found.tolist() == [round(s * cells / steps) for s in range(steps + 1)]
    assert (np.diff(found) > 0).all()
    theirs = counts(cells, "igos_code")
    assert set(np.diff(theirs)[:-1]) <= {max(1, cells // 50)}
    assert (theirs[0], theirs[-1]) == (0, cells)


@pytest.mark.parametrize(("h", "w", "r"), [(8, 8, 4), (7, 7, 3), (28, 28, 8), (5, 9, 4), (3, 3, 3), (12, 12, 1)])
def test_cells_are_area_means(h, w, r):
    """Each of the map's cells is cut into r x r equal ones; a cell of the mask is the plain mean of those in it."""
    heat = torch.randn(2, h, w, generator=torch.Generator().manual_seed(h))
    fine = heat.double().repeat_interleave(r, 1).repeat_interleave(r, 2)  # (2, h*r, w*r)
    expected = torch.tensor([[[fine[b, i * h : (i + 1) * h, j * w : (j + 1) * w].mean() for j in range(r)]
                              for i in range(r)] for b in range(2)])  # fmt: skip
    torch.testing.assert_close(cell_means(heat, r), expected, atol=1e-6, rtol=1e-6, check_dtype=False)


def test_a_coarser_map_is_not_refined():
    with pytest.raises(UsageError, match=r"\(4, 4\) cells: expected at least 8"):
        cell_means(torch.zeros(1, 4, 4), 8)


def test_equal_cells_are_in_an_order_of_their_own_seed():
    constant = torch.full((40, 28, 28), 0.3)
    found = places(constant, 8, seeds(40))
    assert torch.equal(found.sort(1).values, torch.arange(64).expand(40, 64))
    assert torch.equal(found[7:9], places(constant[7:9], 8, seeds(40)[7:9])), "whatever the batch is"
    assert len({tuple(row) for row in found.tolist()}) == 40
    assert abs(found.double().mean(0) - 31.5).max() < 4 * 18.5 / 40**0.5, "no cell comes first more often than others"
    halves = torch.zeros(1, 8, 8)
    halves[:, :, 4:] = 1
    place = places(halves, 4, seeds(1)).view(4, 4)
    assert place[:, 2:].max() < 8 <= place[:, :2].min()


def one_by_one(model, x, baseline, target, heat, r, seed):
    """One image, from the text of the protocol: loops over cells and steps, each image shown by itself."""
    cells = r * r
    means = [float(v) for v in cell_means(heat[None], r).flatten()]
    shuffled = torch.randperm(cells, generator=torch.Generator().manual_seed(seed)).tolist()
    order = sorted(shuffled, key=lambda c: -means[c])
    steps = min(50, cells)
    found = {"deletion": [], "insertion": []}
    for s in range(steps + 1):
        n = round(s * cells / steps)
        for way, start in (("deletion", 1.0), ("insertion", 0.0)):
            mask = torch.full((1, 1, r, r), start)
            for cell in order[:n]:
                mask[0, 0, cell // r, cell % r] = 1 - start
            up = nn.functional.interpolate(mask, size=x.shape[-2:], mode="bilinear", align_corners=False)
            logits = model(x[None] * up + baseline[None] * (1 - up))[0]
            p = logits.softmax(0) if model.exclusive else logits.sigmoid()
            found[way].append(float(p[target]))
    edges = [round(s * cells / steps) / cells for s in range(steps + 1)]
    sums = {way: sum((a + b) / 2 * (v - u) for a, b, u, v in zip(p, p[1:], edges, edges[1:], strict=False))
            for way, p in found.items()}  # fmt: skip
    return found, sums


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize(("side", "r", "at_once"), [(24, 3, 1), (24, 8, 7), (24, 24, 64), (15, 5, 1000), (1, 1, 3)])
def test_twin(side, r, at_once, exclusive):
    torch.manual_seed(r)
    body = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = Classifier(Normalise((0.5,) * 3, (0.25,) * 3), body, nn.Linear(4, 3), num_classes=3).eval()
    model.exclusive = exclusive
    x, heat, target = torch.rand(3, 3, side, side), torch.randn(3, side, side), torch.tensor([0, 2, 1])
    heat[1] = heat[1].round()  # ties
    baseline = blurred(x) * 0.9
    place, count = places(heat, r, seeds(3)), counts(r * r)
    with torch.no_grad():
        ends = [one.softmax(1) if exclusive else one.sigmoid() for one in (model(x), model(baseline))]
    first, last = (e.gather(1, target[:, None]) for e in ends)
    ways = {"deletion": (x, baseline, first, last), "insertion": (baseline, x, last, first)}
    for way, (before, after, start, end) in ways.items():
        inner = curve(model, before, after, target, place, count, at_once=at_once)
        levels = torch.cat([start, inner, end], dim=1)
        for i in range(3):
            with torch.no_grad():
                curves, sums = one_by_one(model, x[i], baseline[i], int(target[i]), heat[i], r, i)
            assert levels[i].tolist() == pytest.approx(curves[way], abs=1e-5)
            assert float(area(levels, count)[i]) == pytest.approx(sums[way], abs=1e-5)


def test_a_probability_that_is_linear_in_the_pixels_has_areas_in_closed_form():
    """Each of n cells adds its weight v_k: insertion is sum_k v_k (1 - (k - 1/2)/n), deletion all less that.

    With masks at the image's own resolution nothing is resized.
    """
    side, n = 6, 36
    weight = torch.rand(1, side, side, generator=torch.Generator().manual_seed(3))
    weight /= weight.sum() * 1.25
    model, x = Linear(weight), torch.ones(1, 1, side, side)
    black = torch.zeros_like(x)
    place, count, target = places(weight, side, seeds(1)), counts(n), torch.zeros(1, dtype=torch.long)
    ordered = weight.flatten().sort(descending=True).values.double()
    k = torch.arange(1, n + 1)
    best = float((ordered * (1 - (k - 0.5) / n)).sum())
    whole = float(ordered.sum())
    ends = torch.tensor([[1e-6]]), torch.tensor([[whole]])
    shown = torch.cat([ends[0], curve(model, black, x, target, place, count, at_once=5), ends[1]], dim=1)
    gone = torch.cat([ends[1], curve(model, x, black, target, place, count, at_once=5), ends[0]], dim=1)
    assert float(insertion(shown, count)) == pytest.approx(best, abs=1e-5)
    assert float(deletion(gone, count)) == pytest.approx(whole - best, abs=1e-5)
    for trial in range(20):  # no other order is better
        other = places(torch.rand(1, side, side), side, seeds(1) + trial)
        levels = torch.cat([ends[0], curve(model, black, x, target, other, count, at_once=36), ends[1]], dim=1)
        assert float(insertion(levels, count)) < best


def test_the_sum_of_the_authors_program():
    """Every step but the last with the probability after it; the last one, partial or not, as probability 1."""
    levels = torch.tensor([[0.9, 0.5, 0.25, 0.1]])
    assert float(area(levels, np.array([0, 20, 40, 50]), "igos_code")) == pytest.approx(
        (0.5 * 20 + 0.25 * 20 + 10) / 50
    )
    assert float(area(torch.zeros(1, 50), counts(49, "igos_code"), "igos_code")) == pytest.approx(1 / 49)
    assert float(area(torch.zeros(1, 54), counts(784, "igos_code"), "igos_code")) == pytest.approx(4 / 784)
    assert float(area(levels, np.array([0, 1, 2, 3]))) == pytest.approx((0.45 + 0.5 + 0.25 + 0.05) / 3)


@pytest.mark.parametrize("mode", ["protocol", "igos_code"])
def test_a_curve_of_ones_has_area_one(mode):
    for cells in (1, 49, 64, 784):
        count = counts(cells, mode)
        assert float(area(torch.ones(1, len(count)), count, mode)) == pytest.approx(1)
