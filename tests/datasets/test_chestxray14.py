"""ChestX-ray14 from its official layout: labels, boxes, splits, folders."""

import examples
import numpy as np
import pytest

from harness.errors import UsageError
from harness.plugins import catalogue

ChestXray14 = catalogue().load("dataset", "chestxray14")


@pytest.fixture
def root(tmp_path):
    return examples.chestxray14(tmp_path)


def test_labels_boxes_and_splits(root):
    index = ChestXray14(size=32).index(root)
    assert len(index) == 140
    assert index.classes[:8] == ("Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule",
                                 "Pneumonia", "Pneumothorax")  # fmt: skip
    by_id = {i: row for row, i in enumerate(index.samples["id"])}
    assert index.labels[by_id["00000003_000.png"]].nonzero()[0].tolist() == [2]
    assert index.labels[by_id["00000003_001.png"]].sum() == 0
    assert set(index.boxes["class_name"]) == set(index.classes[:8]), "Infiltrate is Infiltration"
    box = index.boxes.iloc[0]
    assert box[["x0", "y0", "x1", "y1"]].tolist() == [0.25, 0.125, 0.75, 0.375]
    counts = index.samples["split"].value_counts()
    assert counts["test"] == 28
    assert 8 <= counts["validation"] <= 11
    official = set((root / "test_list.txt").read_text().split())
    assert set(index.samples.loc[index.samples["split"] == "test", "id"]) == official
    assert index.notes == ()


def test_twelve_folders(root):
    for number, path in enumerate(sorted((root / "images").iterdir())):
        folder = root / f"images_{number % 12 + 1:03d}" / "images"
        folder.mkdir(parents=True, exist_ok=True)
        path.rename(folder / path.name)
    (root / "images").rmdir()
    index = ChestXray14(size=32).index(root)
    assert len(index) == 140
    data = ChestXray14(size=32)
    assert data.read(index.samples.iloc[-1].to_dict(), root).shape == (32, 32)


def test_a_subset_is_taken_only_when_asked_for_and_named(root):
    for path in sorted((root / "images").iterdir())[:11]:
        path.unlink()
    with pytest.raises(UsageError, match="11 of 140 images"):
        ChestXray14().index(root)
    index = ChestXray14(subset=True).index(root)
    assert len(index) == 129
    assert index.notes == ("subset",)


def test_boxes_of_images_that_are_not_here_are_left_out_of_a_subset(root):
    boxed = ChestXray14().index(root).boxes["id"].iloc[0]
    (root / "images" / boxed).unlink()
    assert boxed not in set(ChestXray14(subset=True).index(root).boxes["id"])


def test_the_split_follows_from_its_seed(root):
    a, b = (ChestXray14(split_seed=s).index(root).samples["split"] for s in (0, 0))
    assert (a == b).all()
    assert (a != ChestXray14(split_seed=1).index(root).samples["split"]).any()


def test_two_label_files_are_refused(root):
    (root / "Data_Entry_2017.csv").write_bytes((root / "Data_Entry_2017_v2020.csv").read_bytes())
    with pytest.raises(UsageError, match="two versions of the labels"):
        ChestXray14().index(root)


def test_rgba_images_are_grey(root):
    index = ChestXray14().index(root)
    row = index.samples[index.samples["id"] == "00000004_000.png"].iloc[0].to_dict()
    found = ChestXray14().read(row, root)
    assert found.ndim == 2
    assert found.dtype == np.uint8
