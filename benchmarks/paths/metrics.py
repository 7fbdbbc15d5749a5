"""Metrics of stored scores with their intervals: no network, numpy alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness import stats
from harness.metrics.ara import attack_ara
from harness.metrics.auroc import auroc
from harness.metrics.average_precision import average_precision
from harness.metrics.calibration import brier, ece
from harness.metrics.classification_table import ClassificationTable
from harness.metrics.predictions import f1
from harness.metrics.robustness import RobustnessTable
from paths.turns import GROWTH, Table, scaled, spread, turns

TITLE = "Metrics"
SAYS = (
    "Drawn scores, with the 95 % interval of every number: bootstrap resamples of patients, the sums of a resample "
    "weighted, nothing scored again."
)
CHEST = (25_596, 14)  # ChestX-ray14's test list, 2,797 patients


def scores(images: int, classes: int, *, single: bool = False) -> ClassificationTable:
    """Return drawn scores; the rarest of the findings has 0.2 % positives."""
    rng = np.random.default_rng(0)
    if single:
        label = np.eye(classes, dtype=np.uint8)[rng.integers(classes, size=images)]
        raw = np.exp(rng.normal(size=label.shape) + 2.0 * label)
        probability = raw / raw.sum(1, keepdims=True)
    else:
        label = (rng.random((images, classes)) < np.geomspace(0.002, 0.24, classes)).astype(np.uint8)
        label[:60] = np.arange(60)[:, None] % 2  # enough of each for a class to be scored
        probability = 1 / (1 + np.exp(-(rng.normal(size=label.shape) + 1.2 * label)))
    patients = max(2, images // 9)
    clusters = np.concatenate([np.arange(patients), rng.integers(patients, size=images - patients)])
    names = np.array([f"i{i}" for i in range(images)])
    task = "multiclass" if single else "multilabel"
    classes_ = tuple(f"c{i}" for i in range(classes))
    return ClassificationTable(names, clusters.astype(str), classes_, task, label, probability)


def attacked(images: int) -> RobustnessTable:
    """Return the smallest perturbations of drawn images."""
    rng = np.random.default_rng(0)
    ids = np.array([f"i{i}" for i in range(images)])
    return RobustnessTable(
        ids=ids, clusters=ids, task="multiclass", class_names=np.array(["a", "b"])[np.arange(images) % 2],
        classes=("a", "b"), attack="fast", naive=0.5,
        rmse={"adv": (rng.random(images) < 0.9) * rng.lognormal(-4, 0.7, images), "btr": np.full(images, 0.1)},
    )  # fmt: skip


def interval(metric: Any, table: Any, clusters: NDArray[Any], resamples: int) -> Callable[[], Any]:
    return lambda: stats.estimate(metric, table, clusters, resamples=resamples)


def measure(quick: bool) -> list[Table]:
    images, classes = (600, 4) if quick else CHEST
    resamples, rounds = (20, 1) if quick else (1000, 3)
    table = Table(
        "A metric with its interval", {
            "metric": ("text", ""),
            "samples": ("count", "images"),
            "classes": ("count", ""),
            "resamples": ("count", "of patients"),
            "time": ("s", "median of the rounds"),
        }, judged="time",
    )  # fmt: skip
    findings, single = scores(images, classes), scores(600 if quick else 10_000, 4 if quick else 10, single=True)
    robust = attacked(100 if quick else 10_000)
    each = {
        "auroc": (auroc, findings, 10.0), "average_precision": (average_precision, findings, None),
        "ece of findings": (ece, findings, None), "brier of findings": (brier, findings, None),
        "f1 of single classes": (f1, single, None), "ece of single classes": (ece, single, None),
        "attack_ara": (attack_ara, robust, None),
    }  # fmt: skip
    works = {k: interval(m, t, t.clusters, resamples) for k, (m, t, _) in each.items()}
    for name, times in turns(works, rounds, warm=False).items():
        kept = each[name][1]
        table.add(name, len(kept.ids), len(kept.classes), resamples, spread(times)[0], most=each[name][2])
    grown = Table("As the work grows", {"metric": ("text", ""), "size": ("count", "of what is named"), **GROWTH})
    sizes, width, some = (
        ((200, 400), (2, 4), (10, 20)) if quick else ((3_000, 6_000, 12_000), (5, 20, 80), (250, 500, 1000))
    )
    few = 1 if quick else 3

    def auroc_of(images: int, classes: int, resamples: int) -> Callable[[], Any]:
        table = scores(images, classes)
        return interval(auroc, table, table.clusters, resamples)

    scaled(
        grown,
        f"auroc, {width[0]} classes, {some[0]} resamples: images",
        sizes,
        lambda n: auroc_of(n, width[0], some[0]),
        few,
    )
    scaled(
        grown,
        f"auroc, {sizes[0]} images, {some[0]} resamples: classes",
        width,
        lambda k: auroc_of(sizes[0], k, some[0]),
        few,
    )
    scaled(
        grown,
        f"auroc, {sizes[0]} images, {width[0]} classes: resamples",
        some,
        lambda r: auroc_of(sizes[0], width[0], r),
        few,
    )
    if not quick:
        ara = {n: attacked(n) for n in sizes}
        scaled(
            grown,
            "attack_ara, 250 resamples: images",
            sizes,
            lambda n: interval(attack_ara, ara[n], ara[n].clusters, 250),
            few,
        )
        many = {k: scores(2_000, k, single=True) for k in (10, 100, 1000)}
        scaled(
            grown,
            "f1, 2,000 images, 100 resamples: classes",
            tuple(many),
            lambda k: interval(f1, many[k], many[k].clusters, 100),
            few,
        )
    return [table, grown]
