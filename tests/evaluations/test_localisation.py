"""The localisation evaluation from image to row, against a plain-loop twin written from the protocol."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from harness.data.cache import Prepared
from harness.data.index import Index
from harness.device import resolve
from harness.evaluations.gallery import by_score, display_levels, fixed_pairs
from harness.evaluations.localisation import Localisation, pairs_of
from harness.evaluations.subject import Subject, fixed_order
from harness.models.classifier import Classifier, GlobalAverageLinear, Normalise
from harness.tasks import MultiLabel
from harness.types import Explanation

SIZE = 24


@pytest.fixture
def prepared() -> Prepared:
    rng = np.random.default_rng(0)
    n = 60
    samples = pd.DataFrame({"id": [f"i{i}" for i in range(n)], "patient": [f"p{i // 2}" for i in range(n)],
                            "split": ["train"] * 4 + ["validation"] * 2 + ["test"] * (n - 6)})  # fmt: skip
    labels = np.ones((n, 2), np.uint8)
    rows = []
    for i in range(6, n):
        for c in ("one", "two") if i % 3 else ("one",):
            x, y = rng.uniform(0, 0.5, 2)
            rows.append((f"i{i}", c, x, y, x + 0.4, y + 0.3))
    rows.append(("i7", "one", 0.8, 0.8, 0.9, 0.9))  # a second box of a pair
    rows.append(("i0", "one", 0.1, 0.1, 0.9, 0.9))  # not in the test split
    boxes = pd.DataFrame(rows, columns=["id", "class_name", "x0", "y0", "x1", "y1"])
    images = rng.integers(0, 256, (n, 1, SIZE, SIZE), np.uint8)
    return Prepared(None, Index(samples, labels, ("one", "two"), boxes), images, "f")  # pyright: ignore


def subject(prepared: Prepared, **changes) -> Subject:
    torch.manual_seed(0)
    features = torch.nn.Conv2d(1, 3, 5, stride=4)
    model = Classifier(Normalise((0.5,), (0.2,)), features, GlobalAverageLinear(3, 2), num_classes=2).eval()
    return Subject(
        models=(model.requires_grad_(False),), task=MultiLabel(), prepared=prepared, compute=resolve("cpu"), **changes
    )


def maps(model, x, target, *, seeds) -> Explanation:
    """A map that follows from image and class alone."""
    return Explanation(torch.nn.functional.avg_pool2d(x, 4)[:, 0] * (target[:, None, None] + 1.0), 1, 2)


def test_pairs(prepared):
    pairs = pairs_of(prepared)
    assert len(pairs) == 54 + 36
    assert set(pairs.ids).isdisjoint({"i0"})
    two_boxes = np.flatnonzero((pairs.ids == "i7") & (pairs.class_name == "one"))
    assert len(pairs.boxes[int(two_boxes[0])]) == 2
    patients = prepared.index.samples["patient"].to_numpy()[pairs.position]
    assert all(len(set(pairs.fold[patients == p])) == 1 for p in set(patients))


def test_it_applies_where_the_test_split_has_boxes(prepared):
    assert Localisation().applies(prepared) == ""
    index = prepared.index
    for boxes, why in ((index.boxes[:0], "the dataset has no boxes"),
                       (index.boxes[index.boxes["id"] == "i0"], "the test split has no boxes")):  # fmt: skip
        changed = dataclasses.replace(prepared, index=dataclasses.replace(index, boxes=boxes))
        assert Localisation().applies(changed) == why


@pytest.mark.parametrize("limit", [1, 2])
def test_one_pair_is_enough_to_go_on(prepared, limit):
    evaluation = Localisation(resamples=20)
    scored = evaluation.score(subject(prepared, limit=limit), maps)
    rows = evaluation.summarise(scored.samples)
    assert len(scored.samples) == limit
    assert all(np.isnan(r["value"]) and r["reason"] for r in rows if r["metric"] == "localisation_accuracy")


def test_scores_against_plain_loops(prepared):
    found = Localisation(batch=7).score(subject(prepared), maps)
    frame = found.samples
    pairs = pairs_of(prepared)
    assert found.passes == {"forward": 1.0, "backward": 2.0}
    assert frame["id"].tolist() == pairs.ids.tolist()
    for p in (0, 17, 53, int(np.flatnonzero(pairs.ids == "i7")[0])):
        image = prepared.images[pairs.position[p], 0] / np.float32(255)
        small = image.reshape(6, 4, 6, 4).mean((1, 3)) * (pairs.class_number[p] + 1)
        up = torch.nn.functional.interpolate(torch.tensor(small)[None, None], size=(SIZE, SIZE), mode="bilinear")[0, 0]
        scaled = ((up - up.min()) / (up.max() - up.min()) * 255).numpy()
        mask = np.zeros((SIZE, SIZE), bool)
        for x0, y0, x1, y1 in pairs.boxes[p]:
            for i in range(SIZE):
                for j in range(SIZE):
                    mask[i, j] |= x0 <= (j + 0.5) / SIZE < x1 and y0 <= (i + 0.5) / SIZE < y1
        for t in (0, 1, 60, 128, 254):
            region = scaled >= t - 1e-4  # float32 rounding at whole levels
            iou = (region & mask).sum() / (region | mask).sum()
            assert frame["iou"][p][t] / 65530 == pytest.approx(iou, abs=2 / (region | mask).sum())
        assert frame["box_area"][p] == pytest.approx(mask.mean())
        where = np.unravel_index(scaled.argmax(), mask.shape)
        assert frame["pointing"][p] == float(mask[where])
        mass = up.numpy() - up.numpy().min()
        assert frame["energy"][p] == pytest.approx(mass[mask].sum() / mass.sum(), rel=1e-4)


def test_batch_and_memory_batch_change_nothing(prepared):
    a = Localisation(batch=7).score(subject(prepared), maps).samples
    b = Localisation(batch=90).score(subject(prepared, memory_batch=4), maps).samples
    assert np.stack(a["iou"]).tolist() == np.stack(b["iou"]).tolist()


def test_maps_that_are_not_finite_are_missing_never_zero(prepared):
    def broken(model, x, target, *, seeds):
        heat = maps(model, x, target, seeds=seeds).heat.clone()
        heat[target == 1, 0, 0] = float("nan")
        return Explanation(heat, 1, 0)

    evaluation = Localisation(batch=16, resamples=20)
    scored = evaluation.score(subject(prepared), broken)
    assert scored.samples.loc[scored.samples["class_name"] == "two", "energy"].isna().all()
    rows = evaluation.summarise(scored.samples)
    two = [r for r in rows if r["class_name"] == "two" and r["metric"] == "localisation_accuracy"]
    assert all(np.isnan(r["value"]) and r["reason"] for r in two)
    macro = next(r for r in rows if r["class_name"] == "macro" and r["metric"] == "localisation_accuracy")
    assert macro["n_missing"] == 1
    assert "1 of 2" in macro["reason"]


def test_limit_is_a_prefix_of_the_fixed_order(prepared):
    few = Localisation().score(subject(prepared, limit=10), maps).samples
    more = Localisation().score(subject(prepared, limit=20), maps).samples
    names = [set(zip(f["id"], f["class_name"], strict=True)) for f in (few, more)]
    assert len(names[0]) == 10
    assert names[0] < names[1]


def test_the_fixed_order_is_the_authors():
    assert (
        fixed_order(10_000)[:3].tolist()
        == torch.randperm(10_000, generator=torch.Generator().manual_seed(1776))[:3].tolist()
    )


def test_the_gallery_shows_every_class_and_best_and_worst(prepared):
    pictures = Localisation().score(subject(prepared), maps).pictures
    fixed = [p for p in pictures if p.entry["why"] == "fixed"]
    assert len(fixed) == 12
    assert {p.entry["class_name"] for p in fixed} == {"one", "two"}
    assert {p.entry["why"] for p in pictures} == {"fixed", "best", "median", "worst"}
    best = min(p.entry["scores"]["best IoU"] for p in pictures if p.entry["why"] == "best")
    worst = max(p.entry["scores"]["best IoU"] for p in pictures if p.entry["why"] == "worst")
    assert worst < best
    other = Localisation().score(dataclasses.replace(subject(prepared)), maps).pictures
    assert [p.entry["id"] for p in other[:12]] == [p.entry["id"] for p in pictures[:12]], "the same for every run"


def test_choice_of_pictures():
    assert sorted(by_score(np.array([0.1, 0.9, np.nan, 0.5]))["best"]) == [1]
    chosen = by_score(np.linspace(0, 1, 101))
    assert chosen["best"] == [100, 99, 98, 97]
    assert chosen["worst"] == [3, 2, 1, 0]
    assert 50 in chosen["median"]
    assert len(fixed_pairs(np.zeros(5, np.int64))) == 5
    heat = np.zeros((10, 10), np.float32)
    assert display_levels(heat).max() == 0
    heat[0, 0], heat[5, 5] = 1000, 1
    assert display_levels(heat).max() == 255
