"""Seconds for the AUROC of a set as large as ChestX-ray14's test list, with its patient-clustered interval.

    OMP_NUM_THREADS=1 python benchmarks/auroc.py

Synthetic scores, 25,596 images of 2,797 patients, 14 classes with 0.2 to 24 % positives. The aim is 1,000 resamples in
under 10 s in one process; CPU seconds are printed too, because wall seconds mean little on a busy machine.
"""

import time

import numpy as np

from harness import stats
from harness.metrics.auroc import auroc
from harness.metrics.classification_table import ClassificationTable

IMAGES, PATIENTS, CLASSES = 25_596, 2_797, 14


def synthetic(rng: np.random.Generator) -> ClassificationTable:
    share = np.geomspace(0.002, 0.24, CLASSES)
    label = (rng.random((IMAGES, CLASSES)) < share).astype(np.uint8)
    probability = 1 / (1 + np.exp(-(rng.normal(size=label.shape) + 1.2 * label)))
    names = np.array([f"patient-{p:05d}" for p in range(PATIENTS)])
    clusters = names[np.concatenate([np.arange(PATIENTS), rng.integers(PATIENTS, size=IMAGES - PATIENTS)])]
    ids = np.array([f"image-{i:06d}" for i in range(IMAGES)])
    classes = tuple(f"class-{c}" for c in range(CLASSES))
    return ClassificationTable(ids, clusters, classes, "multilabel", label, probability)


def main() -> None:
    table = synthetic(np.random.default_rng(0))
    wall, cpu = time.perf_counter(), time.process_time()
    found = stats.estimate(auroc, table, table.clusters)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    macro = f"{found.value[-1]:.4f} [{found.low[-1]:.4f}, {found.high[-1]:.4f}]"
    print(f"macro AUROC {macro}; {stats.RESAMPLES} resamples of {table.label.shape}: {wall:.1f} s, {cpu:.1f} CPU-s")


if __name__ == "__main__":
    main()
