"""The command line as a newcomer types it: output where it belongs, JSON for machines."""

import json

import pytest
from support import REPOSITORY, TINY

from harness.rows import cell

SETS = [part for s in TINY for part in ("--set", s)]


@pytest.mark.parametrize(
    "kind", ["methods", "datasets", "models", "explainers", "metrics", "attacks", "scores", "evaluations"]
)
def test_list(harness, kind):
    code, out, err = harness("list", kind)
    assert (code, err) == (0, "")
    _, text, _ = harness("list", kind, "--json")
    entries = json.loads(text)
    assert entries
    for entry in entries:
        assert entry["name"] in out
        assert entry["source"]


def test_show_gives_a_source_for_every_setting(harness):
    _, out, _ = harness("show", "method", "robust_fgsm", "--json")
    entry = json.loads(out)
    assert all(s["source"] or s["help"] for s in entry["settings"])
    epsilon = next(s for s in entry["settings"] if s["name"] == "epsilon")
    assert (epsilon["default"], epsilon["source"][:12]) == (0.005, "Khakzar 2019")
    code, out, _ = harness("show", "dataset", "phantom")
    assert code == 0
    assert "Replaces these defaults of a method's training settings" in out


def test_dry_run_says_all_and_does_nothing(harness, tmp_path):
    code, out, _ = harness("run", "--method", "robust_fgsm", "--dataset", "phantom", "--set", "epsilon=0.01", "--dry-run",
                           "--runs-dir", tmp_path / "runs")  # fmt: skip
    assert code == 0
    assert "method robust_fgsm.epsilon = 0.01" in out
    assert "[--set]" in out
    assert "baseline on phantom" in out
    assert not (tmp_path / "runs").exists()


def test_config_file_and_set_wins(harness, tmp_path):
    path = tmp_path / "c.toml"
    path.write_text("[set]\nepsilon = 0.02\n[set.baseline]\nmax_epochs = 7\n[set.phantom]\nsize = 48\n")
    _, out, _ = harness("run", "--method", "robust_fgsm", "--dataset", "phantom", "--config", path, "--set", "phantom.size=64",
                        "--dry-run", "--json")  # fmt: skip
    baseline, robust = json.loads(out)
    value = {(s["component"], s["name"]): s["value"] for run in (baseline, robust) for s in run["settings"]}
    assert value["method robust_fgsm", "epsilon"] == 0.02
    assert value["method baseline", "max_epochs"] == 7
    assert value["dataset phantom", "size"] == 64


def test_run_prints_a_table_and_what_to_type_next(harness, tiny_runs):
    runs_dir, (baseline, robust) = tiny_runs
    command = ("run", "--method", "robust_fgsm", "--dataset", "phantom", "--device", "cpu", *SETS, "--set",
               "baseline.max_epochs=1", "--runs-dir", runs_dir)  # fmt: skip
    code, out, _ = harness(*command)
    assert code == 0
    for part in (
        "AUROC (macro)",
        "IoU > 0.3",
        "(centre: reference)",
        "baseline",
        "robust_fgsm",
        "harness report",
        "harness evaluate",
        "95 %",
    ):
        assert part in out
    line = next(line for line in out.splitlines() if line.startswith("robust_fgsm") and " cam " in line)
    wanted = {"explainer": "cam", "class_name": "macro", "metric": "localisation_accuracy", "threshold": 0.3,
              "variant": ""}  # fmt: skip
    (row,) = [r for r in robust.rows if all(getattr(r, k) == v for k, v in wanted.items())]
    assert cell(row.value, row.low, row.high) in line
    _, out, _ = harness(*command, "--json")
    runs = json.loads(out)
    assert [r["run"]["run_id"] for r in runs] == [baseline.run_id, robust.run_id]
    assert all(r["rows"] for r in runs)


def test_list_runs(harness, tiny_runs):
    runs_dir, results = tiny_runs
    _, out, _ = harness("list", "runs", "--runs-dir", runs_dir, "--json")
    entries = {e["name"]: e for e in json.loads(out)}
    for result in results:
        assert entries[result.run_id]["status"] == "complete"
        assert "localisation-cam" in entries[result.run_id]["evaluations"]


@pytest.mark.slow
def test_report_publish_check(harness, tiny_runs, tmp_path):
    runs_dir, (baseline, _) = tiny_runs
    results, table = tmp_path / "results", tmp_path / "leaderboard.md"
    shared = ("--results", results, "--leaderboard", table)
    code, _, err = harness("report", "--runs-dir", tmp_path / "none", *shared, "--out", tmp_path / "site")
    assert code == 3
    assert "Make one first" in err
    code, out, err = harness("publish", baseline.run_id, "--runs-dir", runs_dir, "--to", results, "--allow-dirty")
    assert code == 0, err
    code, out, err = harness("report", "--runs-dir", runs_dir, *shared, "--out", tmp_path / "site")
    assert code == 0, err
    assert "index.html" in out
    assert harness("report", *shared, "--check")[0] == 0
    table.write_text(table.read_text() + "edited by hand\n")
    code, _, err = harness("report", *shared, "--check")
    assert code == 1
    assert "is stale" in err


def test_help_names_every_command(harness):
    code, out, _ = harness("--help")
    assert code == 0
    for command in ("run", "evaluate", "list", "show", "data", "report", "publish"):
        assert f"  {command} " in out


def test_generated_documents_are_current():
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_a_sweep_is_a_run_for_each_combination(harness):
    code, out, _ = harness("run", "--method", "robust_fgsm", "--dataset", "phantom", "--sweep", "epsilon=0.001, 0.01",
                           "--sweep", "share=0.25,0.5", "--seed", 0, "--seed", 1, "--dry-run", "--json")  # fmt: skip
    assert code == 0
    runs = [e for e in json.loads(out) if e["method"] == "robust_fgsm"]
    settings = [{s["name"]: s["value"] for s in e["settings"] if s["component"] == "method robust_fgsm"} for e in runs]
    assert [(s["epsilon"], s["share"], e["seed"]) for s, e in zip(settings, runs, strict=True)] == [
        (epsilon, share, seed) for epsilon in (0.001, 0.01) for share in (0.25, 0.5) for seed in (0, 1)
    ]


@pytest.mark.parametrize(
    ("sweep", "message"),
    [("epsilon", "--sweep 'epsilon': expected field=value"), ("epsilon=,", "expected values after the ="),
     ("epsilon=0.1,much", "expected float, got 'much'"), ("epsilom=1,2", "Did you mean 'epsilon'")],
)  # fmt: skip
def test_a_bad_sweep_is_refused_before_anything_is_trained(harness, sweep, message, tmp_path):
    code, _, err = harness("run", "--method", "robust_fgsm", "--dataset", "phantom", "--sweep", sweep,
                           "--runs-dir", tmp_path)  # fmt: skip
    assert code == 2
    assert message in err
    assert not list(tmp_path.iterdir())


def test_the_environment_of_a_cluster_silences_nothing_without_torchrun(harness, monkeypatch, tmp_path):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    code, out, _ = harness("list", "methods")
    assert (code, "robust_fgsm" in out) == (0, True)
    code, _, err = harness("run", "--method", "baseline", "--dataset", "phantom", "--runs-dir", tmp_path)
    assert code == 2
    assert "WORLD_SIZE='2': expected the environment of one of several processes" in err
    assert "unset WORLD_SIZE" in err
