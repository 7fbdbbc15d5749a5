"""CIFAR-10 and CIFAR-100 in their layouts."""

import hashlib
import pickle
import sys

import examples
import numpy as np
import pytest
from PIL import Image

from harness.errors import UsageError
from harness.plugins import catalogue

COMPONENT = catalogue().find("dataset", "cifar10")
Cifar10 = COMPONENT.load()


@pytest.fixture
def root(tmp_path):
    return examples.cifar10(tmp_path)


def rows(index, **match):
    table = index.samples
    for name, value in match.items():
        table = table[table[name] == value]
    return table.iloc[0].to_dict()


def test_binary(root):
    data = Cifar10(n_validation=20)
    index = data.index(root)
    assert index.samples["split"].value_counts().to_dict() == {"train": 180, "test": 40, "validation": 20}
    raw = (root / "data_batch_2.bin").read_bytes()[3073 * 7 : 3073 * 8]
    image = data.read(rows(index, id="data_batch_2_00007"), root)
    assert image.shape == (32, 32, 3)
    assert image[0, 0].tolist() == [raw[1], raw[1 + 1024], raw[1 + 2048]]
    assert image[31, 31].tolist() == [raw[1024], raw[2048], raw[3072]]
    assert (index.labels.sum(1) == 1).all()
    assert index.labels[7].argmax() == raw[0]


def test_fewer_training_images(root):
    """A part of the training images, drawn once; validation and test images stay what they are."""
    whole, few, more = (Cifar10(n_validation=20, n_train=n).index(root).samples for n in (0, 60, 120))
    assert few["split"].value_counts().to_dict() == {"train": 60, "test": 40, "validation": 20}
    for split in ("validation", "test"):
        assert (few["id"][few["split"] == split].tolist()) == whole["id"][whole["split"] == split].tolist()
    assert set(few["id"]) < set(whole["id"])
    assert len(more) == 180
    for n in (-1, 181):
        with pytest.raises(UsageError, match=f"n_train is {n}; expected 1 to 180"):
            Cifar10(n_validation=20, n_train=n).index(root)


def test_python_version_gives_the_same(root, tmp_path, monkeypatch):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    sums = {}
    for path in sorted(root.glob("*.bin")):
        records = np.fromfile(path, np.uint8).reshape(-1, 3073)
        content = pickle.dumps({b"labels": records[:, 0].tolist(), b"data": records[:, 1:].copy()})
        (folder / path.stem).write_bytes(content)
        sums[path.stem] = hashlib.md5(content).hexdigest()
    monkeypatch.setattr(Cifar10, "md5", sums)
    data = Cifar10(n_validation=20)
    ours, theirs = data.index(folder), data.index(root)
    assert ours.digest() == theirs.digest()
    for i in (0, 123, 239):
        a, b = (data.read(x.samples.iloc[i].to_dict(), r) for x, r in ((ours, folder), (theirs, root)))
        assert (a == b).all()


def test_class_folders(tmp_path):
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in ("airplane", "truck"):
            folder = tmp_path / "cifar10" / split / name
            folder.mkdir(parents=True)
            for i in range(6):
                Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(folder / f"{i}.png")
    data = Cifar10(n_validation=3)
    index = data.index(tmp_path / "cifar10")
    assert len(index) == 24
    assert index.labels.sum(0)[[0, 9]].tolist() == [12, 12]
    assert data.read(index.samples.iloc[0].to_dict(), tmp_path / "cifar10").shape == (32, 32, 3)


@pytest.mark.parametrize("n", [0, 200])
def test_validation_share_must_leave_something(root, n):
    with pytest.raises(UsageError, match="n_validation"):
        Cifar10(n_validation=n).index(root)


def test_a_label_above_nine_is_refused(root):
    path = root / "test_batch.bin"
    content = bytearray(path.read_bytes())
    content[0] = 17
    path.write_bytes(content)
    with pytest.raises(UsageError, match="has the label 17"):
        Cifar10(n_validation=20).index(root)


# CIFAR-100

Cifar100 = catalogue().load("dataset", "cifar100")
MODULE = sys.modules[Cifar100.__module__]


@pytest.fixture
def hundred(tmp_path):
    return examples.cifar100(tmp_path)


def test_fine_and_coarse_names():
    assert (len(MODULE.FINE), len(MODULE.COARSE)) == (100, 20)
    assert sorted(MODULE.COARSE) == list(MODULE.COARSE)
    assert np.bincount(MODULE.COARSE_OF).tolist() == [5] * 20
    # the first of the published lists, and the superclasses' numbers of the first ten classes
    assert MODULE.FINE[:5] == ("apple", "aquarium_fish", "baby", "bear", "beaver")
    assert (MODULE.FINE[58], MODULE.FINE[99]) == ("pickup_truck", "worm")
    assert MODULE.COARSE_OF[:10].tolist() == [4, 1, 14, 8, 0, 6, 7, 7, 18, 3]


def test_both_labels_of_the_binary_version(hundred):
    raw = (hundred / "train.bin").read_bytes()[3074 * 123 : 3074 * 124]
    assert (raw[0], raw[1]) == (MODULE.COARSE_OF[23], 23)
    for labels, classes, number in (("fine", MODULE.FINE, raw[1]), ("coarse", MODULE.COARSE, raw[0])):
        data = Cifar100(n_validation=20, labels=labels)
        index = data.index(hundred)
        assert index.classes == classes
        assert index.samples["split"].value_counts().to_dict() == {"train": 380, "test": 100, "validation": 20}
        assert index.labels[123].argmax() == number
        assert (index.labels.sum(1) == 1).all()
        image = data.read(rows(index, id="train_00123"), hundred)
        assert image[0, 0].tolist() == [raw[2], raw[2 + 1024], raw[2 + 2048]]


def test_cifar100_python_version_gives_the_same(hundred, tmp_path, monkeypatch):
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    sums = {}
    for path in sorted(hundred.glob("*.bin")):
        records = np.fromfile(path, np.uint8).reshape(-1, 3074)
        content = pickle.dumps({b"coarse_labels": records[:, 0].tolist(), b"fine_labels": records[:, 1].tolist(),
                                b"data": records[:, 2:].copy()})  # fmt: skip
        (folder / path.stem).write_bytes(content)
        sums[path.stem] = hashlib.md5(content).hexdigest()
    monkeypatch.setattr(Cifar100, "md5", sums)
    data = Cifar100(n_validation=20)
    ours, theirs = data.index(folder), data.index(hundred)
    assert ours.digest() == theirs.digest()
    a, b = (data.read(x.samples.iloc[123].to_dict(), r) for x, r in ((ours, folder), (theirs, hundred)))
    assert (a == b).all()
    assert data.checksums(folder) == {"test": "as published", "train": "as published"}


def put(name, at, value):
    def change(root):
        content = bytearray((root / name).read_bytes())
        content[at] = value
        (root / name).write_bytes(content)

    return change


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (put("train.bin", 1, 100), "train.bin has the label 100, expected 0 to 99"),
        (put("test.bin", 0, 20), "test.bin has the label 20, expected 0 to 19"),
        (put("train.bin", 3074, 7), "train.bin, record 1: 'aquarium_fish' in the superclass 'insects', expected 'fish'"),
        (lambda r: (r / "test.bin").unlink(), "test.bin is missing"),
        (lambda r: (r / "test.bin").write_bytes(b""), "test.bin has 0 bytes; expected a multiple of 3074"),
        (lambda r: (r / "test.bin").write_bytes(bytes(3073)), "test.bin has 3,073 bytes; expected a multiple of 3074"),
        (lambda r: (r / "train.bin").rename(r / "train") and (r / "test.bin").rename(r / "test"),
         "train does not have the published md5 sum. It is a pickle"),
    ],
)  # fmt: skip
def test_damaged_cifar100(hundred, damage, message):
    damage(hundred)
    with pytest.raises(UsageError) as error:
        Cifar100(n_validation=20).index(hundred)
    assert message in str(error.value)


def test_the_folder_of_one_is_not_the_other(root, hundred, tmp_path):
    assert Cifar10().found_at(root)
    assert Cifar100().found_at(hundred)
    assert not Cifar10().found_at(hundred)
    assert not Cifar100().found_at(root)
    (tmp_path / "other" / "train" / "n01440764").mkdir(parents=True)
    assert not Cifar10().found_at(tmp_path / "other")
