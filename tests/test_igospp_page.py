"""docs/igospp2021.py on made-up records: what stands in its tables, and which stage a line is made from."""

import importlib
from pathlib import Path

import numpy as np
import pytest
from support import REPOSITORY

from harness.record import Result, StageResult
from harness.rows import Row

pytest.importorskip("harness.metrics.insertion_deletion", reason="this harness has no insertion_deletion")
SCORES = ("insertion", "deletion", "insertion_minus_deletion", "normalised_insertion", "normalised_deletion",
          "p_original", "p_blurred")  # fmt: skip


@pytest.fixture
def page(monkeypatch):
    monkeypatch.syspath_prepend(str(REPOSITORY / "docs"))
    module = importlib.import_module("igospp2021")
    for cached in (module.records, module.lines, module.difference, module.published):
        cached.cache_clear()
    return module


def stage(explainer, insertion, *, n=21, side=28, resolution=28, backward=2400.0, created="1", **settings):
    """Return a stage whose photo i has this insertion plus i/1000, and deletion 0.1."""
    from harness.evaluations.insertion_deletion import InsertionDeletion
    from harness.metrics.insertion_deletion import InsertionDeletionTable

    ids = np.array([f"photo{i:02d}" for i in range(n)])
    ins = insertion + np.arange(n)[:, None] / 1000
    values = {s: np.full((n, 1), 0.5) for s in SCORES}
    values |= {"insertion": ins, "deletion": np.full((n, 1), 0.1), "insertion_minus_deletion": ins - 0.1}
    values = {s: np.where(np.isnan(ins), np.nan, v) for s, v in values.items()}
    conditions = [{"attack": "", "variant": "", "resolution": resolution}]
    extra = {"map_cells": np.full(n, side)}
    frame = InsertionDeletionTable(ids, ids, values, conditions, task="multiclass", extra=extra).to_frame()
    common = {"run_id": "r", "evaluation": "insertion_deletion", "evaluation_key": "k", "dataset": "imagenet_sample",
              "split": "test", "size": 224, "profile": "quick", "method": "zoo:x", "model": "x", "seed": 0}  # fmt: skip
    rows = [Row(**common, **{"explainer": explainer, **r}) for r in InsertionDeletion(resamples=50).summarise(frame)]
    info = {
        "evaluation": "insertion_deletion", "explainer": explainer, "reference": explainer == "centre",
        "settings": [{"component": explainer, "name": k, "value": v, "default": None} for k, v in settings.items()],
        "facts": {"cells of the map per side": side}, "created": created, "device": "cpu, 1 threads",
        "passes": {"forward": 2.0 + 2 * (min(50, resolution**2) - 1), "backward": backward},
    }  # fmt: skip
    return StageResult(f"{explainer}-{created}", info, rows, lambda: frame)


def given(page, monkeypatch, *stages):
    info = {"run_id": "r", "spec": {"method": "zoo:x", "model": "x"}, "provenance": {"git": {"sha": "abcdefghij"}},
            "dataset": {"name": "imagenet_sample", "size": 224, "counts": {"test": 200}}}  # fmt: skip
    monkeypatch.setattr(page, "records", lambda: [Result(info, list(stages), Path("r"), published=True)])


def cells_of(table, start):
    return [c.strip() for c in next(x for x in table.splitlines() if x.startswith(f"| {start} |")).split("|")[1:-1]]


def test_tables(page, monkeypatch):
    given(page, monkeypatch, stage("igos_pp", 0.7, cells=28), stage("rise", 0.5, side=224, backward=0.0),
          stage("centre", 0.4, side=224))  # fmt: skip
    scores = page.scores()
    assert scores.startswith(
        "**28 x 28 cells**, zoo:x, imagenet_sample\n\n| explainer | cells of its map | n | insertion ↑ | deletion ↓"
    )
    mine = cells_of(scores, "igos_pp")
    assert mine[1:3] == ["28", "21"]
    assert mine[3].startswith("0.710 [")  # 0.7 and the mean of 0 to 0.020
    assert mine[-2:] == ["0.7284", "0.0929"], "the poster's figures at 28 x 28"
    assert cells_of(scores, "rise")[-2:] == ["", ""], "the poster has none at 28 x 28"
    against = page.against()
    assert cells_of(against, "rise")[1:3] == ["21", "-0.200 [-0.200, -0.200], p < 0.001, worse"]
    assert cells_of(against, "rise")[3] == "+0.000 [0.000, 0.000], p 1.000, not told apart"
    assert cells_of(against, "*centre*")[2].startswith("-0.300")
    assert "| igos_pp |" not in against
    assert cells_of(page.passes(), "28 x 28 cells, igos_pp") == ["28 x 28 cells, igos_pp", "0", "2,400", "100"]


def test_the_map_made_for_a_resolution_counts_and_the_newest(page, monkeypatch):
    given(page, monkeypatch, stage("igos_pp", 0.1, side=28, resolution=7, created="3", cells=28),
          stage("igos_pp", 0.3, side=7, resolution=7, created="1", cells=7),
          stage("igos_pp", 0.5, side=7, resolution=7, created="2", cells=7),
          stage("igos_pp", 0.6, side=7, resolution=7, created="1", cells=7, final="x"))  # fmt: skip
    scores = page.scores()
    assert cells_of(scores, "igos_pp")[3].startswith("0.510")
    assert cells_of(scores, "igos_pp final=x")[3].startswith("0.610")
    assert cells_of(page.passes(), "7 x 7 cells, igos_pp")[3] == "98"


def test_a_newer_stage_of_fewer_photos_hides_none(page, monkeypatch):
    given(page, monkeypatch, stage("igos_pp", 0.7), stage("centre", 0.4, side=224, created="1"),
          stage("centre", 0.9, side=224, n=4, created="2"))  # fmt: skip
    _, _, n, insertion, *_ = cells_of(page.scores(), "*centre*")
    assert n == "21"
    assert insertion.startswith("0.410 ["), "the mean of 0.400 to 0.420"


def test_few_photos_get_no_verdict_and_only_common_ones_are_compared(page, monkeypatch):
    given(page, monkeypatch, stage("igos_pp", 0.7), stage("rise", 0.5, n=4), stage("gradcam", 0.6, n=12))
    against = page.against()
    assert cells_of(against, "rise")[1:3] == ["4", "-0.200 [-0.200, -0.200], too few"]
    assert cells_of(against, "gradcam")[1] == "12"


def test_a_map_too_coarse_for_a_resolution_has_no_line(page, monkeypatch):
    coarse = stage("gradcam", np.nan, side=7, resolution=28)
    given(page, monkeypatch, stage("igos_pp", 0.7), coarse)
    assert "gradcam" not in page.scores()


def test_no_records(page, monkeypatch):
    monkeypatch.setattr(page, "records", list)
    with pytest.raises(SystemExit, match="no records with insertion_deletion of igos_pp"):
        page.scores()


def test_how_insertion_climbs_on_attacked_images(page, monkeypatch):
    clean = stage("igos_pp", 0.7)
    frame = clean.read_samples()
    steep, late = [0] + [60000] * 50, [0] * 48 + [60000] * 3  # first shown cells tell all; the last three do
    conditions = [{"attack": a, "variant": v, "resolution": 28} for a, v in (("", "clean"), ("ddn", "attacked"))]
    from harness.metrics.insertion_deletion import InsertionDeletionTable
    from harness.metrics.scored import suffix

    ids = frame["id"].to_numpy(str)
    values = {s: np.tile([0.9, 0.2], (21, 1)) for s in SCORES}
    both = InsertionDeletionTable(ids, ids, values, conditions, task="multiclass",
                                   extra={"map_cells": np.full(21, 28)}).to_frame()  # fmt: skip
    for condition, curve in zip(conditions, (steep, late), strict=True):
        both[f"insertion_curve{suffix(condition)}"] = [np.array(curve, np.uint16)] * 21
    given(page, monkeypatch, StageResult("pair", clean.info, [], lambda: both))
    cells = cells_of(page.attacked(), "zoo:x, igos_pp")
    assert cells[1:6] == ["1", "28", "21", "0.900", "0.200"]
    assert cells[6].startswith("-0.700 [")
    assert cells[7:9] == ["0.020", "0.960"]
    flat = both.assign(**{f"insertion_curve{suffix(c)}": [np.full(51, 9, np.uint16)] * 21 for c in conditions[1:]})
    assert np.isnan(page.half_way(flat, conditions[1])).all()
