"""Tables: exact round trips through Parquet, selection, and what they refuse."""

from dataclasses import fields, replace

import numpy as np
import pandas as pd
import pytest

from harness.errors import UsageError
from harness.metrics.classification_table import ClassificationTable
from harness.metrics.localisation_table import LEVELS, MISSING, LocalisationTable


def classification(n=30, task="multilabel"):
    rng = np.random.default_rng(0)
    label = (rng.random((n, 3)) < 0.5).astype(np.uint8)
    if task == "multiclass":
        label = np.eye(3, dtype=np.uint8)[rng.integers(3, size=n)]
    probability = rng.random((n, 3))
    probability[0, 0] = np.nan
    ids = np.array([f"image {i}.png" for i in range(n)])
    patients = np.array([f"p{i // 2}" for i in range(n)])
    return ClassificationTable(ids, patients, ("No Finding", "a:b", "É"), task, label, probability)


def localisation(p=12):
    rng = np.random.default_rng(1)
    iou = rng.integers(0, 65531, (p, LEVELS)).astype(np.uint16)
    iou[3] = MISSING
    iobb = iou.copy()
    floats = {c: rng.random(p) for c in LocalisationTable.FLOATS}
    floats["pointing"][3] = np.nan
    return LocalisationTable(
        ids=np.array([f"i{i // 2}" for i in range(p)]), clusters=np.array([f"p{i // 4}" for i in range(p)]),
        class_names=np.array(["b", "a"] * (p // 2)), classes=("b", "a", "none"),
        fold=(np.arange(p) // 4 % 5).astype(np.int8), iou=iou, iobb=iobb, **floats,
    )  # fmt: skip


def same(a, b):
    for name in (f.name for f in fields(a)):
        x, y = getattr(a, name), getattr(b, name)
        if isinstance(x, np.ndarray):
            np.testing.assert_array_equal(x, y)
            assert x.dtype == y.dtype, name
        else:
            assert x == y, name


@pytest.mark.parametrize("table", [classification(), classification(task="multiclass"), localisation()])
def test_round_trip_through_parquet_is_exact(table, tmp_path):
    table.to_frame().assign(explainer="cam").to_parquet(tmp_path / "samples.parquet")
    frame = pd.read_parquet(tmp_path / "samples.parquet")
    same(table, type(table).from_frame(frame[frame["explainer"] == "cam"]))


def test_select_takes_samples_in_the_order_asked_for():
    table = classification()
    ids = ["image 7.png", "image 2.png"]
    chosen = table.select(ids)
    assert chosen.ids.tolist() == ids
    np.testing.assert_array_equal(chosen.probability, table.probability[[7, 2]])
    np.testing.assert_array_equal(chosen.label, table.label[[7, 2]])
    assert chosen.clusters.tolist() == ["p3", "p1"]
    assert len(table.select([]).ids) == 0


def test_select_takes_all_pairs_of_an_image():
    chosen = localisation().select(["i4", "i0"])
    assert chosen.ids.tolist() == ["i4", "i4", "i0", "i0"]
    assert chosen.class_names.tolist() == ["b", "a", "b", "a"]
    assert chosen.classes == ("b", "a", "none")
    np.testing.assert_array_equal(chosen.iou, localisation().iou[[8, 9, 0, 1]])


@pytest.mark.parametrize("table", [classification(), localisation()])
def test_select_names_an_id_that_is_not_there(table):
    with pytest.raises(UsageError, match=r"1 of 2 ids are not in the table, the first is 'nobody'"):
        table.select([table.ids[0], "nobody"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"probability": np.full((30, 3), 1.5)}, "probabilities, not logits"),
        ({"probability": np.full((30, 2), 0.5)}, "shape"),
        ({"label": np.full((30, 3), 2, np.uint8)}, "labels 0 or 1"),
        ({"ids": np.array(["x"] * 30)}, "unique ids"),
        ({"clusters": np.array(["x"])}, "30 clusters"),
        ({"task": "regression"}, "multilabel or multiclass"),
        ({"task": "multiclass"}, "one label per sample"),
    ],
)
def test_a_classification_table_refuses_what_it_cannot_score(change, message):
    table = classification()
    with pytest.raises(UsageError, match=message):
        replace(table, **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"iou": np.zeros((12, LEVELS))}, "uint16"),
        ({"iou": np.zeros((12, LEVELS), np.uint16)}, "missing pair"),
        ({"fold": np.full(12, 5, np.int8)}, "folds 0..4"),
        ({"classes": ("a",)}, "classes a, got"),
        ({"energy": np.zeros(3)}, "energy of shape"),
        ({"class_names": np.array(["a"] * 12)}, "each .image, class. once"),
    ],
)
def test_a_localisation_table_refuses_what_it_cannot_score(change, message):
    table = localisation()
    with pytest.raises(UsageError, match=message):
        replace(table, **change)


def test_a_frame_without_its_columns_is_refused():
    with pytest.raises(UsageError, match="none named fold"):
        LocalisationTable.from_frame(localisation().to_frame().drop(columns="fold"))
    with pytest.raises(UsageError, match="probability:É"):
        ClassificationTable.from_frame(classification().to_frame().drop(columns="probability:É"))
