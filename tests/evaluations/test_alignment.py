"""Alignment on linear models, where the attack's energy is known, and the reference maps at chance."""

import dataclasses

import numpy as np
import pytest
import torch
from subjects import FINDINGS, SIZE, linear, subject, weights
from torch.nn.functional import interpolate

from harness.attacks.deepfool import deepfool
from harness.attacks.goals import Adversarial, Flip
from harness.errors import UsageError
from harness.evaluations.alignment import Alignment
from harness.evaluations.explained_maps import explain
from harness.explainers.reference import RandomMap, WholeImage
from harness.types import Explanation

TOP = 6 / 64  # what round(0.1 * 64) of 64 pixels are


def column(scored, name: str) -> np.ndarray:
    return scored.samples[f"{name}|attack=deepfool"].to_numpy()


def two(seed: int = 0):
    """A model of two classes, and the energy of every attack on it."""
    w = weights(2, seed=seed)
    return linear(w), (w[0] - w[1]).view(3, SIZE, SIZE).double().square().sum(0)


def coarse(model, x, target, *, seeds) -> Explanation:
    """A 4 x 4 map that follows from image and class; no two cells tie."""
    pattern = torch.rand(3, SIZE, SIZE, generator=torch.Generator().manual_seed(5))
    return Explanation(torch.nn.functional.avg_pool2d(x * pattern, 2).sum(1) * (target[:, None, None] + 1.0), 1, 2)


def test_a_map_of_the_attack_itself():
    model, energy = two()

    def own(model, x, target, *, seeds):
        return Explanation(energy.expand(len(x), -1, -1).float())

    scored = Alignment(images=20, batch=7).score(subject(model), own)
    best = energy.flatten().sort(descending=True).values
    assert column(scored, "share") == pytest.approx((best[:6].sum() / best.sum()).item(), rel=1e-3)
    assert column(scored, "rank") == pytest.approx(1, abs=1e-3)
    assert column(scored, "chance") == pytest.approx(TOP)
    assert scored.facts["fooled"] == 20


@pytest.mark.parametrize("task", [None, FINDINGS])
def test_twin(task):
    """Loops over maps and attacks, from the text of the protocol."""
    model, _ = two()
    labels = np.array([[1, 0], [0, 1]] * 10, np.uint8) if task else None
    made = subject(model, task=task, labels=labels)
    scored = Alignment(images=20, batch=7, top=0.2).score(made, coarse)
    x = torch.from_numpy(np.asarray(made.prepared.images)) / 255
    target = made.prepared.index.labels.argmax(1)
    maps = interpolate(coarse(model, x, torch.from_numpy(target), seeds=None).heat[:, None], size=SIZE, mode="bilinear")
    class_ = torch.from_numpy(target)
    sign = torch.where(model(x).gather(1, class_[:, None])[:, 0] > 0, 1.0, -1.0)
    delta = deepfool(model, x, Flip(class_, sign, torch.zeros(20)) if task else Adversarial(class_)).delta
    for i in range(20):
        mass = [sum(v**2 for v in pixel) for pixel in delta[i].flatten(1).T.tolist()]
        last = i // 7 * 7 + 7 if i < 14 else 20
        other = i + 1 if i + 1 < last else i // 7 * 7
        for name, m in (("share", i), ("other_share", other)):
            heat = maps[m, 0].flatten().tolist()
            chosen = sorted(range(64), key=lambda p: -heat[p])[:13]
            assert column(scored, name)[i] == pytest.approx(sum(mass[p] for p in chosen) / sum(mass), rel=1e-5)
        order, places = (np.argsort(np.argsort(v)) for v in (maps[i, 0].flatten().numpy(), mass))
        assert column(scored, "rank")[i] == pytest.approx(np.corrcoef(order, places)[0, 1], abs=1e-3)
    assert scored.passes["forward"] == 2
    assert scored.passes["backward"] > 3


@pytest.mark.parametrize("reference", [RandomMap(), RandomMap(cells=SIZE)])
def test_maps_that_know_nothing_score_chance(reference):
    made = subject(two()[0], n=600)
    noise = Alignment(images=600, batch=100).score(made, reference)
    for name in ("share", "other_share"):
        values = column(noise, name)
        assert values.std() > 0
        assert abs(values.mean() - TOP) < 4 * values.std() / 600**0.5
    assert abs(column(noise, "rank").mean()) < 4 * column(noise, "rank").std() / 600**0.5
    constant = Alignment(images=20).score(made, WholeImage())
    assert column(constant, "share") == pytest.approx(TOP)
    assert np.isnan(column(constant, "rank")).all()


def test_maps_that_are_not_finite_are_missing_and_lend_nobody_their_map():
    def broken(model, x, target, *, seeds):
        heat = coarse(model, x, target, seeds=seeds).heat.clone()
        heat[3] = torch.nan
        return Explanation(heat)

    made = subject(two()[0])
    scored = Alignment(images=20, batch=20, resamples=20).score(made, broken)
    whole = Alignment(images=20, batch=20).score(made, coarse)
    for name in ("share", "rank", "other_share", "other_rank"):
        assert np.flatnonzero(np.isnan(column(scored, name))).tolist() == [3]
    changed = column(scored, "other_rank") != column(whole, "other_rank")
    assert np.flatnonzero(changed).tolist() == [2, 3], "image 2 is held against the map of image 4"
    assert scored.facts["maps not finite"] == 1
    rows = Alignment(resamples=20).summarise(scored.samples)
    assert {(r["n"], r["n_missing"]) for r in rows} == {(19, 1)}


def test_no_image_fooled():
    model = linear(torch.zeros(2, 192), torch.tensor([1.0, 0.0]))
    scored = Alignment(resamples=20).score(subject(model), coarse)
    assert scored.facts["not fooled"] == 16
    rows = Alignment(resamples=20).summarise(scored.samples)
    assert rows
    for row in rows:
        assert np.isnan(row["value"])
        assert row["reason"] == "no samples that could be scored"
        assert (row["n"], row["n_missing"]) == (0, 16)


def test_a_lone_image_has_no_other_map():
    scored = Alignment(images=1).score(subject(two()[0]), coarse)
    assert np.isfinite(column(scored, "share")).all()
    assert np.isnan(column(scored, "other_share")).all()


def test_maps_and_attacks_come_from_the_model_that_did_not_see_the_image():
    def number(model, x, target, *, seeds):
        return Explanation(model.head.weight[:1].abs().view(1, 3, SIZE, SIZE).sum(1).expand(len(x), -1, -1))

    pair = [two(seed) for seed in (0, 1)]
    made = subject(*(model for model, _ in pair))
    scored = Alignment(images=20, batch=6).score(made, number)
    fooled = np.flatnonzero(np.isfinite(column(scored, "share")))
    assert len(fooled) > 10
    for i in fooled:
        model, energy = pair[int(scored.samples["id"][i][1:]) % 2]
        heat = number(model, torch.zeros(1, 3, SIZE, SIZE), None, seeds=None).heat[0].flatten()
        chosen = heat.argsort(descending=True)[:6]
        share = (energy.flatten()[chosen].sum() / energy.sum()).item()
        assert column(scored, "share")[i] == pytest.approx(share, rel=1e-3)


def test_maps_are_in_the_order_of_the_batch():
    def number(model, x, target, *, seeds):
        return Explanation(model.head.bias[0].expand(len(x), 2, 2))

    made = subject(*(linear(weights(2), torch.full((2,), float(k))) for k in range(2)))
    order = np.array([3, 0, 2, 1, 7])
    batch = made.feed(order).batch(np.arange(5))
    assert explain(made, number, batch, torch.zeros(5).long()).heat[:, 0, 0].tolist() == [1, 0, 0, 1, 1]


def test_seeds_follow_from_image_and_class():
    seen = []

    def noting(model, x, target, *, seeds):
        seen.append(dict(zip(x.sum((1, 2, 3)).tolist(), seeds.tolist(), strict=True)))
        return coarse(model, x, target, seeds=seeds)

    made = subject(two()[0])
    for size in (20, 6):
        Alignment(images=20, batch=size).score(dataclasses.replace(made, memory_batch=4), noting)
    together: list[dict] = [{}, {}]
    for k, part in enumerate(seen):
        together[k >= 5].update(part)
    assert len(together[0]) == 20
    assert len(set(together[0].values())) == 20
    assert sorted(together[0].values()) == sorted(together[1].values())


@pytest.mark.parametrize("top", [0.0, 1.0, -0.5])
def test_a_share_that_is_none_is_refused(top):
    with pytest.raises(UsageError, match=r"alignment.top: expected a share between 0 and 1"):
        Alignment(top=top)
