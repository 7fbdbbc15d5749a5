import numpy as np
import pytest

from harness import stats
from harness.report.apart import apart, errors, sentence


@pytest.fixture
def replicates():
    rng = np.random.default_rng(1)
    shared = rng.normal(size=(400, 1))
    return 0.7 + 0.05 * shared + 0.01 * rng.normal(size=(400, 5)) * np.arange(1, 6)


def slow(values, replicates):
    """Return standard errors and p-values of all pairs, one difference at a time."""
    pairs = [(i, j) for i in range(len(values)) for j in range(i + 1, len(values))]
    found = [stats.summarise(values[i] - values[j], replicates[:, i] - replicates[:, j]) for i, j in pairs]
    error = np.array([f.standard_error for f in found])
    return error, stats.normal_p(np.array([f.value for f in found]), error)


def test_pairs_are_those_of_differences_taken_one_by_one(replicates):
    values = replicates.mean(axis=0) + np.array([0.0, 0.01, 0.06, 0.09, 0.3])
    error, p = slow(values, replicates)
    found = apart(values, errors(replicates))
    assert found.together == np.sum(stats.holm(p) >= 0.05) > 0
    assert found.together < found.pairs == 10
    assert found.smallest == pytest.approx(1.96 * np.median(error))


def test_undefined_replicates_are_dropped_as_by_the_estimator(replicates):
    replicates[:3, 1] = np.nan
    replicates[:30, 2] = np.nan  # more than 5 %
    found = errors(replicates)
    assert found[0, 1] == pytest.approx(np.std((replicates[:, 0] - replicates[:, 1])[3:], ddof=1))
    assert np.isnan(found[0, 2])
    assert apart(np.arange(5.0), found).together == 4  # the pairs that nobody can judge


def test_equal_runs_have_no_error():
    same = np.random.default_rng(0).normal(size=(50, 1)).repeat(2, 1)
    assert errors(same)[0, 1] == 0
    assert apart(np.array([0.3, 0.3]), errors(same)).together == 1


def test_the_sentence_names_pairs_group_and_difference(replicates):
    values = replicates.mean(axis=0)
    found = apart(values, errors(replicates))
    said = sentence(found, "auroc (macro)", ["a", "b", "c"], 1137, 3)
    assert said.startswith(
        "These data (n = 1,137) cannot tell apart 10 of 10 pairs of lines in auroc (macro): a, b and c share rank group 1"
    )
    assert said.endswith(f"would have to exceed about {found.smallest:.3f}.")
    assert ": a, b, c, d and 3 more share" in sentence(found, "x", list("abcdefg"), 9, 3)
    two = apart(values[:2] + np.array([0, 9]), errors(replicates[:, :2]))
    assert sentence(two, "x", ["a"], 9, 3).startswith("These data (n = 9) tell both lines apart in x; a difference")
    assert "nothing to compare" in sentence(apart(values[:1], errors(replicates[:, :1])), "x", ["a"], 9, 3)
