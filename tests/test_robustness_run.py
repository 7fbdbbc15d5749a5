"""Robustness from the command's point of view: stored, reused, interrupted, gone on with, added under other settings."""

import examples
import pandas as pd
import pytest

from harness.console import Reporter
from harness.evaluations import perturbed
from harness.plan import RunSpec
from harness.run import evaluate, execute

QUIET = Reporter(quiet=True)
SETS = ("max_epochs=1", "n_validation=20", "robustness.images=12", "robustness.batch=4", "robustness.resamples=20",
        "ddn.steps=5")  # fmt: skip


def spec(root, runs_dir, **more) -> RunSpec:
    return RunSpec(
        method="baseline", dataset="cifar10", root=root, runs_dir=runs_dir, device="cpu", evaluations=("robustness",),
        sets=SETS, **more,
    )  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    place = tmp_path_factory.mktemp("robustness")
    root = examples.cifar10(place)
    patch = pytest.MonkeyPatch()
    patch.setenv("HARNESS_CACHE", str(place / "cache"))
    (result,) = execute(spec(root, place / "runs"), QUIET)
    yield root, place / "runs", result
    patch.undo()


def test_a_run_has_its_areas_and_says_what_it_was_attacked_with(made):
    _, _, result = made
    (stage,) = result.stages
    rows = {(r.metric, r.variant): r for r in stage.rows if r.radius is None}
    assert set(rows) == {(m, v) for m in ("attack_ara", "btr_ara") for v in ("", "histogram")}
    assert rows["attack_ara", ""].attack == "fast"
    assert rows["attack_ara", ""].n == 12
    assert rows["attack_ara", ""].evaluation_settings == "images=12, batch=4, resamples=20, ddn(steps=5)"
    assert stage.info["facts"]["adv"]["images"] == 12
    assert stage.info["passes"]["backward"] > 0
    assert "attack ddn" in {s["component"] for s in stage.info["settings"]}


def test_the_same_command_attacks_nothing_again(made, monkeypatch):
    root, runs_dir, before = made
    monkeypatch.setattr(perturbed, "strongest", None)  # to call it would be an error
    (after,) = execute(spec(root, runs_dir), QUIET)
    assert [r.to_json() for r in after.rows] == [r.to_json() for r in before.rows]


def test_ctrl_c_keeps_the_images_that_are_done(made, monkeypatch):
    root, runs_dir, before = made
    real, calls = perturbed.strongest, []

    def stopping(*args):
        if len(calls) == 3:  # two goals of the first four images, and one of the next
            raise KeyboardInterrupt
        calls.append(1)
        return real(*args)

    monkeypatch.setattr(perturbed, "strongest", stopping)
    other = {"evaluations": ("robustness",), "sets": (*SETS[2:-1], "ddn.steps=6"), "root": root}
    with pytest.raises(KeyboardInterrupt):
        evaluate(before.run_id, other, runs_dir, QUIET)
    folder = runs_dir / before.run_id / "evaluations"
    assert len(list(folder.glob(".robustness-*.shards/*.parquet"))) == 1
    calls.clear()
    calls.extend([1] * 10)
    monkeypatch.setattr(perturbed, "strongest", lambda *args: (calls.append(1), real(*args))[1])
    result = evaluate(before.run_id, other, runs_dir, QUIET)
    assert len(calls) - 10 == 4  # two goals of the two parts that were missing
    assert not list(folder.glob(".robustness-*.shards"))
    assert len(result.stages) == 2


def test_perturbations_are_kept_image_by_image(made):
    _, _, result = made
    frame = result.stages[0].read_samples()
    for goal in ("adv", "btr"):
        each = frame[[f"rmse_of:{a}:{goal}" for a in ("deepfool", "ddn")]].to_numpy()
        least = pd.Series(each.min(1))
        fooled = ~frame[f"never:{goal}"]
        assert frame[f"rmse:{goal}"][fooled].to_list() == pytest.approx(least[fooled].to_list())
