"""Infidelity and max-sensitivity against captum and plain loops."""

import captum.metrics
import pytest
import torch

from harness.scores.infidelity import infidelity, max_sensitivity

B, D, SIDE = 4, 6, 5


def model(x: torch.Tensor) -> torch.Tensor:
    weight = torch.linspace(-1, 1, SIDE * SIDE).view(1, 1, SIDE, SIDE)
    return torch.stack([(x * weight).sum((1, 2, 3)).sin(), (x**2).sum((1, 2, 3))], dim=1)


def drawn():
    g = torch.Generator().manual_seed(0)
    x, heat = torch.rand(B, 1, SIDE, SIDE, generator=g), torch.randn(B, 1, SIDE, SIDE, generator=g)
    return x, heat, 0.2 * torch.randn(B, D, 1, SIDE, SIDE, generator=g)


@pytest.mark.parametrize("scaled", [True, False])
def test_infidelity_is_captum_s(scaled):
    x, heat, noise = drawn()
    predicted = (noise * heat[:, None]).flatten(2).sum(2)
    change = torch.stack([(model(x) - model(x - noise[:, d]))[:, 1] for d in range(D)], dim=1)
    flat = noise.flatten(0, 1)  # captum repeats each image D times in a row
    expected = captum.metrics.infidelity(
        model, lambda repeated: (flat, repeated - flat), x, heat, target=1, n_perturb_samples=D, normalize=scaled
    )
    assert infidelity(predicted, change, scaled=scaled).tolist() == pytest.approx(expected.tolist(), rel=1e-4)


def test_the_scale_is_the_best_one():
    _, heat, noise = drawn()
    p, c = (noise * heat[:, None]).flatten(2).sum(2), torch.randn(B, D)
    best = infidelity(p, c)
    for scale in torch.linspace(-3, 3, 121):
        assert (best <= infidelity(scale * p, c, scaled=False) + 1e-9).all()
    assert infidelity(-7 * p, c).tolist() == pytest.approx(best.tolist())
    assert infidelity(c * 3, c).tolist() == pytest.approx([0] * B, abs=1e-12)
    assert infidelity(torch.zeros(B, D), c).tolist() == pytest.approx(c.double().square().mean(1).tolist())


def test_max_sensitivity_is_captum_s():
    x, _, noise = drawn()

    def maps(images: torch.Tensor) -> torch.Tensor:
        return images.sin() * images.flatten(1).sum(1).view(-1, 1, 1, 1)

    flat = noise.flatten(0, 1)
    expected = captum.metrics.sensitivity_max(
        lambda given: (maps(given[0] if isinstance(given, tuple) else given),), x,
        perturb_func=lambda repeated: repeated + flat, n_perturb_samples=D,
    )  # fmt: skip
    others = torch.stack([maps(x + noise[:, d])[:, 0] for d in range(D)])
    assert max_sensitivity(maps(x)[:, 0], others).tolist() == pytest.approx(expected.tolist(), rel=1e-5)


def test_maps_without_a_norm_or_without_numbers_are_missing():
    heat = torch.rand(3, 2, 2)
    others = heat + torch.ones(4, 3, 2, 2)
    heat[0] = 0
    others[2, 1, 0, 0] = torch.nan
    assert torch.isnan(max_sensitivity(heat, others)).tolist() == [True, True, False]
    p = torch.rand(3, 4)
    p[1, 2] = torch.nan
    assert torch.isnan(infidelity(p, torch.rand(3, 4))).tolist() == [False, True, False]
