"""Infidelity and sensitivity on linear models, where both are known in closed form."""

import dataclasses

import numpy as np
import pytest
import torch
from subjects import FINDINGS, SIZE, STD, linear, pixels, subject, weights

from harness.errors import UsageError
from harness.evaluations.infidelity import Infidelity, squares
from harness.evaluations.sensitivity import Sensitivity, jittered
from harness.explainers.reference import Centre, RandomMap, WholeImage
from harness.explainers.saliency import Saliency
from harness.types import Explanation


def blurred(x: torch.Tensor) -> torch.Tensor:
    """Stand for the blur, whose kernel at 8 px is one pixel: it leaves such images as they are."""
    return x.flatten(2).mean(2)[:, :, None, None].expand_as(x)


@pytest.fixture(autouse=True)
def _blur_that_blurs(monkeypatch):
    monkeypatch.setattr("harness.evaluations.infidelity.blurred", blurred)


FEW = {"draws": 6, "images": 10}


def exact(model, x, target, *, seeds) -> Explanation:
    """What each pixel adds to the logit, against the blurred image: the gradient times the difference."""
    gradient = (model.head.weight[target] / STD).view(-1, 3, SIZE, SIZE)
    return Explanation((gradient * (x - blurred(x))).sum(1), backwards=1.0)


def test_the_gradient_of_a_linear_model_has_no_infidelity():
    made = subject(linear(weights(3)))
    scored = Infidelity(**FEW, batch=4).score(made, exact)
    assert scored.samples["infidelity"].to_numpy() == pytest.approx(0, abs=1e-8)
    assert scored.samples["unexplained"].to_numpy() == pytest.approx(0, abs=1e-6)
    half = Infidelity(**FEW).score(made, lambda m, x, t, seeds: Explanation(-9 * exact(m, x, t, seeds=seeds).heat))
    assert half.samples["unexplained"].to_numpy() == pytest.approx(0, abs=1e-6), "a heat map has no unit"


def test_a_map_of_zeros_explains_nothing_and_noise_hardly_anything():
    made = subject(linear(weights(3)), n=200)
    nothing = Infidelity(images=10).score(made, WholeImage())
    assert nothing.samples["unexplained"].to_numpy() == pytest.approx(1)
    noise = Infidelity(images=200, batch=50).score(made, RandomMap(cells=SIZE)).samples["unexplained"]
    assert 0.8 < noise.mean() < 1


def test_twin():
    """Loops over images and squares."""
    labels = np.array([[1, 0, 1], [0, 1, 0]] * 10, np.uint8)
    model = linear(weights(3))
    made = subject(model, task=FINDINGS, labels=labels)
    scored = Infidelity(**FEW, side=0.5, batch=3).score(made, Saliency())
    x = pixels(made)
    for i, name in enumerate(scored.samples["id"]):
        image = x[int(name[1:])][None]
        target = int(model(image)[0].where(torch.from_numpy(labels[int(name[1:])]) > 0, -9e9).argmax())
        heat = Saliency()(model, image, torch.tensor([target]), seeds=None).heat[0]
        pairs = []
        for draw in range(6):
            mask = squares([name], draw, 4, SIZE)[0]
            assert mask.sum() == 16
            gone = image * (1 - mask) + blurred(image) * mask
            pairs.append((float((heat * mask[0]).sum()), float(model(image)[0, target] - model(gone)[0, target])))
        scale = sum(p * c for p, c in pairs) / sum(p * p for p, _ in pairs)
        expected = sum((scale * p - c) ** 2 for p, c in pairs) / 6
        assert scored.samples["infidelity"][i] == pytest.approx(expected, rel=1e-3)
        assert scored.samples["unexplained"][i] == pytest.approx(expected / sum(c * c / 6 for _, c in pairs), rel=1e-3)
    assert scored.passes == {"forward": 7, "backward": 1}


def test_squares_are_everywhere_and_follow_from_the_name():
    many = torch.cat([squares([f"i{k}"], d, 2, 8) for k in range(40) for d in range(10)])
    assert (many.flatten(1).sum(1) == 4).all()
    assert (many.sum(0) > 0).all()
    assert torch.equal(squares(["a", "b"], 3, 2, 8)[1:], squares(["b"], 3, 2, 8))


def test_sensitivity_of_maps_that_do_not_move_and_of_the_image_itself():
    made = subject(linear(weights(3)))
    for still in (Saliency(), Centre(), RandomMap()):  # the gradient of a linear model is the same everywhere
        found = Sensitivity(draws=3, images=10).score(made, still)
        assert found.samples["sensitivity"].to_numpy() == pytest.approx(0, abs=1e-6)
    assert found.passes == {"forward": 1, "backward": 0}
    assert Sensitivity(draws=3, images=2).score(made, Saliency()).passes == {"forward": 1, "backward": 4}

    def image(model, x, target, *, seeds):
        return Explanation(x[:, 0])

    found = Sensitivity(draws=3, images=10, radius=0.1).score(made, image).samples["sensitivity"].to_numpy()
    norm = pixels(made)[[int(i[1:]) for i in Sensitivity(images=10).score(made, image).samples["id"]], 0]
    # uniform noise of 64 pixels has a norm of about radius * sqrt(64 / 3)
    assert found == pytest.approx((0.1 * (64 / 3) ** 0.5 / norm.flatten(1).norm(dim=1)).numpy(), rel=0.25)
    assert (found < 0.1 * 8 / norm.flatten(1).norm(dim=1).numpy()).all()


def test_images_nearby_are_images_within_the_radius_each_with_its_own_noise():
    x = torch.rand(3, 1, 6, 6).round()  # at both ends of the range
    x[2] = 0.5
    found = jittered(x, ["a", "b", "c"], 0, 0.1)
    assert found.min() >= 0
    assert found.max() <= 1
    assert 0.09 < (found - x).abs().max() <= 0.1 + 1e-6
    assert torch.equal(found[1:], jittered(x[1:], ["b", "c"], 0, 0.1))
    assert not torch.equal(found, jittered(x, ["a", "b", "c"], 1, 0.1))


def test_a_map_of_zeros_is_missing_not_the_least_sensitive():
    scored = Sensitivity(draws=2, images=5, resamples=20).score(subject(linear(weights(3))), WholeImage())
    assert scored.facts["maps of zeros"] == 5
    (row,) = Sensitivity(resamples=20).summarise(scored.samples)
    assert (row["n"], row["n_missing"], row["reason"]) == (0, 5, "no samples that could be scored")


def test_an_output_that_never_changes_and_maps_without_numbers():
    def broken(model, x, target, *, seeds):
        heat = torch.ones(len(x), 4, 4)
        heat[1] = torch.nan
        return Explanation(heat)

    still = linear(torch.zeros(2, 192), torch.tensor([1.0, 0.0]))
    scored = Infidelity(**FEW, resamples=20).score(subject(still), broken)
    assert np.isnan(scored.samples["unexplained"]).all()
    assert np.flatnonzero(np.isnan(scored.samples["infidelity"])).tolist() == [1]
    assert scored.facts["maps not finite"] == 1
    assert np.flatnonzero(
        np.isnan(Sensitivity(draws=1, images=4).score(subject(still), broken).samples["sensitivity"])
    ).tolist() == [1]


@pytest.mark.parametrize("evaluation", [Infidelity(**FEW, batch=10), Sensitivity(draws=3, images=10, batch=10)])
def test_neither_batches_nor_memory_change_a_number(evaluation):
    made = subject(linear(weights(3)))
    whole = evaluation.score(made, exact).samples
    parts = dataclasses.replace(evaluation, batch=3).score(dataclasses.replace(made, memory_batch=2), exact).samples
    for column in whole.columns[3:]:
        assert parts[column].to_numpy() == pytest.approx(whole[column].to_numpy(), rel=1e-4, abs=1e-7)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Infidelity(draws=1),
        lambda: Infidelity(side=1.0),
        lambda: Sensitivity(draws=0),
        lambda: Sensitivity(radius=0.0),
    ],
)
def test_settings_that_cannot_be_are_refused(make):
    with pytest.raises(UsageError, match=r"expected"):
        make()
