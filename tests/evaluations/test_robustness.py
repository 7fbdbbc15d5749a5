"""Robustness on models whose smallest perturbation is known, and on models built to raise each flag."""

import dataclasses
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from harness.attacks.ddn import ddn
from harness.attacks.deepfool import deepfool
from harness.attacks.pgd import pgd
from harness.data.cache import Prepared
from harness.data.index import Index
from harness.device import resolve
from harness.errors import NothingToScoreError, UsageError
from harness.evaluations.robustness import Robustness
from harness.evaluations.subject import Subject, fixed_order
from harness.metrics.ara import area
from harness.tasks import MultiClass, MultiLabel

N, SIDE, CLASSES = 60, 8, ("a", "b", "c")
PIXELS = SIDE * SIDE
FAST = {"deepfool": deepfool, "ddn": ddn}


class Linear(nn.Module):
    """Logits W x + b on the flat image; small weights, so that no boundary is near the edge of [0,1]."""

    def __init__(self, outputs: int, seed: int = 0, scale: float = 1.0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(scale * torch.randn(outputs, PIXELS, generator=generator))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x):
        return (x.flatten(1) - 0.5) @ self.weight.T + self.bias


def images(n=N):
    return np.random.default_rng(0).integers(118, 138, (n, 1, SIDE, SIDE), np.uint8)


def pixels(n=N):
    return torch.from_numpy(images(n)).float() / 255


def subject(model, labels, task, *, attacks=None, **more):
    n, names = len(labels), [f"i{i}" for i in range(len(labels))]
    classes = tuple("abcdef"[: labels.shape[1]])
    split = more.pop("split", ["test"] * n)
    index = Index(pd.DataFrame({"id": names, "patient": names, "split": split}), labels, classes)
    attacks = attacks or (FAST if task.exclusive else {**FAST, "pgd": pgd})
    prepared = Prepared(None, index, images(n), "f")  # pyright: ignore
    return Subject((model.eval().requires_grad_(False),), task, prepared, resolve("cpu"), attacks=attacks, **more)  # pyright: ignore


def one_hot(numbers, classes=3):
    return np.eye(classes, dtype=np.uint8)[np.asarray(numbers)]


def labels_of(model):
    """What the model says, but for every sixth image."""
    with torch.no_grad():
        said = model(pixels()).argmax(1).numpy()
    return np.where(np.arange(N) % 6 == 5, (said + 1) % 3, said)


def distances(model, y):
    """The L2 distance to the nearest boundary with another class, 0 where another one has won already."""
    with torch.no_grad():
        logits = model(pixels()).double()
    w = model.weight.detach().double()
    found = []
    for row, t in zip(logits, y, strict=True):
        others = [j for j in range(len(w)) if j != t]
        found.append(max(0.0, min(((row[t] - row[j]) / (w[t] - w[j]).norm()).item() for j in others)))
    return np.array(found)


def test_attack_ara_is_the_closed_form_on_a_linear_model():
    model = Linear(3)
    y = labels_of(model)
    scored = Robustness(images=N).score(subject(model, one_hot(y), MultiClass()))
    frame = scored.samples.set_index("id").loc[[f"i{i}" for i in range(N)]]
    expected = distances(model, y) / PIXELS**0.5
    assert frame["rmse:adv"].to_numpy() == pytest.approx(expected, rel=0.02, abs=1e-6)
    assert (frame["rmse:adv"] >= expected * 0.9999).all()
    rows = Robustness(images=N, resamples=20).summarise(scored.samples)
    ara = next(r for r in rows if r["metric"] == "attack_ara" and not r["variant"])
    naive = np.bincount(y).max() / N
    assert ara["value"] == pytest.approx(area(expected, np.ones((1, N)), naive)[0], rel=0.02)
    assert ara["attack"] == "fast"
    assert set(scored.flags) <= {"minima below the attacks' resolution"}
    assert scored.facts["adv"]["at the start"] == (expected == 0).sum()
    assert sum(scored.facts["adv"]["won"].values()) == (expected > 0).sum()
    assert scored.facts["adv"]["passes, mean"] < 200


def test_btr_starts_at_chance_and_not_at_the_decision():
    """A wrong image whose class has more than its share by chance is attacked for BTR, and is 0 for adv."""
    model = Linear(3, scale=0.3)
    y = labels_of(model)
    frame = Robustness(images=N).score(subject(model, one_hot(y), MultiClass())).samples
    with torch.no_grad():
        logits = model(pixels())
    p = logits.softmax(1).numpy()[np.arange(N), y]
    order = [int(i[1:]) for i in frame["id"]]
    assert ((frame["rmse:btr"] == 0).to_numpy() == (p < 1 / 3)[order]).all()
    assert ((frame["rmse:adv"] == 0) & (frame["rmse:btr"] > 0)).any()
    assert (frame["rmse:btr"] >= frame["rmse:adv"] * 0.98).all()


def test_two_classes_btr_is_the_attack():
    model = Linear(2)
    with torch.no_grad():
        y = model(pixels()).argmax(1).numpy()
    frame = Robustness(images=N).score(subject(model, one_hot(y, 2), MultiClass())).samples
    assert frame["rmse:btr"].to_numpy() == pytest.approx(frame["rmse:adv"].to_numpy(), rel=0.01)


def findings_of(model, shift=0.3):
    """Each finding is present where its logit is above `shift`, but for every seventh image."""
    with torch.no_grad():
        logits = model(pixels(4 * N)).numpy()
    present = logits > shift
    present[::7] = ~present[::7]
    return present.astype(np.uint8), logits


def test_flip_ara_is_the_closed_form_on_a_linear_model():
    model = Linear(3)
    labels, logits = findings_of(model)
    split = ["validation" if i % 3 == 0 else "test" for i in range(4 * N)]
    given = subject(model, labels, MultiLabel(), split=split)
    scored = Robustness(pairs=10).score(given)
    frame = scored.samples
    assert sorted(set(frame["class_name"])) == sorted(frame["class_name"].unique())
    assert len(frame) == 2 * 20  # two findings, ten of each side
    assert (frame.groupby(["class_name", "positive"]).size() == 10).all()
    w = model.weight.detach().norm(dim=1).numpy()
    for row in frame.itertuples():
        i, c = int(row.id[1:]), CLASSES.index(row.class_name)
        assert bool(labels[i, c]) == row.positive
        margin = (1 if row.positive else -1) * (logits[i, c] - row.operating_point)
        expected = max(0.0, margin / w[c]) / PIXELS**0.5
        assert frame.at[row.Index, "rmse:flip"] == pytest.approx(expected, rel=0.02, abs=2e-6)
    rows = Robustness(pairs=10, resamples=20).summarise(frame)
    assert {r["metric"] for r in rows} == {"flip_ara", "flip_accuracy", "robust_auroc"}
    macro = [r for r in rows if r["metric"] == "flip_ara" and r["class_name"] == "macro"]
    assert macro[0]["value"] > 0
    assert "robust_auroc" in {r["metric"] for r in rows if r["radius"] == 0.005}


def test_pgd_against_the_label_moves_every_image_as_far_as_it_may():
    model = Linear(3)
    labels, logits = findings_of(model)
    split = ["validation" if i % 3 == 0 else "test" for i in range(4 * N)]
    frame = Robustness(pairs=10).score(subject(model, labels, MultiLabel(), split=split)).samples
    w = model.weight.detach().norm(dim=1).numpy()
    for row in frame.itertuples():
        i, c = int(row.id[1:]), CLASSES.index(row.class_name)
        sign = 1 if row.positive else -1
        for radius in (0.0, 0.001, 0.005):
            moved = logits[i, c] - sign * w[c] * radius * PIXELS**0.5
            assert frame.at[row.Index, f"probability:{radius:g}"] == pytest.approx(1 / (1 + np.exp(-moved)), abs=2e-3)


def test_at_half_is_measured_when_asked():
    model = Linear(3)
    labels, _ = findings_of(model)
    split = ["validation" if i % 3 == 0 else "test" for i in range(4 * N)]
    given = subject(model, labels, MultiLabel(), split=split)
    rows = Robustness(pairs=10, at_half="yes", resamples=10)
    found = rows.summarise(rows.score(given).samples)
    assert {r["variant"] for r in found if r["metric"] == "flip_ara_at_half"} == {"at_half"}


def test_a_finding_without_an_operating_point_says_why():
    model = Linear(3)
    labels, _ = findings_of(model)
    split = ["validation" if i < 12 else "test" for i in range(4 * N)]
    with pytest.raises(NothingToScoreError, match=r"^a: no operating point: fewer than 10 .*; b: no operating"):
        Robustness(pairs=10).score(subject(model, labels, MultiLabel(), split=split))


def test_sampling_until_enough_are_right():
    model = Linear(3)
    y = labels_of(model)
    given = subject(model, one_hot(y), MultiClass())
    frame = Robustness(images=20, sampling="until_right").score(given).samples
    assert frame["right"].sum() == 20
    assert frame["right"].iloc[-1]
    assert frame["id"].tolist() == [f"i{i}" for i in fixed_order(N)[: len(frame)]]
    assert (frame["rmse:adv"] > 0).sum() == 20
    assert len(Robustness(images=1000, sampling="until_right").score(given).samples) == N


def test_the_profile_decides_sizes_and_attacks():
    assert Robustness().attack_names(MultiClass(), "quick") == ("deepfool", "ddn")
    assert Robustness().attack_names(MultiClass(), "paper") == ("deepfool", "ddn", "algorithm1", "foolbox_boundary")
    assert Robustness().attack_names(MultiLabel(), "quick") == ("deepfool", "ddn", "pgd")
    assert Robustness().attack_settings("paper") == {
        "algorithm1": {"variant": "code", "clip": True}, "foolbox_boundary": {"steps": 1000},
    }  # fmt: skip
    assert Robustness(attacks=("algorithm1",), black_box="none").attack_settings("paper") == {}


class Flagged(Linear):
    """A linear model with one fault."""

    def __init__(self, fault: str):
        super().__init__(3)
        self.fault, self.calls = fault, 0

    def forward(self, x):
        logits = super().forward(x)
        self.calls += 1
        if self.fault == "random output":
            return logits + 0.01 * self.calls
        if self.fault == "probabilities instead of logits":
            return logits.softmax(1)
        if self.fault == "zero or NaN gradients":
            return logits.detach() + 0 * x.flatten(1).sum(1, keepdim=True)
        if self.fault == "adversarial loss not falling":
            return logits.detach() * 2 - logits  # the value of the logits, and minus their gradient
        return logits


@pytest.mark.parametrize(
    "fault",
    ["random output", "probabilities instead of logits", "zero or NaN gradients", "adversarial loss not falling"],
)
def test_each_flag_is_raised_by_a_model_that_has_the_fault(fault):
    y = labels_of(Linear(3))
    flags = Robustness(images=12).score(subject(Flagged(fault), one_hot(y), MultiClass())).flags
    assert fault in flags
    sound = Robustness(images=12).score(subject(Linear(3), one_hot(y), MultiClass())).flags
    assert set(sound) <= {"minima below the attacks' resolution"}


def test_a_black_box_attack_that_beats_the_others_is_noted():
    """Gradients that are masked: the attacks that follow them go a long way round, one that only asks does not."""
    y = labels_of(Linear(3))

    def long(model, x, goal):
        found = deepfool(model, x, goal)
        return dataclasses.replace(found, delta=1.5 * found.delta, rmse=1.5 * found.rmse)

    def control(model, x, goal):
        return ddn(model, x, goal)

    note = "a black-box attack beats the white-box ones"
    for first, expected in ((long, True), (deepfool, False)):
        attacks = {"first": partial(_registered(first)), "asks": _registered(control)}
        given = subject(Linear(3), one_hot(y), MultiClass(), attacks=attacks)
        scored = Robustness(images=12, black_box="asks").score(given)
        assert (note in scored.flags) == expected
        assert set(scored.facts["adv"]["won"]) == {"first"}  # it controls, it does not take part


def test_late_minima_are_noted():
    def slow(model, x, goal):
        found = ddn(model, x, goal)
        return dataclasses.replace(found, late=torch.ones_like(found.late))

    y = labels_of(Linear(3))
    flags = (
        Robustness(images=12)
        .score(subject(Linear(3), one_hot(y), MultiClass(), attacks={"slow": _registered(slow)}))
        .flags
    )
    assert "minimum not reached before half of the steps" in flags


def test_minima_below_the_resolution_are_noted():
    model = Linear(3, scale=30.0)
    model.bias.data = -model(pixels()).mean(0).detach() + torch.tensor([0.01, 0.0, 0.0])
    with torch.no_grad():
        y = model(pixels()).argmax(1).numpy()
    near = distances(model, y)
    assert ((near > 0) & (near < 0.03)).any()
    scored = Robustness(images=N).score(subject(model, one_hot(y), MultiClass()))
    assert "minima below the attacks' resolution" in scored.flags


def _registered(function):
    if hasattr(function, "__harness__"):
        return function
    function.__harness__ = {"attack": {"name": function.__name__, "finds": "minimal"}}
    return function


def _blind(model, x, goal):
    """An attack that never gets anywhere."""
    found = deepfool(model, x, goal, steps=1)
    return dataclasses.replace(found, rmse=torch.full_like(found.rmse, torch.inf), delta=torch.zeros_like(x))


def test_images_never_fooled_get_the_distance_to_another_image():
    model = Linear(3)
    y = labels_of(model)
    given = subject(model, one_hot(y), MultiClass(), attacks={"blind": partial(_registered(_blind))})
    scored = Robustness(images=N).score(given)
    assert "images never fooled" in scored.flags
    frame = scored.samples.set_index("id").loc[[f"i{i}" for i in range(N)]]
    exact = distances(model, y) / PIXELS**0.5
    found = frame["rmse:adv"].to_numpy()
    assert np.isfinite(found).all()
    assert (found >= exact * 0.999).all()
    assert (found[exact > 0] < 0.2).all()
    assert scored.facts["adv"]["never fooled"] == (exact > 0).sum()


def test_nobody_reaches_the_goal():
    """A model that always says `a`: no attack and no other image changes that, so there is no area."""
    model = Linear(3)
    model.weight.data.zero_()
    model.bias.data = torch.tensor([3.0, 0.0, 0.0])
    setting = Robustness(images=10, resamples=10)
    scored = setting.score(subject(model, one_hot(np.zeros(N, int)), MultiClass()))
    row = setting.summarise(scored.samples)[0]
    assert np.isnan(row["value"])
    assert row["reason"] == "10 of 10 could not be scored: not a number, or never fooled"
    assert "zero or NaN gradients" in scored.flags


def test_logits_that_are_no_numbers_are_missing():
    class Broken(Linear):
        def forward(self, x):
            logits = super().forward(x)
            return torch.where(x[:, 0, 0, :1] > 0.5, torch.nan, logits)

    setting = Robustness(images=20, resamples=10)
    scored = setting.score(subject(Broken(3), one_hot(labels_of(Linear(3))), MultiClass()))
    lost = scored.samples["rmse:adv"].isna().sum()
    assert 0 < lost < 20
    assert np.isnan(setting.summarise(scored.samples)[0]["value"])


def test_no_image_is_right():
    y = labels_of(Linear(3))
    with torch.no_grad():
        wrong = (Linear(3)(pixels()).argmin(1)).numpy()
    assert (wrong != y).any()
    setting = Robustness(images=N, resamples=10)
    scored = setting.score(subject(Linear(3), one_hot(wrong), MultiClass()))
    row = setting.summarise(scored.samples)[0]
    assert (row["metric"], row["value"]) == ("attack_ara", 0.0)


def test_one_class_has_nothing_to_attack():
    given = subject(Linear(1), np.ones((N, 1), np.uint8), MultiClass())
    assert Robustness().applies(given.prepared) == "every image has the one class there is"


def test_an_attack_of_another_kind_is_refused():
    given = subject(Linear(3), one_hot(labels_of(Linear(3))), MultiClass(), attacks={"pgd": pgd})
    with pytest.raises(UsageError, match=r"smallest perturbation, got pgd.*list attacks"):
        Robustness(attacks=("pgd",)).score(given)


@pytest.mark.parametrize("field", ["images", "pairs", "batch"])
def test_sizes_that_measure_nothing_are_refused(field):
    with pytest.raises(UsageError, match=f"{field}: expected at least 1, got 0"):
        Robustness(**{field: 0})


def test_an_interrupted_attack_goes_on_with_the_parts_it_has():
    model = Linear(3)
    given = subject(model, one_hot(labels_of(model)), MultiClass())
    kept: dict[str, pd.DataFrame] = {}
    stop = 2

    def shards(parts, progress):
        for part in parts:
            if part.name not in kept:
                if len(kept) == stop:
                    raise KeyboardInterrupt
                kept[part.name] = part.make()
        return [kept[part.name] for part in parts]

    whole = Robustness(images=N, batch=10).score(given).samples
    stopped = dataclasses.replace(given, shards=shards)
    with pytest.raises(KeyboardInterrupt):
        Robustness(images=N, batch=10).score(stopped)
    assert len(kept) == 2
    stop = 100
    again = Robustness(images=N, batch=10).score(stopped).samples
    pd.testing.assert_frame_equal(whole, again)


@pytest.mark.parametrize("batch", [1, 7, 60])
def test_the_batch_changes_nothing_to_speak_of(batch):
    model = Linear(3)
    given = subject(model, one_hot(labels_of(model)), MultiClass())
    usual, other = (Robustness(images=30, batch=b).score(given).samples for b in (20, batch))
    assert other["rmse:adv"].to_numpy() == pytest.approx(usual["rmse:adv"].to_numpy(), rel=1e-3, abs=1e-7)
