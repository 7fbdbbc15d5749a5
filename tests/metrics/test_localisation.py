"""Localisation against a twin in plain loops and whole numbers, written from the text of protocol.md, 2."""

from dataclasses import replace
from fractions import Fraction
from math import ceil

import numpy as np
import pytest

from harness import stats
from harness.metrics.cells import NOWHERE, cells, reasons
from harness.metrics.localisation import (
    chosen_thresholds,
    iobb,
    iou,
    localisation_accuracy,
    mean_localisation_accuracy,
    pair_iou,
    skipped_choices,
)
from harness.metrics.localisation_table import LEVELS, MISSING, LocalisationTable, quantise
from harness.metrics.pointing import energy, pointing_game

TS = range(1, 8)  # T = k/10


def random_pairs(seed, sizes=(25, 30, 22), folds=5, coarse=40):
    """Pixel counts of intersection, union and region per pair and threshold; few values, so that choices tie."""
    rng = np.random.default_rng(seed)
    p = sum(sizes)
    union = rng.integers(8, coarse, (p, LEVELS // 16)).repeat(16, 1)
    part = (rng.random((p, LEVELS // 16)).repeat(16, 1) * (union + 1)).astype(int)
    region = np.minimum(part + rng.integers(0, 9, part.shape), union)
    names = np.repeat([f"c{i}" for i in range(len(sizes))], sizes)
    ids = np.array([f"i{i}" for i in range(p)])
    fold = np.concatenate([rng.permutation(np.arange(n) % folds) for n in sizes]).astype(np.int8)
    table = LocalisationTable(
        ids=ids, clusters=ids, class_names=names, classes=tuple(f"c{i}" for i in range(len(sizes))), fold=fold,
        iou=quantise(part, union), iobb=quantise(part, region),
        pointing=rng.integers(0, 2, p).astype(float), pointing_chance=rng.random(p),
        energy=rng.random(p), energy_chance=rng.random(p), box_area=rng.random(p),
    )  # fmt: skip
    return table, part, union, region


def twin(table, part, union, region, weights, name, ts):
    """One class: for each fold its threshold and the scores on the other folds, plainly.

    `ts` is the set of T for which the threshold is chosen together. Returns the chosen thresholds (None without
    weight), accuracy per T, mean IoU and mean IoBB, averaged over the choices that could be made.
    """
    pairs = [i for i in range(len(table.ids)) if table.class_names[i] == name for _ in range(int(weights[i]))]
    chosen, found = [], []
    for fold in range(5):
        inside = [i for i in pairs if table.fold[i] == fold]
        outside = [i for i in pairs if table.fold[i] != fold]
        if not inside:
            chosen.append(None)
            continue
        best = None
        for t in range(LEVELS):
            right = sum(10 * int(part[i, t]) > k * int(union[i, t]) for i in inside for k in ts)
            stored = sum(ceil(Fraction(65530 * int(part[i, t]), int(union[i, t]))) for i in inside)
            if best is None or (right, stored) > best[:2]:
                best = (right, stored, t)
        t = best[2]
        chosen.append(t)
        if outside:
            n = len(outside)
            found.append(
                [Fraction(sum(10 * int(part[i, t]) > k * int(union[i, t]) for i in outside), n) for k in TS]
                + [sum(Fraction(int(part[i, t]), int(union[i, t])) for i in outside) / n]
                + [sum(Fraction(int(part[i, t]), int(region[i, t]) or 1) for i in outside) / n]
            )
    means = [float(sum(column) / len(found)) for column in zip(*found, strict=True)] if found else [np.nan] * 9
    return chosen, means


@pytest.fixture(scope="module")
def weights():
    rng = np.random.default_rng(9)
    drawn = rng.poisson(1.0, (4, 77)).astype(float)
    drawn[0] = 1
    return drawn


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_equals_the_twin(seed, weights):
    table, part, union, region = random_pairs(seed)
    weights = weights.copy()
    weights[2, (table.class_names == "c1") & (table.fold == 3)] = 0  # a fold without weight
    accuracy = localisation_accuracy(table, weights).reshape(len(weights), 2, 7, 4)
    mean = mean_localisation_accuracy(table, weights).reshape(len(weights), 2, 4)
    expected = np.full((len(weights), 2, 7, 4), np.nan)
    for r, w in enumerate(weights):
        for c, name in enumerate(table.classes):
            chosen, means = twin(table, part, union, region, w, name, TS)
            expected[r, 0, :, c] = means[:7]
            assert iou(table, weights)[r, c] == pytest.approx(means[7], abs=1.6e-5)
            assert iobb(table, weights)[r, c] == pytest.approx(means[8], abs=1.6e-5)
            assert skipped_choices(table, weights)[r, c] == chosen.count(None)
            if r == 0:
                assert chosen_thresholds(table)[name] == chosen
    for k in TS:
        for c, name in enumerate(table.classes):
            expected[1, 1, k - 1, c] = twin(table, part, union, region, weights[1], name, [k])[1][k - 1]
    expected[..., 3] = expected[..., :3].mean(-1)
    np.testing.assert_allclose(accuracy[:, 0], expected[:, 0], rtol=0, atol=1e-14)
    np.testing.assert_allclose(accuracy[1, 1], expected[1, 1], rtol=0, atol=1e-14)
    np.testing.assert_allclose(mean, accuracy.mean(2), atol=1e-14)


def test_the_choices_differ_between_replicates_and_folds():
    """Else the twin would prove little about choosing anew."""
    table, *_ = random_pairs(0)
    assert len({t for chosen in chosen_thresholds(table).values() for t in chosen}) > 3


def test_ties_take_the_larger_iou_and_then_the_lower_threshold():
    table, *_ = random_pairs(0, sizes=(25,))
    q = np.zeros((25, LEVELS), np.uint16)
    q[:, 40:60] = 6553 * 3 + 1  # two correct T everywhere from here on ...
    q[:, 50:55] = 6553 * 3 + 9  # ... with the largest IoU here
    assert chosen_thresholds(replace(table, iou=q)) == {"c0": [50] * 5}


def test_quantised_iou_decides_as_the_fraction_does():
    part, union = np.divmod(np.arange(121 * 120), 120)
    union = union + 1
    part = np.minimum(part, union)
    q = quantise(part, union)
    large = np.arange(1, 512 * 512, 97)  # the smallest share above k/10, and k/10 or just below, in large images
    for k in TS:
        assert ((q > 6553 * k) == (10 * part > k * union)).all()
        assert (quantise(k * large // 10 + 1, large) > 6553 * k).all()
        assert (quantise(k * large // 10, large) <= 6553 * k).all()
    assert quantise(np.array([0, 3]), np.array([0, 3])).tolist() == [0, 65530]


def test_doubling_every_weight_changes_nothing(weights):
    table, *_ = random_pairs(3)
    np.testing.assert_array_equal(localisation_accuracy(table, weights), localisation_accuracy(table, 2 * weights))


def test_a_class_needs_twenty_pairs_and_four_in_each_fold():
    table, *_ = random_pairs(4, sizes=(19, 20, 30, 25))
    fold = table.fold.copy()
    fold[(table.class_names == "c2") & (fold == 1)] = 0
    fold[np.flatnonzero(table.class_names == "c2")[:3]] = 1
    table = replace(table, fold=fold, classes=(*table.classes, "none"))
    why = reasons(table, mean_localisation_accuracy)
    few = ["19 pairs, fewer than 20", "", "3 pairs in fold 1, fewer than 4", "", "no pairs"]
    macro = "mean of 2 of 5 classes, without c0, c2, none"
    assert why == 2 * [*few, macro]
    values = mean_localisation_accuracy(table, np.ones((1, len(table.ids))))[0].reshape(2, 6)
    assert np.isnan(values).tolist() == 2 * [[True, False, True, False, True, False]]
    np.testing.assert_allclose(values[:, 5], values[:, [1, 3]].mean(1))
    assert reasons(table, pointing_game)[2] == ""  # no threshold is chosen: folds play no part


def test_missing_pairs_are_left_out_and_counted():
    table, *_ = random_pairs(5, sizes=(30,))
    lost = np.zeros(30, bool)
    lost[np.flatnonzero(table.fold == 0)[:2]] = True
    holed = replace(table, iou=np.where(lost[:, None], np.uint16(MISSING), table.iou),
                    iobb=np.where(lost[:, None], np.uint16(MISSING), table.iobb),
                    energy=np.where(lost, np.nan, table.energy))  # fmt: skip
    ones = np.ones((1, 30))
    for metric in (localisation_accuracy, mean_localisation_accuracy, iou, iobb, energy):
        np.testing.assert_allclose(metric(holed, ones), metric(table, np.where(lost, 0.0, 1.0)[None]), atol=1e-14)
        assert reasons(holed, metric)[0] == "2 of 30 could not be scored"
    assert holed.counted("iou") == (28, 2)
    assert reasons(holed, pointing_game) == [""] * 4


def test_pointing_and_energy_are_weighted_means_beside_chance(weights):
    table, *_ = random_pairs(6)
    for metric, name in ((pointing_game, "pointing"), (energy, "energy")):
        found = metric(table, weights).reshape(4, 2, 4)
        for b, column in enumerate((name, f"{name}_chance")):
            for c in range(3):
                of = table.class_names == f"c{c}"
                expected = [np.average(getattr(table, column)[of], weights=w[of]) for w in weights]
                np.testing.assert_allclose(found[:, b, c], expected, atol=1e-12)
        np.testing.assert_allclose(found[..., 3], found[..., :3].mean(-1))


def test_a_pairs_iou_is_the_mean_over_its_four_choices():
    table, part, union, _ = random_pairs(7)
    chosen = chosen_thresholds(table)
    for i, found in enumerate(pair_iou(table)):
        at = [part[i, t] / union[i, t] for f, t in enumerate(chosen[table.class_names[i]]) if f != table.fold[i]]
        assert len(at) == 4
        assert found == pytest.approx(np.mean(at), abs=1.6e-5)


def test_cells_are_variant_threshold_class():
    table, *_ = random_pairs(0)
    layout = cells(table, localisation_accuracy)
    assert len(layout) == 2 * 7 * 4 == localisation_accuracy(table, np.ones((1, 77))).shape[1]
    assert layout[0] == {**NOWHERE, "variant": "", "threshold": 0.1, "class_name": "c0"}
    assert layout[3 + 4 * 6] == {**NOWHERE, "variant": "", "threshold": 0.7, "class_name": "macro"}
    assert layout[-1] == {**NOWHERE, "variant": "per_t", "threshold": 0.7, "class_name": "macro"}


def test_the_interval_covers_the_choice_of_the_threshold():
    """Choosing anew in each replicate is what the estimator sees: the mean of a fixed threshold varies less."""
    table, *_ = random_pairs(8, sizes=(40,))
    found = stats.estimate(mean_localisation_accuracy, table, table.clusters, resamples=200)
    assert (found.low < found.value).all()
    assert (found.value < found.high).all()
