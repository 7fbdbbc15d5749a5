"""Every explainer on a GPU in fp32 and bf16: images per second, and whether both say the same."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from harness.device import ran_out
from harness.errors import UsageError
from harness.scores.agreement import rank_agreement, top_overlap
from paths import gpu, subject
from paths.explainers import made
from paths.gpu import machine as machine
from paths.turns import Table, spread

TITLE = "Explainers on a GPU"
SAYS = "Settings are the defaults. 32 px: {subject}."
SMALL = {  # images at once, other settings
    "saliency": (512, {}), "cam": (512, {}), "gradcam": (512, {}), "mask": (256, {}), "integrated_gradients": (64, {}),
    "smoothgrad": (64, {}), "occlusion": (64, {}), "lime": (16, {}), "rise": (16, {}), "adversarial": (128, {}),
    "igos": (64, {"cells": 8}), "igos_p": (64, {"cells": 8}), "igos_pp": (64, {"cells": 8}),
}  # fmt: skip
LARGE = {name: (16, {"cells": 28}) for name in ("igos", "igos_pp")}
QUICK = ("saliency", "igos")


def resnet50() -> nn.Module:
    """Return torchvision's ResNet-50 with drawn weights."""
    from torchvision.models import resnet50

    torch.manual_seed(0)
    return resnet50().eval().requires_grad_(False)


def explained(call: Callable[..., Any], model: nn.Module, x: Tensor, y: Tensor, precision: str, quick: bool,
              again: int) -> tuple[Any, float]:  # fmt: skip
    """Return an explanation and the images per second."""
    seeds = torch.arange(len(x))
    with gpu.compute(quick, precision).autocast():
        found = call(model, x, y, seeds=seeds)
        took = [gpu.waited(lambda: call(model, x, y, seeds=seeds)) for _ in range(again)]
    return found, len(x) / spread(took)[0]


def fitting(work: Callable[[int], Any], most: int) -> tuple[int, Any]:
    """Return how many images fit, `most` or half as many as often as needed, and what `work` makes of as many.

    Raises `UsageError` where a single one does not fit.
    """
    while True:
        try:
            return most, work(most)
        except (RuntimeError, MemoryError) as error:
            if not ran_out(error):
                raise
        if most == 1:
            raise UsageError("out of memory with a single image; free the GPU's memory or take a larger one.")
        torch.cuda.empty_cache()  # what the failed call has left in pieces
        most //= 2


def rows(table: Table, label: str, model: nn.Module, x: Tensor, y: Tensor, chosen: dict[str, Any], quick: bool) -> None:
    compute = gpu.compute(quick)
    model = model.to(compute.device, memory_format=compute.memory_format)
    for name in [n for n in chosen if n in QUICK or not quick]:
        most, settings = chosen[name]
        n, again = min(2 if quick else most, len(x)), 1 if quick or name.startswith("igos") else 3
        if quick and "cells" in settings:
            settings = {"iterations": 2, "points": 4, "cells": 8}
        try:
            call = made(name, **settings)

            def both(n: int, call: Callable[..., Any] = call, again: int = again) -> list[tuple[Any, float]]:
                images = x[:n].to(compute.device, memory_format=compute.memory_format)
                labels = y[:n].to(compute.device)
                return [explained(call, model, images, labels, p, quick, again) for p in gpu.PRECISIONS]

            n, ((fine, exact), (coarse, fast)) = fitting(both, n)
        except UsageError as error:  # a library that is not installed, or no room
            print(f"  {name}: not measured: {str(error).splitlines()[0]}", file=sys.stderr, flush=True)
            continue
        maps = [e.heat.float().cpu() for e in (coarse, fine)]
        agreed = (rank_agreement(*maps).nanmean().item(), top_overlap(*maps, top=0.1).nanmean().item())
        table.add(label, name, n, coarse.forwards, coarse.backwards, exact, fast, fast / exact,
                  *(None if math.isnan(a) else a for a in agreed))  # fmt: skip


def measure(quick: bool) -> list[Table]:
    table = Table(
        "Images per second", {
            "network": ("text", ""),
            "explainer": ("text", ""),
            "images": ("count", "explained at once"),
            "forward": ("count", "forward passes per image that it says it made, in bf16"),
            "both": ("count", "forward and backward passes per image"),
            "fp32, images/s": ("number", ""),
            "bf16, images/s": ("number", "the whole explainer under autocast"),
            "gain": ("ratio", ""),
            "rank": ("ratio", "Spearman's correlation of the maps of both, the mean over images"),
            "top": ("ratio", "overlap of their highest tenth; chance is 0.1"),
        },
    )  # fmt: skip
    model = subject.network()
    x, y = subject.images(model, 4 if quick else 512)
    rows(table, "resnet44, 32 px", model, x, y, SMALL, quick)
    if not quick:
        photos = subject.smooth(16, 3, 224, 1)
        rows(
            table, "ResNet-50 of torchvision, drawn weights, 224 px", resnet50(), photos, torch.arange(16), LARGE, quick
        )
    return [table]
