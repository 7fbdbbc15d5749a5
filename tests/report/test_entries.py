from dataclasses import replace

import numpy as np
import pytest

from harness import stats
from harness.draws import draws_of
from harness.record import Result, StageResult, from_run
from harness.report.boards import boards
from harness.report.entries import entries, few_seeds, names_of
from harness.report.ranks import rank_board
from harness.rows import Row

ROW = Row(run_id="r", evaluation="classification", evaluation_key="k", metric="auroc", dataset="d", split="test", size=64,
          profile="quick", method="m", model="n", seed=0, class_name="macro", value=0.5, n=9, higher_is_better=True)  # fmt: skip


def result(name, row, fingerprint="f", precision="fp32", created=""):
    info = {"run_id": name, "status": "complete", "dataset": {"fingerprint": fingerprint},
            "provenance": {"precision": precision, "created": created}}  # fmt: skip
    return Result(info, [StageResult("s", {}, [replace(row, run_id=name)], dict)], None, published=False)


def seeds_of(*results):
    (board,) = boards(results)
    return [(e.seeds, e.older) for e in entries(board)]


def test_runs_that_differ_in_their_seed_alone_are_one_line():
    assert seeds_of(result("b", replace(ROW, seed=1)), result("a", ROW)) == [([0, 1], False)]


@pytest.mark.parametrize(
    "other",
    [result("b", replace(ROW, seed=1, **{k: "other"})) for k in ("method", "model", "settings")]
    + [result("b", replace(ROW, seed=1), fingerprint=""), result("b", replace(ROW, seed=1), precision="bf16")],
    ids=["method", "model", "settings", "data not known", "precision"],
)
def test_runs_that_differ_otherwise_are_lines_of_their_own(other):
    assert [s for s, _ in seeds_of(result("a", ROW), other)] == [[0], [1]]


@pytest.mark.parametrize("flag", ["partial", "random output"])
def test_a_run_that_is_never_ranked_spoils_no_mean(flag):
    runs = [result(f"r{i}", replace(ROW, seed=i)) for i in range(2)]
    assert seeds_of(*runs, result("c", replace(ROW, seed=2, flags=(flag,)))) == [([0, 1], False), ([2], False)]


def test_of_one_seed_run_twice_the_newer_counts_and_the_older_stays_in_sight():
    runs = [result("z", ROW, created="2026-01"), result("a", ROW, created="2026-02"), result("b", replace(ROW, seed=1))]
    (board,) = boards(runs)
    first, second = entries(board)
    assert [r.result.run_id for r in first.runs] == ["a", "b"]
    assert ([r.result.run_id for r in second.runs], second.older) == (["z"], True)
    assert names_of([first, second]) == ["m (a)", "m (z)"]


def test_names_tell_lines_apart_by_what_differs():
    made = [("m", "lr = 1, step = [1, 2]"), ("m", "lr = 1, step = [1, 3]"), ("o", "lr = 3")]
    runs = [result(f"r{i}", replace(ROW, method=m, settings=s)) for i, (m, s) in enumerate(made)]
    (board,) = boards(runs)
    assert names_of(entries(board)) == ["m, step = [1, 2]", "m, step = [1, 3]", "o"]


@pytest.fixture(scope="module")
def seeded(synthetic, tmp_path_factory):
    """Return the board of two methods: three seeds of one, of which the third has no localisation, and one of the other."""
    runs = tmp_path_factory.mktemp("seeded")
    made = []
    for method, seed in (("a", 0), ("a", 1), ("a", 2), ("b", 0)):
        number = seed + 10 * (method == "b")
        tables = {"classification": synthetic.classification(1.0 + 0.2 * seed + 1.5 * (method == "b"), number)}
        if seed < 2:
            tables["cam"] = synthetic.localisation(0.4, number)
        made.append(from_run(synthetic.write_run(runs, 0, method=method, seed=seed, tables=tables, run_id=f"{method}{seed}", pictures=False)))  # fmt: skip
    (board,) = boards(made)
    return board


def key_of(board, metric):
    return next(
        c.key for c in board.columns if (c.key.metric, c.key.class_name, c.key.variant) == (metric, "macro", "")
    )


def test_a_line_is_the_mean_of_its_seeds_with_an_interval_over_seeds_and_clusters(seeded):
    key = key_of(seeded, "auroc")
    ranks = rank_board(seeded, resamples=80)
    found = ranks.means[key]["a0"]
    runs = [x for x in seeded.lines if x.first.method == "a"]
    own = [draws_of(x.cells[key].stage, [key], resamples=80)[key] for x in runs]
    value, draws = stats.over_seeds(
        np.array([[d.value] for d in own]), np.stack([d.replicates for d in own])[:, :, None]
    )
    expected = stats.summarise(value, draws)
    row = found.cell.row
    assert row.value == pytest.approx(np.mean([x.cells[key].row.value for x in runs]))
    assert (row.low, row.high) == pytest.approx((expected.low[0], expected.high[0]))
    assert found.seeds == (0, 1, 2)
    assert found.note == "mean of 3 seeds"


def test_lines_of_several_seeds_are_ranked_by_paired_differences_of_their_means(seeded):
    key = key_of(seeded, "auroc")
    ranks = rank_board(seeded, resamples=80)
    own = {x.result.run_id: draws_of(x.cells[key].stage, [key], resamples=80)[key] for x in seeded.lines}
    three = [own[f"a{s}"] for s in range(3)]
    value, draws = stats.over_seeds(
        np.array([[d.value] for d in three]), np.stack([d.replicates for d in three])[:, :, None]
    )
    found = stats.summarise(own["b0"].value - value, own["b0"].replicates[:, None] - draws)
    (p,) = stats.normal_p(found.value, found.standard_error)
    assert ranks.ranks[key]["b0"].group == 1
    assert ranks.ranks[key]["a0"].p == pytest.approx(p, rel=1e-6)
    assert ranks.ranks[key]["a0"].against == "b0"
    assert few_seeds(seeded)


def test_a_seed_that_was_not_scored_is_named(seeded):
    found = rank_board(seeded, resamples=20).means[key_of(seeded, "iou")]["a0"]
    assert found.seeds == (0, 1)
    assert found.note == "2 of 3 seeds: not run with seed 2"


def test_a_seed_without_a_value_makes_the_mean_undefined():
    runs = [result("a", ROW), result("b", replace(ROW, seed=1, value=float("nan"), reason="2 positives"))]
    (board,) = boards(runs)
    ranks = rank_board(board, resamples=20)
    (found,) = ranks.means[board.columns[0].key].values()
    assert not found.cell.measured
    assert found.cell.row.reason == "seed 1: 2 positives"
    assert ranks.unranked[board.columns[0].key]["a"] == "seed 1: 2 positives"


def test_seeds_on_other_samples_have_a_mean_but_no_interval_and_no_rank(synthetic, tmp_path):
    whole = synthetic.classification(1.0, 1)
    fewer = replace(whole, **{f: getattr(whole, f)[:120] for f in ("ids", "clusters", "label", "probability")})
    made = [from_run(synthetic.write_run(tmp_path, 0, method="a", seed=s, tables={"classification": t}, run_id=f"a{s}", pictures=False))
            for s, t in enumerate((whole, fewer))]  # fmt: skip
    (board,) = boards(made)
    key = key_of(board, "auroc")
    ranks = rank_board(board, resamples=20)
    row = ranks.means[key]["a0"].cell.row
    assert np.isnan(row.low)
    assert row.value == pytest.approx(np.mean([x.cells[key].row.value for x in board.lines]))
    assert row.reason == "no interval over the seeds: they were scored on different samples"
    assert "a0" not in ranks.ranks[key]
    assert ranks.unranked[key]["a0"]
