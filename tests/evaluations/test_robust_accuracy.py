"""Robust accuracy against the closed form of a linear model, what is missing, and a whole run."""

import dataclasses
import functools
import math

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from harness.attacks.pgd import pgd
from harness.console import Reporter
from harness.data.cache import Prepared
from harness.data.index import Index
from harness.device import resolve
from harness.errors import HarnessError, UsageError
from harness.evaluations.robust_accuracy import ELSEWHERE, NOT_FALLING, RobustAccuracy
from harness.evaluations.subject import Subject, fixed_order
from harness.metrics.robust_accuracy import RobustAccuracyTable
from harness.plan import RunSpec, make
from harness.run import execute
from harness.tasks import MultiClass, MultiLabel

N, SIDE = 120, 6
PIXELS = SIDE * SIDE
RADIUS = 0.02


class Linear(nn.Module):
    """Two classes and a third that is never likely."""

    def __init__(self, seed: int = 0):
        super().__init__()
        self.weight = torch.randn(PIXELS, generator=torch.Generator().manual_seed(seed))

    def forward(self, x):
        gap = (x.flatten(1) - 0.5) @ self.weight
        return torch.stack([gap / 2, -gap / 2, 0 * gap - 100], 1)


def prepared(labels: np.ndarray | None = None) -> Prepared:
    images = np.random.default_rng(0).integers(100, 156, (N, 1, SIDE, SIDE), np.uint8)
    if labels is None:
        with torch.no_grad():
            y = Linear()(torch.from_numpy(images).float() / 255).argmax(1).numpy()
        y[::4] = 1 - y[::4]  # a quarter is wrong
        labels = np.eye(3, dtype=np.uint8)[y]
    names = [f"i{i}" for i in range(N)]
    index = Index(
        pd.DataFrame({"id": names, "patient": names, "split": "test"}), labels, tuple("abc")[: labels.shape[1]]
    )
    return Prepared(None, index, images, "f")  # pyright: ignore


def subject(model: nn.Module | None = None, attack=pgd, **options) -> Subject:
    model = (model or Linear()).eval()
    return Subject((model,), MultiClass(), prepared(), resolve("cpu"), attacks={"pgd": attack}, **options)  # pyright: ignore


def expected(positions: np.ndarray) -> dict[str, np.ndarray]:
    """Closed form: an image is right under attack where its gap exceeds the radius times the dual norm."""
    x = torch.from_numpy(prepared().images[positions]).float() / 255
    y = prepared().index.labels[positions].argmax(1)
    gap = (Linear()(x)[:, 0] - Linear()(x)[:, 1]).numpy() * np.where(y == 0, 1, -1)
    w = Linear().weight
    linf, l2 = float(w.abs().sum()), float(w.norm()) * math.sqrt(PIXELS)
    return {"clean": gap >= 0, "linf": gap > RADIUS * linf, "l2": gap > RADIUS * l2, "gap": gap}


def evaluation(**options) -> RobustAccuracy:
    return RobustAccuracy(**{"linf": (RADIUS,), "l2": (RADIUS,), "images": N, "batch": 32, "resamples": 50, **options})


def values(rows: list[dict]) -> dict[str, float]:
    return {r["variant"]: r["value"] for r in rows}


def test_the_closed_form_of_a_linear_model():
    scored = evaluation().score(subject())
    table = RobustAccuracyTable.from_frame(scored.samples)
    want = expected(np.arange(N))
    assert [c.get("variant") for c in table.conditions] == ["clean", "linf", "l2"]
    for column, name in enumerate(("clean", "linf", "l2")):
        assert (table.values["right"][:, column] == want[name]).mean() > 0.98, name
    rows = evaluation().summarise(scored.samples)
    found = values(rows)
    assert found["clean"] == pytest.approx(0.75)
    assert found["clean"] > found["linf"] > found["l2"] > 0, "the sphere of an RMSE holds the cube"
    assert found["linf"] == pytest.approx(want["linf"].mean(), abs=0.02)
    assert scored.flags == ()
    margins = scored.facts["mean_margin"]
    assert margins["clean"] == pytest.approx(want["gap"][want["clean"]].mean(), rel=1e-4)
    assert all(after < margins["clean"] for name, after in margins.items() if name != "clean")


def test_a_row_says_attack_norm_and_radius():
    rows = evaluation(l2=(0.01, 0.02)).summarise(evaluation(l2=(0.01, 0.02)).score(subject()).samples)
    found = [(r["metric"], r["attack"], r["variant"], r["radius"], r["n"]) for r in rows]
    assert found == [("robust_accuracy", *c, N) for c in
                     [("", "clean", None), ("pgd", "linf", 0.02), ("pgd", "l2", 0.01), ("pgd", "l2", 0.02)]]  # fmt: skip
    assert all(r["low"] <= r["value"] <= r["high"] for r in rows)


def test_wrong_images_count_as_wrong_whatever_an_attack_does():
    def correcting(model, x, goal, *, norm, radius):
        return (x + torch.where(goal.margin(model(x)) < 0, radius, 0.0).view(-1, 1, 1, 1)).clamp(0, 1)

    frame = evaluation().score(subject(attack=correcting)).samples
    right = RobustAccuracyTable.from_frame(frame).values["right"]
    assert (right[::4] == 0).all()
    assert (right <= right[:, :1]).all()


def test_logits_that_are_not_finite_are_missing_and_not_robust():
    class Broken(Linear):
        def forward(self, x):
            logits = super().forward(x)
            return torch.where(logits[:, :1] > 0.5, torch.nan, logits)

    frame = evaluation().score(subject(Broken())).samples
    right = RobustAccuracyTable.from_frame(frame).values["right"]
    lost = np.isnan(right)
    assert 0 < lost[:, 0].sum() < N
    assert (lost.all(1) == lost.any(1)).all(), "missing in one column is missing in all"
    rows = evaluation().summarise(frame)
    assert {(r["n"], r["n_missing"]) for r in rows} == {(N - int(lost[:, 0].sum()), int(lost[:, 0].sum()))}
    assert values(rows)["linf"] <= values(rows)["clean"]


def test_all_missing_has_a_reason():
    class Nothing(Linear):
        def forward(self, x):
            return super().forward(x) * torch.nan

    rows = evaluation().summarise(evaluation().score(subject(Nothing())).samples)
    assert all(math.isnan(r["value"]) and r["reason"] for r in rows)


def test_an_attack_without_effect_is_noted():
    scored = evaluation().score(subject(attack=lambda model, x, goal, *, norm, radius: x.clone()))
    assert scored.flags == (NOT_FALLING,)


@pytest.mark.parametrize("kind", ["far", "range"])
def test_an_attack_that_leaves_the_ball_or_the_range_fails(kind):
    def outside(model, x, goal, *, norm, radius):
        return x + 1.01 * radius if kind == "far" else x - 1

    with pytest.raises(HarnessError, match="attack pgd: expected images in"):
        evaluation(linf=(RADIUS if kind == "far" else 1.0,), l2=()).score(subject(attack=outside))


@pytest.mark.parametrize("options", [{"memory_batch": 7}, {"memory_batch": 1}])
def test_memory_and_batches_change_nothing(options):
    whole = evaluation().score(subject()).samples
    pd.testing.assert_frame_equal(whole, evaluation().score(subject()).samples)
    pd.testing.assert_frame_equal(whole, evaluation(batch=50).score(subject(**options)).samples)


def test_images_are_a_prefix_of_the_fixed_order():
    def names(made, **options):
        return set(made.score(subject(**options)).samples["id"])

    quick = {f"i{i}" for i in fixed_order(N)[:16]}
    assert names(evaluation(images=None)) == quick
    assert names(evaluation(images=None), limit=5) == {f"i{i}" for i in fixed_order(N)[:5]}
    assert len(names(evaluation(images=None), profile="paper")) == N
    assert names(evaluation(images=40)) > quick


def test_passes_are_counted():
    scored = evaluation(linf=()).score(subject(attack=functools.partial(pgd, steps=4)))
    assert 0 < scored.passes["backward"] <= 4
    assert 2.5 < scored.passes["forward"] <= 4  # clean, first look of PGD, its last, and the moved image


def test_only_images_with_one_label_of_several_classes():
    labels = np.zeros((N, 3), np.uint8)
    assert evaluation().applies(prepared(labels)) == ELSEWHERE
    assert "one class" in evaluation().applies(prepared(np.ones((N, 1), np.uint8)))
    assert evaluation().applies(prepared()) == ""
    assert evaluation().attack_names(MultiLabel(), "quick") == ()
    with pytest.raises(UsageError, match="several labels"):
        evaluation().score(dataclasses.replace(subject(), task=MultiLabel()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"linf": (0.0,)}, "linf: expected radii above 0, .* got 0.0"),
        ({"l2": (-0.1,)}, "l2: .* got -0.1"),
        ({"l2": (math.inf,)}, "got inf"),
        ({"linf": (), "l2": ()}, "a radius in linf or l2"),
        ({"attacks": ()}, "at least one bounded attack"),
        ({"images": 0}, "images: expected at least 1"),
        ({"batch": 0}, "batch: expected at least 1"),
    ],
)
def test_bad_settings(options, message):
    with pytest.raises(UsageError, match=message):
        evaluation(**options)


@pytest.mark.parametrize(
    ("name", "message"),
    [("pgdd", "unknown attack 'pgdd'. Did you mean 'pgd'"), ("ddn", "expected a bounded attack, got ddn, a minimal one"),
     ("fgsm", "got fgsm, a training one")],
)  # fmt: skip
def test_attacks_that_do_not_fit_are_refused_before_anything_is_trained(name, message):
    spec = RunSpec(method="baseline", dataset="cifar10", evaluations=("robust_accuracy",), sets=(f"attacks={name}",))
    with pytest.raises(UsageError, match=message):
        make(spec)


def test_a_whole_run(tmp_path):
    from examples import cifar10

    sets = ("n_validation=20", "n_train=20", "max_epochs=1", "images=6", "resamples=20", "pgd.steps=2",
            "foolbox_basic_iterative.steps=2", "attacks=pgd,foolbox_basic_iterative")  # fmt: skip
    spec = RunSpec(method="baseline", dataset="cifar10", evaluations=("robust_accuracy",), sets=sets, device="cpu",
                   root=cifar10(tmp_path), runs_dir=tmp_path / "runs")  # fmt: skip
    (result,) = execute(spec, Reporter(quiet=True))
    (stage,) = result.stages
    rows = {(r.attack, r.variant, r.radius): r for r in stage.rows}
    radii = {"linf": 8 / 255, "l2": 0.5 / 3072**0.5}
    assert set(rows) == {("", "clean", None)} | {
        (a, v, r) for a in ("pgd", "foolbox_basic_iterative") for v, r in radii.items()
    }
    assert all(r.n == 6 for r in rows.values())
    again = RobustAccuracy(resamples=20).summarise(stage.read_samples())
    assert [repr(r["value"]) for r in again] == [repr(r.value) for r in stage.rows]
    assert {s["name"] for s in stage.info["settings"]} >= {"steps", "linf", "l2"}
    assert (tmp_path / "runs").exists()
