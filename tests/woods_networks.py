"""The authors' networks of Woods 2019, where HARNESS_DATA has them."""

import os
from pathlib import Path

from harness.models.activations import with_half_huber
from harness.models.checkpoint import load_into, read_state
from harness.models.woods import resnet44

ROOT = Path(os.environ.get("HARNESS_DATA", "/nowhere")) / "woods2019"


def network(name: str, *, half_huber: bool):
    model = resnet44(num_classes=10, channels=3, mean=(0.5,) * 3, std=(0.25,) * 3)
    if half_huber:
        with_half_huber(model)
    path = ROOT / f"resnet44-{name}.pt"
    load_into(model, read_state(path), path)
    return model.eval()


def network_of(name: str):
    return network(name, half_huber=name in ("all", "robust"))
