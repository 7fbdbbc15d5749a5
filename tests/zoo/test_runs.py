"""`harness run --method zoo:...`: one network, loaded, scored, stored, shown."""

import pytest
from examples import cifar10

from harness.console import Reporter
from harness.errors import UsageError
from harness.plan import RunSpec, make
from harness.run import execute

NAME = "zoo:pyautoattack/resnet18"
SETS = ("n_validation=20", "classification.resamples=20")


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    root = tmp_path_factory.mktemp("zoo")
    return RunSpec(method=NAME, dataset="cifar10", root=cifar10(root), sets=SETS, evaluations=("classification",),
                   runs_dir=root / "runs", device="cpu")  # fmt: skip


@pytest.fixture(scope="module")
def result(spec):
    return execute(spec, Reporter(quiet=True))[-1]


def test_a_run_without_training(spec, result):
    assert result.run_id.startswith("zoo-pyautoattack-resnet18-cifar10-s0-")
    assert {(r.method, r.model) for r in result.rows} == {(NAME, "resnet18")}
    assert all("loaded" in r.flags for r in result.rows)
    fit = result.info["fit"]
    assert fit["loaded"] == "model_test.pt"
    assert fit["loaded_sha256"] == make(spec).network.weights.sha256  # pyright: ignore[reportOptionalMemberAccess]
    assert result.info["spec"]["method"] == NAME
    assert result.info["start_from"] is None


def test_the_same_again_does_nothing(spec, result):
    files = {p: p.stat().st_mtime_ns for p in result.source.rglob("*.safetensors")}
    stages = {p: p.stat().st_mtime_ns for p in result.source.rglob("rows.json")}
    again = execute(spec, Reporter(quiet=True))[-1]
    assert again.run_id == result.run_id
    assert files
    assert all(p.stat().st_mtime_ns == t for p, t in (files | stages).items())


def test_evaluate_and_report(harness, spec, result):
    code, _, err = harness("evaluate", result.run_id, "--runs-dir", spec.runs_dir, "--root", spec.root, "--device",
                             "cpu", "--evaluation", "classification", "--limit", "10")  # fmt: skip
    assert code == 0, err
    place = spec.runs_dir.parent
    code, _, err = harness("report", "--runs-dir", spec.runs_dir, "--results", place / "results", "--out",
                             place / "site", "--leaderboard", place / "leaderboard.md")  # fmt: skip
    assert code == 0, err
    assert NAME in (place / "site" / "index.html").read_text()
    assert (place / "site" / "runs" / f"{result.run_id}.html").is_file()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (("--model", "resnet44"), "--model resnet44: zoo:pyautoattack/resnet18 is one trained network"),
        (("--checkpoint", __file__), "is one trained network. Leave --checkpoint out"),
        (("--seed", "3"), "--seed 3"),
        (("--set", "max_epochs=3"), "no selected component has a setting 'max_epochs'"),
        (("--set", f"{NAME}.learning_rate=1"), "has no setting 'learning_rate'"),
    ],
)
def test_options_of_a_training_are_refused(harness, spec, options, match):
    code, _, err = harness("run", "--method", NAME, "--dataset", "cifar10", "--root", spec.root, "--runs-dir",
                           spec.runs_dir, *options)  # fmt: skip
    assert code == 2
    assert match in err


def test_another_dataset_is_refused(spec, tmp_path):
    from support import TINY

    tiny = tuple(s for s in TINY if not s.startswith("max_epochs"))
    other = RunSpec(method=NAME, dataset="phantom", sets=tiny, runs_dir=tmp_path / "runs", device="cpu")
    with pytest.raises(UsageError, match="expected a dataset of 10 classes and 3 channels, got"):
        execute(other, Reporter(quiet=True))


def test_missing_weights_are_said_before_anything_is_prepared(harness, tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_ZOO", str(tmp_path / "zoo"))
    code, _, err = harness("run", "--method", "zoo:robustbench/Linf/Carmon2019Unlabeled", "--dataset", "cifar10",
                           "--root", tmp_path / "no such data", "--runs-dir", tmp_path / "runs")  # fmt: skip
    assert code == 2
    assert str(tmp_path / "zoo" / "robustbench" / "cifar10" / "Linf" / "Carmon2019Unlabeled.pt") in err
    assert not (tmp_path / "runs").exists()
