"""Explainers that look for a mask: closed forms on linear models, every image by itself, and nothing left behind."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from harness.errors import UsageError
from harness.explainers import mask_search
from harness.explainers.igos import IGOS, IGOSPlus, IGOSPlusPlus
from harness.explainers.mask import Mask, shifted
from harness.explainers.mask_noise import Noise
from harness.explainers.mask_objective import Objective, Term
from harness.explainers.mask_search import fast_search, fixed_steps, line_search
from harness.explainers.mask_smoothness import Cost
from harness.explainers.masks import grid
from harness.masking import blurred
from harness.models.classifier import Classifier, GlobalAverageLinear, Normalise

torch.set_num_threads(1)
QUICK = {"cells": 4, "iterations": 4, "points": 3, "l1": 0.05, "l2": 0.2}
EVERY = [
    IGOS(**QUICK), IGOSPlus(**QUICK), IGOSPlusPlus(**QUICK), IGOSPlusPlus(**QUICK, variant="code"),
    IGOSPlusPlus(**QUICK, search="full"), IGOSPlusPlus(**QUICK, search="nesterov"), Mask(cells=4, iterations=5),
]  # fmt: skip
NAMES = ["igos", "igos_p", "igos_pp", "code", "full", "nesterov", "mask"]
every = pytest.mark.parametrize("explain", EVERY, ids=NAMES)
SEEDS, TARGET = torch.tensor([11, 12, 13]), torch.tensor([1, 1, 3])


@pytest.fixture
def model():
    torch.manual_seed(0)
    features = nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.Conv2d(6, 5, 3), nn.SiLU()
    )
    made = Classifier(Normalise((0.4,) * 3, (0.1,) * 3), features, GlobalAverageLinear(5, 4), num_classes=4).eval()
    with torch.no_grad():
        made.head.weight.mul_(30)  # sure of what it sees, or no mask is worth its cost
    return made


@pytest.fixture
def x():
    made = 0.2 * torch.rand(3, 3, 13, 9, generator=torch.Generator().manual_seed(1))
    for i in range(3):
        made[i, :, 3 * i + 1 : 3 * i + 5, 2 + i : 6 + i] += 0.7  # something that a blur takes away
    return made


class Linear(nn.Module):
    """A sigmoid of the sum of `evidence` (H,W) times the first channel: what each pixel is worth is known."""

    exclusive, num_classes = False, 1

    def __init__(self, evidence):
        super().__init__()
        self.evidence = evidence

    def forward(self, x):
        return 2 + ((x[:, 0] - 1) * self.evidence).sum((1, 2))[:, None]


def linear(inserts=False, points=8, l1=0.2):
    """Return an objective whose image is 1 on a baseline of 0, and what each of its 36 pixels is worth."""
    evidence = torch.randn(6, 6, generator=torch.Generator().manual_seed(3)).double() * 0.5 + 0.1
    x = torch.ones(1, 1, 6, 6).double()
    noise = Noise(torch.zeros(1, dtype=torch.long), 0.0)
    target = torch.zeros(1, dtype=torch.long)
    return Objective(Linear(evidence), x, 0 * x, target, (Term((0,), inserts),), points, Cost(l1, 0.0), noise), evidence


def searches(objective, masks):
    yield "fast", fast_search(objective, masks, iterations=25)
    yield "full", line_search(objective, masks, iterations=25)
    yield "fixed", fixed_steps(objective, masks, iterations=300, step=3.0, momentum=False)
    yield "nesterov", fixed_steps(objective, masks, iterations=100, step=3.0, momentum=True)


@pytest.mark.parametrize("inserts", [False, True])
def test_on_a_linear_model_the_pixels_worth_most_are_taken(inserts):
    o, evidence = linear(inserts)
    order = evidence.flatten().argsort(descending=True)
    best = torch.inf
    for k in range(37):  # the cost of a pixel is its own, so the best k are those worth most
        mask = torch.ones(36).double()
        mask[order[:k]] = 0
        best = min(best, o.value(mask.view(1, 1, 6, 6), 0).item())
    start = torch.ones(1, 1, 6, 6).double()
    assert best < o.value(start, 0).item() - 0.05
    for name, found in searches(o, start):
        value = o.value(found.masks, 0).item()
        assert value <= best + 0.003, name
        kept = found.masks.flatten()
        assert (kept[evidence.flatten() <= 0] == 1).all(), name
        assert kept[order[0]] == 0, name


def test_fast_stops_where_nothing_is_worth_its_cost():
    o, _ = linear(l1=100.0)
    found = fast_search(o, torch.ones(1, 1, 6, 6).double(), iterations=10)
    assert (found.masks == 1).all()
    assert found.backwards.tolist() == [o.passes]


def test_fast_goes_on_where_a_rounds_looks_were_all_too_far():
    o, _ = linear()
    o = replace(o, cost=Cost(0.2, 100.0), noise=Noise(o.noise.seeds, 1e-9))
    start = torch.ones(1, 1, 6, 6).double()
    found = fast_search(o, start, iterations=10)
    assert not any(found.lengths[: mask_search.ROUND - 1]), "these steps would all have been too long"
    assert (found.masks < 1).any()
    assert o.value(found.masks, 0) < o.value(start, 0)


def test_images_that_are_done_are_left_out_and_change_nothing(model, x, monkeypatch):
    kept = IGOSPlusPlus(**QUICK, noise=0.01).find
    x = torch.cat([x[:2], torch.full_like(x[:1], 0.5)])
    seen = []
    handle = model.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    found = kept(model, x, TARGET, seeds=SEEDS, baseline=blurred(x))
    spent = sum(seen)
    monkeypatch.setattr(mask_search, "leaves_out", lambda x: False)  # as on a GPU
    masked = kept(model, x, TARGET, seeds=SEEDS, baseline=blurred(x))
    handle.remove()
    assert spent == found.backwards.sum() < sum(seen) - spent
    assert torch.equal(found.backwards, masked.backwards)
    torch.testing.assert_close(found.masks, masked.masks)
    assert found.backwards[2] < found.backwards[0]


def test_fast_is_as_good_as_the_authors_search_and_cheaper(model, x):
    for explain in (IGOS, IGOSPlusPlus):
        settings = {**QUICK, "iterations": 15, "points": 6, "noise": 0.0}
        fast, full = (
            explain(**settings, search=s).find(model, x, TARGET, seeds=SEEDS, baseline=blurred(x)) for s in ("fast", "full")
        )  # fmt: skip
        assert (full.masks < 0.9).any()
        assert fast.backwards.mean() < 0.4 * (full.forwards + full.backwards).mean()
        assert (fast.values <= full.values + 0.01 * full.values.abs()).all()


def test_passes_of_the_line_search_are_counted_as_the_network_sees_them(model, x):
    seen = []
    handle = model.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    found = IGOSPlusPlus(**QUICK, search="full")(model, x, TARGET, seeds=SEEDS)
    handle.remove()
    assert sum(seen) == pytest.approx(3 * (found.forwards + found.backwards))
    assert found.backwards == 4 * 4 * 3


@every
def test_an_image_s_map_does_not_depend_on_its_batch(explain, model, x):
    together = explain(model, x, TARGET, seeds=SEEDS).heat
    assert together.shape == (3, 6, 4)  # the longer side has more cells
    assert ((together >= 0) & (together <= 1)).all()
    assert (together.flatten(1).amax(1) > 0.1).sum() >= 2
    for i in range(3):
        one = explain(model, x[i : i + 1], TARGET[i : i + 1], seeds=SEEDS[i : i + 1]).heat
        torch.testing.assert_close(one, together[i : i + 1], atol=1e-4, rtol=1e-4)


@every
def test_leaves_the_model_and_the_image_as_they_were(explain, model, x):
    (model(x).sum() * 2).backward()
    gradients = [p.grad.clone() for p in model.parameters()]
    state = {k: v.clone() for k, v in model.state_dict().items()}
    before = x.clone()
    with torch.no_grad():
        found = explain(model, x, TARGET, seeds=SEEDS)
    assert not found.heat.requires_grad
    assert not x.requires_grad
    assert torch.equal(x, before)
    assert all(p.requires_grad for p in model.parameters())
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), gradients, strict=True))
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert not any(m._forward_hooks or m._backward_hooks for m in model.modules())
    assert torch.equal(explain(model, x, TARGET, seeds=SEEDS).heat, found.heat)


def test_noise_and_jitter_come_from_the_seeds(model, x):
    for explain in (IGOSPlusPlus(**QUICK, noise=0.2), Mask(cells=4, iterations=5, jitter=0.3)):
        first, again, other = (explain(model, x, TARGET, seeds=s).heat for s in (SEEDS, SEEDS, SEEDS + 100))
        assert torch.equal(first, again)
        assert not torch.allclose(first, other, atol=1e-3)
    quiet = IGOSPlusPlus(**QUICK, noise=0.0)
    assert torch.equal(*(quiet(model, x, TARGET, seeds=s).heat for s in (SEEDS, SEEDS + 100)))


@every
def test_a_constant_image_has_no_map(explain, model):
    x = torch.full((2, 3, 9, 9), 0.5)
    heat = explain(model, x, TARGET[:2], seeds=SEEDS[:2]).heat
    torch.testing.assert_close(heat, torch.zeros(2, 4, 4), atol=1e-4, rtol=0)


@every
def test_a_model_that_answers_nothing_gives_no_numbers(explain, model, x):
    with torch.no_grad():
        model.head.bias.fill_(torch.nan)
    assert explain(model, x, TARGET, seeds=SEEDS).heat.isnan().all()


def test_one_image_without_an_answer_spoils_no_other(model, x):
    explain = IGOSPlusPlus(**QUICK)
    expected = explain(model, x, TARGET, seeds=SEEDS).heat
    x = x.clone()
    x[1, 0, 0, 0] = torch.nan
    found = explain(model, x, TARGET, seeds=SEEDS).heat
    assert found[1].isnan().all()
    torch.testing.assert_close(found[[0, 2]], expected[[0, 2]], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("cells", [1, 2, 7, 9])
@pytest.mark.parametrize("explain", [IGOS, IGOSPlusPlus, Mask])
def test_any_resolution(explain, cells, model, x):
    found = explain(cells=cells, iterations=2)(model, x, TARGET, seeds=SEEDS)
    assert found.heat.shape == (3, round(13 * cells / 9), cells)
    assert found.heat.isfinite().all()


@pytest.mark.parametrize(
    ("size", "cells", "expected"),
    [((224, 224), None, (28, 28)), ((96, 96), None, (24, 24)), ((32, 32), None, (8, 8)), ((5, 5), None, (5, 5)),
     ((600, 800), None, (28, 37)), ((224, 224), 224, (224, 224)), ((31, 29), 7, (7, 7))],
)  # fmt: skip
def test_the_grid(size, cells, expected):
    assert grid(torch.zeros(1, 3, *size), cells) == expected


@pytest.mark.parametrize(
    ("explain", "message"),
    [(IGOS(cells=10), "cells: expected 1 to 9"), (IGOS(cells=0), "cells: expected 1 to 9"),
     (IGOSPlusPlus(iterations=0), "iterations: expected at least 1, got 0"), (IGOS(points=0), "points"),
     (IGOS(noise=-1.0), "noise: expected at least 0"), (IGOSPlus(sigma=0.0), "sigma: expected more than 0"),
     (IGOSPlus(l1=-1.0), "l1"), (Mask(iterations=0), "iterations"), (Mask(cells=99), "cells: expected 1 to 9")],
)  # fmt: skip
def test_bad_settings(explain, message, model, x):
    with pytest.raises(UsageError, match=message):
        explain(model, x, TARGET, seeds=SEEDS)


@every
@pytest.mark.parametrize("target", [[0, 1, 4], [-1, 0, 0]])
def test_a_class_that_is_not_there(explain, target, model, x):
    with pytest.raises(UsageError, match="expected a class number from 0 to 3"):
        explain(model, x, torch.tensor(target), seeds=SEEDS)


def test_ablations_are_other_searches(model, x):
    few = {**QUICK, "noise": 0.0}
    maps = [
        e(model, x, TARGET, seeds=SEEDS)
        for e in (IGOS(**few), IGOS(**few, loss="insertion"), IGOSPlus(**few), IGOSPlusPlus(**few),
                  IGOSPlusPlus(**few, tied=False), IGOSPlusPlus(**few, smoothness="tv"),
                  IGOSPlusPlus(**few, smoothness="none"), IGOSPlusPlus(**few, final="x"),
                  IGOSPlusPlus(**few, final="y"), IGOSPlusPlus(**few, search="fixed"),
                  IGOSPlusPlus(**few, search="nesterov"), IGOSPlusPlus(**few, variant="code"))
    ]  # fmt: skip
    for i, one in enumerate(maps):
        for other in maps[:i]:
            assert not torch.allclose(one.heat, other.heat, atol=1e-4)
    both, deletion, insertion = (1 - maps[i].heat for i in (3, 7, 8))
    torch.testing.assert_close(both, deletion * insertion)


def test_the_program_has_its_own_counts(model, x):
    for variant, steps, points in (("paper", 15, 20), ("code", 20, 15)):
        found = IGOS(variant=variant, cells=2, search="fixed")(model, x, TARGET, seeds=SEEDS)
        assert (found.forwards, found.backwards) == (0, steps * points)
    assert IGOS(cells=2, iterations=1, points=1, variant="code")(model, x, TARGET, seeds=SEEDS).forwards > 0
    assert IGOS(cells=2, iterations=1, points=1)(model, x, TARGET, seeds=SEEDS).forwards == 0


def test_shifted_twin():
    x = torch.arange(2 * 1 * 3 * 4.0).view(2, 1, 3, 4)
    found = shifted(x, torch.tensor([[1, 2], [0, 3]]))
    torch.testing.assert_close(found, torch.stack([x[0].roll((1, 2), (1, 2)), x[1].roll((0, 3), (1, 2))]))


def test_the_mask_of_fong_and_vedaldi_takes_what_the_class_needs(model, x):
    loose = Mask(cells=4, iterations=60, l1=0.01, l2=0.0, jitter=0.0)(model, x, TARGET, seeds=SEEDS).heat
    strict = Mask(cells=4, iterations=60, l1=10.0, l2=0.0, jitter=0.0)(model, x, TARGET, seeds=SEEDS).heat
    assert loose.mean() > strict.mean() + 0.05
    assert strict.max() < 0.2
