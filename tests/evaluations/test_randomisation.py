"""Randomised networks as subjects: explainers that follow the weights, the image, or nothing."""

import copy
import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr
from subjects import FINDINGS, linear, subject, weights
from torch import nn

from harness.data.cache import Prepared
from harness.errors import UsageError
from harness.evaluations.randomisation import Randomisation, edges
from harness.evaluations.trust import explained_class
from harness.explainers.cam import CAM
from harness.explainers.reference import RandomMap, WholeImage
from harness.explainers.saliency import Saliency
from harness.models.classifier import Classifier, GlobalAverageLinear, Normalise
from harness.models.randomised import randomise, stages
from harness.types import Explanation

COLUMNS = ["head", "norm", "two", "one"]


def network(seed: int = 0, classes: int = 3) -> Classifier:
    torch.manual_seed(seed)
    features = nn.Sequential()
    for name, module in (("one", nn.Conv2d(3, 6, 3, padding=1)), ("relu", nn.ReLU()),
                         ("two", nn.Conv2d(6, 8, 3, padding=1)), ("norm", nn.BatchNorm2d(8)), ("last", nn.ReLU())):  # fmt: skip
        features.add_module(name, module)
    model = Classifier(
        Normalise((0.5,) * 3, (0.25,) * 3), features, GlobalAverageLinear(8, classes), num_classes=classes
    )
    return model.eval().requires_grad_(False)


def column(scored, score: str, variant: str = "") -> np.ndarray:
    return scored.samples[f"{score}|variant={variant}" if variant else score].to_numpy()


def input_edges(model, x, target, *, seeds) -> Explanation:
    return Explanation(edges(x))


def test_an_explainer_that_looks_at_the_image_alone():
    made = subject(network(), n=12)
    scored = Randomisation(images=12, draws=2, batch=5).score(made, input_edges)
    for variant in ("", "head", "norm", "two", "two_random_networks", "edge_detector"):
        assert column(scored, "rank", variant) == pytest.approx(1)
    assert column(Randomisation(images=12, draws=2).score(made, RandomMap()), "rank") == pytest.approx(1)


def test_an_explainer_that_follows_the_weights_scores_what_two_random_networks_score():
    def weighed(model, x, target, *, seeds):
        noise = torch.Generator().manual_seed(int(model.features[0].weight.abs().sum() * 1e4))
        return Explanation(torch.rand(len(x), 8, 8, generator=noise))

    scored = Randomisation(images=40, draws=5).score(subject(network(), n=40), weighed)
    assert column(scored, "rank", "head") == pytest.approx(1), "the first layer is the last that is drawn"
    full = column(scored, "rank")
    assert abs(full.mean()) < 4 * full.std() / 40**0.5
    # mean |rho| of independent maps of 64 cells: sqrt(2 / (63 pi)), each image the mean of 5
    for variant in ("", "two_random_networks"):
        assert column(scored, "size", variant).mean() == pytest.approx((2 / (63 * np.pi)) ** 0.5, rel=0.2)


@pytest.mark.parametrize("task", [None, FINDINGS])
@pytest.mark.parametrize("explainer", [CAM(), Saliency()])
def test_twin(task, explainer):
    """Loops over images, draws and stages, with scipy."""
    model, n, draws = network(), 7, 2
    labels = np.array([[1, 0, 1], [0, 1, 0]] * 4, np.uint8)[:n] if task else None
    made = subject(model, n=n, task=task, labels=labels)
    kept = copy.deepcopy(model.state_dict())
    scored = Randomisation(images=n, draws=draws, batch=3).score(made, explainer)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), kept.values(), strict=True))
    x = torch.from_numpy(np.asarray(made.prepared.images)) / 255
    logits = model(x)
    target = logits.where(torch.from_numpy(labels) > 0, -9e9).argmax(1) if task else logits.argmax(1)
    own = explainer(model, x, target, seeds=None).heat
    rho = np.zeros((draws, 4, n))
    ends = []
    for draw in range(draws):
        other = copy.deepcopy(model)
        for k, (name, modules) in enumerate(stages(other)):
            assert name == COLUMNS[k]
            randomise(modules, draw, name)
            heat = explainer(other, x, target, seeds=None).heat
            for i in range(n):
                rho[draw, k, i] = spearmanr(own[i].flatten(), heat[i].flatten()).statistic
        ends.append(heat)
    for k, variant in enumerate(("head", "norm", "two", "")):
        assert column(scored, "rank", variant) == pytest.approx(rho[:, k].mean(0), abs=1e-6)
        assert column(scored, "size", variant) == pytest.approx(np.abs(rho[:, k]).mean(0), abs=1e-6)
    two = [spearmanr(a.flatten(), b.flatten()).statistic for a, b in zip(*ends, strict=True)]
    assert column(scored, "rank", "two_random_networks") == pytest.approx(two, abs=1e-6)
    assert scored.passes == {
        "forward": 1 + 9 * (isinstance(explainer, CAM)),
        "backward": 9 * isinstance(explainer, Saliency),
    }


def test_constant_maps_and_maps_without_numbers_are_missing_with_the_reason():
    made = subject(network(), n=6)
    scored = Randomisation(images=6, draws=2, resamples=20).score(made, WholeImage())
    assert scored.facts["maps constant"] == 6
    rows = Randomisation(resamples=20).summarise(scored.samples)
    assert {(r["n"], r["n_missing"], r["reason"]) for r in rows} == {(0, 6, "no samples that could be scored")}

    def broken(model, x, target, *, seeds):
        heat = Saliency()(model, x, target, seeds=seeds).heat.clone()
        heat[2] = torch.nan
        return Explanation(heat)

    scored = Randomisation(images=6, draws=2).score(made, broken)
    assert np.flatnonzero(np.isnan(column(scored, "rank", "head"))).tolist() == [2]
    assert scored.facts["maps not finite"] == 1


def test_a_map_that_some_draws_lose_is_the_mean_of_the_others():
    calls = []

    def sometimes(model, x, target, *, seeds):
        calls.append(1)
        heat = Saliency()(model, x, target, seeds=seeds).heat
        return Explanation(heat * (len(calls) != 3))  # the second stage of the first draw

    made = subject(network(), n=4)
    scored = Randomisation(images=4, draws=2).score(made, sometimes)
    assert np.isfinite(column(scored, "rank", "norm")).all()


def test_an_image_of_one_colour_is_missing_everywhere():
    made = subject(network(), n=4)
    images = np.array(made.prepared.images)
    images[1] = 128
    made = dataclasses.replace(made, prepared=Prepared(None, made.prepared.index, images, "f"))  # pyright: ignore
    scored = Randomisation(images=4, draws=2).score(made, Saliency())
    assert np.flatnonzero(np.isnan(column(scored, "rank", "edge_detector"))).tolist() == [1]
    assert np.flatnonzero(np.isnan(column(scored, "rank", "head"))).tolist() == [1]


def test_each_fold_is_compared_with_its_own_model():
    def sign(model, x, target, *, seeds):
        return Explanation((torch.arange(16.0).view(4, 4) * model.head.weight[0, 0].sign()).expand(len(x), 4, 4))

    pair = [linear(w) for w in (weights(2), -weights(2))]
    signs = [float(m.head.weight[0, 0].sign()) for m in pair]
    scored = Randomisation(images=20, draws=3).score(subject(*pair), sign)
    drawn = []
    for draw in range(3):
        other = copy.deepcopy(pair[0])
        randomise(stages(other)[0][1], draw, "head")
        drawn.append(float(other.head.weight[0, 0].sign()))
    fold = scored.samples["id"].str[1:].astype(int).to_numpy() % 2
    assert column(scored, "rank") == pytest.approx(np.array(signs)[fold] * np.mean(drawn))
    assert column(scored, "size") == pytest.approx(1)


def test_a_stopped_evaluation_goes_on_with_the_parts_it_has():
    made, kept = subject(network(), n=6), {}

    def shards(parts, progress):
        for part in parts:
            if len(kept) == 2:
                raise KeyboardInterrupt
            kept[part.name] = part.make()
        return list(kept.values())

    stopped = dataclasses.replace(made, shards=shards)
    with pytest.raises(KeyboardInterrupt):
        Randomisation(images=6, draws=2, batch=2).score(stopped, Saliency())
    assert len(kept) == 2
    seen = []

    def counting(model, x, target, *, seeds):
        seen.append(len(x))
        return Saliency()(model, x, target, seeds=seeds)

    def rest(parts, progress):
        return [kept[part.name] if part.name in kept else part.make() for part in parts]

    resumed = dataclasses.replace(made, shards=rest)
    scored = Randomisation(images=6, draws=2, batch=2).score(resumed, counting)
    assert sum(seen) == 2 * (1 + 2 * 4), "two images of six are left"
    pd.testing.assert_frame_equal(
        scored.samples, Randomisation(images=6, draws=2, batch=2).score(made, Saliency()).samples
    )


def test_the_class_that_is_explained():
    logits = torch.tensor([[1.0, 5, 3], [1, 5, 3], [torch.nan, 1, 2]])
    y = torch.tensor([[1.0, 0, 1], [0, 0, 0], [1, 1, 0]])
    assert explained_class(FINDINGS, logits, y).tolist() == [2, 1, 1]


def test_edges_of_a_step():
    x = torch.zeros(1, 2, 4, 4)
    x[..., 2:] = 1
    found = edges(x)[0]
    assert found[:, 1:3].tolist() == [[4.0, 4.0]] * 4
    assert found[:, [0, 3]].abs().sum() == 0


@pytest.mark.parametrize("settings", [{"draws": 1}, {"images": 0}])
def test_settings_that_cannot_be_are_refused(settings):
    with pytest.raises(UsageError, match=r"expected at least"):
        Randomisation(**settings).score(subject(network(), n=4), Saliency())
