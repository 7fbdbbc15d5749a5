"""The drawn radiographs: the same everywhere, boxes where the findings are, a marker that means what it should."""

from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from harness.data.index import problems, unlabelled_boxes
from harness.errors import UsageError
from harness.plugins import load_file
from harness.tasks import MultiLabel

phantom = load_file(Path(__file__).parents[2] / "datasets" / "phantom.py")
ROOT = Path("unused")
Box = namedtuple("Box", "x0 y0 x1 y1")
GOLDEN_DIGEST = "129b7a6e72e43947e050b18d7da59d81b77101311237a78245aaa7ac17843cea"
GOLDEN_PIXELS = [
    [217, 217, 186, 115, 241, 139, 233, 240, 137],
    [121, 174, 133, 68, 206, 90, 178, 196, 183],
    [50, 156, 12, 124, 201, 141, 202, 207, 187],
    [154, 158, 9, 86, 211, 100, 204, 214, 160],
]


@pytest.fixture(scope="module")
def index():
    return phantom.Phantom().index(ROOT)


@pytest.fixture(scope="module")
def small_index():
    return phantom.Phantom(n_train=250, n_validation=1, n_test=1).index(ROOT)


def rows(index):
    return index.samples.to_dict("records")


def marker_agrees(index, split):
    """Share of a split's images whose marker says whether there is an Effusion."""
    at = index.of_split(split)
    return (index.samples["marked"].to_numpy()[at] == index.labels[at, phantom.CLASSES.index("Effusion")]).mean()


def inside(box, size):
    """Share of each pixel that lies in a box, (size,size)."""
    edges = np.arange(size + 1)

    def along(low, high):
        return np.clip(np.minimum(edges[1:], high * size) - np.maximum(edges[:-1], low * size), 0.0, 1.0)

    return along(box.y0, box.y1)[:, None] * along(box.x0, box.x1)[None, :]


def test_labels_and_boxes_are_pinned():
    dataset = phantom.Phantom(n_train=24, n_validation=16, n_test=16, size=32)
    assert dataset.index(ROOT).digest() == GOLDEN_DIGEST


def test_pixels_are_pinned_to_one_grey_level():
    dataset = phantom.Phantom(n_train=24, n_validation=16, n_test=16, size=32)
    drawn = np.stack([dataset.read(row, ROOT) for row in rows(dataset.index(ROOT))[:4]])
    assert drawn.dtype == np.uint8
    expected = np.array(GOLDEN_PIXELS)
    assert np.abs(drawn[:, 5::11, 5::11].reshape(4, -1).astype(int) - expected).max() <= 1


def test_an_image_follows_from_its_row_alone():
    dataset = phantom.Phantom(n_train=8, n_validation=4, n_test=4)
    last = rows(dataset.index(ROOT))[-1]
    again = phantom.Phantom(n_train=8, n_validation=4, n_test=4)
    np.testing.assert_array_equal(dataset.read(last, ROOT), again.read(dict(last), Path("elsewhere")))
    other = phantom.Phantom(n_train=8, n_validation=4, n_test=4, data_seed=1)
    assert (dataset.read(last, ROOT) != other.read(last, ROOT)).mean() > 0.5


@pytest.mark.parametrize("size", [32, 96, 128])
def test_images_have_the_size_asked_for(size):
    dataset = phantom.Phantom(n_train=4, n_validation=1, n_test=1, size=size)
    image = dataset.read(rows(dataset.index(ROOT))[0], ROOT)
    assert image.shape == (size, size)
    assert np.ptp(image) > 80


def test_index_is_sound(index):
    assert problems(index, MultiLabel()) == []
    assert len(unlabelled_boxes(index)) == 0
    assert [len(index.of_split(s)) for s in ("train", "validation", "test")] == [2000, 400, 800]
    # Every finding of every image has its box, and there is no other.
    assert len(index.boxes) == index.labels.sum()


@pytest.mark.parametrize("dataset", [phantom.Phantom, phantom.PhantomShortcut])
def test_smoke_settings_make_a_sound_index(dataset):
    assert problems(dataset(**dataset.smoke).index(ROOT), MultiLabel()) == []


def test_prevalences(index):
    share = index.labels.mean(0)
    assert ((share > 0.08) & (share < 0.15)).all(), share
    assert 0.35 < (index.labels.sum(1) == 0).mean() < 0.45
    assert index.labels[index.of_split("test")].sum(0).min() >= 60


def test_patients_have_one_to_four_images_and_one_body(index):
    images = index.samples.groupby("patient").size()
    assert images.min() == 1
    assert images.max() == 4
    assert index.samples.groupby("patient")["split"].nunique().max() == 1
    first, second = phantom.anatomy(0, 3, 0), phantom.anatomy(0, 3, 1)
    assert first.half_width == second.half_width
    assert first.zoom[1] != second.zoom[1]


def test_findings_partly_persist(index):
    """Two images of one patient share a class far more often than two patients do."""
    patients = index.samples["patient"].to_numpy()
    same = patients[1:] == patients[:-1]
    both = (index.labels[1:] & index.labels[:-1]).mean(1)
    assert both[same].mean() > 2.0 * both[~same].mean()


@pytest.mark.parametrize("name", phantom.CLASSES)
def test_boxes_hold_what_the_finding_changes(name, small_index):
    """Drawn with and without a finding, the images differ inside its box, and all along it."""
    size = 96
    by_id = {row["id"]: row for row in rows(small_index)}
    boxes = small_index.boxes[small_index.boxes["class_name"] == name]
    assert len(boxes) >= 8
    for box in boxes.itertuples():
        row = by_id[box.id]
        found = phantom.findings(0, row["number"], row["visit"])
        others = tuple(f for f in found if f.name != name)
        drawn = [phantom.draw(0, row["number"], row["visit"], f, None, size).astype(float) for f in (found, others)]
        change = np.abs(drawn[0] - drawn[1])
        assert (change * inside(box, size)).sum() >= 0.94 * change.sum(), box
        assert change.max() > 20, box
        changed_rows = np.flatnonzero((change > 0.1 * change.max()).any(1))
        changed_columns = np.flatnonzero((change > 0.1 * change.max()).any(0))
        area = (box.x1 - box.x0) * (box.y1 - box.y0) * size**2
        assert area <= 2.2 * (np.ptp(changed_rows) + 1) * (np.ptp(changed_columns) + 1), box


def test_box_of_finds_a_known_ellipse():
    def ellipse(across, down):
        return 1.0 * (((across - 0.3) / 0.05) ** 2 + ((down - 0.6) / 0.1) ** 2 < 1.0)

    assert phantom.box_of(ellipse) == pytest.approx((0.25, 0.5, 0.35, 0.7), abs=0.012)
    assert phantom.box_of(lambda across, down: 0.0 * across * down) is None


def test_marker_of_phantom_goes_with_nothing(index):
    marked = index.samples["marked"].to_numpy()
    assert 0.45 < marked.mean() < 0.55
    for k in range(len(phantom.CLASSES)):
        assert abs(np.corrcoef(marked, index.labels[:, k])[0, 1]) < 0.06
    assert set(index.shortcuts["class_name"]) == {""}
    assert list(index.shortcuts["id"]) == list(index.samples["id"][marked == 1])


def test_marker_of_phantom_shortcut_goes_with_effusion_until_test():
    index = phantom.PhantomShortcut(n_train=600, n_validation=300, n_test=400).index(ROOT)
    assert marker_agrees(index, "train") == pytest.approx(0.95, abs=0.03)
    assert marker_agrees(index, "validation") == pytest.approx(0.95, abs=0.04)
    assert marker_agrees(index, "test") == pytest.approx(0.5, abs=0.08)
    assert set(index.shortcuts["class_name"]) == {"Effusion"}


def test_a_marker_that_agrees_half_the_time_says_nothing():
    index = phantom.PhantomShortcut(n_train=600, n_validation=1, n_test=100, marker_agreement=0.5).index(ROOT)
    assert marker_agrees(index, "train") == pytest.approx(0.5, abs=0.06)
    tied = phantom.PhantomShortcut(n_train=600, n_validation=1, n_test=100).index(ROOT)
    tests = tied.samples["split"] == "test"
    assert tied.samples["marked"][tests].equals(index.samples["marked"][tests]), "one test split for every agreement"


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_an_agreement_that_is_no_share_is_refused(share):
    with pytest.raises(UsageError, match=r"marker_agreement: expected a share from 0 to 1"):
        phantom.PhantomShortcut(marker_agreement=share)


def test_phantom_shortcut_is_phantom_but_for_the_marker(small_index):
    other = phantom.PhantomShortcut(n_train=250, n_validation=1, n_test=1).index(ROOT)
    np.testing.assert_array_equal(other.labels, small_index.labels)
    assert other.boxes.equals(small_index.boxes)
    assert not other.samples["marked"].equals(small_index.samples["marked"])


@pytest.mark.parametrize("size", [32, 64, 96, 224])
def test_marker_box_holds_exactly_the_letters(size):
    for patient in range(8 if size > 96 else 20):
        marker = phantom.marker_of(0, patient, 0)
        bare = phantom.draw(0, patient, 0, (), None, size).astype(int)
        drawn = phantom.draw(0, patient, 0, (), marker, size).astype(int)
        x0, y0, x1, y1 = marker.box
        assert 0.0 <= x0 < x1 <= 1.0
        assert 0.0 <= y0 < y1 <= 1.0
        holds = inside(Box(*marker.box), size)
        assert (drawn == bare)[holds == 0.0].all()
        # All four edges are touched by a letter.
        touched = marker.cover(size) > 1e-3
        within = holds > 1e-3
        rows_on, columns_on = np.flatnonzero(within.any(1)), np.flatnonzero(within.any(0))
        assert touched[rows_on[[0, -1]]].any(1).all()
        assert touched[:, columns_on[[0, -1]]].any(0).all()
        whole = marker.cover(size) > 1.0 - 1e-9
        assert np.abs(drawn[whole] - marker.grey).max(initial=0.0) <= 1.0


def test_fingerprint_answers_for_settings_and_version_not_for_pixels(monkeypatch):
    small = phantom.Phantom(n_train=4, n_validation=1, n_test=1)
    index = small.index(ROOT)
    first = small.fingerprint(index, np.array([b"a"]))
    assert first == small.fingerprint(index, np.array([b"b"]))
    assert first != phantom.Phantom(n_train=4, n_validation=1, n_test=1, data_seed=1).fingerprint(index, None)
    assert first != phantom.PhantomShortcut(n_train=4, n_validation=1, n_test=1).fingerprint(index, None)
    monkeypatch.setattr(phantom, "GENERATOR_VERSION", phantom.GENERATOR_VERSION + 1)
    assert first != small.fingerprint(index, None)
