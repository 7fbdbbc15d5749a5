"""JSRT in its official layouts: pixels, boxes, tables, splits, and what is wrong with a folder."""

import os
import shutil
from pathlib import Path

import examples
import numpy as np
import pandas as pd
import pytest
from tiny_network import TINY_NETWORK

from harness.errors import UsageError
from harness.plugins import catalogue
from harness.store import read_json, runs

Jsrt = catalogue().load("dataset", "jsrt")
CLN, CNN = "Clinical_Information/CLNDAT_EN.txt", "Clinical_Information/CNNDAT_EN.TXT"


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    return examples.jsrt(tmp_path_factory.mktemp("jsrt"))


@pytest.fixture
def root(written, tmp_path) -> Path:
    """Return a copy of the folder whose images are links: they are 8 MB each."""
    place = tmp_path / "JSRT"
    shutil.copytree(written, place, copy_function=os.link)
    for table in (CLN, CNN):
        path = place / table
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)
    return place


def lines(root: Path, table: str) -> list[str]:
    return [line for line in (root / table).read_text().splitlines() if line.strip()]


def change(root: Path, table: str, line: int, column: int, value: str, sep: str = "\t") -> None:
    """Put `value` into a column of a line (from 1) of a table."""
    found = lines(root, table)
    fields = found[line - 1].split(sep)
    fields[column] = value
    found[line - 1] = sep.join(fields)
    (root / table).write_text("\n".join(found) + "\n")


def test_labels_patients_and_what_is_known_of_a_nodule(root):
    index = Jsrt().index(root)
    assert index.classes == ("non-nodule", "nodule")
    assert list(index.samples["id"][:2]) == ["JPCLN001", "JPCLN002"]
    assert (index.samples["patient"] == index.samples["id"]).all()
    nodule = index.samples["id"].str.startswith("JPCLN").to_numpy()
    assert index.labels[:, 1].tolist() == nodule.astype(int).tolist()
    assert (index.labels.sum(1) == 1).all()
    first = index.samples.iloc[0]
    assert (first["subtlety"], first["age"], first["sex"], first["malignancy"]) == (5, 40, "male", "malignant")
    assert first["diagnosis"] == "l.upper lobe; lung cancer"
    assert np.isnan(index.samples["age"].iloc[3]), "an age may be unknown: '?'"
    assert set(index.samples.loc[~nodule, "subtlety"]) == {0}
    assert index.notes == ("subset",), "21 images are not the 247"


def test_the_box_is_the_square_of_the_nodule_s_size_around_its_centre(root):
    change(root, CLN, 1, 2, "35")
    change(root, CLN, 1, 5, "1000")
    change(root, CLN, 1, 6, "20")
    box = Jsrt().index(root).boxes.iloc[0]
    reach = 0.5 * 35 / 0.175  # px
    assert (box["id"], box["class_name"]) == ("JPCLN001", "nodule")
    assert box["x0"] * 2048 == pytest.approx(1000.5 - reach)
    assert box["x1"] * 2048 == pytest.approx(1000.5 + reach)
    assert box["y0"] == 0, "clipped to the image"
    assert box["y1"] * 2048 == pytest.approx(20.5 + reach)


def test_the_box_encloses_the_disc_that_was_drawn(root):
    index, data = Jsrt().index(root), Jsrt()
    for _, box in index.boxes.iterrows():
        row = index.samples[index.samples["id"] == box["id"]].iloc[0].to_dict()
        image = data.read(row, root)
        x0, y0, x1, y1 = (round(2048 * box[c]) for c in ("x0", "y0", "x1", "y1"))
        inside = image[y0:y1, x0:x1].astype(float)
        around = image[y0 - 40 : y1 + 40, x0 - 40 : x1 + 40].astype(float)
        ring = (around.sum() - inside.sum()) / (around.size - inside.size)
        assert inside.mean() - ring > 25, box["id"]


def test_twelve_bits_become_eight_and_are_turned_over(root):
    path = root / "All247images" / "JPCNN001.IMG"
    path.unlink()  # a link
    values = np.zeros((2048, 2048), ">u2")
    values[0, :4] = (0, 15, 16, 4095)
    values.tofile(path)
    index = Jsrt().index(root)
    row = index.samples[index.samples["id"] == "JPCNN001"].iloc[0].to_dict()
    assert Jsrt().read(row, root)[0, :4].tolist() == [255, 255, 254, 0]
    stored = Jsrt(inverted=False).read(row, root)
    assert stored[0, :4].tolist() == [0, 0, 1, 255]
    assert (stored.shape, stored.dtype) == ((2048, 2048), np.uint8)


def two_folders(root: Path) -> None:
    for kind, name in (("L", "Nodule154images"), ("N", "NonNodule93images")):
        (root / name).mkdir()
        for path in (root / "All247images").glob(f"JPC{kind}N*"):
            path.rename(root / name / path.name)


def nested(root: Path) -> None:
    (root / "All247images").rename(root / "unpacked")
    (root / "All247images").mkdir()
    (root / "unpacked").rename(root / "All247images" / "All247images")


def flat(root: Path) -> None:
    for path in [*(root / "All247images").iterdir(), *(root / "Clinical_Information").iterdir()]:
        path.rename(root / path.name)


def other_case(root: Path) -> None:
    for path in (root / "All247images").iterdir():
        path.rename(path.with_name(path.name.lower()))
    (root / CLN).rename(root / "Clinical_Information" / "clndat_en.TXT")


@pytest.mark.parametrize("layout", [two_folders, nested, flat, other_case])
def test_layouts(layout, root):
    before = Jsrt().index(root)
    layout(root)
    index = Jsrt().index(root)
    assert Jsrt().found_at(root)
    assert index.digest() == before.digest()
    assert Jsrt().read(index.samples.iloc[-1].to_dict(), root).shape == (2048, 2048)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_blank_and_padded_lines(end, root):
    before = Jsrt().index(root)
    for table in (CLN, CNN):
        found = [*lines(root, table)[:3], "", "\t\t\t", *lines(root, table)[3:], " \t ", ""]
        (root / table).write_bytes(end.join(found).encode("utf-8-sig"))
    (root / CNN).write_bytes((root / CNN).read_bytes().replace(b"   ", b"\t"))
    assert Jsrt().index(root).digest() == before.digest()


def table_of(nodules: int, others: int) -> pd.DataFrame:
    rows = [{"id": f"L{i}", "class": "nodule", "subtlety": 1 + i * 5 // nodules} for i in range(nodules)]
    return pd.DataFrame([*rows, *({"id": f"N{i}", "class": "non-nodule", "subtlety": 0} for i in range(others))])


def test_shares_of_the_whole_dataset_are_those_published():
    rows = table_of(154, 93)
    split = Jsrt()._splits(rows, np.zeros((247, 2)))["split"]
    assert split.value_counts().to_dict() == {"train": 172, "test": 50, "validation": 25}
    for subtlety, members in split.groupby(rows["subtlety"]):
        shares = members.value_counts(normalize=True)
        assert shares["test"] == pytest.approx(0.2, abs=0.03), subtlety
        assert shares["validation"] == pytest.approx(0.1, abs=0.03), subtlety


def test_the_split_follows_from_its_seed(root):
    a, b, c = (Jsrt(split_seed=s).index(root).samples["split"].tolist() for s in (0, 0, 1))
    assert a == b
    assert a != c


def test_cross_fitted_tests_every_image_once(root):
    index = Jsrt(split="cross_fitted").index(root)
    assert index.folds == 5
    assert sorted(index.scored()[0].tolist()) == list(range(21))
    for fold in range(5):
        assert index.labels[index.of_split("test", fold)].sum(0).min() >= 1


def test_only_the_nodules_that_are_easy_to_see(root):
    index = Jsrt(min_subtlety=4).index(root)
    kept = index.samples[index.samples["id"].str.startswith("JPCLN")]
    assert sorted(set(kept["subtlety"])) == [4, 5]
    assert len(index) == 9 + len(kept)
    assert set(index.boxes["id"]) == set(kept["id"])
    assert index.notes == ("subset",)


def test_a_subset_is_taken_only_when_asked_for(root):
    (root / "All247images" / "JPCLN002.IMG").unlink()
    with pytest.raises(
        UsageError, match=r"1 of the 21 images of the tables are missing in .*, the first is JPCLN002.IMG"
    ):
        Jsrt().index(root)
    index = Jsrt(subset=True).index(root)
    assert "JPCLN002" not in set(index.samples["id"]) | set(index.boxes["id"])


def without_table(root: Path) -> None:
    (root / CLN).unlink()


def two_tables(root: Path) -> None:
    shutil.copy(root / CLN, root / "CLNDAT_EN.txt")


def in_another_encoding(root: Path) -> None:
    (root / CLN).write_bytes((root / CLN).read_text().encode("utf-16"))


def in_japanese(root: Path) -> None:
    (root / CLN).write_bytes((root / CLN).read_text().replace("lung cancer", "肺癌", 1).encode("shift-jis"))


def empty_tables(root: Path) -> None:
    (root / CLN).write_bytes(b"")
    (root / CNN).write_bytes(b"\r\n")


def truncated_table(root: Path) -> None:
    (root / CNN).write_text("\n".join(lines(root, CNN)[:-2]))


def cut_line(root: Path) -> None:
    (root / CLN).write_text("\n".join([*lines(root, CLN)[:4], "JPCLN005.IMG\t3\t1"]))


def official_guide(root: Path) -> None:
    """The columns in the order of the guide, which the files do not have."""
    found = [line.split("\t") for line in lines(root, CLN)]
    (root / CLN).write_text(
        "\n".join("\t".join([f[0], f[3], f[4], f[7], f[1], f[2], f[5], f[6], *f[8:]]) for f in found)
    )


def swapped(a: int, b: int):
    def change_all(root: Path) -> None:
        found = [line.split("\t") for line in lines(root, CLN)]
        for fields in found:
            fields[a], fields[b] = fields[b], fields[a]
        (root / CLN).write_text("\n".join("\t".join(f) for f in found))

    return change_all


def put(table: str, line: int, column: int, value: str, sep: str = "\t"):
    return lambda root: change(root, table, line, column, value, sep)


def twice(root: Path) -> None:
    (root / "NonNodule93images").mkdir()
    os.link(root / "All247images/JPCNN003.IMG", root / "NonNodule93images/jpcnn003.img")


def comma(root: Path) -> None:
    (root / CLN).write_text((root / CLN).read_text().replace("\t", ","))


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (without_table, r"has no CLNDAT_EN.txt. It comes in Clinical_Information.zip"),
        (two_tables, r"CLNDAT_EN.txt and .*CLNDAT_EN.txt: two tables of one name. Keep one"),
        (in_another_encoding, r"CLNDAT_EN.txt: cannot be read as lines of fields \(not UTF-8 text\).*must be UTF-8"),
        (in_japanese, r"CLNDAT_EN.txt: cannot be read as lines of fields \(not UTF-8 text\)"),
        (empty_tables, r"CLNDAT_EN.txt and CNNDAT_EN.TXT have no lines"),
        (truncated_table, r"JPCNN008.IMG is in neither CLNDAT_EN.txt nor CNNDAT_EN.TXT \(one of 2 images\)"),
        (cut_line, r"CLNDAT_EN.txt, line 5: expected at least 8 fields between tabs, got 3"),
        (comma, r"CLNDAT_EN.txt, line 1: expected at least 8 fields between tabs, got 1"),
        (official_guide, r"line 1: expected 1 to 5 as subtlety, got '40'. Expected the columns file, subtlety, size in mm"),
        (swapped(1, 2), r"line 1: expected 1 to 5 as subtlety, got '\d+'"),
        (swapped(3, 4), r"line 1: expected 0 to 120 as age, got 'male'"),
        (swapped(2, 5), r"line 1: expected 1 to 179.2 as size in mm, got '\d+'"),
        (swapped(0, 1), r"line 1: expected the name of an image, JPCLN001.IMG say, got '5'"),
        (put(CLN, 2, 5, "2048"), r"CLNDAT_EN.txt, line 2: expected 0 to 2047 as x, got '2048'"),
        (put(CLN, 2, 6, "-1"), r"line 2: expected 0 to 2047 as y, got '-1'"),
        (put(CLN, 2, 6, "nan"), r"line 2: expected 0 to 2047 as y, got 'nan'"),
        (put(CLN, 2, 2, "0"), r"line 2: expected 1 to 179.2 as size in mm, got '0'"),
        (put(CLN, 2, 7, "unknown"), r"line 2: expected malignant or benign as malignant or benign, got 'unknown'"),
        (put(CLN, 2, 0, "JPCNN002.IMG"), r"line 2: expected the name of an image, JPCLN001.IMG say, got 'JPCNN002.IMG'"),
        (put(CLN, 2, 0, "JPCLN001.img"), r"line 2: JPCLN001 was given before, at .*CLNDAT_EN.txt, line 1"),
        (put(CNN, 2, -1, "nodule", " "), r"CNNDAT_EN.TXT, line 2: expected non-nodule as non-nodule, got 'nodule'"),
        (put(CNN, 2, 2, "", " "), r"CNNDAT_EN.TXT, line 2: expected 4 fields, got 3"),
        (twice, r"All247images/JPCNN003.IMG and .*jpcnn003.img are the same image. Keep one of them"),
    ],
    ids=lambda v: getattr(v, "__name__", None) and str(v.__name__),
)  # fmt: skip
def test_a_broken_table_or_folder_is_one_error(break_it, message, root):
    break_it(root)
    with pytest.raises(UsageError, match=message):
        Jsrt().index(root)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"JPCNN001.IMG: has 0 bytes, expected 8,388,608 \(2048 x 2048 numbers of 16 bits\): it is truncated"),
        (b"x" * 1000, r"JPCNN001.IMG: has 1,000 bytes, expected 8,388,608"),
        (np.full(2048 * 2048, 4096, ">u2").tobytes(), r"JPCNN001.IMG: holds the value 4,096, expected 0 to 4,095"),
        (np.full(2048 * 2048, 4095, "<u2").tobytes(), r"holds the value 65,295, .*its bytes were swapped"),
    ],
    ids=["empty", "truncated", "thirteen bits", "little-endian"],
)
def test_a_broken_image_is_found_by_verify(content, message, root, harness):
    path = root / "All247images" / "JPCNN001.IMG"
    path.unlink()  # a link
    path.write_bytes(content)
    row = Jsrt().index(root).samples.set_index("id").loc["JPCNN001"].to_dict()
    with pytest.raises(UsageError, match=message):
        Jsrt().read(row, root)
    code, out, _ = harness("data", "verify", "jsrt", "--root", root, "--set", "size=32")
    assert code != 0
    assert "missing or corrupt images: 1\n  JPCNN001: " in out


def test_verify_finds_nothing_in_a_sound_folder(root, harness):
    code, out, _ = harness("data", "verify", "jsrt", "--root", root.parent)
    assert code == 0
    assert "No problems found." in out
    assert "boxes: 12" in out
    assert "CNNDAT_EN.TXT: no published sum" in out


@pytest.mark.parametrize(
    ("setting", "message"),
    [("min_subtlety=6", "expected 1 to 5, got 6"), ("test_share=0", "above 0"), ("test_share=0.9", "something to train on")],
)  # fmt: skip
def test_settings_are_checked(setting, message, root, harness):
    code, _, err = harness("data", "verify", "jsrt", "--root", root, "--set", setting)
    assert code == 2
    assert message in err


@pytest.mark.slow
def test_figure_2_of_woods_explanations_of_a_nodule(harness, tmp_path, monkeypatch):
    """Train on discs in lungs, then ask what the network would need to see a nodule, and not to see it."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    root = examples.jsrt(tmp_path / "data", nodules=48, others=48, mm=(40, 60))
    plugin = tmp_path / "tiny.py"
    plugin.write_text(TINY_NETWORK)
    sets = ("jsrt.size=64", "max_epochs=30", "learning_rate=0.05", "rho=0.075", "images=12", "adversarial_explanations.resamples=50",
            "classification.resamples=50")  # fmt: skip
    code, _, err = harness(
        "run", "--method", "baseline", "--dataset", "jsrt", "--root", root, "--device", "cpu",
        "--plugin", plugin, "--model", "tiny",
        "--evaluation", "classification", "--evaluation", "adversarial_explanations",
        "--runs-dir", tmp_path / "runs", *(part for s in sets for part in ("--set", s)),
    )  # fmt: skip
    assert code == 0, err
    shutil.rmtree(root)  # 800 MB
    (run,) = runs(tmp_path / "runs")
    stages = {s.info["evaluation"]: s for s in run.stages()}
    (accuracy,) = [r.value for r in stages["classification"].rows() if r.metric == "accuracy"]
    assert accuracy >= 0.8
    of = {(r.metric, r.variant, r.attack): r.value for r in stages["adversarial_explanations"].rows()}
    assert of["explained_probability", "after", "explain+"] > of["explained_probability", "before", "explain+"]
    assert of["explained_probability", "after", "explain-"] < 0.3
    assert of["counterfactual_probability", "after", "explain+"] > 0.7
    shown = read_json(stages["adversarial_explanations"].folder / "gallery" / "gallery.json")
    nodules = [e for e in shown if e["class_name"] == "nodule"]
    assert len(nodules) >= 5
    for entry in nodules:
        assert entry["own"] == "nodule"
        assert entry["boxes"], "the report draws where it is"
        plus, minus = (entry["explanations"][d]["probability"] for d in ("plus", "minus"))
        assert plus >= entry["probability"] > 0.5 > minus, entry["id"]
        assert max(entry["explanations"][d]["rmse"] for d in ("plus", "minus")) <= 0.075 + 1e-6
