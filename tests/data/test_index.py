"""Index: what makes it unusable, splits and folds by patient."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from harness.data.index import Index, check, folds_by_patient, problems, split_by_patient, unlabelled_boxes
from harness.errors import UsageError
from harness.tasks import MultiClass, MultiLabel


def sound() -> Index:
    split = ["train"] * 4 + ["validation"] * 2 + ["test"] * 2
    samples = pd.DataFrame({"id": list("abcdefgh"), "patient": list("PPQRSTUV"), "split": split})
    labels = np.array([[1, 0], [0, 1], [1, 1], [0, 0], [1, 0], [0, 1], [1, 0], [0, 1]], np.uint8)
    boxes = pd.DataFrame({"id": ["g"], "class_name": ["one"], "x0": [0.1], "y0": [0.1], "x1": [0.5], "y1": [0.5]})
    return Index(samples, labels, ("one", "two"), boxes)


def test_a_sound_index_has_no_problems():
    assert problems(sound(), MultiLabel()) == []
    assert check(sound(), "x", MultiLabel()).labels.dtype == np.uint8


def changed(**values) -> Index:
    index = sound()
    samples = index.samples.copy()
    boxes = index.boxes.copy()
    for name, (row, value) in values.items():
        table = boxes if name in boxes and name != "id" else samples
        table.loc[row, name] = value
    return dataclasses.replace(index, samples=samples, boxes=boxes)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (changed(id=(1, "a")), "sample ids occur twice, the first is 'a'"),
        (changed(split=(0, "dev")), "unknown splits 'dev'"),
        (changed(patient=(4, "P")), r"patients are in two splits, the first is 'P' \(train and validation\)"),
        (changed(x1=(0, 1.2)), "boxes leave the image"),
        (changed(x1=(0, 0.05)), "boxes leave the image or are empty, the first belongs to 'g'"),
        (changed(class_name=(0, "three")), "unknown classes 'three'"),
        (
            dataclasses.replace(sound(), labels=sound().labels * [1, 0]),
            "class 'two' has no positive image in the train",
        ),
        (dataclasses.replace(sound(), labels=sound().labels[:, :1]), r"shape \(8, 1\), expected \(8, 2\)"),
        (dataclasses.replace(sound(), boxes=sound().boxes.assign(id="nobody")), "unknown image, the first is 'nobody'"),
        (
            dataclasses.replace(sound(), samples=sound().samples.replace({"split": {"test": "train"}})),
            "the test split is empty",
        ),
    ],
)
def test_problems(index, message):
    with pytest.raises(UsageError, match=message):
        check(index, "mine", MultiLabel())


@pytest.mark.parametrize("bad", [2.0, np.nan, -1.0, 0.5])
def test_labels_are_0_or_1(bad):
    labels = sound().labels.astype(float)
    labels[5, 1] = bad
    with pytest.raises(UsageError, match=r"1 labels are not 0 or 1, the first is .* for class 'two' of 'f'"):
        check(dataclasses.replace(sound(), labels=labels), "mine", MultiLabel())


def test_multiclass_has_one_class_per_image():
    with pytest.raises(UsageError, match="'c' has 2 classes, expected exactly one"):
        check(sound(), "mine", MultiClass())


@pytest.mark.parametrize("empty", ["", None, np.nan])
def test_a_sample_without_a_patient(empty):
    index = changed(patient=(2, empty))
    with pytest.raises(UsageError, match="1 samples have no id or no patient"):
        check(index, "mine", MultiLabel())


def test_boxes_of_a_class_that_the_image_does_not_have():
    index = sound()
    assert len(unlabelled_boxes(index)) == 0
    stray = dataclasses.replace(index, boxes=index.boxes.assign(class_name="two"))
    assert unlabelled_boxes(stray)["id"].tolist() == ["g"]
    for unknown in ({"class_name": "three"}, {"id": "nobody"}):  # `problems` names those
        assert len(unlabelled_boxes(dataclasses.replace(index, boxes=index.boxes.assign(**unknown)))) == 0


def test_digest_sees_every_part():
    digests = {sound().digest(), changed(patient=(0, "Z")).digest(), changed(x1=(0, 0.6)).digest(),
               dataclasses.replace(sound(), labels=1 - sound().labels).digest()}  # fmt: skip
    assert len(digests) == 4


def test_split_by_patient_keeps_patients_whole_and_meets_the_share():
    patients = pd.Series(np.random.default_rng(0).integers(0, 300, 1000).astype(str))
    held = split_by_patient(patients, share=0.1, seed=1)
    assert set(patients[held]).isdisjoint(patients[~held])
    assert 0.08 < held.mean() <= 0.1
    assert (held == split_by_patient(patients, share=0.1, seed=1)).all()
    assert (held != split_by_patient(patients, share=0.1, seed=2)).any()


def test_folds_keep_patients_whole_and_balance_classes():
    rng = np.random.default_rng(0)
    patients = rng.integers(0, 150, 240).astype(str)
    labels = rng.choice(["a", "b", "c"], 240, p=[0.6, 0.3, 0.1])
    fold = folds_by_patient(patients, labels)
    assert all(len(set(fold[patients == p])) == 1 for p in set(patients))
    for name in "abc":
        sizes = np.bincount(fold[labels == name], minlength=5)
        assert sizes.max() - sizes.min() <= 3, (name, sizes)
