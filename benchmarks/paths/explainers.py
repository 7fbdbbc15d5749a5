"""Every explainer against as many bare passes, and how its cost grows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from harness.plugins import catalogue
from paths import subject
from paths.turns import GROWTH, Table, scaled, seconds, spread

TITLE = "Explainers"
FEW = {"iterations": 2, "points": 8}  # enough to time: all iterations cost alike
TIMED: dict[str, tuple[dict[str, Any], int]] = {  # settings, images at once
    "saliency": ({}, 32), "cam": ({}, 32), "gradcam": ({}, 32), "mask": ({"iterations": 20}, 32),
    "integrated_gradients": ({}, 8), "smoothgrad": ({}, 8), "occlusion": ({}, 8), "lime": ({"samples": 128}, 8),
    "rise": ({"masks": 128}, 8), "adversarial": ({"steps": 20}, 16), "igos": (FEW, 8), "igos_p": (FEW, 8),
    "igos_pp": (FEW, 8),
}  # fmt: skip
SAYS = "Measured on {subject}."


def made(name: str, **settings: Any) -> Callable[..., Any]:
    return catalogue().load("explainer", name)(**settings)


def measure(quick: bool) -> list[Table]:
    model = subject.network()
    x, y = subject.images(model, 4 if quick else 32)
    bare, rounds = subject.Bare(model, x), 1 if quick else 5
    passes = Table(
        "Against as many bare passes", {
            "explainer": ("text", ""),
            "images": ("count", "explained at once"),
            "forward": ("count", "forward passes per image that it says it made"),
            "both": ("count", "forward and backward passes per image"),
            "per image": ("ms", "median of the rounds"),
            "time / bare": ("ratio", "its seconds over those of as many bare passes, 1 to 64 at once"),
        }, judged="time / bare",
    )  # fmt: skip
    for name, (settings, most) in TIMED.items():
        if quick and name not in ("saliency", "cam", "rise"):
            continue
        call, n = made(name, **settings), min(most, len(x))
        rows = slice(0, n)

        def work(call=call, rows=rows, n=n) -> Any:
            return call(model, x[rows], y[rows], seeds=torch.arange(n))

        found = work()
        times, ratios = [], []
        for _ in range(rounds):
            expected = bare.seconds(found.forwards, found.backwards)
            times.append(seconds(work) / n)
            ratios.append(times[-1] / expected)
        title = ", ".join([name, *(f"{v} {k}" for k, v in settings.items())])
        passes.add(title, n, found.forwards, found.backwards, 1000 * spread(times)[0], spread(ratios), most=1.15)
    return [passes, growth(model, x, y, quick)]


def growth(model: Any, x: torch.Tensor, y: torch.Tensor, quick: bool) -> Table:
    table = Table("As the work grows", {"explainer": ("text", ""), "size": ("count", "of what is named"), **GROWTH})

    def with_images(name: str, **settings: Any) -> Callable[[int], Callable[[], Any]]:
        call = made(name, **settings)
        return lambda n: lambda: call(model, x[:n], y[:n], seeds=torch.arange(n))

    def with_setting(name: str, setting: str, n: int, **others: Any) -> Callable[[int], Callable[[], Any]]:
        def of(value: int) -> Callable[[], Any]:
            call = made(name, **{setting: value}, **others)
            return lambda: call(model, x[:n], y[:n], seeds=torch.arange(n))

        return of

    def with_side(name: str, n: int, **settings: Any) -> Callable[[int], Callable[[], Any]]:
        call = made(name, **settings)

        def of(side: int) -> Callable[[], Any]:
            large = torch.nn.functional.interpolate(x[:n], size=(side, side)).to(memory_format=torch.channels_last)
            return lambda: call(model, large, y[:n], seeds=torch.arange(n))

        return of

    if quick:
        scaled(table, "saliency: images", (2, 4), with_images("saliency"), 1)
        return table
    scaled(table, "saliency: images", (8, 16, 32), with_images("saliency"), 5)
    scaled(table, "lime, 64 samples: images", (4, 8, 16), with_images("lime", samples=64), 3)
    scaled(
        table,
        "integrated_gradients, 4 images: steps",
        (10, 20, 40),
        with_setting("integrated_gradients", "steps", 4),
        3,
    )
    scaled(table, "rise, 4 images: masks", (64, 128, 256), with_setting("rise", "masks", 4), 3)
    scaled(table, "lime, 4 images: samples", (64, 128, 256), with_setting("lime", "samples", 4), 3)
    fixed = {"iterations": 2, "points": 5, "search": "fixed"}
    scaled(table, "igos_pp, 4 images: cells per side", (4, 8, 16, 32), with_setting("igos_pp", "cells", 4, **fixed), 3)
    scaled(table, "igos_pp, 4 images: points", (5, 10, 20),
           with_setting("igos_pp", "points", 4, iterations=2, search="fixed"), 3)  # fmt: skip
    scaled(
        table, "saliency, 8 images: pixels per side (pixels grow fourfold)", (32, 64, 128), with_side("saliency", 8), 3
    )
    scaled(table, "occlusion, 2 images: pixels per side (pixels grow fourfold)", (32, 64), with_side("occlusion", 2), 3)
    return table
