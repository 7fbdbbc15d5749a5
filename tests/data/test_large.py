"""Labels of more samples than memory should hold: in a file, looked at in parts, the same as whole."""

import dataclasses
import os
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from harness.data import batches, cache
from harness.data import index as index_module
from harness.data.batches import encoded
from harness.data.cache import DatasetSpec, prepare
from harness.data.index import Index, check, one_hot, problems
from harness.errors import UsageError
from harness.plugins import catalogue
from harness.tasks import MultiClass, MultiLabel


@pytest.fixture(params=[False, True], ids=["in memory", "in a file"])
def filed(request, monkeypatch):
    """Make everything large, and parts of two rows of 3 classes."""
    monkeypatch.setattr(index_module, "PART", 6)
    monkeypatch.setattr(batches, "PART_BYTES", 6)
    if request.param:
        monkeypatch.setattr(index_module, "HELD", 0)
    return request.param


def made(numbers) -> Index:
    names = [f"s{i}" for i in range(len(numbers))]
    split = ["train"] * (len(names) - 4) + ["validation", "validation", "test", "test"]
    samples = pd.DataFrame({"id": names, "patient": names, "split": split})
    return Index(samples, one_hot(np.asarray(numbers), 3), ("a", "b", "c"))


NUMBERS = [0, 1, 2, 2, 1, 0, 2, 1, 0, 0, 1]


def test_one_hot(filed):
    labels = one_hot(np.array(NUMBERS), 3)
    assert isinstance(labels, np.memmap) == filed
    assert labels.dtype == np.uint8
    assert (labels == np.eye(3)[NUMBERS]).all()
    assert one_hot(np.array([], int), 3).shape == (0, 3)


def test_an_index_in_parts_is_the_same_as_whole(filed):
    index = made(NUMBERS)
    plain = dataclasses.replace(index, labels=np.eye(3, dtype=np.uint8)[NUMBERS])
    assert index.digest() == plain.digest()
    some = np.array([0, 9, 3, 3])
    assert index.positives(some).tolist() == plain.labels[some].sum(0).tolist()
    assert (index.labels_at(some) == plain.labels[some]).all()
    assert problems(index, MultiClass()) == []
    assert (check(index, "x", MultiClass()).labels == plain.labels).all()


@pytest.mark.parametrize(
    ("row", "value", "message"),
    [
        (7, [0, 0, 0], "'s7' has 0 classes, expected exactly one"),
        (8, [1, 0, 1], "'s8' has 2 classes, expected exactly one"),
        (9, [0, 3, 0], "1 labels are not 0 or 1, the first is 3 for class 'b' of 's9'"),
    ],
)
def test_what_is_wrong_in_a_later_part_is_found(filed, row, value, message):
    index = made(NUMBERS)
    labels = np.array(index.labels)
    labels[row] = value
    assert problems(dataclasses.replace(index, labels=labels), MultiClass()) == [message]


@pytest.mark.parametrize("task", [MultiClass(), MultiLabel()], ids=lambda t: t.name)
def test_targets(filed, task):
    labels, some = made(NUMBERS).labels, np.array([3, 0, 10, 4, 7])
    assert torch.equal(encoded(labels, some, task), task.encode(torch.from_numpy(np.array(labels[some]))))
    assert len(encoded(labels, some[:0], task)) == 0


def test_a_full_disk_is_an_error_where_a_file_is_written(filed, monkeypatch):
    class Full:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def write(self, _):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(index_module.tempfile, "TemporaryFile", Full)
    with pytest.raises(OSError, match="No space left") if filed else nullcontext():
        assert one_hot(np.array(NUMBERS), 3).shape == (len(NUMBERS), 3)


def test_labels_of_a_cache_are_a_map(tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    component = catalogue().find("dataset", "phantom")
    values = {"size": 32, "n_train": 96, "n_validation": 4, "n_test": 4}
    made_ = component.load()(**values)
    spec = DatasetSpec("phantom", tuple(sorted(dataclasses.asdict(made_).items())))
    prepared = prepare(spec, Path(), component.identity(), workers=1)
    assert isinstance(prepared.index.labels, np.memmap)
    assert (prepared.index.labels == made_.index(tmp_path).labels).all()


def test_files_of_labels_in_folders_count_for_the_cache(tmp_path):
    (tmp_path / "annotations").mkdir()
    path = tmp_path / "annotations" / "labels.json"
    path.write_text("a")
    patterns = ("annotations/*.json",)
    before, without = cache._stamp(tmp_path, patterns), cache._stamp(tmp_path)
    assert before != without
    with path.open("r+") as file:
        file.write("b")
    os.utime(path, ns=(1, 1))
    assert cache._stamp(tmp_path, patterns) != before
    assert cache._stamp(tmp_path) == without, "the times of the folder did not change"


def test_what_a_run_cannot_use_is_refused_before_an_image_is_read(tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    monkeypatch.setattr(cache, "_fill", lambda *_: pytest.fail("an image was read"))
    component = catalogue().find("dataset", "phantom")

    def refuse(index):
        raise UsageError(f"{len(index.classes)} classes")

    with pytest.raises(UsageError, match="8 classes"):
        prepare(DatasetSpec("phantom", ()), tmp_path, component.identity(), workers=1, accept=refuse)
