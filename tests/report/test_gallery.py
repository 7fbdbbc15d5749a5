from harness.record import Result, StageResult
from harness.report.gallery import Neighbours
from harness.rows import Row

ROW = Row(run_id="r", evaluation="localisation", evaluation_key="k", metric="energy", dataset="d", split="test", size=64,
          profile="quick", method="m", model="n", seed=0, value=0.5, n=9, higher_is_better=True)  # fmt: skip


def run(name, method, *, size=64, parent=None, flags=(), status="complete", gallery=True):
    from dataclasses import replace

    stage = StageResult("s", {"explainer": "cam"}, [replace(ROW, flags=flags)], dict, [{"id": "1"}] if gallery else [])
    info = {"run_id": name, "status": status, "spec": {"method": method}, "start_from": parent,
            "dataset": {"name": "d", "size": size, "fingerprint": "f"}}  # fmt: skip
    return Result(info, [stage], None, published=False)


def test_beside_a_run_stand_its_parent_and_one_of_each_other_method():
    own = run("own", "robust", parent="z-base")
    others = [run("a-base", "base"), run("z-base", "base"), run("b", "other"), run("c", "other"), run("d", "robust")]
    found, more = Neighbours.of([own, *others]).beside(own)
    assert [r.run_id for r in found] == ["z-base", "b", "a-base"]
    assert more == 2


def test_other_data_unfinished_runs_and_runs_without_pictures_do_not():
    own = run("own", "m")
    others = [run("a", "x", size=32), run("b", "x", status="failed"), run("c", "x", gallery=False)]
    assert Neighbours.of([own, *others]).beside(own) == ([], 0)


def test_faulty_runs_come_last():
    own = run("own", "m")
    found, _ = Neighbours.of([own, run("a", "x", flags=("partial",)), run("b", "y")]).beside(own)
    assert [r.run_id for r in found] == ["b", "a"]
