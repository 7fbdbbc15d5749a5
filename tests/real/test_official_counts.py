"""The complete ChestX-ray14 by its official label files, under HARNESS_DATA: its folders are listed, not written."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness.data.cache import Prepared
from harness.data.index import SPLITS, Index, check, problems, unlabelled_boxes
from harness.data.roots import find_root
from harness.errors import UsageError
from harness.evaluations.localisation import pairs_of
from harness.plugins import catalogue
from harness.prepare import describe

pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif("HARNESS_DATA" not in os.environ, reason="HARNESS_DATA is not set: no real data here"),
]
FILES = ("Data_Entry_2017_v2020.csv", "BBox_List_2017.csv", "train_val_list.txt", "test_list.txt")
FOLDERS = (4999, *[10_000] * 10, 7121)  # images in images_001 ... images_012
POSITIVES = {  # of the v2020 labels: test, train_val; counted elsewhere
    "Atelectasis": (3279, 8280), "Cardiomegaly": (1069, 1707), "Effusion": (4658, 8659),
    "Infiltration": (6112, 13782), "Mass": (1748, 4034), "Nodule": (1623, 4708), "Pneumonia": (555, 876),
    "Pneumothorax": (2665, 2637), "Consolidation": (1815, 2852), "Edema": (925, 1378), "Emphysema": (1093, 1423),
    "Fibrosis": (435, 1251), "Pleural_Thickening": (1143, 2242), "Hernia": (86, 141),
}  # fmt: skip
BOXES = {"Atelectasis": 180, "Effusion": 153, "Cardiomegaly": 146, "Infiltration": 123, "Pneumonia": 120,
         "Pneumothorax": 98, "Mass": 85, "Nodule": 79}  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Iterator[Path]:
    """The label files beside twelve empty folders that say they hold all 112,120 images."""
    try:
        source = find_root(catalogue().load("dataset", "chestxray14")(), "chestxray14")
    except UsageError as error:
        pytest.skip(str(error).splitlines()[0])
    if lost := [name for name in FILES if not (source / name).exists()]:
        pytest.skip(f"{source} has no {' and no '.join(lost)}")
    place = tmp_path_factory.mktemp("ChestX-ray14")
    for name in FILES:
        shutil.copyfile(source / name, place / name)
    names = pd.read_csv(place / FILES[0], usecols=[0]).iloc[:, 0].tolist()
    ends = np.cumsum(FOLDERS)
    listing = {}
    for number, (end, count) in enumerate(zip(ends, FOLDERS, strict=True), 1):
        folder = place / f"images_{number:03d}" / "images"
        folder.mkdir(parents=True)
        listing[folder] = names[end - count : end]
    real = Path.iterdir

    def iterdir(folder: Path) -> Iterator[Path]:
        yield from (folder / name for name in listing[folder]) if folder in listing else real(folder)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "iterdir", iterdir)
        yield place


def made(root: Path, **settings: str) -> Index:
    data = catalogue().load("dataset", "chestxray14")(**settings)
    index = data.index(root)
    assert problems(index, data.task) == []
    return check(index, "chestxray14", data.task)


@pytest.fixture(scope="module")
def official(root) -> Index:
    return made(root)


@pytest.fixture(scope="module")
def cross_fitted(root) -> Index:
    return made(root, split="cross_fitted")


def test_images_patients_and_boxes(official):
    found = describe(official)
    images, patients = found["images"], found["patients"]
    assert (images["train"] + images["validation"], images["test"]) == (86_524, 25_596)
    assert (patients["train"] + patients["validation"], patients["test"]) == (28_008, 2_797)
    assert images["validation"] / 86_524 == pytest.approx(0.1, abs=0.001)
    assert (found["boxes"], found["boxed images"], found["notes"]) == (984, 880, [])
    assert found["patients on two sides"] == 0
    assert official.samples["path"].iloc[[0, 4999, -1]].tolist() == [
        "images_001/images/00000001_000.png", "images_002/images/00001336_000.png",
        "images_012/images/00030805_000.png",
    ]  # fmt: skip


def test_positives_of_every_class(official):
    test = official.samples["split"].to_numpy() == "test"
    found = zip(official.labels[test].sum(0).tolist(), official.labels[~test].sum(0).tolist(), strict=True)
    assert dict(zip(official.classes, found, strict=True)) == POSITIVES
    assert int((official.labels.sum(1) == 0).sum()) == 9_861 + 50_500  # No Finding


@pytest.mark.parametrize("split", ["official", "cross_fitted"])
def test_every_box_is_a_pair_that_is_scored(split, request):
    index = request.getfixturevalue(split)
    pairs = pairs_of(Prepared(Path(), index, np.zeros((len(index), 1, 1, 1), np.uint8), "none"))
    assert (len(pairs), len(set(pairs.ids))) == (984, 880)
    assert pd.Series(pairs.class_name).value_counts().to_dict() == BOXES
    assert len(unlabelled_boxes(index)) == 0


def test_five_folds_of_whole_patients_and_of_every_class(cross_fitted):
    samples, labels = cross_fitted.samples, cross_fitted.labels
    assert (cross_fitted.folds, len(samples), samples["patient"].nunique()) == (5, 112_120, 30_805)
    assert sorted(cross_fitted.scored()[0].tolist()) == list(range(112_120))
    for k, column in enumerate(cross_fitted.split_columns):
        assert samples.groupby("patient")[column].nunique().max() == 1
        sizes = [len(cross_fitted.of_split(s, k)) for s in SPLITS]
        assert sizes[2] == pytest.approx(112_120 / 5, rel=0.001)
        assert sizes[1] / (sizes[0] + sizes[1]) == pytest.approx(0.1, abs=0.001)
    positives = np.stack([labels[cross_fitted.of_split("test", k)].sum(0) for k in range(5)])
    assert (positives.sum(0) == [sum(both) for both in POSITIVES.values()]).all()
    assert (np.ptp(positives, axis=0) <= np.maximum(3, 0.02 * positives.mean(0))).all()


@pytest.mark.parametrize(("which", "start"), [("official", "9f3b0b6400dac7a7"), ("cross_fitted", "ddc1999839521439")])
def test_the_split_stays_what_it_was(which, start, request):
    """The manifest of the v2020 labels: who splits otherwise has other numbers."""
    assert describe(request.getfixturevalue(which))["manifest sha256"].startswith(start)
