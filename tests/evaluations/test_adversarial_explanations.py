"""The evaluation from image to row and picture, on models that are linear in their pixels."""

import dataclasses
import functools

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from harness.attacks.explain import explain
from harness.data.cache import Prepared
from harness.data.index import Index
from harness.device import resolve
from harness.evaluations.adversarial_explanations import AdversarialExplanations, targets
from harness.evaluations.explained import samples_shown
from harness.evaluations.gallery import write
from harness.evaluations.localisation import pairs_of
from harness.evaluations.subject import Subject, fixed_order, labelled
from harness.models.classifier import Classifier, Normalise
from harness.store import read_json
from harness.tasks import MultiClass, MultiLabel

N, SIDE, NAMES = 30, 4, ("one", "two", "three", "four")


def prepared(*, multilabel: bool, boxes: bool = False) -> Prepared:
    rng = np.random.default_rng(0)
    ids = [f"i{i}" for i in range(N)]
    samples = pd.DataFrame({"id": ids, "patient": ids, "split": ["train"] * 4 + ["test"] * (N - 4)})
    labels = np.eye(4, dtype=np.uint8)[np.arange(N) % 4]
    if multilabel:
        labels = (rng.random((N, 4)) < 0.4).astype(np.uint8)
        labels[5:9] = 0
        labels[9] = 1  # nothing is absent
    rows = [(f"i{i}", "two", 0.25, 0.25, 0.75, 0.75) for i in range(10, 20)] if boxes else []
    frame = pd.DataFrame(rows, columns=["id", "class_name", "x0", "y0", "x1", "y1"])
    images = rng.integers(100, 156, (N, 1, SIDE, SIDE), np.uint8)
    return Prepared(None, Index(samples, labels, NAMES, frame), images, "f")  # pyright: ignore


def linear(scale: float = 1.0) -> Classifier:
    torch.manual_seed(1)
    layer = nn.Linear(SIDE * SIDE, len(NAMES))
    with torch.no_grad():
        layer.weight.mul_(scale)
    head = nn.Sequential(nn.Flatten(), layer)
    return Classifier(Normalise((0.5,), (1.0,)), nn.Identity(), head, num_classes=4).eval().requires_grad_(False)


def subject(data: Prepared, task, model: Classifier | None = None, attack=explain, **changes) -> Subject:
    return Subject((model or linear(),), task, data, resolve("cpu"), attacks={"explain": attack}, **changes)


def test_a_linear_finding_moves_by_its_weights_times_rho():
    data = prepared(multilabel=True)
    scored = AdversarialExplanations(rho=0.05, batch=7).score(subject(data, MultiLabel()))
    frame, model = scored.samples, linear()
    weights = model.head[1].weight
    assert len(frame) == 16
    assert scored.passes == {"forward": 5.0, "backward": 200.0}
    assert scored.flags == ()
    labels = data.index.labels[[int(i[1:]) for i in frame["id"]]]
    assert labels.any(1).all()
    for row, label in zip(frame.to_dict("records"), labels, strict=True):
        x = torch.from_numpy(data.images[int(row["id"][1:])] / np.float32(255))[None]
        logits = model(x)[0]
        for role, allowed in (("true", label == 1), ("other", label == 0)):
            if not allowed.any():
                assert np.isnan([row[f"{role}_{w}|attack=explain+|radius=0.05"] for w in ("before", "after")]).all()
                continue
            c = max(np.flatnonzero(allowed), key=lambda c: float(logits[c]))
            step = float(weights[c].norm()) * 0.05 * SIDE
            for sign, way in (("+", 1), ("-", -1)):
                ending = f"|attack=explain{sign}|radius=0.05"
                assert row[f"{role}_before{ending}"] == pytest.approx(float(logits[c].sigmoid()), abs=1e-6)
                assert row[f"{role}_after{ending}"] == pytest.approx(
                    float((logits[c] + way * step).sigmoid()), abs=1e-5
                )
                assert row[f"{role}_rmse{ending}"] == pytest.approx(0.05, rel=1e-4)


def test_of_several_classes_the_true_one_and_its_strongest_rival_are_explained():
    data = prepared(multilabel=False)
    model = linear(8.0)
    frame = AdversarialExplanations(rho=0.05, images=10).score(subject(data, MultiClass(), model)).samples
    assert len(frame) == 10
    for row in frame.to_dict("records"):
        i = int(row["id"][1:])
        p = model(torch.from_numpy(data.images[i] / np.float32(255))[None]).softmax(1)[0]
        rest = [float(p[c]) for c in range(4) if c != i % 4]
        assert row["true_before|attack=explain+|radius=0.05"] == pytest.approx(float(p[i % 4]), abs=1e-6)
        assert row["other_before|attack=explain-|radius=0.05"] == pytest.approx(max(rest), abs=1e-6)
    for role in ("true", "other"):
        after = {s: frame[f"{role}_after|attack=explain{s}|radius=0.05"] for s in "+-"}
        before = frame[f"{role}_before|attack=explain+|radius=0.05"]
        assert (after["+"] > before + 0.01).all()
        assert (after["-"] < before - 0.005).all()


def test_the_sample_is_a_prefix_of_the_fixed_order_of_labelled_images():
    data = prepared(multilabel=True)
    every = data.index.of_split("test")
    known = [int(p) for p in every[fixed_order(len(every))] if data.index.labels[p].any()]
    assert labelled(data, 5).tolist() == sorted(known[:5])
    assert set(labelled(data, 5)) < set(labelled(data, 9))
    limited = AdversarialExplanations().score(subject(data, MultiLabel(), limit=3))
    assert limited.samples["id"].tolist() == [f"i{p}" for p in sorted(known[:3])]
    assert AdversarialExplanations().applies(data) == ""
    empty = dataclasses.replace(data, index=dataclasses.replace(data.index, labels=0 * data.index.labels))
    assert "no image" in AdversarialExplanations().applies(empty)


def test_targets_that_are_not_there_are_known():
    p = torch.tensor([[0.1, 0.7, 0.4], [0.1, 0.7, 0.4], [0.1, float("nan"), 0.4]])
    true = torch.tensor([[True, False, True], [True, True, True], [True, False, False]])
    chosen, there = targets(p, true)
    assert chosen[:, 0].tolist() == [2, 1]
    assert chosen[0, 1] == 1
    assert there.tolist() == [[True, True, False], [True, False, False]]


def test_logits_that_are_no_numbers_are_missing():
    class Broken(nn.Linear):
        def forward(self, x):
            dark = x.mean(1, keepdim=True) < 0.5  # some images, wherever the attack takes them
            return torch.where(dark, torch.nan, 1.0) * super().forward(x)

    torch.manual_seed(0)
    head = nn.Sequential(nn.Flatten(), Broken(SIDE * SIDE, 4))
    model = Classifier(Normalise((0.0,), (1.0,)), nn.Identity(), head, num_classes=4).eval().requires_grad_(False)
    evaluation = AdversarialExplanations(rho=0.001, images=26, resamples=20)
    scored = evaluation.score(subject(prepared(multilabel=False), MultiClass(), model))
    lost = scored.samples["true_after|attack=explain+|radius=0.001"].isna()
    assert 0 < lost.sum() < len(lost)
    rows = evaluation.summarise(scored.samples)
    after = next(r for r in rows if r["metric"] == "explained_probability" and r["variant"] == "after")
    assert (after["n"], after["n_missing"]) == ((~lost).sum(), lost.sum())


def test_the_authors_program_may_end_beyond_rho_and_says_so():
    attack = functools.partial(explain, variant="code", steps=3)
    scored = AdversarialExplanations(rho=0.02).score(subject(prepared(multilabel=False), MultiClass(), attack=attack))
    assert scored.samples["true_rmse|attack=explain+|radius=0.02"].max() > 0.021
    assert scored.flags == ("beyond rho",)
    assert scored.passes["backward"] == 12


def test_pictures_are_of_fixed_samples_for_their_own_class_and_the_most_probable_ones(tmp_path):
    data = prepared(multilabel=False)
    pictures = AdversarialExplanations(rho=0.05).score(subject(data, MultiClass(), linear(8.0))).pictures
    shown = [(f"i{p}", NAMES[c]) for p, c in samples_shown(data)]
    assert list(dict.fromkeys((p.entry["id"], p.entry["own"]) for p in pictures)) == shown
    assert len(shown) == 12
    of_one = [p for p in pictures if p.entry["id"] == shown[0][0]]
    assert of_one[0].entry["class_name"] == shown[0][1]
    assert of_one[0].entry["positive"]
    probable = sorted((p.entry["probability"] for p in of_one), reverse=True)[:3]
    assert probable[0] == pytest.approx(of_one[0].entry["top"][0][1])
    reached = of_one[0].entry["explanations"]
    assert reached["minus"]["probability"] < of_one[0].entry["probability"] < reached["plus"]["probability"]
    assert reached["plus"]["rmse"] == pytest.approx(0.05, rel=1e-4)
    write(of_one, tmp_path)
    entry = read_json(tmp_path / "gallery.json")[0]
    read = {k: np.asarray(Image.open(tmp_path / entry[k]), float) for k in ("image", "plus", "plus_difference")}
    expected = 127.5 + entry["amplification"] * (read["plus"] - read["image"])
    assert entry["amplification"] == pytest.approx(5.0)
    assert np.abs(read["plus_difference"] - expected).max() < 5 * 0.5 + 1  # 8 bits, five times amplified
    assert read["plus_difference"].std() > 10


def test_where_there_are_boxes_the_samples_are_those_of_localisation():
    data = prepared(multilabel=True, boxes=True)
    pairs = pairs_of(data)
    assert set(samples_shown(data)) <= set(zip(pairs.position.tolist(), pairs.class_number.tolist(), strict=True))
    pictures = AdversarialExplanations().score(subject(data, MultiLabel(), limit=2)).pictures
    assert [p.entry["boxes"] for p in pictures if p.entry["class_name"] == "two"] == [[[0.25, 0.25, 0.75, 0.75]]] * 2
    assert all(p.entry["boxes"] == [] for p in pictures if p.entry["class_name"] != "two")
