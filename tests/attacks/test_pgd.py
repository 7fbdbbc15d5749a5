"""PGD against the exact optimum on linear models, its balls, and what it must not depend on."""

import math

import pytest
import torch
from linear_models import PIXELS, at_distance, distances, images, linear
from torch import nn

from harness.attacks.balls import into_ball, length, random_start, seeds_of
from harness.attacks.goals import Adversarial, BetterThanRandom, Flip
from harness.attacks.pgd import pgd
from harness.errors import UsageError

GOALS = pytest.mark.parametrize("goal", [Adversarial, BetterThanRandom])
NORMS = pytest.mark.parametrize("norm", ["linf", "l2"])


def lowest_margin(model, x, y, norm, radius):
    """Closed form for two classes: the margin falls by radius times the dual norm of the difference of weights."""
    w, b = model[1].weight.detach(), model[1].bias.detach()
    logits = x.flatten(1) @ w.T + b
    rows = torch.arange(len(x))
    gap, difference = logits[rows, y] - logits[rows, 1 - y], w[y] - w[1 - y]
    dual = difference.abs().sum(1) if norm == "linf" else difference.norm(dim=1) * math.sqrt(PIXELS)
    return gap - radius * dual


@NORMS
@GOALS
@pytest.mark.parametrize("objective", ["margin", "loss"])
def test_the_optimum_of_a_linear_model_is_reached(norm, goal, objective):
    x = images(8)
    model, y = at_distance(linear(2, 5.0), x, 2.0)
    radius = 0.01  # L2 0.14: short of the boundary, so that nothing stops early
    moved = pgd(model, x, goal(y), norm=norm, radius=radius, steps=40, objective=objective)
    found = goal(y).margin(model(moved).detach())
    assert (found > 0).all()
    assert found.tolist() == pytest.approx(lowest_margin(model, x, y, norm, radius).tolist(), rel=2e-3)


@NORMS
def test_the_robust_accuracy_of_a_linear_model_is_exact(norm):
    """An image falls if and only if its closed-form distance is below the radius."""
    x = 0.5 + 0.3 * (torch.rand(200, 3, 8, 8, generator=torch.Generator().manual_seed(2)) - 0.5)
    model = linear(2, 5.0)
    with torch.no_grad():
        model[1].bias[0] -= (model(x)[:, 0] - model(x)[:, 1]).mean()
    y = model(x).argmax(1)
    margin = -(lowest_margin(model, x, y, norm, 1.0) - lowest_margin(model, x, y, norm, 0.0))  # per unit of radius
    distance = lowest_margin(model, x, y, norm, 0.0) / margin
    radius = float(distance.median())
    moved = pgd(model, x, Adversarial(y), norm=norm, radius=radius, steps=40)
    fell = Adversarial(y).reached(model(moved))
    clear = (distance / radius - 1).abs() > 0.01
    assert clear.sum() > 180
    assert torch.equal(fell[clear], (distance < radius)[clear])
    assert 80 < int(fell.sum()) < 120


def test_the_nearest_of_several_classes():
    x, model = images(6), linear(6, 8.0)
    y = model(x).argmax(1)
    far = distances(model, x, y) / math.sqrt(PIXELS)
    for share, falls in ((0.97, False), (1.03, True)):
        for i in range(6):
            one = Adversarial(y[i : i + 1])
            moved = pgd(model, x[i : i + 1], one, norm="l2", radius=share * float(far[i]), steps=100)
            assert bool(one.reached(model(moved))) is falls


@NORMS
def test_one_finding_of_several(norm):
    x, model = images(4), linear(4, 5.0)
    logits, c = model(x).detach(), torch.arange(4)
    point = logits[c, c] + torch.tensor([0.1, -0.1, 0.1, -0.1])
    goal = Flip(c, torch.where(logits[c, c] > point, 1.0, -1.0), point)
    assert goal.reached(model(pgd(model, x, goal, norm=norm, radius=0.05))).all()
    assert not goal.reached(model(pgd(model, x, goal, norm=norm, radius=0.0005))).any()


@NORMS
def test_images_stay_in_the_ball_and_in_range(norm):
    x = torch.rand(20, 3, 8, 8, generator=torch.Generator().manual_seed(4))
    x[:5], x[5:10] = x[:5].round(), 0
    model, y = at_distance(linear(2, 5.0), x, 30.0)
    moved = pgd(model, x, Adversarial(y), norm=norm, radius=0.03)
    assert length(moved - x, norm).max() <= 0.03 * (1 + 1e-5)
    assert length(moved - x, norm).max() > 0.0299
    assert moved.min() == 0
    assert moved.max() <= 1


@NORMS
def test_random_starts_fill_the_ball(norm):
    x = torch.full((300, 1, 1, 2), 0.5)
    x += torch.arange(300).view(-1, 1, 1, 1) / 1000 - 0.15
    found = length(random_start(x, norm, 0.1) - x, norm) / 0.1
    assert found.max() <= 1 + 1e-5
    # In a ball of two dimensions the share within a length s of the radius is s^2.
    assert float((found < 0.5).float().mean()) == pytest.approx(0.25, abs=0.08)


def test_seeds_belong_to_the_pixels():
    x = images(3)
    assert len(set(seeds_of(x))) == 3
    assert seeds_of(x[[2, 0]]) == [seeds_of(x)[2], seeds_of(x)[0]]
    assert seeds_of(x.contiguous(memory_format=torch.channels_last)) == seeds_of(x)


@NORMS
def test_same_bits_twice_and_in_any_batch(norm):
    x, model = images(), linear(5, 8.0)
    y = model(x).argmax(1)
    y[3] = (y[3] + 1) % 5
    state = torch.get_rng_state()
    whole = pgd(model, x, Adversarial(y), norm=norm, radius=0.01)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(whole, pgd(model, x, Adversarial(y), norm=norm, radius=0.01))
    parts = [pgd(model, x[rows], Adversarial(y[rows]), norm=norm, radius=0.01) for rows in torch.arange(12).split(5)]
    assert torch.allclose(torch.cat(parts), whole, atol=1e-6)
    assert not torch.equal(whole, pgd(model, x, Adversarial(y), norm=norm, radius=0.01, start_at_random=False))


class Counted(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model, self.seen = model, []

    def forward(self, x):
        self.seen.append((len(x), x.requires_grad))
        return self.model(x)


def test_images_that_are_done_cost_nothing_more():
    x, model = images(), linear(3, 5.0)
    y = model(x).argmax(1)
    y[:4] = (y[:4] + 1) % 3
    counted = Counted(model)
    moved = pgd(counted, x, Adversarial(y), norm="l2", radius=1e-5, steps=3)
    assert torch.equal(moved[:4], x[:4])
    assert counted.seen == [(12, False), (8, True), (8, True), (8, True), (8, False)]
    counted.seen.clear()
    pgd(counted, x[:4], Adversarial(y[:4]), norm="l2", radius=0.1)
    assert counted.seen == [(4, False)]


def test_slow_twin():
    """One image, plain loops, the best kept, against the batch."""
    torch.manual_seed(3)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.SiLU(), nn.Flatten(), nn.Linear(144, 4)).eval()
    x = images(5)
    y = model(x).argmax(1)
    found = pgd(model, x, Adversarial(y), norm="linf", radius=0.004, steps=6, step_size=0.3)
    for i in range(5):
        goal, image = Adversarial(y[i : i + 1]), x[i : i + 1]
        point = random_start(image, "linf", 0.004)
        candidates = [image]
        for _ in range(6):
            candidates.append(point)
            leaf = point.clone().requires_grad_(True)
            (g,) = torch.autograd.grad(goal.margin(model(leaf)).sum(), leaf)
            point = (point - 0.3 * 0.004 * g.sign()).detach()
            point = image + (point - image).clamp(-0.004, 0.004)
            point = point.clamp(0, 1)
        candidates.append(point)
        margins = [float(goal.margin(model(c).detach())) for c in candidates]
        fell = [m for m in margins if m < 0]
        want = candidates[margins.index(fell[0] if fell else min(margins))]
        assert torch.allclose(found[i : i + 1], want, atol=1e-6)


def test_the_best_on_the_way_is_kept_and_not_the_last():
    """The valley lies at 0.505: from 0.5 the steps go to 0.507, where it is lower, and back to 0.5."""

    def valley(x):
        return torch.stack([(x.flatten(1).mean(1) - 0.505).abs() + 0.1, torch.zeros(len(x))], 1)

    x = torch.full((1, 3, 8, 8), 0.5)
    moved = pgd(valley, x, Adversarial(torch.zeros(1, dtype=torch.long)), norm="linf", radius=0.01, steps=2,
                step_size=0.7, start_at_random=False)  # fmt: skip
    assert float(moved.mean()) == pytest.approx(0.507, abs=1e-5)


def test_no_host_synchronisation_path_gives_the_same(monkeypatch):
    """On a GPU every image is worked on to the end; what comes back is the same."""
    x, model = images(), linear(5, 8.0)
    y = model(x).argmax(1)
    y[3] = (y[3] + 1) % 5
    compact = pgd(model, x, Adversarial(y), norm="l2", radius=0.02)
    monkeypatch.setattr("harness.attacks.pgd._left", lambda finished: slice(None))
    whole = pgd(model, x, Adversarial(y), norm="l2", radius=0.02)
    assert torch.equal(whole[3], x[3])
    assert Adversarial(y).reached(model(whole)).any()
    assert torch.allclose(compact, whole, atol=1e-6)


def test_what_could_not_be_attacked_is_missing_and_not_robust():
    class Broken(nn.Module):
        """Image 1 has NaN logits, image 2 finite ones with a gradient that is not."""

        def forward(self, x):
            flat = x.flatten(1).mean(1, keepdim=True)
            logits = torch.cat([flat + 1, 0 * flat], 1)
            logits = torch.where(flat > 0.9, torch.nan, logits)
            return logits + 0 * (flat - flat.detach() + (flat > 0.1)).sqrt()

    x = torch.stack([torch.full((3, 8, 8), v) for v in (0.5, 0.95, 0.05)])
    moved = pgd(Broken(), x, Adversarial(torch.zeros(3, dtype=torch.long)), norm="linf", radius=0.01)
    assert moved[0].isfinite().all()
    assert moved[1:].isnan().all()


def test_one_class_has_nothing_to_be_taken_for():
    x, model = images(3), linear(1)
    moved = pgd(model, x, Adversarial(torch.zeros(3, dtype=torch.long)), norm="linf", radius=0.01)
    assert torch.equal(moved, x)


def test_the_model_is_left_alone_and_none_is_no_work():
    x, model = images(), linear(3, 5.0)
    with torch.no_grad():
        pgd(model, x, Adversarial(model(x).argmax(1)), norm="l2", radius=0.01, steps=2)
    assert model.training
    assert all(p.grad is None for p in model.parameters())
    assert pgd(model, x[:0], Adversarial(torch.zeros(0, dtype=torch.long)), norm="l2", radius=0.01).shape == x[:0].shape


def test_the_way_back_into_the_l2_ball_is_straight():
    x = torch.full((2, 3, 8, 8), 0.5)
    moved = x + torch.tensor([0.2, 0.01]).view(-1, 1, 1, 1)
    assert torch.allclose(
        into_ball(moved, x, "l2", 0.05) - x, torch.tensor([0.05, 0.01]).view(-1, 1, 1, 1).expand_as(x)
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"radius": 0.0}, "above 0, in .* got 0"),
        ({"radius": -1.0}, "got -1"),
        ({"radius": math.nan}, "got nan"),
        ({"radius": math.inf}, "got inf"),
        ({"norm": "l1"}, "expected linf or l2, got 'l1'"),
        ({"steps": 0}, "at least 1, got 0"),
        ({"step_size": 0.0}, "above 0, got 0"),
        ({"objective": "logit"}, "got 'logit'"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(UsageError, match=message):
        pgd(linear(2), images(2), Adversarial(torch.zeros(2, dtype=torch.long)),
            **{"norm": "l2", "radius": 0.1, **options})  # fmt: skip
