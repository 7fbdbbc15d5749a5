"""On the real images: NIH ChestX-ray14 (or a subset of it) and CIFAR-10 under HARNESS_DATA."""

import os
from pathlib import Path

import numpy as np
import pytest

from harness.console import Reporter
from harness.data.roots import find_root
from harness.errors import UsageError
from harness.evaluations.localisation import pairs_of
from harness.plan import RunSpec, make
from harness.plugins import catalogue
from harness.run import execute, prepare_data

pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif("HARNESS_DATA" not in os.environ, reason="HARNESS_DATA is not set: no real data here"),
]
QUIET = Reporter(quiet=True)


def root_of(name: str, **settings) -> Path:
    data = catalogue().load("dataset", name)(**settings)
    try:
        return find_root(data, name)
    except UsageError as error:
        pytest.skip(str(error).splitlines()[0])


@pytest.fixture(scope="module")
def chest():
    root_of("chestxray14")
    spec = RunSpec(method="baseline", dataset="chestxray14", sets=("chestxray14.size=112", "subset=true"))
    return prepare_data(make(spec), QUIET)


def test_all_984_official_boxes_on_880_test_images(chest):
    pairs = pairs_of(chest)
    assert (len(pairs), len(set(pairs.ids))) == (984, 880)
    assert set(pairs.position.tolist()) <= set(chest.index.of_split("test").tolist())
    names, counts = np.unique(pairs.class_name, return_counts=True)
    assert dict(zip(names.tolist(), counts.tolist(), strict=True)) == {
        "Atelectasis": 180, "Effusion": 153, "Cardiomegaly": 146, "Infiltration": 123, "Pneumonia": 120,
        "Pneumothorax": 98, "Mass": 85, "Nodule": 79,
    }  # fmt: skip
    for name in names:
        in_fold = np.bincount(pairs.fold[pairs.class_name == name], minlength=5)
        assert in_fold.min() >= 4


def test_published_box_areas(chest):
    """Median box area per class, as fractions of the image, computed elsewhere from the official file."""
    pairs = pairs_of(chest)
    area = np.array([((b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1])).sum() for b in pairs.boxes])
    published = {"Cardiomegaly": 0.171, "Pneumonia": 0.057, "Infiltration": 0.057, "Effusion": 0.056,
                 "Pneumothorax": 0.036, "Atelectasis": 0.019, "Mass": 0.015, "Nodule": 0.0046}  # fmt: skip
    for name, value in published.items():
        assert np.median(area[pairs.class_name == name]) == pytest.approx(value, rel=0.04), name


def test_label_and_split_files_are_the_published_ones():
    root = root_of("chestxray14")
    sums = catalogue().load("dataset", "chestxray14")().checksums(root)
    assert set(sums.values()) == {"as published"}


def test_cifar10_is_whole():
    root = root_of("cifar10")
    data = catalogue().load("dataset", "cifar10")()
    index = data.index(root)
    assert len(index) == 60_000
    assert index.labels[index.of_split("test")].sum(0).tolist() == [1000] * 10
    pixels = np.stack([data.read(r, root) for r in index.samples.iloc[:2000].to_dict("records")]) / 255
    assert pixels.mean((0, 1, 2)) == pytest.approx(data.mean, abs=0.02)
    assert pixels.std((0, 1, 2)) == pytest.approx(data.std, abs=0.02)


@pytest.fixture(scope="module")
def few(tmp_path_factory) -> Path:
    """Return a folder with every fourth image; training and scoring more of them shows nothing else."""
    root, folder = root_of("chestxray14"), tmp_path_factory.mktemp("few")
    for path in root.iterdir():
        if path.is_file():
            (folder / path.name).symlink_to(path)
    (folder / "images").mkdir()
    for path in sorted((root / "images").iterdir())[::4]:
        (folder / "images" / path.name).symlink_to(path)
    return folder


@pytest.mark.slow
def test_the_main_line_on_real_radiographs(few, tmp_path):
    """One short epoch at 64 px and a limited evaluation: the very line of the README, end to end."""
    sets = ("chestxray14.size=64", "subset=true", "robust_fgsm.max_epochs=1", "baseline.max_epochs=1",
            "validation_share=0.4", "classification.resamples=50", "localisation.resamples=20",
            "robustness.pairs=1", "insertion_deletion.images=4")  # fmt: skip
    spec = RunSpec(
        method="robust_fgsm", dataset="chestxray14", sets=sets, root=few, explainers=("cam",), limit=100,
        runs_dir=tmp_path,
    )  # fmt: skip
    baseline, robust = execute(spec, QUIET)
    assert robust.info["start_from"] == baseline.run_id
    assert all({"subset", "partial"} <= set(row.flags) for row in robust.rows)
    of_cam = {s.info["evaluation"]: s for s in robust.stages if s.info["explainer"] == "cam"}
    assert set(of_cam) == {"localisation", "insertion_deletion"}
    assert len(of_cam["insertion_deletion"].read_samples()) == 4
    assert {s.info["evaluation"] for s in robust.stages} >= {"classification", "robustness"}
    cam = of_cam["localisation"]
    assert len(cam.read_samples()) == 100
    assert 12 < len(cam.gallery) <= 24
