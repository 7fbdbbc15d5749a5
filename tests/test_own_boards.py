"""Two folders of a user's own images are two datasets: on boards, in reports, comparisons and the gate."""

from pathlib import Path

import examples
import pytest

from harness.record import from_run, load_all
from harness.report.boards import boards
from harness.store import runs

SMALL = ("folder.size=16", "max_epochs=1", "classification.resamples=50")
MODEL = ("--model", "resnet44", "--device", "cpu", "--precision", "fp32", "--evaluation", "classification")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """One network on three folders: `left`, `right`, and other images that are called `left` as well."""
    from click.testing import CliRunner

    from harness.cli import main

    place = tmp_path_factory.mktemp("own")
    found = {}
    for key, name, seed in (("left", "left", 0), ("right", "right", 1), ("again", "left", 2)):
        root = examples.folder(place / key, name=name, seed=seed)
        sets = [word for s in (*SMALL, f"folder.name={name}") for word in ("--set", s)]
        before = {r.run_id for r in runs(place / "runs")}
        done = CliRunner().invoke(main, ["run", "--method", "baseline", "--dataset", "folder", "--root", str(root),
                                         "--runs-dir", str(place / "runs"), *MODEL, *sets])  # fmt: skip
        assert done.exit_code == 0, done.output
        (found[key],) = [from_run(r) for r in runs(place / "runs") if r.run_id not in before]
    return place, found


def test_rows_and_runs_carry_the_name(made):
    _, found = made
    for key, name in (("left", "left"), ("right", "right"), ("again", "left")):
        assert {row.dataset for row in found[key].rows} == {f"folder:{name}"}
        assert {row.dataset_settings for row in found[key].rows} == {"size=16"}, "the name is said once"
        assert found[key].info["dataset"]["name"] == f"folder:{name}"
        assert found[key].run_id.startswith(f"baseline-folder-{name}-s0-")
        assert found[key].info["spec"]["dataset"] == "folder", "what the command named: it is needed to repeat it"


def test_no_two_folders_are_on_one_board_even_of_one_name(made):
    place, found = made
    results, unreadable = load_all(place / "runs", None)
    assert unreadable == []
    by_run = {line.result.run_id: b.key for b in boards(results) for line in b.lines}
    assert len(by_run) == 3
    assert len(set(by_run.values())) == 3
    assert [len(b.lines) for b in boards(results)] == [1, 1, 1]
    assert "folder:right" in by_run[found["right"].run_id].title()
    assert by_run[found["left"].run_id].data == found["left"].info["dataset"]["fingerprint"][:12]


def test_the_report_keeps_them_apart_and_knows_what_a_folder_is(made, harness, tmp_path):
    place, found = made
    code, _, err = harness("report", "--runs-dir", place / "runs", "--results", tmp_path / "none", "--out", tmp_path / "site",
                           "--leaderboard", tmp_path / "leaderboard.md")  # fmt: skip
    assert code == 0, err
    pages = {p.stem for p in (tmp_path / "site" / "datasets").glob("*.html")}
    assert len(pages) == 2
    text = "".join(p.read_text() for p in (tmp_path / "site" / "datasets").glob("*.html"))
    assert "Your own images in a folder per class" in text
    assert "whoever gave you the images" in text
    index = (tmp_path / "site" / "index.html").read_text()
    assert index.count("folder:left") >= 2
    assert found["again"].info["dataset"]["fingerprint"][:12] in index
    page = (tmp_path / "site" / "runs" / f"{found['again'].run_id}.html").read_text()
    assert f"data {found['again'].info['dataset']['fingerprint'][:12]}" in page


@pytest.mark.parametrize(("other", "message"), [("right", "dataset folder:left and folder:right"), ("again", "cannot be compared: data ")])  # fmt: skip
def test_they_are_not_compared(made, harness, other, message):
    place, found = made
    code, _, err = harness("compare", found["left"].run_id, found[other].run_id, "--runs-dir", place / "runs")
    assert code == 2
    assert message in err


def test_the_gate_does_not_hold_one_against_the_other(made, harness, tmp_path):
    place, found = made
    code, _, err = harness(
        "publish", found["left"].run_id, "--runs-dir", place / "runs", "--to", tmp_path / "results", "--allow-dirty"
    )
    assert code == 0, err
    for key, status, message in (("left", 0, ""), ("right", 3, ""), ("again", 4, "other data: fingerprint")):
        (tmp_path / key).mkdir()
        (tmp_path / key / found[key].run_id).symlink_to(place / "runs" / found[key].run_id)
        code, out, err = harness("check", "--baseline", tmp_path / "results", "--runs-dir", tmp_path / key)
        assert (code, message in out + err) == (status, True), (key, out, err)
    code, _, err = harness(
        "check", "--baseline", tmp_path / "results", "--runs-dir", place / "runs", "--dataset", "folder:right"
    )
    assert code == 2
    assert "folder:left" in err


def test_a_record_is_made_again_from_itself(made, harness, tmp_path):
    place, found = made
    harness(
        "publish", found["left"].run_id, "--runs-dir", place / "runs", "--to", tmp_path / "results", "--allow-dirty"
    )
    record = tmp_path / "results" / f"{found['left'].run_id}.json"
    common = ("--results", tmp_path / "results", "--runs-dir", tmp_path / "reruns", "--device", "cpu")
    code, out, err = harness("rerun", record, *common, "--root", place / "left" / "left")
    assert code == 0, (out, err)
    code, out, err = harness("rerun", record, *common, "--root", place / "again" / "left")
    assert code == 1, "numbers that are alike by chance repeat nothing"
    assert "the data here are others than the record's" in out + err


def test_evaluate_and_explain_go_on_with_the_same_folder(made, harness, tmp_path):
    place, found = made
    run = found["right"].run_id
    root = place / "right" / "right"
    code, _, err = harness("evaluate", run, "--evaluation", "localisation", "--explainer", "gradcam", "--root", root,
                           "--runs-dir", place / "runs", "--set", "localisation.resamples=50", "--device", "cpu")  # fmt: skip
    assert code == 0, err
    code, _, err = harness("evaluate", run, "--evaluation", "classification", "--root", place / "left" / "left",
                           "--runs-dir", place / "runs", "--device", "cpu")  # fmt: skip
    assert code == 2
    assert "was trained on data with fingerprint" in err
    image = next(Path(root).glob("*/*.png"))
    code, _, err = harness(
        "explain", run, image, "--explainer", "gradcam", "--out", tmp_path / "out", "--runs-dir", place / "runs"
    )
    assert code == 0, err


def test_a_network_that_is_loaded_is_scored_on_test_images_alone(made, harness, tmp_path):
    place, found = made
    weights = place / "runs" / found["left"].run_id / "fit" / "model.safetensors"
    sets = [word for s in (*SMALL, "folder.name=elsewhere", "split=test_only") for word in ("--set", s)]
    common = ("run", "--method", "baseline", "--dataset", "folder", "--root", place / "right" / "right", "--runs-dir",
              tmp_path / "runs", *MODEL, *sets)  # fmt: skip
    code, _, err = harness(*common)
    assert code == 2
    assert "folder has no training split, its images are for testing" in err
    code, _, err = harness(*common, "--checkpoint", weights)
    assert code == 0, err
    (run,) = runs(tmp_path / "runs")
    rows = from_run(run).rows
    assert {row.n for row in rows if row.metric == "accuracy"} == {24}
    assert {row.dataset for row in rows} == {"folder:elsewhere"}
    assert all("loaded" in row.flags for row in rows)
