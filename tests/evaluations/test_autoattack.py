"""Robust accuracy by AutoAttack, on linear models, where it is known in closed form."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
import torch
from linear_models import PIXELS, distances, linear
from torch import nn

from harness.data.cache import Prepared
from harness.data.index import Index
from harness.device import resolve
from harness.errors import UsageError
from harness.evaluations import autoattack
from harness.evaluations.autoattack import AutoAttack, within
from harness.evaluations.subject import Subject, fixed_order
from harness.models.classifier import Classifier, Normalise
from harness.tasks import MultiClass, MultiLabel

N = 20


def prepared_of(labels: np.ndarray, images: np.ndarray) -> Prepared:
    names = [f"i{i}" for i in range(len(labels))]
    samples = pd.DataFrame({"id": names, "patient": names, "split": "test"})
    classes = tuple("abcdefghij"[: labels.shape[1]])
    return Prepared(None, Index(samples, labels.astype(np.uint8), classes), images, "f")  # pyright: ignore


def made(classes: int = 10, right: float = 0.75) -> tuple[Subject, nn.Sequential, torch.Tensor, torch.Tensor]:
    """A linear model that is right on a share of N images; also the bare model, its images and its answers."""
    images = np.random.default_rng(0).integers(120, 136, (N, 3, 8, 8), np.uint8)
    net = linear(classes, scale=0.3)
    x = torch.from_numpy(images).float() / 255
    y = net(x).argmax(1)
    labels = np.eye(classes)[np.where(np.arange(N) < right * N, y, (y + 1) % classes)]
    model = Classifier(Normalise((0.0,) * 3, (1.0,) * 3), net[0], net[1], num_classes=classes)
    model.eval().requires_grad_(False)
    return Subject((model,), MultiClass(), prepared_of(labels, images), resolve("cpu"), profile="paper"), net, x, y


def between(reach: torch.Tensor, right: float = 0.75) -> tuple[float, float]:
    """Return a radius in the widest gap between the images' distances, and the exact share that is beyond it."""
    known = reach[: int(right * N)].sort().values
    inner = known[2:-2]
    gap = (inner[1:] / inner[:-1]).argmax()
    radius = float((inner[gap] * inner[gap + 1]).sqrt())
    return radius, float((known > radius).sum() / N)


def linf_distances(net: nn.Sequential, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    w, b = net[1].weight.detach(), net[1].bias.detach()
    logits = x.flatten(1) @ w.T + b
    gap = logits.gather(1, y[:, None]) - logits
    reach = (w[y][:, None] - w[None]).abs().sum(2)
    return torch.where(reach > 0, gap / reach, torch.inf).min(1).values


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_rows_are_the_closed_form_of_a_linear_model(classes):
    subject, net, x, y = made(classes)
    l2, share_l2 = between(distances(net, x, y))
    linf, share_linf = between(linf_distances(net, x, y))
    assert 0 < share_l2 < 0.75
    evaluation = AutoAttack(linf=linf, l2=l2, version="apgd", resamples=20)
    scored = evaluation.score(subject)
    rows = {row["variant"]: row for row in evaluation.summarise(scored.samples)}
    assert rows.keys() == {"linf", "l2"}
    assert rows["l2"]["value"] == pytest.approx(share_l2)
    assert rows["linf"]["value"] == pytest.approx(share_linf)
    assert rows["l2"]["radius"] == pytest.approx(l2 / math.sqrt(PIXELS))
    assert rows["linf"]["radius"] == pytest.approx(linf)
    assert {(r["metric"], r["attack"], r["n"]) for r in rows.values()} == {("autoattack_accuracy", "autoattack", N)}
    assert scored.samples["correct"].mean() == pytest.approx(0.75)
    assert scored.facts["accuracy"] == pytest.approx(0.75)
    assert scored.facts["left_the_ball"] == 0
    assert scored.facts["attacks"][1:] == {2: [], 3: ["apgd-dlr"], 10: ["apgd-t"]}[classes]


def test_wrong_at_the_start_is_wrong_after_and_is_not_attacked():
    subject, *_ = made(right=0.0)
    scored = AutoAttack(resamples=20).score(subject)
    assert (scored.samples.filter(like="robust") == 0).all(axis=None)
    assert scored.passes["backward"] == 0
    assert 0 < scored.passes["forward"] < 30


def test_passes_are_counted():
    subject, *_ = made(right=1.0)
    scored = AutoAttack(l2=None, linf=1e-6, version="apgd", resamples=20).score(subject)
    assert scored.samples["robust|attack=autoattack|variant=linf|radius=1e-06"].tolist() == [1.0] * N
    assert scored.passes["backward"] == pytest.approx(101 + 9 * 101), "100 steps and a first look, ten times"


def test_samples_are_a_prefix_of_the_fixed_order_and_repeat_bit_for_bit():
    subject, net, x, y = made(2)
    radius = between(distances(net, x, y))[0]
    settings = {"l2": radius, "linf": None, "version": "apgd", "batch": 4}
    few, more, limited, again = (
        AutoAttack(**settings, images=images).score(dataclasses.replace(subject, limit=limit)).samples
        for images, limit in ((4, None), (8, None), (None, 8), (8, None))
    )
    assert few["id"].tolist() == [f"i{i}" for i in fixed_order(N)[:4]]
    assert more.equals(limited)
    assert more.equals(again)
    assert more.iloc[:4].equals(few)
    quick = dataclasses.replace(subject, profile="quick")
    assert len(AutoAttack(**settings).score(quick).samples) == 16


def test_an_image_moved_too_far_counts_as_not_fooled(monkeypatch):
    subject, *_ = made(right=0.5)
    monkeypatch.setattr(autoattack, "autoattack", lambda model, x, y, **_: torch.zeros_like(x))
    scored = AutoAttack(resamples=20).score(subject)
    assert (scored.samples.filter(like="robust").mean() == 0.5).all()
    assert scored.facts["left_the_ball"] == 2 * N


def test_the_ball_and_the_range():
    x = torch.full((4, 3, 8, 8), 0.5)
    moved = x.clone()
    moved[1, 0, 0, 0] += 0.2
    moved[2] += 0.05
    moved[3, 0, 0, 0] = 1.01
    assert within(moved, x, "linf", 0.1).tolist() == [True, False, True, False]
    assert within(moved, x, "l2", 0.3).tolist() == [True, True, False, False]
    assert within(moved, x, "linf", 1.0).tolist() == [True, True, True, False]


def test_images_without_finite_logits_are_missing():
    subject, *_ = made(right=1.0)
    subject.models[0].head.bias.fill_(torch.nan)
    subject = dataclasses.replace(subject, limit=3)
    evaluation = AutoAttack(l2=None, version="apgd", resamples=20)
    rows = evaluation.summarise(evaluation.score(subject).samples)
    assert [(r["n"], r["n_missing"], math.isnan(r["value"])) for r in rows] == [(0, 3, True)]
    assert rows[0]["reason"]


def test_several_labels_are_refused():
    subject, *_ = made()
    labels = np.ones((N, 2))
    images = np.zeros((N, 3, 8, 8), np.uint8)
    assert "one class per image" in AutoAttack().applies(prepared_of(labels, images))
    assert AutoAttack().applies(subject.prepared) == ""
    with pytest.raises(UsageError, match="a task of several labels"):
        AutoAttack().score(dataclasses.replace(subject, task=MultiLabel()))


@pytest.mark.parametrize("settings", [{"l2": None, "linf": None}, {"l2": 0.0}, {"images": 0}, {"linf": -1.0}])
def test_settings_without_meaning(settings):
    with pytest.raises(UsageError, match="expected a radius above 0 and 1 or more images"):
        AutoAttack(**settings)
