"""Trainings in several processes: `python several.py PLACE` is one of them, `start` starts all of them.

Each trains every case on tiny data and keeps what came of it in PLACE/RANK.pt.
"""

import dataclasses
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from harness import together
from harness.config import build
from harness.data.batches import feed
from harness.data.cache import Prepared
from harness.data.index import Index
from harness.device import resolve
from harness.fit import loop
from harness.models.classifier import Classifier, GlobalAverageLinear, Normalise
from harness.plugins import catalogue
from harness.recipe import Supervised
from harness.tasks import MultiClass, MultiLabel

SIDE, CLASSES, TRAINING, VALIDATION = 12, 3, 25, 7
TASKS = {"multiclass": MultiClass(), "multilabel": MultiLabel()}
SHORT: dict[str, Any] = {"max_epochs": 3, "batch_size": 8, "augment": "pad_crop_flip"}  # batches of 8, 8, 8 and 1
MORE: dict[str, dict[str, Any]] = {  # settings that a method's defaults do not try
    "adversarial_training": [{"norm": "l2min"}, {"norm": "linf"}, {"variant": "code", "share": 0.4}],
    "lipschitz": [{"outputs": 2, "zeta": 0.5, "adaptive": True}],
}  # fmt: skip


def cases() -> list[tuple[str, dict[str, Any], str]]:
    """Return (method, settings, task) of every training."""
    names = [c.name for c in catalogue().of("method")]
    return [(name, changed, task) for name in names for changed in ({}, *MORE.get(name, [])) for task in TASKS]


def label(case: tuple[str, dict[str, Any], str]) -> str:
    """Return what a test calls a case."""
    name, changed, task = case
    return " ".join([name, *(f"{k}={v}" for k, v in changed.items()), task])


def network() -> Classifier:
    torch.manual_seed(0)
    features = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.2),
        nn.Conv2d(6, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
    )  # fmt: skip
    return Classifier(Normalise((0.4,), (0.25,)), features, GlobalAverageLinear(8, CLASSES), num_classes=CLASSES)


def index() -> Index:
    rng = np.random.default_rng(0)
    labels = np.eye(CLASSES, dtype=np.uint8)[rng.integers(0, CLASSES, TRAINING + VALIDATION)]
    names = [f"s{i}" for i in range(len(labels))]
    split = ["train"] * TRAINING + ["validation"] * VALIDATION
    return Index(pd.DataFrame({"id": names, "patient": names, "split": split}), labels, ("a", "b", "c"))


def images() -> np.ndarray:
    rng = np.random.default_rng(1)
    found = rng.integers(0, 128, (TRAINING + VALIDATION, 1, SIDE, SIDE)).astype(np.uint8)
    for image, label in zip(found, index().labels.argmax(1), strict=True):
        image[:, :, 4 * label : 4 * label + 4] += 100
    return found


def fit(method: Supervised, task: Any, folder: Path, model: nn.Module | None = None, **more: Any) -> dict[str, Any]:
    """Train and return the weights, their history, and what else came of it."""
    compute, table = resolve("cpu"), index()
    prepared = Prepared(folder, table, images(), "f")
    parts = [feed(prepared, table.of_split(s), task, compute) for s in ("train", "validation")]
    model = method.adapt(network()) if model is None else model
    result = loop.train(method, model, task, *parts, compute=compute, seed=3, folder=folder,
                        names=lambda i: [f"s{j}" for j in i.tolist()], **more)  # fmt: skip
    return {"weights": {k: v.clone() for k, v in model.state_dict().items()}, **dataclasses.asdict(result)}


def recipe(name: str, changed: dict[str, Any]) -> Supervised:
    return build(catalogue().load("method", name), name, ("test", {**SHORT, **changed}))[0]


def of_all(place: Path) -> dict[str, Any]:
    """Train every case."""
    return {
        label(case): fit(recipe(case[0], case[1]), TASKS[case[2]], place / f"fit-{number}")
        for number, case in enumerate(cases())
    }


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def start(count: int, words: list[str], **more: Any) -> list[subprocess.Popen]:
    """Start `count` processes of `python words...` as torchrun would, without its watching over them."""
    port = str(free_port())
    common = os.environ | {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [
        subprocess.Popen([sys.executable, *words], env=common | {"RANK": str(r), "LOCAL_RANK": str(r)}, **more)
        for r in range(count)
    ]


def finish(processes: list[subprocess.Popen], seconds: float) -> list[int]:
    """Wait for all processes and return their exit statuses; those that go on for longer are killed."""
    try:
        return [p.wait(seconds) for p in processes]
    finally:
        for p in processes:
            p.kill()
            p.wait()


def main(place: Path) -> None:
    torch.set_num_threads(1)
    with together.session(), tempfile.TemporaryDirectory() as own:
        mine = together.world()
        torch.save(of_all(place / "fits" if mine.leads else Path(own)), place / f"{mine.rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
