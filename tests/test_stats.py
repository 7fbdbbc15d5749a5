"""The one estimator against closed forms, scipy and hand-computed examples."""

import numpy as np
import pytest
from scipy.stats import binomtest, norm

from harness import stats


def mean(samples, weights):
    """Weighted means of the columns of (N,K), (R,K)."""
    total = weights.sum(1, keepdims=True)
    return np.divide(weights @ samples, total, out=np.full((len(weights), samples.shape[1]), np.nan), where=total > 0)


def scalar_mean(samples, weights):
    return mean(samples[:, None], weights)[:, 0]


def names(n):
    return np.array([f"p{i:04d}" for i in range(n)])


def test_standard_error_and_interval_of_a_mean_have_their_closed_form():
    """Bootstrap of a mean: s (with n below) / sqrt(n); the interval is +-1.96 of it for a normal mean."""
    x = np.random.default_rng(0).normal(size=500)
    found = stats.estimate(scalar_mean, x, names(500), resamples=4000)
    error = x.std() / np.sqrt(500)
    assert found.value == pytest.approx(x.mean(), abs=1e-14)
    assert found.standard_error == pytest.approx(error, rel=0.04)  # its own error is 1/sqrt(8000) = 1.1 %
    assert found.low == pytest.approx(x.mean() - 1.96 * error, abs=0.1 * error)
    assert found.high == pytest.approx(x.mean() + 1.96 * error, abs=0.1 * error)
    assert found.undefined == 0


def test_identical_twins_in_a_cluster_count_once():
    x = np.random.default_rng(1).normal(size=300)
    twins, patients = np.repeat(x, 2), np.repeat(names(300), 2)
    apart = stats.estimate(scalar_mean, twins, names(600), resamples=4000)
    together = stats.estimate(scalar_mean, twins, patients, resamples=4000)
    assert together.standard_error / apart.standard_error == pytest.approx(np.sqrt(2), rel=0.05)
    single = stats.estimate(scalar_mean, x, names(300), resamples=4000)
    np.testing.assert_allclose([together.low, together.high], [single.low, single.high], atol=1e-12)


def test_clusters_of_unequal_size_are_drawn_whole():
    clusters = np.array(["a", "b", "b", "c", "c", "c"])
    for weights in stats.cluster_weights(clusters, 200):
        assert (weights[:, 1] == weights[:, 2]).all()
        assert (weights[:, 3] == weights[:, 5]).all()
        assert (weights[:, [0, 1, 3]].sum(1) == 3).all()  # as many clusters as there are
        assert weights.dtype == np.float64
    first = next(stats.cluster_weights(clusters, 3))
    assert first.shape == (3, 6)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(2)
    covered = 0
    for _ in range(200):
        patient = rng.normal(size=60)
        x = np.repeat(patient, 3) + 0.5 * rng.normal(size=180)  # images of a patient are alike
        found = stats.estimate(scalar_mean, x, np.repeat(names(60), 3), resamples=300)
        covered += bool(found.low <= 0 <= found.high)
    assert 0.90 <= covered / 200 <= 0.99, binomtest(covered, 200, 0.95).pvalue


def test_neither_the_order_of_the_samples_nor_of_the_names_matters():
    x = np.random.default_rng(3).integers(0, 2, (90, 2)).astype(float)  # whole numbers: sums are exact
    clusters = np.array([f"p{i % 31}" for i in range(90)])
    order = np.random.default_rng(4).permutation(90)
    a = stats.replicates(mean, x, clusters, resamples=100)
    b = stats.replicates(mean, x[order], clusters[order], resamples=100)
    c = stats.replicates(mean, x, clusters.astype(object), resamples=100)
    assert (a == b).all()
    assert (a == c).all()


def test_neither_the_chunk_nor_the_number_of_replicates_changes_a_replicate(monkeypatch):
    x = np.random.default_rng(5).integers(0, 2, (50, 2)).astype(float)
    whole = stats.replicates(mean, x, names(50), resamples=130)
    assert (stats.replicates(mean, x, names(50), resamples=70) == whole[:70]).all()
    monkeypatch.setattr(stats, "CHUNK", 7)
    assert (stats.replicates(mean, x, names(50), resamples=130) == whole).all()
    assert len(np.unique(whole[:, 0])) > 5


@pytest.mark.parametrize(("rate", "usable"), [(0.04, True), (0.06, False)])
def test_undefined_replicates_are_dropped_and_counted_up_to_five_per_cent(rate, usable):
    draws = np.random.default_rng(6).normal(size=(1000, 3))
    draws[: int(1000 * rate), 1] = np.nan
    draws[1:, 2] = np.inf  # what is not finite is undefined; one replicate is left
    found = stats.summarise(np.zeros(3), draws)
    assert found.undefined.tolist() == [0, rate, 0.999]
    assert np.isfinite([found.low, found.high, found.standard_error]).tolist() == 3 * [[True, usable, False]]
    if usable:
        kept = draws[int(1000 * rate) :, 1]
        assert found.low[1] == pytest.approx(np.percentile(kept, 2.5))
        assert found.standard_error[1] == pytest.approx(kept.std(ddof=1))


def test_an_undefined_value_has_no_interval():
    found = stats.summarise(np.array([np.nan, 1.0]), np.ones((10, 2)))
    assert np.isnan(found.low).tolist() == [True, False]


@pytest.mark.parametrize("n", [0, 1, 2])
def test_fewer_than_two_clusters_have_no_interval(n):
    found = stats.estimate(mean, np.ones((2 * n, 1)), np.repeat(names(n), 2), resamples=10)
    assert np.isnan(found.value[0]) == (n == 0)
    assert np.isnan(found.low[0]) == (n < 2)
    assert np.isnan(found.standard_error[0]) == (n < 2)


def test_a_paired_difference_sees_what_the_samples_share():
    rng = np.random.default_rng(7)
    shared = rng.normal(size=400)
    a, b = shared + 0.1 * rng.normal(size=400) + 0.02, shared + 0.1 * rng.normal(size=400)
    found, p = stats.paired(scalar_mean, a, b, names(400), resamples=2000)
    error = (a - b).std() / np.sqrt(400)
    assert found.value == pytest.approx((a - b).mean())
    assert found.standard_error == pytest.approx(error, rel=0.06)
    assert p == pytest.approx(2 * norm.sf(abs((a - b).mean()) / found.standard_error))


def test_a_run_does_not_differ_from_itself():
    x = np.random.default_rng(8).normal(size=(40, 2))
    found, p = stats.paired(mean, x, x, names(40), resamples=50)
    assert (found.value == 0).all()
    assert (p == 1).all()


def test_p_values_reach_below_what_replicates_can_count():
    p = stats.normal_p(np.array([0.0, 1.0, -8.0, 3.0, np.nan, 0.0]), np.array([1.0, 1.0, 1.0, 0.0, 1.0, 0.0]))
    np.testing.assert_allclose(p, [1, 2 * norm.sf(1), 2 * norm.sf(8), 0, np.nan, 1], rtol=1e-12)


def test_holm_by_hand():
    """Holm 1979: sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1, then the running maximum, at most 1."""
    p = np.array([0.01, 0.04, np.nan, 0.03, 0.005])
    np.testing.assert_allclose(stats.holm(p), [0.03, 0.06, np.nan, 0.06, 0.02])
    np.testing.assert_allclose(stats.holm(np.array([0.6, 0.5])), [1.0, 1.0])
    assert stats.holm(np.array([])).shape == (0,)


def test_holm_keeps_the_family_wise_error():
    """Under the null, the smallest adjusted p of 10 is below 5 % in about 5 % of the families."""
    p = np.random.default_rng(9).random((4000, 10))
    rejected = np.mean([stats.holm(family).min() < 0.05 for family in p])
    assert rejected == pytest.approx(1 - 0.995**10, abs=0.012)


def test_with_one_seed_nothing_is_added():
    draws = np.random.default_rng(0).normal(size=(1, 50, 3))
    value, found = stats.over_seeds(np.arange(3.0)[None], draws)
    assert (value == np.arange(3.0)).all()
    assert (found == draws[0]).all()


def test_seeds_and_clusters_are_resampled_together():
    """Closed form: the variance of the mean is that of the clusters plus (S-1)/S^2 of the unbiased one among seeds."""
    rng = np.random.default_rng(0)
    values = np.array([[0.0], [1.0], [2.0], [5.0]])
    clusters = rng.normal(scale=0.3, size=(1, 40_000, 1))
    value, draws = stats.over_seeds(values, values[:, None] + clusters)
    assert value == [2.0]
    among = values.var(ddof=1) * 3 / 4 / 4
    assert draws.var() == pytest.approx(0.3**2 + among, rel=0.03)
    assert draws.mean() == pytest.approx(2.0, abs=0.02)


def test_two_methods_with_the_same_seeds_are_paired():
    """What is common to a seed drops out of the difference."""
    shared = np.array([[0.0], [10.0], [-7.0]])
    _, a = stats.over_seeds(shared + 1, np.repeat(shared[:, None] + 1, 200, 1))
    _, b = stats.over_seeds(shared, np.repeat(shared[:, None], 200, 1))
    assert np.ptp(a) > 1
    assert np.allclose(a - b, 1)


def test_what_is_undefined_in_one_seed_is_undefined_in_their_mean():
    draws = np.zeros((3, 20, 1))
    draws[1, 4] = np.nan
    assert np.isnan(stats.over_seeds(np.zeros((3, 1)), draws)[1][4, 0])
