from itertools import pairwise

import numpy as np
import pytest

from harness import stats
from harness.draws import Draws
from harness.metrics.auroc import auroc
from harness.record import from_run
from harness.report.boards import Board, boards
from harness.report.entries import few_seeds
from harness.report.ranks import grouped, rank_board, rank_column


def table_of(p):
    """Return p_values(leader, start) from a dictionary; pairs that are not in it are equal."""
    size = max(max(pair) for pair in p) + 1
    return lambda leader, start: np.array([p.get((leader, i), 1.0) for i in range(start, size)])


def test_a_run_that_differs_from_the_leader_opens_a_group_and_leads_it():
    ranks = grouped(list("abcd"), table_of({(0, 2): 1e-9, (0, 3): 1e-9, (2, 3): 0.5}))
    assert [r.group for r in ranks] == [1, 1, 2, 2]
    assert [r.against for r in ranks] == ["", "a", "a", "c"]


def test_runs_are_compared_with_the_leader_not_with_the_neighbour():
    ranks = grouped(list("abc"), table_of({(0, 2): 1e-9, (0, 1): 0.5, (1, 2): 1.0}))
    assert [r.group for r in ranks] == [1, 1, 2]


def test_holm_counts_one_comparison_per_run():
    p = {(0, 1): 0.5, (0, 2): 0.5, (0, 3): 0.02}
    assert [r.group for r in grouped(list("abcd"), table_of(p))] == [1, 1, 1, 1]  # 3 * 0.02 > 0.05
    assert [r.group for r in grouped(list("ab"), table_of({(0, 1): 0.02}))] == [1, 2]


def test_groups_above_count_as_comparisons_made():
    p = {(0, 1): 0.001, (0, 2): 0.001, (0, 3): 0.001, (1, 2): 0.02, (1, 3): 0.5}
    ranks = grouped(list("abcd"), table_of(p))
    assert [r.group for r in ranks] == [1, 2, 3, 3]  # p of c against b: 2 * 0.02, a group of its own
    p[1, 2] = 0.03
    assert [r.group for r in grouped(list("abcd"), table_of(p))] == [1, 2, 2, 2]


def test_a_group_changes_where_its_p_value_says_so():
    rng = np.random.default_rng(3)
    for _ in range(200):
        p = {(i, j): float(10 ** rng.uniform(-4, 0)) for i in range(6) for j in range(i + 1, 6)}
        ranks = grouped(list("abcdef"), table_of(p))
        for before, rank in pairwise(ranks):
            assert rank.group - before.group == (rank.p < 0.05)


def test_draws_give_the_p_value_of_stats_paired(synthetic):
    a, b = synthetic.classification(1.0, 1), synthetic.classification(1.6, 2)
    made = {}
    for name, table in (("a", a), ("b", b)):
        value = stats.point(auroc, table, len(table.clusters))
        made[name] = Draws(value[-1], stats.replicates(auroc, table, table.clusters, resamples=100)[:, -1], "same")
    _, p = stats.paired(auroc, b, a, a.clusters, resamples=100)
    ranks = rank_column(made, higher_is_better=True)
    assert ranks["b"].group == 1
    assert ranks["a"].p == pytest.approx(p[-1], rel=1e-9)
    assert list(rank_column(made, higher_is_better=False)) == ["a", "b"]


def test_other_samples_are_not_compared():
    rng = np.random.default_rng(0)
    draws = {n: Draws(0.5, rng.normal(size=50), s) for n, s in (("a", "x"), ("b", "x"), ("c", "y"))}
    assert sorted(rank_column(draws, higher_is_better=True)) == ["a", "b"]


@pytest.fixture(scope="module")
def board(synthetic, tmp_path_factory) -> Board:
    runs = tmp_path_factory.mktemp("ranks")
    small = {"classification": synthetic.classification(0.4, 1)}
    large = {"classification": synthetic.classification(2.5, 2)}
    made = [
        synthetic.write_run(runs, 0, tables=small, run_id="weak", pictures=False),
        synthetic.write_run(runs, 1, tables=large, run_id="strong", pictures=False),
        synthetic.write_run(runs, 2, tables=large, run_id="part", pictures=False, flags=("partial",)),
        synthetic.write_run(runs, 3, tables=large, run_id="noisy", pictures=False, flags=("random output",)),
    ]
    (found,) = boards([from_run(r) for r in made])
    return found


def of(board, metric):
    return next(c.key for c in board.columns if c.key.metric == metric and c.key.class_name == "macro")


def test_partial_and_invalid_rows_are_never_ranked(board):
    ranks = rank_board(board, resamples=100)
    key = of(board, "auroc")
    assert {run: r.group for run, r in ranks.ranks[key].items()} == {"strong": 1, "weak": 2}
    assert ranks.unranked[key]["part"].startswith("partial")
    assert "random output" in ranks.unranked[key]["noisy"]
    assert not ranks.problems
    assert {run: r.group for run, r in ranks.ranks[of(board, "brier")].items()} == {"strong": 1, "weak": 2}
    assert few_seeds(board)


def test_a_value_that_its_samples_do_not_give_is_not_ranked(synthetic, tmp_path):
    run = synthetic.write_run(tmp_path, 0, tables={"classification": synthetic.classification(1.0)}, pictures=False)
    path = run.stages()[0].folder / "rows.json"
    from harness.store import read_json, write_json

    rows = read_json(path)
    for row in rows:
        if row["metric"] == "auroc" and row["class_name"] == "macro":
            row["value"] = 0.999
    write_json(path, rows)
    (board,) = boards([from_run(run)])
    ranks = rank_board(board, resamples=20)
    assert run.run_id not in ranks.ranks[of(board, "auroc")]
    assert "stored 0.999" in ranks.problems[0]
    assert run.run_id in ranks.ranks[of(board, "brier")]


def test_unreadable_samples_are_reported(synthetic, tmp_path):
    run = synthetic.write_run(tmp_path, 0, tables={"classification": synthetic.classification(1.0)}, pictures=False)
    (run.stages()[0].folder / "samples.parquet").write_bytes(b"no parquet")
    (board,) = boards([from_run(run)])
    ranks = rank_board(board, resamples=20)
    assert not any(ranks.ranks.values())
    assert "cannot be read" in ranks.problems[0]


def test_the_cache_changes_nothing(board, tmp_path):
    first = rank_board(board, tmp_path, resamples=50)
    stored = list(tmp_path.iterdir())
    again = rank_board(board, tmp_path, resamples=50)
    assert stored
    assert again == first == rank_board(board, resamples=50)
    stored[0].write_bytes(b"cut off")
    assert rank_board(board, tmp_path, resamples=50) == first
