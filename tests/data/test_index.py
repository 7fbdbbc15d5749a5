"""Index: what makes it unusable, splits and folds by patient."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from harness.data.index import (
    SPLITS,
    Index,
    check,
    crossfit,
    folds_by_patient,
    problems,
    split_by_patient,
    stratified_folds,
    unlabelled_boxes,
)
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


def test_test_images_alone_are_sound_where_the_dataset_says_so():
    samples = sound().samples.assign(split="test")
    alone = dataclasses.replace(sound(), samples=samples, labels=sound().labels * np.array([1, 0], np.uint8))
    assert problems(alone, MultiLabel(), ("test",)) == []
    assert len([p for p in problems(alone, MultiLabel()) if "split is empty" in p]) == 2
    assert problems(sound(), MultiLabel(), ("test",)) == ["unknown splits 'train', 'validation'; expected test"]


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
            dataclasses.replace(sound(), shortcuts=sound().boxes.assign(class_name="four")),
            "shortcuts are tied to unknown classes 'four'",
        ),
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


def cohort(patients: int = 300, classes: int = 6) -> tuple[pd.Series, np.ndarray]:
    """Images of patients with one to nine of them, and classes from common to rare."""
    rng = np.random.default_rng(0)
    names = pd.Series(np.repeat([f"p{i}" for i in range(patients)], rng.integers(1, 10, patients)))
    return names, (rng.random((len(names), classes)) < 0.4 / 3.0 ** np.arange(classes)).astype(np.uint8)


def test_stratified_folds_keep_patients_whole_and_spread_every_class():
    patients, labels = cohort()
    fold = stratified_folds(patients.to_numpy(str), labels, folds=5, seed=0)
    assert pd.Series(fold).groupby(patients).nunique().max() == 1
    counts = np.stack([labels[fold == k].sum(0) for k in range(5)])
    assert labels[:, -1].sum() < 10, "the cohort has a class that chance alone would leave out of a fold"
    assert (np.ptp(counts, axis=0) <= 9).all(), "no fold is further ahead than one patient can carry it"
    assert counts[:, -1].min() >= labels[:, -1].sum() // 5 - 1
    sizes = np.bincount(fold)
    assert np.ptp(sizes) <= 0.05 * len(patients)


def test_stratified_folds_follow_from_the_seed_and_not_from_the_order():
    patients, labels = cohort()
    one, again, other = (stratified_folds(patients.to_numpy(str), labels, folds=5, seed=s) for s in (0, 0, 1))
    assert (one == again).all()
    assert (one != other).any()
    order = np.random.default_rng(3).permutation(len(patients))
    assert (stratified_folds(patients.to_numpy(str)[order], labels[order], folds=5, seed=0) == one[order]).all()


def test_a_class_of_five_patients_is_in_every_fold():
    patients, labels = cohort()
    rare = np.isin(patients, ["p7", "p77", "p107", "p177", "p277"])
    labels[:, -1] = rare
    fold = stratified_folds(patients.to_numpy(str), labels, folds=5, seed=0)
    assert sorted({int(k) for k in fold[rare]}) == [0, 1, 2, 3, 4]


def crossfitted(**changes) -> Index:
    patients, labels = cohort()
    ids = [f"i{n}" for n in range(len(patients))]
    samples = pd.DataFrame({"id": ids, "patient": patients}).join(crossfit(patients, labels, share=0.1, seed=0))
    for column, (rows, value) in changes.items():
        samples.loc[rows, column] = value
    return Index(samples, labels, tuple("abcdef"))


def test_a_cross_fitted_split_tests_every_sample_once_and_never_on_its_own_patient():
    index = crossfitted()
    assert problems(index, MultiLabel()) == []
    assert index.folds == 5
    positions, fold = index.scored()
    assert sorted(positions) == list(range(len(index)))
    for k in range(5):
        parts = [set(index.samples["patient"].to_numpy()[index.of_split(s, k)]) for s in SPLITS]
        assert len(set.union(*parts)) == sum(map(len, parts)), "a patient is on two sides"
        assert (positions[fold == k] == index.of_split("test", k)).all()
        held_out = len(index.of_split("validation", k)) / (len(index) - len(index.of_split("test", k)))
        assert 0.08 < held_out <= 0.1
    first, second = index.manifest().decode().splitlines()[:2]
    assert first == "id,patient,split_0,split_1,split_2,split_3,split_4"
    assert second.startswith("i0,p0,")


def test_a_plain_split_is_one_fold():
    index = sound()
    assert (index.folds, index.crossfitted) == (1, False)
    positions, fold = index.scored()
    assert positions.tolist() == [6, 7]
    assert fold.tolist() == [0, 0]


def test_faults_of_a_cross_fitted_split_are_named_with_their_fold():
    index = crossfitted()
    patient = index.samples["patient"].iloc[int(index.of_split("train", 3)[0])]
    mine = np.flatnonzero(index.samples["patient"] == patient)
    torn = crossfitted(split_3=(mine[:1], "validation"))
    assert len(mine) > 1
    assert any(
        f"patients are in two splits of fold 3, the first is {patient!r}" in p for p in problems(torn, MultiLabel())
    )
    twice = crossfitted(split_3=(mine, "test"))
    assert any("not in the test part of exactly one fold" in p for p in problems(twice, MultiLabel()))
    none = dataclasses.replace(index, samples=index.samples[["id", "patient"]])
    assert any("no column split" in p for p in problems(none, MultiLabel()))


def test_the_split_is_part_of_the_digest():
    changed = crossfitted()
    other = dataclasses.replace(
        changed, samples=changed.samples.rename(columns={"split_0": "split_1", "split_1": "split_0"})
    )
    assert changed.digest() != other.digest()
