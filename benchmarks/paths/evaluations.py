"""The evaluations that ask a network: their time against as many bare passes, from images to per-sample scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from harness.device import resolve
from harness.evaluations.subject import Subject
from harness.plugins import catalogue
from harness.scores.threshold_iou import counts
from harness.tasks import MultiLabel
from paths import subject
from paths.turns import GROWTH, Table, ratio, scaled, seconds, spread, turns

TITLE = "Evaluations"
SAYS = (
    "densenet121_2block with drawn weights on drawn radiographs, explained by the input's gradient (saliency); from "
    "images to one line of scores per image, pictures of the gallery included."
)
EACH: dict[str, tuple[dict[str, Any], int]] = {  # settings, images
    "classification": ({}, 128),
    "insertion_deletion": ({"resolutions": (7,)}, 8),
    "localisation": ({}, 512),
    "randomisation": ({"draws": 2}, 16),
    "infidelity": ({"draws": 16}, 16),
    "sensitivity": ({"draws": 5}, 16),
}


def asked(count: int, size: int, models: int = 1) -> Subject:
    """Return drawn radiographs and a network, as an evaluation is given them."""
    nets = tuple(subject.chest(i) for i in range(models))
    return Subject(nets, MultiLabel(), subject.radiographs(count, size), resolve("cpu", "fp32"))  # pyright: ignore


def scoring(name: str, given: Subject, **settings: Any) -> Callable[[], Any]:
    """Return the call that scores."""
    made = catalogue().load("evaluation", name)(**settings)
    explainer = catalogue().load("explainer", "saliency")()
    return lambda: made.score(given) if name == "classification" else made.score(given, explainer)


def measure(quick: bool) -> list[Table]:
    size, n, rounds = (56, 4, 1) if quick else (112, 512, 3)
    given = asked(n, size)
    model = given.models[0]
    bare = subject.Bare(model, given.feed(given.positions).batch(given.positions).x)
    table = Table(
        "Against as many bare passes", {
            "evaluation": ("text", ""),
            "images": ("count", "scored, or pairs of an image and a box"),
            "forward": ("number", "forward passes per image that it says it made"),
            "both": ("number", "forward and backward passes per image"),
            "per image": ("ms", "median of the rounds"),
            "time / bare": ("ratio", "its seconds over those of as many bare passes, 1 to 64 at once"),
        }, judged="time / bare",
    )  # fmt: skip
    for name, (settings, count) in EACH.items():
        if quick and name not in ("localisation", "infidelity"):
            continue
        limited = replace(given, limit=min(n, count))
        work = scoring(name, limited, **settings)
        found = work()
        images = len(found.samples["id"].unique()) if "id" in found.samples else len(limited.positions)
        forwards, backwards = (found.passes.get(k, 0.0) for k in ("forward", "backward"))
        forwards = forwards or (0.0 if backwards else 1.0)
        times, ratios = [], []
        for _ in range(rounds):
            expected = bare.seconds(forwards, backwards)
            times.append(seconds(work) / images)
            ratios.append(times[-1] / expected)
        title = ", ".join([name, *(f"{k} {v[0] if isinstance(v, tuple) else v}" for k, v in settings.items())])
        table.add(title, images, forwards, backwards, 1000 * spread(times)[0], spread(ratios), most=1.15)
    return [table, thresholds(quick), growth(quick)]


def thresholds(quick: bool) -> Table:
    """All 256 thresholds of a map in one pass against one pass for each."""
    from thresholds import passes

    pairs, size = (4, 56) if quick else (96, 224)
    rng = torch.Generator().manual_seed(0)
    levels = torch.randint(0, 256, (pairs, size, size), generator=rng, dtype=torch.uint8)
    mask = torch.zeros(pairs, size, size, dtype=torch.bool)
    mask[:, size // 4 : size // 2, size // 3 : size // 2] = True
    assert all(torch.equal(a, b) for a, b in zip(counts(levels, mask), passes(levels, mask), strict=True))
    found = turns({"one": lambda: counts(levels, mask), "each": lambda: passes(levels, mask)}, 1 if quick else 3)
    table = Table(
        "All 256 thresholds of localisation", {
            "maps": ("text", ""),
            "one pass": ("s", "by one histogram inside the box and one outside"),
            "256 passes": ("s", "threshold by threshold; the same counts"),
            "times faster": ("ratio", ""),
        }, judged="times faster",
    )  # fmt: skip
    row = (f"{pairs} at {size} px", spread(found["one"])[0], spread(found["each"])[0])
    table.add(*row, ratio(found["each"], found["one"]), **({} if quick else {"least": 50}))
    return table


def growth(quick: bool) -> Table:
    table = Table("As the work grows", {"evaluation": ("text", ""), "size": ("count", "of what is named"), **GROWTH})
    if quick:
        scaled(table, "infidelity: images", (2, 4), lambda n: scoring("infidelity", asked(n, 56), draws=2, images=n), 1)
        return table
    scaled(table, "infidelity, 8 squares: images", (16, 32, 64),
           lambda n: scoring("infidelity", asked(n, 56), draws=8, images=n), 3)  # fmt: skip
    scaled(table, "insertion_deletion, 2 images: cells per side (50 steps at most)", (7, 14, 28),
           lambda r: scoring("insertion_deletion", asked(2, 56), resolutions=(r,)), 2)  # fmt: skip
    scaled(table, "localisation: pairs", (32, 64, 128), lambda n: scoring("localisation", asked(n, 56)), 3)
    return table
