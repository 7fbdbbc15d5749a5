"""Differences of two results: against the paired estimator, and what is said where they cannot be paired."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support import REPOSITORY

from harness import paired, stats
from harness.metrics.classification_table import ClassificationTable
from harness.metrics.summary import applicable, builtin, joint
from harness.plugins import load_file
from harness.record import from_run

fixtures = load_file(REPOSITORY / "tests" / "report" / "fixtures.py")
RESAMPLES = 60


def result(folder: Path, number: int, **options):
    return from_run(
        fixtures.write_run(folder / str(number), number, pictures=False, method="baseline", seed=0, **options)
    )


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("paired")
    return result(folder, 0), result(folder, 1)


def found(before, after, metric="auroc", class_name="macro", **options):
    all_of_them = paired.differences(before, after, resamples=RESAMPLES, **options)
    return next(d for d in all_of_them if (d.key.metric, d.key.class_name) == (metric, class_name))


def test_the_difference_is_that_of_the_paired_estimator(two):
    d = found(*two)
    tables = [fixtures.classification(0.4, 0), fixtures.classification(1.3, 1)]
    statistic = joint(applicable(tables[0], builtin()))
    theirs, p = stats.paired(statistic, tables[1], tables[0], tables[0].clusters, resamples=RESAMPLES)
    place = np.nanargmin(np.abs(theirs.value - d.value))
    assert d.value == pytest.approx(theirs.value[place], abs=1e-6)
    assert (d.low, d.high) == pytest.approx((theirs.low[place], theirs.high[place]), abs=1e-6)
    assert d.p == pytest.approx(p[place], abs=1e-6)
    assert d.paired
    assert d.excludes_zero
    assert d.loss == -d.value, "AUROC is better when it is higher"


def test_every_number_of_either_side_has_one_difference(two):
    places = [(d.board, d.key) for d in paired.differences(*two, resamples=RESAMPLES)]
    assert sorted(places) == sorted({*paired.scored(two[0]), *paired.scored(two[1])})
    assert len(places) == len(set(places))


def test_the_same_result_differs_by_nothing(two):
    values = [d.value for d in paired.differences(two[0], two[0], resamples=RESAMPLES) if not d.reason]
    assert values
    assert set(values) == {0.0}


def test_what_one_side_lacks_is_named(two):
    before, after = two
    without = replace(after, stages=[s for s in after.stages if s.info["evaluation"] != "classification"])
    d = found(before, without)
    assert math.isnan(d.value)
    assert d.reason == "after: not measured"
    assert found(without, before).reason == "before: not measured"
    assert found(before, after, "auroc", "Hernia").reason == "on both sides: 2 positives, fewer than 20"


def classified(folder: Path, number: int, rows: slice):
    full = fixtures.classification(0.4 + number, number)
    part = ClassificationTable(full.ids[rows], full.clusters[rows], full.classes, full.task, full.label[rows],
                               full.probability[rows])  # fmt: skip
    return result(folder, number, tables={"classification": part})


def test_a_prefix_is_compared_on_what_both_scored(tmp_path):
    before = classified(tmp_path, 0, slice(0, 160))
    after = classified(tmp_path, 1, slice(0, 120))
    d = found(before, after)
    assert d.paired
    assert d.shared == 120
    assert d.reason == paired.SAMPLES
    cut = classified(tmp_path / "cut", 0, slice(0, 120))
    assert d.value == pytest.approx(found(cut, after).value)


def test_other_samples_are_not_paired_and_have_both_standard_errors(tmp_path):
    before, after = classified(tmp_path, 0, slice(0, 120)), classified(tmp_path, 1, slice(40, 160))
    d = found(before, after)
    assert not d.paired
    assert d.reason == paired.SAMPLES
    one, other = found(before, before), found(after, after)
    assert d.value == pytest.approx(other.after.value - one.after.value)
    assert 0.5 * (d.high - d.low) == pytest.approx(stats.NORMAL * d.standard_error)
    assert d.standard_error > 0.5 * (other.after.high - other.after.low) / stats.NORMAL * 0.9


def test_a_value_that_is_not_that_of_its_samples_is_not_paired(two):
    before, after = two

    def moved(stage):
        return replace(stage, rows=[replace(r, value=r.value + 0.01) for r in stage.rows])

    d = found(before, replace(after, stages=[moved(s) for s in after.stages]))
    assert not d.paired
    assert d.reason == paired.NOT_THEIRS


def test_samples_that_cannot_be_read_leave_the_stored_intervals(two):
    from harness.errors import UsageError

    def unreadable():
        raise UsageError("gone")

    before, after = two
    d = found(before, replace(after, stages=[replace(s, read_samples=unreadable) for s in after.stages]))
    assert (d.paired, d.reason) == (False, paired.UNREADABLE)
    width = math.hypot(d.before.high - d.before.low, d.after.high - d.after.low)
    assert d.high - d.low == pytest.approx(width)
