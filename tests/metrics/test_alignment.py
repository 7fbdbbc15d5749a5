"""What the alignment of a set is made of: means, their chance level, and what each rests on."""

import numpy as np
import pytest

from harness.metrics.alignment import AlignmentTable
from harness.metrics.summary import summarise


def test_means_and_counts():
    rng = np.random.default_rng(0)
    values = {s: rng.random((6, 1)) for s in AlignmentTable.scores}
    values["chance"][:] = 0.1
    values["rank"][2:4] = np.nan
    values["other_share"][:] = np.nan
    ids = np.array([f"i{i}" for i in range(6)])
    table = AlignmentTable(ids, ids, values, conditions=({"attack": "ddn"},), task="multilabel")
    rows = {
        (r["metric"], r["variant"]): r for r in summarise(AlignmentTable.from_frame(table.to_frame()), resamples=50)
    }
    assert rows["alignment", ""]["value"] == pytest.approx(sum(values["share"][:, 0]) / 6)
    assert rows["alignment", ""]["low"] < rows["alignment", ""]["value"] < rows["alignment", ""]["high"]
    assert rows["alignment", "chance"]["value"] == pytest.approx(0.1)
    rank = rows["alignment_rank", ""]
    assert rank["value"] == pytest.approx(sum(values["rank"][[0, 1, 4, 5], 0]) / 4)
    assert (rank["n"], rank["n_missing"], rank["attack"]) == (4, 2, "ddn")
    other = rows["alignment_other_map", ""]
    assert np.isnan(other["value"])
    assert other["reason"] == "no samples that could be scored"
    assert rows["alignment_rank_other_map", ""]["value"] == pytest.approx(values["other_rank"].mean())
