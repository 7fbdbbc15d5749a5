"""I-GOS and iGOS++, variant=code, against what the authors' program found (golden/igos_parity).

On resnet44-all everything comes back. On resnet44-standard, whose ReLUs switch at the last bits of a pixel, a gradient may
differ by some thousandths, as it does when the image is changed by 1e-7. One of its three searches parts from the
program's for that, at the seventh step: the fourth gradient is 6e-4 off, and the program's trial was accepted by 9e-4.
"""

import json
import os
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from woods_networks import network_of

from harness.explainers import igos
from harness.explainers.igos import IGOS, IGOSPlusPlus

GOLDEN = Path(os.environ.get("HARNESS_DATA", "/nowhere")) / "golden" / "igos_parity.json"
CASES = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else []
pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(not GOLDEN.exists(), reason="HARNESS_DATA has no golden/: the authors' masks are not here"),
]
cases = pytest.mark.parametrize("case", CASES, ids=lambda c: c["key"])


@cache
def arrays():
    with np.load(GOLDEN.with_suffix(".npz")) as found:
        return {name: torch.from_numpy(found[name]) for name in found.files}


def of(case, name):
    """Return an array of the case; masks and gradients as (1,J,h,w)."""
    found = arrays()[f"{case['key']}/{name}"]
    return found if found.ndim == 4 else found[:, :, 0]


def explainer(case):
    kind = IGOS if case["method"] == "I-GOS" else IGOSPlusPlus
    return kind(
        variant="code", cells=case["size"], iterations=case["iterations"], points=case["ig_iter"], l1=case["L1"],
        l2=case["L2"], noise=0.0, longest=case["alpha"],
    )  # fmt: skip


def found_by(case):
    net, target = network_of(case["net"].split("-")[1]).requires_grad_(False), torch.tensor([case["label"]])
    seeds = torch.zeros(1, dtype=torch.long)
    return explainer(case).find(net, of(case, "image"), target, seeds=seeds, baseline=of(case, "baseline"))


def objective_of(case, monkeypatch):
    """Return the objective that the explainer would give to its search."""
    caught = []
    monkeypatch.setattr(igos, "line_search", lambda objective, masks, **settings: caught.append(objective))
    found_by(case)
    return caught[0]


def apart(found, expected):
    return ((found - expected).norm() / expected.norm()).item()


@pytest.mark.slow
@cases
def test_the_programs_gradients_come_back(case, monkeypatch):
    objective = objective_of(case, monkeypatch)
    nudge = 1e-7 * torch.randn(objective.x.shape, generator=torch.Generator().manual_seed(0))
    nudged = replace(objective, x=objective.x + nudge)
    errors, floors = [], []
    for k in range(case["iterations"]):
        mask, expected = of(case, f"mask_{k}"), of(case, f"gradient_{k}")
        gradient = objective.slopes(mask, 0)[1]
        errors.append(apart(gradient, expected))
        floors.append(apart(nudged.slopes(mask, 0)[1], gradient))
    print(case["key"], [f"{e:.0e}/{f:.0e}" for e, f in zip(errors, floors, strict=True)])
    if case["net"] == "resnet44-all":
        assert max(errors) < 1e-5
    else:
        assert np.median(errors) < max(1e-4, 2 * np.median(floors))
        assert max(errors) < max(1e-4, 5 * max(floors))


def narrowly(case, objective, k):
    """Return whether the program's step k, or the next longer one, was accepted or refused by little, at its own mask."""
    mask, gradient = of(case, f"mask_{k}"), of(case, f"gradient_{k}")
    before = objective.value(mask, 0).item()
    margins = []
    for step in (case["alphas"][k], case["alphas"][k] / 0.2):
        after = objective.value((mask - step * gradient).clamp(0, 1), 0).item()
        margins.append(abs(before - step * 1e-4 * gradient.square().sum().item() - after))
    print(case["key"], "parts at step", k, "where the margins were", margins)
    return min(margins) < 2e-3


@pytest.mark.slow
@cases
def test_the_programs_steps_and_masks_come_back(case, monkeypatch):
    found = found_by(case)
    steps = torch.cat(found.lengths).tolist()
    same = [mine == pytest.approx(theirs, rel=1e-6) for mine, theirs in zip(steps, case["alphas"], strict=True)]
    if case["net"] == "resnet44-standard" and not all(same):
        assert narrowly(case, objective_of(case, monkeypatch), same.index(False))
        return
    assert all(same), (steps, case["alphas"])
    assert (found.forwards.item(), found.backwards.item()) == (case["forward_passes"], case["gradient_passes"])
    mask, expected = found.masks.prod(1, keepdim=True), of(case, "final")
    close = 1e-5 if case["net"] == "resnet44-all" else 0.02
    assert (mask - expected).abs().max() < close
    if found.masks.shape[1] == 1:  # of iGOS++ the program keeps the product alone
        objective = objective_of(case, monkeypatch)
        there, here = (objective.value(m, 0).item() for m in (expected, found.masks))
        assert here == pytest.approx(there, rel=0.01)
