"""Trainings in several processes: `python several.py PLACE` is one of them, `start` starts all of them.

Each trains every case on tiny data and keeps what came of it in PLACE/RANK.pt.
"""

import copy
import dataclasses
import functools
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
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
from harness.errors import UsageError
from harness.fit import loop
from harness.fit.shared import shared
from harness.models.classifier import Classifier, GlobalAverageLinear, Normalise
from harness.plugins import Catalogue, catalogue
from harness.recipe import Supervised
from harness.tasks import MultiClass, MultiLabel

SIDE, CLASSES, TRAINING, VALIDATION = 12, 3, 25, 7
TASKS = {"multiclass": MultiClass(), "multilabel": MultiLabel()}
SHORT: dict[str, Any] = {  # batches of 8, 8, 8 and 1: of the last one most processes have no image
    "max_epochs": 3, "batch_size": 8, "learning_rate": 0.05, "augment": "pad_crop_flip",
}  # fmt: skip
MORE: dict[str, list[dict[str, Any]]] = {  # settings that a method's defaults do not try
    "adversarial_training": [{"norm": "l2min"}, {"norm": "linf"}, {"variant": "code", "share": 0.4}],
    "lipschitz": [{"outputs": 2, "zeta": 0.5, "adaptive": True, "target_loss": 4.0}],
    "lipschitz_hhrelu_adversarial": [{"target_loss": 4.0}],  # psi grows
}


@functools.cache
def found() -> Catalogue:
    """Return what can be named: reading it takes longer than a training here."""
    return catalogue()


def cases() -> list[tuple[str, dict[str, Any], str]]:
    """Return (method, settings, task) of every training."""
    names = [c.name for c in found().of("method")]
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


def labels(task: Any) -> np.ndarray:
    """Return 0/1 labels; of several per image a varying number, so that the ratio of a part is not that of all."""
    rng = np.random.default_rng(0)
    found = np.eye(CLASSES, dtype=np.uint8)[rng.integers(0, CLASSES, TRAINING + VALIDATION)]
    return found if task.exclusive else found | (rng.random(found.shape) < 0.4)


def index(task: Any) -> Index:
    names = [f"s{i}" for i in range(TRAINING + VALIDATION)]
    split = ["train"] * TRAINING + ["validation"] * VALIDATION
    samples = pd.DataFrame({"id": names, "patient": names, "split": split})
    return Index(samples, labels(task).astype(np.uint8), ("a", "b", "c"))


def images() -> np.ndarray:
    rng = np.random.default_rng(1)
    found = rng.integers(0, 128, (TRAINING + VALIDATION, 1, SIDE, SIDE)).astype(np.uint8)
    for image, true in zip(found, labels(TASKS["multiclass"]).argmax(1), strict=True):
        image[:, :, 4 * true : 4 * true + 4] += 100
    return found


def fit(method: Supervised, task: Any, folder: Path, model: nn.Module | None = None, **more: Any) -> dict[str, Any]:
    """Train and return the weights kept, those of the last step, what the method remembers, and what train says."""
    compute, table = resolve("cpu"), index(task)
    prepared = Prepared(folder, table, images(), "f")
    parts = [feed(prepared, table.of_split(s), task, compute) for s in ("train", "validation")]
    model = method.adapt(network()) if model is None else model
    result = loop.train(method, model, task, *parts, compute=compute, seed=3, folder=folder,
                        names=lambda i: [f"s{j}" for j in i.tolist()], **more)  # fmt: skip
    found = {"weights": {k: v.clone() for k, v in model.state_dict().items()}, **dataclasses.asdict(result)}
    if together.world().leads:
        last = torch.load(folder / "resume.pt", weights_only=True)
        found |= {"last": last["model"], "memory": last["memory"]}
    return found


def recipe(name: str, changed: dict[str, Any]) -> Supervised:
    return build(found().load("method", name), name, ("test", {**SHORT, **changed}))[0]


def of_all(place: Path, which: Callable[[Any], bool]) -> dict[str, Any]:
    """Train every case that is wanted."""
    return {
        label(case): fit(recipe(case[0], case[1]), TASKS[case[2]], place / f"fit-{number}")
        for number, case in enumerate(cases())
        if which(case)
    }


class Mixing(nn.Module):
    """Centres the images of a batch: no BatchNorm, but as it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x - x.mean(0, keepdim=True)


class Depth(nn.Module):
    """Leaves a random half of the images out, drawn inside a pass."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * (torch.rand(len(x), 1, 1, 1, device=x.device) < 0.5) if self.training else x


class Keeping(Supervised):
    """Punishes what a layer gave, which it kept while the network ran."""

    def step(self, model, batch, task, rng, memory):
        class Kept(nn.Module):
            seen: torch.Tensor

            def forward(self, x):
                self.seen = x
                return x

        kept, before = Kept(), model.features[2]
        model.features[2] = nn.Sequential(before, kept)
        try:
            return self.loss(model, batch, task) + kept.seen.square().mean()
        finally:
            model.features[2] = before


class Hooking(Supervised):
    """The same by a hook."""

    def step(self, model, batch, task, rng, memory):
        handle = model.features[2].register_forward_hook(lambda *_: None)
        try:
            return self.loss(model, batch, task)
        finally:
            handle.remove()


class Weighing(Supervised):
    """Punishes the weights, and features that it asks the network's parts for: right without knowing of anybody."""

    def penalty(self, model, batch, task, rng):
        weights = sum(p.square().sum() for p in model.parameters())
        return 0.05 * weights + model.features(model.normalise(batch.x)).square().mean()


class Teacher(Supervised):
    """Learns from what a copy of the network says of two batches at once, and in part from the size of gradients."""

    def step(self, model, batch, task, rng, memory):
        teacher = copy.deepcopy(model)
        both = torch.cat([batch.x, batch.x.flip(3)])
        logits = model(both)
        loss = task.loss(logits[: len(batch)], batch.y) + (logits - teacher(both).detach()).square().mean()
        gradients = torch.autograd.grad(loss, list(model.head.parameters()), create_graph=True)
        return loss + sum(g.square().sum() for g in gradients)


OTHERS = {"weighing": Weighing, "teacher": Teacher}


def refused(place: Path) -> dict[str, str]:
    """Return what is said of what cannot be shared; "" where it was trained."""
    said = {}
    for name, method, part in (
        ("mixing", Supervised, Mixing()), ("depth", Supervised, Depth()),
        ("keeping", Keeping, nn.Identity()), ("hooking", Hooking, nn.Identity()),
    ):  # fmt: skip
        model = network()
        model.features = nn.Sequential(*model.features, part)
        try:
            fit(method(**SHORT), TASKS["multiclass"], place / name, model)
            said[name] = ""
        except UsageError as error:
            said[name] = str(error)
    return said


def gradients_of_gradients(n: int) -> list[torch.Tensor]:
    """Return the logits of n images, their input gradients, and what follows from both, in double precision."""
    model = nn.Sequential(network().features, nn.Flatten(), nn.Linear(8 * 36, CLASSES)).double()
    torch.manual_seed(7)
    x = torch.rand(n, 1, SIDE, SIDE, dtype=torch.double, requires_grad=True)
    with shared(model):
        logits = model(x)
        (gradient,) = torch.autograd.grad(logits[:, 0].square().sum(), x, create_graph=True)
        loss = nn.functional.cross_entropy(logits, torch.arange(n) % CLASSES) + 3 * gradient.square().sum()
        loss.backward()
    return [logits.detach(), gradient.detach(), x.grad, *(p.grad for p in model.parameters()), *model.buffers()]


def work(place: Path, which: Callable[[Any], bool] = lambda _: True) -> dict[str, Any]:
    """Return what one process, alone or among several, makes of everything."""
    found = of_all(place, which)
    found |= {n: fit(m(**SHORT), TASKS["multiclass"], place / n) for n, m in OTHERS.items()}
    return {"fits": found, "gradients": {n: gradients_of_gradients(n) for n in (7, 6, 3, 2)}}


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


def few(case: tuple[str, dict[str, Any], str]) -> bool:
    """Return whether a case is one of the few that three processes try as well."""
    return case[2] == "multilabel" and case[0] in ("baseline", "robust_fgsm", "lipschitz_hhrelu_adversarial")


def main(place: Path) -> None:
    torch.set_num_threads(1)
    with together.session(), tempfile.TemporaryDirectory() as own:
        mine = together.world()
        folder = place / "fits" if mine.leads else Path(own)
        found = work(folder, few if mine.size > 2 else lambda _: True)
        found["refused"] = refused(folder)
        torch.save(found, place / f"{mine.rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
