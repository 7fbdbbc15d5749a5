"""A cross-fitted run: five models in one run, each sample scored by the one that did not see its patient."""

import dataclasses
import json

import examples
import numpy as np
import pytest
import torch

from harness import trained
from harness.console import Reporter
from harness.errors import HarnessError, UsageError
from harness.models.checkpoint import digest, load_into, read_state
from harness.plan import RunSpec, make
from harness.record import from_record, write_record
from harness.run import execute, prepare_data

QUIET = Reporter(quiet=True)
TINY = (
    "chestxray14.size=32", "split=cross_fitted", "max_epochs=1", "classification.resamples=20",
    "localisation.resamples=20",
)  # fmt: skip


def spec(root, runs_dir, **changes) -> RunSpec:
    base = RunSpec(method="baseline", dataset="chestxray14", sets=TINY, root=root, device="cpu", runs_dir=runs_dir)
    return dataclasses.replace(base, **changes)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Baseline and robust_fgsm over five folds of a tiny ChestX-ray14: (root, runs folder, results)."""
    place = tmp_path_factory.mktemp("crossfit")
    root = examples.chestxray14(place)
    sets = (*TINY, "baseline.max_epochs=1", "robust_fgsm.learning_rate=0", "insertion_deletion.images=5")
    found = execute(spec(root, place / "runs", method="robust_fgsm", sets=sets, explainers=("cam",)), QUIET)
    return root, place / "runs", found


def weights(result, fold):
    return result.source / "fit" / f"fold-{fold}" / trained.WEIGHTS


def test_five_models_live_in_one_run(done):
    _, _, (baseline, _) = done
    sums = {digest(weights(baseline, k)) for k in range(5)}
    assert len(sums) == 5
    assert sums == {f["weights_sha256"] for f in baseline.info["fit"]["folds"]}
    assert not list((baseline.source / "fit").glob("**/resume.pt"))
    assert [h["fold"] for h in baseline.history] == [0, 1, 2, 3, 4]
    assert all({"epoch", "train_loss", "validation_loss"} <= h.keys() for h in baseline.history)
    counts = baseline.info["dataset"]["folds"]
    assert sum(c["test"] for c in counts) == baseline.info["dataset"]["counts"]["test"] == 140
    assert all(sum(c.values()) == 140 for c in counts)


def test_each_image_is_scored_by_the_model_that_did_not_see_its_patient(done):
    root, runs_dir, (baseline, _) = done
    plan = make(spec(root, runs_dir))
    prepared = prepare_data(plan, QUIET)
    index = prepared.index
    stage = next(s for s in baseline.stages if s.info["evaluation"] == "classification")
    frame = stage.read_samples().set_index("id")
    assert sorted(frame.index) == sorted(index.samples["id"])
    for fold in range(5):
        model = plan.model.made(num_classes=14, channels=1, mean=plan.data.mean, std=plan.data.std).eval()
        load_into(model, read_state(weights(baseline, fold)), weights(baseline, fold))
        at = index.of_split("test", fold)
        learned_from = set(index.samples["patient"].to_numpy()[np.concatenate([index.of_split(s, fold)
                           for s in ("train", "validation")])])  # fmt: skip
        assert not learned_from & set(index.samples["patient"].to_numpy()[at])
        with torch.no_grad():
            own = model(torch.from_numpy(np.asarray(prepared.images[at])).float() / 255).sigmoid().numpy()
        stored = frame.loc[index.samples["id"].to_numpy()[at], [f"probability:{c}" for c in index.classes]].to_numpy()
        assert np.abs(own - stored).max() < 1e-5


def test_a_fold_starts_from_the_same_fold_of_the_run_before(done):
    """With a learning rate of zero only BatchNorm's statistics differ from the baseline's model of that fold."""
    _, _, (baseline, robust) = done
    for fold in range(5):
        a, b = (read_state(weights(r, fold)) for r in (baseline, robust))
        assert all(torch.equal(a[k], b[k]) for k in a if k.endswith(("weight", "bias")))


def test_rows_stand_on_a_board_of_their_own_and_say_so(done):
    _, _, (baseline, _) = done
    assert {r.split for r in baseline.rows} == {"cross_fitted"}
    assert all("trained on official test images" in r.flags for r in baseline.rows)
    accuracy = [r for r in baseline.rows if r.metric == "auroc"]
    assert {r.n for r in accuracy} <= {140, 0}


def test_a_killed_run_trains_only_what_is_missing(done, tmp_path, monkeypatch):
    root, _, (baseline, _) = done
    real, calls = trained.train, []

    def dies(*args, **kwargs):
        calls.append(kwargs["folder"].name)
        if len(calls) == 3:
            raise HarnessError("the power went")
        return real(*args, **kwargs)

    only = spec(root, tmp_path, sets=TINY[:-1], evaluations=("classification",))
    monkeypatch.setattr(trained, "train", dies)
    with pytest.raises(HarnessError, match="the power went"):
        execute(only, QUIET)
    (again,) = execute(only, QUIET)
    assert calls == ["fold-0", "fold-1", "fold-2", "fold-2", "fold-3", "fold-4"]
    assert [f["weights_sha256"] for f in again.info["fit"]["folds"]] == [
        f["weights_sha256"] for f in baseline.info["fit"]["folds"]
    ], "the same weights as of the run that was not disturbed"
    monkeypatch.setattr(trained, "_train", lambda *_: pytest.fail("trained again"))
    execute(only, QUIET)


def test_one_file_of_weights_is_refused(done, tmp_path):
    root, _, (baseline, _) = done
    with pytest.raises(UsageError, match="needs 5 models"):
        execute(spec(root, tmp_path, checkpoint=weights(baseline, 0)), QUIET)


def test_the_record_keeps_folds_and_history(done, tmp_path):
    _, _, (baseline, _) = done
    again = from_record(write_record(baseline, tmp_path))
    assert again.history == baseline.history
    assert len(again.info["fit"]["folds"]) == 5
    assert [r.to_json() for r in again.rows] == [r.to_json() for r in baseline.rows]
    json.dumps(again.info)
