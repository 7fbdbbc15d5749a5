"""How much of the phantom a linear model reads off 16 x 16 thumbnails: what a trained network must beat by far.

    python benchmarks/phantom_probe.py [--run runs/baseline-phantom-...]

One logistic regression per class on area means, trained on the training split and scored on the test split, for the
best of four strengths of regularisation on the test split itself (which flatters the probe). With --run, also the
network's macro AUROC and the paired difference.
"""

import argparse
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from harness import stats
from harness.console import Reporter
from harness.metrics.auroc import auroc
from harness.metrics.classification_table import ClassificationTable
from harness.plan import RunSpec, make
from harness.record import from_run
from harness.run import prepare_data
from harness.store import RunFolder

SIDE = 16


def thumbnails(images: np.ndarray) -> np.ndarray:
    """Return area means, (N,1,S,S) uint8 to (N, SIDE*SIDE)."""
    n, size = len(images), images.shape[-1]
    return images.reshape(n, SIDE, size // SIDE, SIDE, size // SIDE).mean((2, 4)).reshape(n, -1)


def probe(x: np.ndarray, y: np.ndarray, x_test: np.ndarray, strength: float) -> np.ndarray:
    """Return the probability of every class on the test images, (N,V)."""
    models = [make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000)) for _ in range(y.shape[1])]
    return np.stack([m.fit(x, y[:, c]).predict_proba(x_test)[:, 1] for c, m in enumerate(models)], 1)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--run", type=Path)
    options = parser.parse_args()
    prepared = prepare_data(make(RunSpec(method="baseline", dataset="phantom")), Reporter())
    index = prepared.index
    train, test = index.of_split("train"), index.of_split("test")
    x, x_test = thumbnails(prepared.images[train]), thumbnails(prepared.images[test])
    ids, patients = (index.samples[c].to_numpy(str)[test] for c in ("id", "patient"))
    best = None
    for strength in (0.0001, 0.001, 0.01, 0.1):
        p = probe(x, index.labels[train], x_test, strength)
        table = ClassificationTable(ids, patients, index.classes, "multilabel", index.labels[test], p)
        value = float(stats.point(auroc, table, len(test))[-1])
        print(f"C = {strength:g}: macro AUROC {value:.3f}")
        if best is None or value > best[0]:
            best = (value, table)
    assert best is not None
    found = stats.estimate(auroc, best[1], patients)
    print(f"linear probe: {found.value[-1]:.3f} [{found.low[-1]:.3f}, {found.high[-1]:.3f}]")
    if options.run:
        stage = next(s for s in from_run(RunFolder(options.run)).stages if s.info["evaluation"] == "classification")
        network = ClassificationTable.from_frame(stage.read_samples()).select(ids)
        difference, _ = stats.paired(auroc, network, best[1], patients)
        print(f"network - probe: {difference.value[-1]:.3f} [{difference.low[-1]:.3f}, {difference.high[-1]:.3f}]")


if __name__ == "__main__":
    main()
