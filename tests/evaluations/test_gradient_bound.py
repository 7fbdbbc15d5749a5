"""Gradients and their bound on linear models, where both are known in closed form."""

import dataclasses

import numpy as np
import pytest
import torch
from subjects import FINDINGS, STD, linear, pixels, subject, weights

from harness.attacks.goals import Adversarial, Flip
from harness.attacks.minimal import Found
from harness.errors import UsageError
from harness.evaluations.attacked import Part, facts, fooled, goal_of, sampled
from harness.evaluations.gradient_bound import GradientBound, concerned, measure
from harness.evaluations.subject import fixed_order
from harness.plugins import catalogue
from harness.rows import INVALID
from harness.tasks import MultiClass


def rows_of(scored) -> dict[tuple[str, str], dict]:
    return {(r["metric"], r["variant"]): r for r in GradientBound(resamples=20).summarise(scored.samples)}


def column(scored, name: str) -> np.ndarray:
    return scored.samples[f"{name}|attack=deepfool"].to_numpy()


def test_two_opposed_classes_meet_the_bound_exactly():
    w = weights(1)
    scored = GradientBound(batch=7).score(subject(linear(torch.cat([w, -w]))))
    rows = rows_of(scored)
    assert len(scored.samples) == 16
    assert rows["gradient_mean", ""]["value"] == pytest.approx((w.abs().mean() / STD).item(), rel=1e-6)
    assert rows["gradient_max", ""]["value"] == pytest.approx((w.abs().max() / STD).item(), rel=1e-6)
    assert rows["bound_ratio", ""]["value"] == pytest.approx(1, abs=1e-4)
    assert rows["within_bound", ""]["value"] == 1
    # the attack follows the gradient, which eq. 8 takes it not to: E[g^2] / E[|g|]^2, pi/2 for a Gaussian
    beyond = (w.square().mean() / w.abs().mean() ** 2).item()
    change, distance = column(scored, "change"), column(scored, "distance")
    np.testing.assert_allclose(change / (distance * column(scored, "gradient_sum")), beyond, rtol=1e-4)
    assert rows["within_bound", "eq8"]["value"] == 0
    assert scored.flags == ()


def test_several_classes():
    w = weights(5)
    made = subject(linear(w))
    scored = GradientBound(images=20).score(made)
    x = pixels(made)
    logits = (x.flatten(1) - 0.5) / STD @ w.T
    for i in range(20):
        t = int(logits[i].argmax())
        gap = [
            (logits[i, t] - logits[i, a]).item() / (w[t] - w[a]).norm().item() * STD if a != t else 9 for a in range(5)
        ]
        a = int(np.argmin(gap))
        d = (w[a] - w[t]) / (w[a] - w[t]).norm()
        own = (abs(w[t] @ d) + abs(w[a] @ d)) / (d.abs() * (w[t].abs() + w[a].abs())).sum()
        assert column(scored, "change")[i] / column(scored, "bound")[i] == pytest.approx(own.item(), rel=1e-3)
        assert column(scored, "distance")[i] == pytest.approx(1.02 * gap[a] * d.abs().mean().item(), rel=0.01)
        both = (w[t].abs() + w[a].abs()) / STD
        assert column(scored, "gradient_mean")[i] == pytest.approx(both.mean().item() / 2, rel=1e-5)
        largest = (w[t].abs().max() + w[a].abs().max()) / STD / 2
        assert column(scored, "gradient_max")[i] == pytest.approx(largest.item(), rel=1e-5)


def test_one_finding_of_several():
    w = weights(3)
    labels = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 1], [1, 1, 1]] * 5, np.uint8)
    made = subject(linear(w), task=FINDINGS, labels=labels)
    scored = GradientBound(images=20).score(made)
    logits = (pixels(made).flatten(1) - 0.5) / STD @ w.T
    assert (logits.max(1).values < 0).any(), "also a decision that nothing is there is flipped"
    for i in range(20):
        chosen = [c for c in range(3) if labels[i, c]] or [0, 1, 2]
        c = max(chosen, key=lambda c: logits[i, c])
        assert column(scored, "gradient_mean")[i] == pytest.approx((w[c].abs().mean() / STD).item(), rel=1e-5)
        moved = 1.02 * logits[i, c].abs().item()
        assert column(scored, "change")[i] == pytest.approx(moved, rel=0.02, abs=2e-4)
    rows = rows_of(scored)
    assert rows["bound_ratio", ""]["value"] == pytest.approx(1, abs=1e-3)
    assert rows["within_bound", ""]["n"] == 20
    assert scored.facts["outputs"] == 1


def test_goals():
    logits = torch.tensor([[1.0, 3.0, -2.0], [-1.0, -3.0, -2.0]])
    goal = goal_of(MultiClass(), logits, torch.tensor([0, 2]))
    assert isinstance(goal, Adversarial)
    assert goal.target.tolist() == [0, 2]
    goal = goal_of(FINDINGS, logits, torch.tensor([[1.0, 0, 1], [0, 0, 0]]))
    assert isinstance(goal, Flip)
    assert (goal.target.tolist(), goal.sign.tolist(), goal.point.tolist()) == ([0, 0], [1, -1], [0, 0])
    assert not goal.reached(logits).any()


def test_images_that_are_wrong_as_they_are_have_gradients_and_no_attack():
    w = weights(3)
    made = subject(linear(w))
    labels = np.array(made.prepared.index.labels)
    labels[:6] = np.roll(labels[:6], 1, axis=1)
    made = subject(linear(w), labels=labels)
    scored = GradientBound(images=20).score(made)
    assert np.isnan(column(scored, "change")).tolist() == [True] * 6 + [False] * 14
    assert np.isfinite(column(scored, "gradient_mean")).all()
    assert scored.facts == {"images": 20, "fooled": 14, "goal held at the start": 6, "not fooled": 0,
                            "zero or NaN gradients": 0, "outputs": 2}  # fmt: skip
    assert rows_of(scored)["logit_change", ""]["n_missing"] == 6


def test_a_model_without_gradients_is_invalid_and_nothing_is_fooled():
    model = linear(torch.zeros(3, 192), torch.tensor([1.0, 0, 0]))
    scored = GradientBound().score(subject(model))
    assert scored.flags == ("zero or NaN gradients",)
    assert set(scored.flags) <= set(INVALID)
    assert scored.facts["not fooled"] == 16
    rows = rows_of(scored)
    assert rows["gradient_mean", ""]["value"] == 0
    assert np.isnan(rows["bound_ratio", ""]["value"])
    assert rows["bound_ratio", ""]["reason"]


class Broken(torch.nn.Module):
    """A square root at zero: finite logits, and a gradient that is not a number where the first pixel is dark."""

    def forward(self, x):
        first = x[:, :1, 0, 0]
        return torch.cat([x.flatten(1), 0 * torch.where(first < -0.9, 0 * first, 1.0).sqrt()], 1)


def broken():
    model = linear(weights(2))
    model.features = Broken()
    model.head = torch.nn.Linear(193, 2)
    with torch.no_grad():
        model.head.weight.copy_(torch.cat([weights(2), torch.ones(2, 1)], 1))
        model.head.bias.zero_()
    return model.requires_grad_(False)


@pytest.mark.parametrize(("dark", "flags"), [(8, ()), (9, ("zero or NaN gradients",))])
def test_gradients_that_are_not_numbers_are_missing_and_above_half_invalid(dark, flags):
    made = subject(linear(weights(2)), n=16)
    images = np.array(made.prepared.images)
    images[:dark, 0, 0, 0] = 64
    made = dataclasses.replace(made, models=(broken(),), prepared=dataclasses.replace(made.prepared, images=images))
    scored = GradientBound().score(made)
    assert np.isnan(column(scored, "gradient_mean")).sum() == dark
    assert np.isnan(column(scored, "change"))[:dark].all()
    assert scored.flags == flags
    assert rows_of(scored)["gradient_mean", ""]["n_missing"] == dark


def test_an_attack_is_not_held_against_gradients_that_are_not_numbers():
    made = dataclasses.replace(subject(linear(weights(2)), n=2), models=(broken(),))
    batch = made.feed(np.arange(2)).batch(np.arange(2))
    batch.x[0, 0, 0, 0] = 0
    found = Found(
        torch.full_like(batch.x, 0.1),
        torch.full((2,), 0.1),
        torch.ones(2).long(),
        torch.ones(2).long(),
        torch.zeros(2).bool(),
    )
    scores = measure(made, Part(batch, made.logits(batch), Adversarial(torch.tensor([0, 0])), found))
    assert scores.pop("faulty").tolist() == [True, False]
    assert all(values.isnan().tolist() == [True, False] for values in scores.values())


def test_the_outputs_of_an_attack_are_the_true_class_and_the_strongest_other_one():
    logits = torch.tensor([[1.0, 3.0, -2.0], [1.0, 3.0, -2.0]])
    target = torch.tensor([0, 1])
    assert concerned(MultiClass(), Adversarial(target), logits).tolist() == [[0, 1], [1, 0]]
    assert concerned(FINDINGS, Flip(target, target, target), logits).tolist() == [[0], [1]]


def test_each_image_has_the_gradient_of_the_model_that_did_not_see_it():
    small, large = weights(2), 3 * weights(2)
    scored = GradientBound(images=20, batch=6).score(subject(linear(small), linear(large)))
    expected = {0: (small.abs().mean() / STD).item(), 1: 3 * (small.abs().mean() / STD).item()}
    for name, value in zip(scored.samples["id"], column(scored, "gradient_mean"), strict=True):
        assert value == pytest.approx(expected[int(name[1:]) % 2], rel=1e-5)
    assert not scored.samples.isna().any().any()


def test_parts_that_fit_memory_change_nothing():
    made = subject(linear(weights(4)))
    a, b = (GradientBound().score(dataclasses.replace(made, memory_batch=m)).samples for m in (None, 3))
    for name in a.columns[3:]:
        np.testing.assert_allclose(a[name].to_numpy(), b[name].to_numpy(), rtol=1e-5)


def test_which_images_are_sampled():
    made = subject(linear(weights(2)))
    assert sampled(made, None).tolist() == sorted(fixed_order(20)[:16].tolist())
    assert sampled(made, 5).tolist() == sorted(fixed_order(20)[:5].tolist())
    assert len(sampled(dataclasses.replace(made, limit=3), None)) == 3
    assert len(sampled(dataclasses.replace(made, limit=30), None)) == 16
    assert len(sampled(dataclasses.replace(made, profile="paper"), None)) == 20


def test_what_counts_as_fooled():
    found = Found(torch.zeros(4, 1, 1, 1), torch.tensor([0.0, torch.inf, 0.1, 0.0]), torch.ones(4).long(),
                  torch.tensor([0, -1, 2, 3]), torch.zeros(4).bool())  # fmt: skip
    assert fooled(found).tolist() == [False, False, True, False]
    assert facts(found.first.numpy(), found.rmse.numpy()) == {
        "images": 4,
        "fooled": 1,
        "goal held at the start": 1,
        "not fooled": 2,
    }


@pytest.mark.parametrize("name", ["deepfool", "ddn", "algorithm1"])
def test_every_attack_that_can_be_named(name):
    evaluation = GradientBound(attack=name, images=4)
    assert evaluation.attack_names(MultiClass(), "quick") == (name,)
    w = weights(1)
    made = subject(linear(torch.cat([w, -w])))
    scored = evaluation.score(made)
    ratios = scored.samples[f"change|attack={name}"] / scored.samples[f"bound|attack={name}"]
    assert (ratios <= 1.001).all()
    assert (ratios > 0.6).all()
    assert catalogue().find("attack", name)


@pytest.mark.parametrize("images", [0, -1])
def test_no_images_are_refused(images):
    with pytest.raises(UsageError, match=f"images: expected at least 1, got {images}"):
        GradientBound(images=images).score(subject(linear(weights(2))))
