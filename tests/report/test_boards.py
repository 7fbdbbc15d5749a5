from dataclasses import replace

import pytest

from harness.columns import board_key
from harness.record import Result, StageResult
from harness.report.boards import boards, missing_reason, own_key
from harness.rows import Row

ROW = Row(run_id="r", evaluation="classification", evaluation_key="k", metric="auroc", dataset="d", split="test", size=64,
          profile="quick", method="m", model="n", seed=0, class_name="macro", value=0.5, n=9, higher_is_better=True)  # fmt: skip


def result(name, *rows, status="complete", reference=False, created="", **info):
    stage = StageResult(
        f"stage-{created}", {"reference": reference, "created": created}, [replace(r, run_id=name) for r in rows], dict
    )
    return Result({"run_id": name, "status": status, **info}, [stage], None, published=False)


@pytest.mark.parametrize("changed", [{"dataset": "e"}, {"dataset_settings": "s = 1"}, {"split": "x"}, {"size": 32},
                                     {"profile": "paper"}, {"protocol_version": 2}], ids=str)  # fmt: skip
def test_what_must_not_be_mixed_is_another_board(changed):
    found = boards([result("a", ROW), result("b", replace(ROW, **changed))])
    assert [len(b.lines) for b in found] == [1, 1]


@pytest.mark.parametrize("changed", [{"evaluation_settings": "bins = 3"}, {"variant": "v"}, {"explainer": "cam"}, {"attack": "pgd"},
                                     {"threshold": 0.3}, {"resolution": 7}, {"radius": 0.1}], ids=str)  # fmt: skip
def test_what_must_not_be_compared_is_another_column(changed):
    (board,) = boards([result("a", ROW), result("b", replace(ROW, **changed))])
    assert len(board.columns) == 2
    assert [len(line.cells) for line in board.lines] == [1, 1]
    assert len({c.key.label() for c in board.columns}) == 2


def test_other_data_of_the_same_name_are_another_board():
    runs = [
        result(n, ROW, dataset={"name": "d", "fingerprint": f})
        for n, f in (("a", "1" * 64), ("b", "2" * 64), ("c", "1" * 64))
    ]
    found = boards(runs)
    assert [[x.result.run_id for x in b.lines] for b in found] == [["a", "c"], ["b"]]
    assert [b.key.data for b in found] == ["1" * 12, "2" * 12]
    assert len({b.key.title() for b in found}) == 2
    assert [own_key(board_key(ROW), r, found).data[0] for r in runs] == ["1", "2", "1"]
    (alone,) = boards(runs[::2])
    assert (alone.key.data, alone.key) == ("", board_key(ROW))


def test_a_run_that_does_not_say_its_data_is_not_ranked_with_those_that_differ():
    known = [result(n, ROW, dataset={"fingerprint": n * 64}) for n in "12"]
    assert len(boards([*known, result("c", ROW)])) == 3
    assert len(boards([known[0], result("c", ROW)])) == 1


def test_unfinished_runs_are_on_no_board():
    assert boards([result("a", ROW, status="failed"), result("b", ROW, status="running")]) == []


def test_of_two_stages_the_newer_one_is_shown():
    old = StageResult("z-old", {"created": "2026-01-01"}, [replace(ROW, value=0.1)], dict)
    new = StageResult("a-new", {"created": "2026-02-01"}, [replace(ROW, value=0.9)], dict)
    (board,) = boards([Result({"run_id": "a", "status": "complete"}, [new, old], None, published=False)])
    (cell,) = board.lines[0].cells.values()
    assert cell.row.value == 0.9


def test_references_stand_apart_and_the_best_of_them_is_the_bar():
    cam = replace(ROW, metric="energy", explainer="cam", value=0.3)
    run = result("a", cam)
    for name, value in (("random_map", 0.2), ("centre", 0.4)):
        run.stages.append(StageResult(name, {"reference": True}, [replace(cam, explainer=name, value=value)], dict))
    (board,) = boards([run])
    assert [c.key.explainer for c in board.columns] == ["cam"]
    assert board.explainers == ["cam"]
    assert board.best_reference(board.columns[0]).row.explainer == "centre"
    lower = replace(board.columns[0], higher_is_better=False)
    assert board.best_reference(lower).row.explainer == "random_map"


def test_an_empty_cell_says_why():
    run = result("a", ROW, missing_evaluations={"robustness": "no GPU"})
    (board,) = boards([run, result("b", replace(ROW, evaluation="robustness", metric="ara"))])
    by_metric = {c.key.metric: c.key for c in board.columns}
    assert missing_reason(run, by_metric["ara"]) == "robustness: no GPU"
    assert missing_reason(result("b", ROW), by_metric["auroc"]) == "not run"


def test_single_classes_have_columns_for_the_headline_metrics_without_an_explainer():
    mass = replace(ROW, class_name="Mass")
    rows = [
        ROW,
        mass,
        *(replace(r, explainer="cam") for r in (ROW, mass)),
        replace(mass, variant="v"),
        replace(mass, metric="other"),
    ]
    (board,) = boards([result("a", *rows)])
    assert [(c.key.class_name, c.key.explainer, c.headline) for c in board.columns] == [
        ("Mass", "", False), ("macro", "", True), ("macro", "cam", True)]  # fmt: skip
    assert {k for line in board.lines for k in line.cells} == {c.key for c in board.columns}
    (board,) = boards([result("a", *rows)], every_class=True)
    assert len(board.columns) == 6
