"""What each built-in component gives on tiny data, kept in golden.json: a change asks for another version.

A stored result is found again by the versions of what made it, so code that gives something else under the same version
would pass old results off as its own.

python tests/test_golden.py     add what is new, and what has another version
"""

import json
import os
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from harness.attacks.goals import Adversarial
from harness.config import build
from harness.data.batches import feed
from harness.data.cache import Prepared
from harness.data.index import Index
from harness.device import resolve
from harness.fit.loop import FIT_VERSION, train
from harness.models.classifier import Classifier, GlobalAverageLinear, Normalise
from harness.plugins import Component, catalogue
from harness.tasks import MultiClass

GOLDEN = Path(__file__).with_name("golden.json")
CHEAP = {"l1": 0.001, "l2": 0.001}  # weights at which a mask of these images is worth something
MASKS = {"igos": CHEAP, "igos_p": CHEAP, "igos_pp": CHEAP}
SIDE, CLASSES = 16, 3


def data(n: int = 32) -> tuple[torch.Tensor, np.ndarray]:
    """Images (n,1,S,S) uint8 whose class is the third that is brightest, and their labels."""
    rng = np.random.default_rng(0)
    labels = np.arange(n) % CLASSES
    images = rng.integers(0, 128, (n, 1, SIDE, SIDE), np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[:, :, label * 5 : label * 5 + 5] += 100
    return torch.from_numpy(images), labels


def network() -> Classifier:
    torch.manual_seed(0)
    features = nn.Sequential(
        nn.Conv2d(1, 6, 3, stride=2, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 8, 3, padding=1), nn.ReLU()
    )
    return Classifier(Normalise((0.4,), (0.25,)), features, GlobalAverageLinear(8, CLASSES), num_classes=CLASSES)


def of_method(component: Component) -> torch.Tensor:
    """Losses of a training of a few steps, and what the network then says."""
    thing = component.load()
    smoke = getattr(thing, "smoke", {}) | {"max_epochs": 2}
    method, _ = build(thing, component.name, ("smoke", {k: v for k, v in smoke.items() if v is not None}))
    images, labels = data()
    names = [str(i) for i in range(len(images))]
    samples = pd.DataFrame({"id": names, "patient": names, "split": ["train"] * 24 + ["validation"] * 8})
    index = Index(samples, np.eye(CLASSES, dtype=np.uint8)[labels], ("a", "b", "c"))
    with tempfile.TemporaryDirectory() as place:
        prepared = Prepared(Path(place), index, images.numpy(), "f")
        compute = resolve("cpu")
        parts = [feed(prepared, index.of_split(s), MultiClass(), compute) for s in ("train", "validation")]
        model = method.adapt(network())
        result = train(method, model, MultiClass(), *parts, compute=compute, seed=0, folder=Path(place) / "fit",
                       names=lambda i: [str(j) for j in i.tolist()])  # fmt: skip
    with torch.no_grad():
        logits = model.eval()(images[:4] / 255)
    return torch.cat([torch.tensor([result.best_validation_loss]), logits.flatten()])


def of_model(component: Component) -> torch.Tensor:
    """The size of its first and last weights, and their number."""
    torch.manual_seed(0)
    model = component.load()(num_classes=5, channels=1, mean=(0.5,), std=(0.25,))
    first, *_, last = (p for p in model.parameters() if p.ndim > 1)
    return torch.stack([first.norm(), last.norm(), torch.tensor(float(sum(p.numel() for p in model.parameters())))])


def of_explainer(component: Component) -> torch.Tensor:
    """A few cells of the maps, and the passes."""
    model, (images, labels) = network().eval().requires_grad_(False), data(4)
    settings = getattr(component.load(), "smoke", {}) | MASKS.get(component.name, {})
    explainer, _ = build(component.load(), component.name, ("smoke", settings))
    found = explainer(model, images / 255, torch.from_numpy(labels), seeds=torch.arange(4))
    heat = nn.functional.adaptive_avg_pool2d(found.heat[:, None], 2).flatten()
    return torch.cat([heat, torch.tensor([found.forwards, found.backwards])])


def thirds() -> Classifier:
    """A network that tells the classes of `data` apart: by the brightness of each third, bent a little."""
    template = torch.zeros(CLASSES, SIDE, SIDE)
    for k in range(CLASSES):
        template[k, :, k * 5 : k * 5 + 5] = 0.05 + 0.01 * torch.arange(5)
    head = nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, CLASSES))
    with torch.no_grad():
        head[1].weight.copy_(template.flatten(1))
        head[1].bias.zero_()
    return Classifier(Normalise((0.4,), (0.25,)), nn.Tanh(), head, num_classes=CLASSES).eval().requires_grad_(False)


def of_attack(component: Component) -> torch.Tensor:
    """How far it moved each image."""
    model, (images, labels) = thirds(), data(6)
    x, y, attack = images / 255, torch.from_numpy(labels), component.load()
    assert (model(x).argmax(1) == y).all()
    if component.options["finds"] == "minimal":
        return attack(model, x, Adversarial(y)).rmse
    if component.options["finds"] == "bounded":
        return (attack(model, x, Adversarial(y), norm="l2", radius=0.05) - x).abs().flatten(1).mean(1)
    return (attack(model, x, y, nn.functional.cross_entropy, epsilon=0.02) - x).abs().flatten(1).mean(1)


OUTPUTS = {"method": of_method, "model": of_model, "explainer": of_explainer, "attack": of_attack}
LIBRARY = ("foolbox_", "explain")  # another library's attacks have its version; `explain` is the explainer adversarial
COMPONENTS = [c for c in catalogue().components if c.kind in OUTPUTS and not c.name.startswith(LIBRARY)]


def version(component: Component) -> str:
    return f"{component.version}, fit {FIT_VERSION}" if component.kind == "method" else str(component.version)


def outputs(component: Component) -> list[float]:
    return [float(f"{v:.6g}") for v in OUTPUTS[component.kind](component).double().tolist()]


@pytest.mark.parametrize("component", COMPONENTS, ids=lambda c: f"{c.kind}-{c.name}")
def test_what_it_gives_is_what_its_version_gave(component: Component):
    known = json.loads(GOLDEN.read_text())
    name = f"{component.kind} {component.name}"
    assert name in known, f"{name} is new: python tests/test_golden.py"
    kept = known[name]
    assert kept["version"] == version(component), f"{name} has another version: python tests/test_golden.py"
    few = 1e-3 * float(np.median(np.abs(kept["values"])))  # another processor adds in another order
    assert outputs(component) == pytest.approx(kept["values"], rel=5e-3, abs=few), (
        f"{name} gives something else under version {kept['version']}: raise its version (of a method: its own, or "
        "FIT_VERSION where all trainings change), or mend what changed it"
    )


def test_nothing_is_kept_of_what_is_gone():
    assert set(json.loads(GOLDEN.read_text())) == {f"{c.kind} {c.name}" for c in COMPONENTS}


def main() -> None:
    torch.set_num_threads(1)
    known = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    found = {}
    for component in COMPONENTS:
        name = f"{component.kind} {component.name}"
        if known.get(name, {}).get("version") == version(component):
            found[name] = known[name]
        else:
            found[name] = {"version": version(component), "values": outputs(component)}
            print("written:", name)
    lines = ",\n".join(f'"{name}": {json.dumps(entry)}' for name, entry in sorted(found.items()))
    GOLDEN.write_text("{\n" + lines + "\n}\n")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
