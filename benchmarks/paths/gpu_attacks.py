"""The accuracy-robustness areas of 1,000 images on a GPU, both goals, by the evaluation itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from harness.data.cache import Prepared
from harness.data.index import Index
from harness.evaluations.subject import Subject
from harness.plugins import catalogue
from harness.tasks import MultiClass
from paths import gpu, subject
from paths.gpu import machine as machine
from paths.turns import Table

TITLE = "Robustness on a GPU"
SAYS = (
    "Measured on {subject}: the evaluation `robustness` with the attacks of profile quick (DeepFool and DDN), fp32; "
    "seconds from images to one line of scores per image."
)
NAMES = tuple("abcdefghij")


def measure(quick: bool) -> list[Table]:
    compute = gpu.compute(quick)
    count = 4 if quick else 1000
    model = subject.network()
    x, y = subject.images(model, count)
    names = [f"i{i:04d}" for i in range(count)]
    index = Index(pd.DataFrame({"id": names, "patient": names, "split": "test"}),
                  np.eye(len(NAMES), dtype=np.uint8)[y.numpy()], NAMES)  # fmt: skip
    prepared = Prepared(Path(), index, (x * 255).round().byte().contiguous().numpy(), "benchmark")
    attacks = {n: catalogue().load("attack", n) for n in ("deepfool", "ddn")}
    given = Subject((model.to(compute.device),), MultiClass(), prepared, compute, attacks=attacks)  # pyright: ignore
    table = Table(
        "Attack and BTR ARA of 1,000 images", {
            "logical batch": ("count", "`--set robustness.batch=`: images attacked at once"),
            "images": ("count", ""),
            "passes": ("number", "forward and backward passes per image, both goals"),
            "images/s": ("number", "both goals"),
            "time": ("s", "one call, after one with 32 images"),
        }, judged="time",
    )  # fmt: skip

    def scored(batch: int, images: int) -> float:
        made = catalogue().load("evaluation", "robustness")(batch=batch, images=images, sampling="first_n")
        found = made.score(given)
        return sum(found.passes.values())

    for batch in (2, 4) if quick else (20, 250, 1000):
        scored(batch, 2 if quick else 32)
        passes = [0.0]
        took = gpu.waited(lambda batch=batch, passes=passes: passes.append(scored(batch, count)))
        table.add(batch, count, passes[-1], count / took, took, **({} if quick or batch == 20 else {"most": 60.0}))
    if torch.cuda.is_available():
        table.says = f"Largest memory held: {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB."
    return [table]
