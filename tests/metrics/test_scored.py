"""Tables of plain per-sample scores: means against loops, frames there and back, gaps refused."""

from typing import ClassVar

import numpy as np
import pandas as pd
import pytest

from harness.errors import UsageError
from harness.metrics.cells import cells
from harness.metrics.scored import ScoreTable, mean
from harness.metrics.summary import summarise
from harness.plugins import metric

CONDITIONS = ({"attack": "pgd", "variant": "l2", "radius": 0.01}, {"attack": "pgd", "variant": "linf", "radius": 0.03})


class Hits(ScoreTable):
    """An example."""

    evaluation: ClassVar[str] = "hits"
    scores: ClassVar[tuple[str, ...]] = ("hit",)


@metric("hits", evaluation="hits", unit="", higher_is_better=True, per="all", score="hit")
def hits(table, weights):
    return mean(table, hits, weights)


@metric(
    "hits_by_class", evaluation="hits", unit="", higher_is_better=True, per="class", score="hit", needs=("samples",)
)
def hits_by_class(table, weights):
    return mean(table, hits_by_class, weights)


def table(n=50, lost=(3, 7), conditions=CONDITIONS, **more) -> Hits:
    rng = np.random.default_rng(0)
    values = rng.random((n, len(conditions)))
    values[list(lost)] = np.nan
    ids = np.array([f"i{k}" for k in range(n)])
    return Hits(ids=ids, clusters=ids, values={"hit": values}, conditions=conditions, **more)


def test_the_mean_is_that_of_the_samples_that_have_the_score():
    given, weights = table(), np.random.default_rng(1).integers(0, 3, (4, 50)).astype(float)
    found = hits(given, weights)
    for r in range(4):
        for c in range(2):
            kept = [(w, v) for w, v in zip(weights[r], given.values["hit"][:, c], strict=True) if not np.isnan(v)]
            assert found[r, c] == pytest.approx(sum(w * v for w, v in kept) / sum(w for w, _ in kept))


def test_rows_say_under_which_condition_and_of_how_many():
    rows = summarise(table(), [hits], resamples=50)
    assert [(r["attack"], r["variant"], r["radius"]) for r in rows] == [("pgd", "l2", 0.01), ("pgd", "linf", 0.03)]
    assert {(r["n"], r["n_missing"], r["resolution"]) for r in rows} == {(48, 2, None)}
    assert all(r["low"] < r["value"] < r["high"] for r in rows)


def test_a_class_with_few_samples_has_no_value():
    names = np.array(["a"] * 30 + ["b"] * 20)
    rows = summarise(table(class_names=names, classes=("a", "b")), [hits_by_class], resamples=50)
    assert [(r["class_name"], r["reason"]) for r in rows[:3]] == [
        ("a", "2 of 30 could not be scored"), ("b", ""), ("macro", "")
    ]  # fmt: skip
    few = table(class_names=np.array(["a"] * 31 + ["b"] * 19), classes=("a", "b"))
    a, b, macro = summarise(few, [hits_by_class], resamples=50)[:3]
    assert b["reason"] == "19 samples, fewer than 20"
    assert macro["value"] == a["value"]


@pytest.mark.parametrize(
    "given",
    [table(), table(conditions=({},), lost=()), table(class_names=np.array(["a", "b"] * 25), classes=("a", "b"))],
    ids=["conditions", "none", "classes"],
)
def test_a_frame_holds_the_whole_table(given, tmp_path):
    given.to_frame().to_parquet(tmp_path / "t.parquet")
    again = Hits.from_frame(pd.read_parquet(tmp_path / "t.parquet"))
    assert cells(again, hits) == cells(given, hits)
    assert np.array_equal(again.values["hit"], given.values["hit"], equal_nan=True)
    assert again.classes == given.classes


def test_gaps_and_strange_classes_are_refused():
    holey = table().values["hit"].copy()
    holey[0, 1] = np.nan
    with pytest.raises(UsageError, match="under all conditions or none"):
        Hits(**{**table().__dict__, "values": {"hit": holey}})
    with pytest.raises(UsageError, match="expected classes a"):
        table(class_names=np.array(["z"] * 50), classes=("a",))
    with pytest.raises(UsageError, match=r"no patient, task, hit"):
        Hits.from_frame(pd.DataFrame({"id": ["i"]}))


def test_nothing_that_could_be_scored():
    rows = summarise(table(lost=range(50)), [hits], resamples=20)
    assert all(np.isnan(r["value"]) for r in rows)
    assert {r["reason"] for r in rows} == {"no samples that could be scored"}
