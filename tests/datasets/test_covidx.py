"""COVIDx from its lists and folders, its burnt-in text, and what is wrong with a folder."""

import os
import shutil
from pathlib import Path

import examples
import numpy as np
import pytest
from tiny_network import TINY_NETWORK

from harness.errors import UsageError
from harness.plugins import catalogue
from harness.store import runs

Covidx, Cleaned = (catalogue().load("dataset", name) for name in ("covidx", "covidx_cleaned"))
TRAIN, TEST = "train_COVIDx8A.txt", "test_COVIDx8A.txt"


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    return examples.covidx(tmp_path_factory.mktemp("covidx"))


@pytest.fixture
def root(written, tmp_path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "COVIDx"))


def change(root: Path, table: str, line: int, old: str, new: str) -> None:
    """Replace a part of a line (from 1) of a list."""
    lines = (root / table).read_text().splitlines()
    assert old in lines[line - 1]
    lines[line - 1] = lines[line - 1].replace(old, new)
    (root / table).write_text("\n".join(lines) + "\n")


def test_classes_splits_patients_and_paths(root):
    index = Covidx().index(root)
    assert index.classes == ("normal", "pneumonia", "COVID-19")
    assert index.labels.sum(0).tolist() == [16, 16, 16]
    assert index.samples["id"].iloc[0] == "train/train-0.png"
    assert index.samples["path"].iloc[0] == "data/train/train-0.png"
    counts = index.samples["split"].value_counts()
    assert counts["test"] == 12
    assert 2 <= counts["validation"] <= 4
    sides = index.samples.groupby("patient")["split"].nunique()
    assert sides.max() == 1, "validation is drawn by patient"
    assert index.notes == ()
    again = Covidx(split_seed=1).index(root).samples["split"]
    assert (again != index.samples["split"]).any()


def test_text_of_the_test_images_is_a_shortcut_tied_to_covid(root):
    index = Covidx().index(root)
    assert set(index.shortcuts["class_name"]) == {"COVID-19"}
    ids = set(index.shortcuts["id"])
    assert all(name.startswith("test/") for name in ids)
    drawn = {
        row["id"] for row in index.samples.to_dict("records")
        if row["split"] == "test" and (Covidx().read(row, root)[:20] > 240).any()
    }  # fmt: skip
    assert ids == drawn
    assert Covidx().index(root).digest() == index.digest()
    assert Cleaned().index(root).digest() == index.digest()


def test_cleaned_has_no_text_and_is_the_same_elsewhere(root):
    for row in Covidx().index(root).samples.to_dict("records"):
        image, clean = Covidx().read(row, root), Cleaned().read(row, root)
        assert clean[:30].max() < 215
        assert (clean[40:] == image[40:]).all()


def test_a_file_of_boxes_wins_over_the_detector(root):
    (root / "text_boxes.csv").write_text(
        "id,x0,y0,x1,y1\ntest/test-1.jpg,0.5,0.5,0.75,1\ntrain/train-2.jpeg,0,0,0.5,0.2\n"
    )
    index = Covidx().index(root)
    assert index.shortcuts.to_numpy().tolist() == [["test/test-1.jpg", "COVID-19", 0.5, 0.5, 0.75, 1.0]]
    rows = index.samples.set_index("id", drop=False)
    marked, other = (rows.loc[f"train/train-{name}"].to_dict() for name in ("2.jpeg", "5.jpeg"))
    assert Covidx().read(marked, root)[:30].max() > 240
    assert Cleaned().read(marked, root)[:30].max() < 215
    assert (Cleaned().read(other, root) == Covidx().read(other, root)).all(), "an image without a line has no text"


def test_two_classes(tmp_path):
    root = examples.covidx(tmp_path, classes=("negative", "positive"))
    index = Covidx().index(root)
    assert index.classes == ("negative", "positive")
    assert set(index.shortcuts["class_name"]) == {"positive"}


def as_kaggle(root: Path) -> None:
    """Folders train and test, lists train.txt and test.txt."""
    for side, table in (("train", TRAIN), ("test", TEST)):
        (root / "data" / side).rename(root / side)
        (root / table).rename(root / f"{side}.txt")


def in_labels(root: Path) -> None:
    (root / "labels").mkdir()
    for table in (TRAIN, TEST):
        (root / table).rename(root / "labels" / table)


def windows_lines(root: Path) -> None:
    for table in (TRAIN, TEST):
        (root / table).write_bytes(
            (root / table).read_text().replace("\n", "\r\n\r\n").replace(" ", "  ").encode("utf-8-sig")
        )


def without_source(root: Path) -> None:
    (root / TRAIN).write_text((root / TRAIN).read_text().replace(" rsna", ""))


@pytest.mark.parametrize("layout", [as_kaggle, in_labels, windows_lines, without_source])
def test_layouts(layout, root):
    before = Covidx().index(root)
    layout(root)
    assert Covidx().found_at(root)
    assert Covidx().index(root).digest() == before.digest()


def test_odd_names_of_files(root):
    for old, new, listed in (
        ("train-0.png", "COVID-19 (70) copy.png", "COVID-19 (70) copy.png"),
        ("train-1.jpg", "88de9d8c.annot.original.JPG", "88de9d8c.annot.original.jpg"),
    ):
        (root / "data/train" / old).rename(root / "data/train" / new)
        number = int(old.split("-")[1].split(".")[0]) + 1
        change(root, TRAIN, number, old, listed)
    index = Covidx().index(root)
    assert index.samples["path"].iloc[:2].tolist() == [
        "data/train/COVID-19 (70) copy.png", "data/train/88de9d8c.annot.original.JPG",
    ]  # fmt: skip
    assert Covidx().read(index.samples.iloc[1].to_dict(), root).shape == (160, 160)


def test_images_in_no_list_are_left_out_and_counted_by_verify(root, harness):
    before = Covidx().index(root)
    for number in range(3):
        shutil.copy(root / "data/test/test-0.png", root / f"data/test/extra-{number}.png")
    assert Covidx().index(root).digest() == before.digest()
    code, out, _ = harness("data", "verify", "covidx", "--root", root)
    assert code == 0
    assert "test_COVIDx8A.txt: no published sum" in out
    assert "data/test: 15 images, 3 of them in no list: left out" in out
    assert "train_COVIDx8A.txt: 12 normal, 12 pneumonia, 12 COVID-19: no published version has these counts" in out


def test_a_version_is_known_by_its_counts(root):
    lines = [f"{n} {n}.png {c} rsna" for c in examples.COVIDX for n in [f"{c}{i}" for i in range(100)]]
    (root / TEST).write_text("\n".join(lines))
    assert "100 normal, 100 pneumonia, 100 COVID-19: the counts of version 3 to 5" in " ".join(Covidx().remarks(root))


def test_of_several_lists_one_must_be_named(root):
    shutil.copy(root / TRAIN, root / "train_COVIDx9A.txt")
    with pytest.raises(
        UsageError, match=r"has 2 lists of train images: train_COVIDx8A.txt, train_COVIDx9A.txt. Say which"
    ):
        Covidx().index(root)
    assert len(Covidx(train_list="train_COVIDx9A.txt").index(root)) == 48
    with pytest.raises(
        UsageError, match=r"expected train_COVIDx7A.txt in .*, found train_COVIDx8A.txt, train_COVIDx9A.txt"
    ):
        Covidx(train_list="train_COVIDx7A.txt").index(root)


def test_patients_on_both_sides_lose_their_training_images(root):
    change(root, TRAIN, 1, "tr0", "te0")
    change(root, TRAIN, 2, "tr0", "te0")
    index = Covidx().index(root)
    assert len(index) == 46
    assert set(index.samples.loc[index.samples["patient"] == "te0", "split"]) == {"test"}
    assert index.notes == ("training images of test patients left out",)
    with pytest.raises(
        UsageError, match=r"1 patients are in both lists, the first is 'te0'. Leave their training images out"
    ):
        Covidx(shared_patients="refuse").index(root)


def test_a_file_listed_for_two_patients_is_taken_once_and_they_count_as_one(root):
    """As 000001-27.jpg in train_COVIDx4.txt, of the patients 287 and 340."""
    lines = (root / TRAIN).read_text().splitlines()
    (root / TRAIN).write_text("\n".join([*lines, "other train-0.png normal rsna", lines[8].replace("tr4", "other")]))
    index = Covidx().index(root)
    assert len(index) == 48
    patients = index.samples.set_index("id")["patient"]
    assert patients["train/train-0.png"] == patients["train/train-1.jpg"] == patients["train/train-9.png"], (
        "tr0 and tr4"
    )
    assert any("2 files are listed twice" in r for r in Covidx().remarks(root))


def test_a_subset_is_taken_only_when_asked_for(root):
    (root / "data/train/train-7.jpg").unlink()
    with pytest.raises(
        UsageError, match=r"1 of the 48 listed images are missing, the first is .*train-7.jpg \(.*8A.txt, line 8\)"
    ):
        Covidx().index(root)
    index = Covidx(subset=True).index(root)
    assert len(index) == 47
    assert index.notes == ("subset",)


def without_list(root: Path) -> None:
    (root / TEST).unlink()


def empty_list(root: Path) -> None:
    (root / TEST).write_bytes(b"\n\n")


def other_encoding(root: Path) -> None:
    (root / TEST).write_bytes((root / TEST).read_text().encode("utf-16"))


def without_folder(root: Path) -> None:
    shutil.rmtree(root / "data" / "test")


def put(old: str, new: str, table: str = TEST, line: int = 3):
    return lambda root: change(root, table, line, old, new)


def swapped(root: Path) -> None:
    lines = [line.split() for line in (root / TEST).read_text().splitlines()]
    (root / TEST).write_text("\n".join(" ".join([p, c, f, s]) for p, f, c, s in lines))


def conflicting(root: Path) -> None:
    (root / TEST).write_text((root / TEST).read_text() + "te9 test-0.png pneumonia rsna\n")


def text(content: str):
    return lambda root: (root / "text_boxes.csv").write_text(content) and None


HEADER = "id,x0,y0,x1,y1\n"


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (without_list, r"covidx: expected test_COVIDx8A.txt, say, in .*, found none. Fetch it from COVID-Net's labels/"),
        (empty_list, r"test_COVIDx8A.txt: has no lines"),
        (other_encoding, r"test_COVIDx8A.txt: cannot be read as lines of fields \(not UTF-8 text\)"),
        (without_folder, r"COVIDx/test: cannot be read as a folder of images \(No such file or directory\). Expected data/train"),
        (put(" COVID-19", " covid-19"), r"test_COVIDx8A.txt, line 3: unknown class 'covid-19'; expected normal, pneumonia, COVID-19"),
        (put(" COVID-19 rsna", " COVID19"), r"line 3: unknown class 'COVID19'"),
        (put(" COVID-19 rsna", ""), r"line 3: expected `patient file class \[source\]`, got 2 fields"),
        (swapped, r"line 1: unknown class 'test-0.png'"),
        (put(" COVID-19", " positive"), r"the test list has COVID-19, normal, pneumonia, positive. Expected .* in both"),
        (put("test-2.jpeg", "../train/train-2.jpeg"), r"line 3: expected the name of a file, got the path '../train/train-2.jpeg'"),
        (conflicting, r"line 13: the file has another class than at .*, line 1"),
        (text("x0,y0,x1,y1,id\n"), r"text_boxes.csv: expected the columns id,x0,y0,x1,y1. Mend it"),
        (text(""), r"text_boxes.csv: expected the columns id,x0,y0,x1,y1"),
        (text(HEADER + "test/test-1.jpg,0,0,1\n"), r"text_boxes.csv, line 2: expected an id and four numbers"),
        (text(HEADER + "test/test-1.jpg,0,0,a,1\n"), r"line 2: expected an id and four numbers"),
        (text(HEADER + "test/test-1.jpg,10,10,80,20\n"), r"line 2: expected x0 < x1 and y0 < y1 from 0 to 1"),
        (text(HEADER + "test/test-1.jpg,0.5,0,0.4,1\n"), r"line 2: expected x0 < x1 and y0 < y1 from 0 to 1"),
        (text(HEADER + "test-1.jpg,0,0,0.4,1\n"), r"'test-1.jpg' \(one of 1\) is no image of the lists; expected test/FILE"),
    ],
)  # fmt: skip
def test_a_broken_list_or_folder_is_one_error(break_it, message, root):
    break_it(root)
    with pytest.raises(UsageError, match=message):
        Covidx().index(root)


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n" + b"x" * 50], ids=["empty", "damaged"])
def test_a_broken_image_is_found_by_verify_and_can_be_left_out(content, root, harness, monkeypatch, tmp_path):
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    (root / "data/test/test-0.png").write_bytes(content)
    code, out, _ = harness("data", "verify", "covidx_cleaned", "--root", root)
    assert code != 0
    assert "missing or corrupt images: 1\n  test/test-0.png: " in out
    for dataset in ("covidx", "covidx_cleaned"):
        common = ("data", "prepare", dataset, "--root", root, "--size", "32", "--workers", "1")
        code, _, err = harness(*common)
        assert code == 2
        assert "test-0.png" in err
        assert "Fetch it again" in err
        code, out, _ = harness(*common, "--set", "skip_corrupt=true")
        assert code == 0
        assert "left out as corrupt: 1" in out


def test_the_text_file_is_part_of_the_cache_s_key(root, harness, monkeypatch, tmp_path):
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    common = ("data", "prepare", "covidx_cleaned", "--root", root, "--size", "32", "--workers", "1")
    before = harness(*common)[1]
    (root / "text_boxes.csv").write_text(HEADER)
    os.utime(root / "text_boxes.csv")
    after = harness(*common)[1]
    fingerprint = [line for line in before.splitlines() if line.startswith("fingerprint")]
    assert fingerprint
    assert fingerprint[0] not in after


@pytest.mark.slow
def test_the_audit_exposes_text_and_it_is_gone_when_cleaned(harness, tmp_path, monkeypatch):
    """Text goes with COVID-19 in training and with nothing in test: what iGOS++'s poster found, on purpose."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    root = examples.covidx(tmp_path / "data", train=40, test=20)
    plugin = tmp_path / "tiny.py"
    plugin.write_text(TINY_NETWORK)
    found, standard = {}, {}
    for dataset in ("covidx", "covidx_cleaned"):
        sets = (f"{dataset}.size=64", "max_epochs=25", "patience=25", "learning_rate=0.05",
                *(f"{e}.resamples=100" for e in ("classification", "shortcut", "shortcut_maps")))  # fmt: skip
        code, _, err = harness(
            "run", "--method", "baseline", "--dataset", dataset, "--root", root, "--device", "cpu",
            "--plugin", plugin, "--model", "tiny", "--explainer", "cam", "--evaluation", "classification",
            "--evaluation", "shortcut", "--evaluation", "shortcut_maps", "--runs-dir", tmp_path / "runs",
            *(part for s in sets for part in ("--set", s)),
        )  # fmt: skip
        assert code == 0, err
    for run in runs(tmp_path / "runs"):
        for stage in run.stages():
            for row in stage.rows():
                if row.explainer in ("", "cam"):
                    found[row.dataset, row.metric, row.variant] = row
                standard[row.dataset, row.metric, row.class_name] = row.value
    for dataset in ("covidx", "covidx_cleaned"):
        for metric in ("f1", "precision", "recall"):
            assert 0 <= standard[dataset, metric, "macro"] <= 1, "Table 4 of the poster"
        assert 0 <= standard[dataset, "accuracy", "all"] <= 1
    effect, cleaned = (found[d, "shortcut_effect", ""] for d in ("covidx", "covidx_cleaned"))
    assert effect.low > 0.1, "text makes COVID-19 of images without it"
    assert abs(cleaned.value) < 0.03
    assert found["covidx", "shortcut_alone", ""].low > 0.2, "text alone is taken for COVID-19"
    assert found["covidx_cleaned", "shortcut_alone", ""].value < 0.1
    mass, area = (found["covidx", "shortcut_mass", v].value for v in ("", "area"))
    assert mass > 2 * area, "the map shows it"
    assert found["covidx_cleaned", "shortcut_mass", ""].value < 1.5 * area
    assert np.isfinite(mass)
