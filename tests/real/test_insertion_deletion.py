"""The published program of iGOS++ on the authors' CIFAR-10 networks: its curves and sums (methods: Metric)."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from woods_networks import ROOT, network_of

from harness.masking import probability
from harness.scores.insertion import area, counts, curve

GOLDEN = Path(os.environ.get("HARNESS_DATA", "/nowhere")) / "golden"
pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(not (ROOT.is_dir() and GOLDEN.is_dir()), reason="HARNESS_DATA has no woods2019 and golden"),
]


def cases():
    path = GOLDEN / "igos_parity.json"
    return json.loads(path.read_text()) if path.is_file() else []


@pytest.mark.parametrize("case", cases(), ids=lambda c: c["key"])
@torch.no_grad()
def test_igos_code_is_their_program(case):
    stored = np.load(GOLDEN / "igos_parity.npz")
    image, baseline, order = (torch.from_numpy(stored[f"{case['key']}/{k}"]) for k in ("image", "baseline", "order"))
    model = network_of(case["net"].removeprefix("resnet44-"))
    target = model(image).argmax(1)
    place = torch.empty_like(order).scatter_(1, order, torch.arange(order.shape[1])[None])
    count = counts(order.shape[1], "igos_code")
    for name, before, after in (("deletion", image, baseline), ("insertion", baseline, image)):
        inner = curve(model, before, after, target, place, count, at_once=16, mode="igos_code")
        ends = (probability(model, whole, target)[:, None] for whole in (before, after))
        first, last = ends
        levels = torch.cat([first, inner, last], dim=1)
        assert levels[0].numpy() == pytest.approx(stored[f"{case['key']}/{name}_curve"], abs=1e-4)
        assert float(area(levels, count, "igos_code")) == pytest.approx(case[name], abs=1e-4)
