"""Explainers beside each other: pairs, the coarser resolution, images of which one map has no order."""

import dataclasses
from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from subjects import SIZE, linear, pixels, subject, weights

from harness.errors import NothingToScoreError, UsageError
from harness.evaluations.agreement import Agreement
from harness.types import Explanation

PATTERN = torch.rand(3, SIZE, SIZE, generator=torch.Generator().manual_seed(2))  # no two cells tie


def fine(model, x, target, *, seeds) -> Explanation:
    return Explanation((x * PATTERN)[:, 0] * (1 + target[:, None, None]), 0, 2)


def opposite(model, x, target, *, seeds) -> Explanation:
    return Explanation(-(x * PATTERN)[:, 0], 1, 0)


def coarse(model, x, target, *, seeds) -> Explanation:
    return Explanation(torch.nn.functional.avg_pool2d((x * PATTERN)[:, 1], 2))


THREE = {"fine": fine, "coarse": coarse, "opposite": opposite}


def compared(explainers=THREE, evaluation=None, **changes):
    made = subject(linear(weights(3)), explainers=explainers, **changes)
    return made, (evaluation or Agreement(images=20, batch=7)).score(made)


def test_twin():
    """Loops over images and pairs, with scipy."""
    made, scored = compared()
    x = (pixels(made) * PATTERN).double().numpy()
    maps = {"fine": x[:, 0], "coarse": x[:, 1], "opposite": -x[:, 0]}
    for a, b in combinations(THREE, 2):
        side = 4 if "coarse" in (a, b) else SIZE
        for i, name in enumerate(scored.samples["id"]):
            cells = [maps[n][int(name[1:])].reshape(side, SIZE // side, side, SIZE // side).mean((1, 3)).flatten()
                     for n in (a, b)]  # fmt: skip
            suffix = f"|variant={a} and {b}|resolution={side}"
            assert scored.samples[f"rank{suffix}"][i] == pytest.approx(spearmanr(*cells).statistic, abs=1e-6)
            count = round(0.1 * side**2)
            best = [set(np.argsort(-c)[:count].tolist()) for c in cells]
            assert scored.samples[f"top{suffix}"][i] == pytest.approx(len(best[0] & best[1]) / count)
    assert scored.samples["rank|variant=fine and opposite|resolution=8"].to_numpy() == pytest.approx(-1)
    assert scored.samples["top|variant=fine and opposite|resolution=8"].to_numpy() == pytest.approx(0)
    assert scored.passes == {"forward": 2, "backward": 2}


def test_rows_name_both_explainers_and_their_grid():
    _, scored = compared()
    rows = Agreement(resamples=20).summarise(scored.samples)
    assert {(r["variant"], r["resolution"]) for r in rows} == {
        ("fine and coarse", 4), ("fine and opposite", 8), ("coarse and opposite", 4),
    }  # fmt: skip
    assert {r["metric"] for r in rows} == {"explainer_agreement", "explainer_overlap"}


def test_an_image_without_an_order_is_missing_in_all_pairs():
    def partly(model, x, target, *, seeds):
        heat = x[:, 2].clone()
        heat[1], heat[2] = 0.0, torch.nan
        return Explanation(heat)

    _, scored = compared({**THREE, "partly": partly}, Agreement(images=20, batch=20))
    for column in (c for c in scored.samples.columns if "|" in c):
        assert np.flatnonzero(np.isnan(scored.samples[column])).tolist() == [1, 2]
    assert scored.facts["partly without an order"] == 2
    assert scored.facts["fine without an order"] == 0


@pytest.mark.parametrize("explainers", [{}, {"fine": fine}])
def test_a_single_explainer_has_nobody_to_agree_with(explainers):
    with pytest.raises(NothingToScoreError, match=r"two explainers are needed.*name more with --explainer"):
        compared(explainers)


def test_memory_changes_no_number():
    made, scored = compared()
    again = Agreement(images=20, batch=7).score(dataclasses.replace(made, memory_batch=2))
    assert again.samples.equals(scored.samples)


def test_a_share_that_is_none_is_refused():
    with pytest.raises(UsageError, match=r"agreement.top: expected a share between 0 and 1"):
        Agreement(top=0.0)
