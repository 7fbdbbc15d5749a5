"""Every attack against as many bare passes, and how its cost grows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from harness.attacks.algorithm1 import algorithm1
from harness.attacks.ddn import ddn
from harness.attacks.deepfool import deepfool
from harness.attacks.goals import Adversarial, BetterThanRandom
from harness.attacks.pgd import pgd
from harness.attacks.strongest import strongest
from paths import subject
from paths.turns import GROWTH, Table, scaled, seconds, spread

TITLE = "Attacks"
SAYS = "Measured on {subject}. A bare pass takes no look at the goal and keeps nothing."
GOALS = {"adv": Adversarial, "btr": BetterThanRandom}
STEPS = 20  # of pgd


def measure(quick: bool) -> list[Table]:
    model = subject.network()
    x, y = subject.images(model, 4 if quick else 32)
    bare, rounds, n = subject.Bare(model, x), 1 if quick else 3, len(x)
    table = Table(
        "Against as many bare passes", {
            "attack": ("text", ""),
            "goal": ("text", "adv: another class wins; btr: the true class falls below chance"),
            "images": ("count", "attacked at once"),
            "passes": ("number", "forward and backward passes per image, the mean of those that it made"),
            "per image": ("ms", "median of the rounds"),
            "time / bare": ("ratio", "its seconds over those of as many bare passes, 1 to 64 at once"),
        }, judged="time / bare",
    )  # fmt: skip
    every: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {
        "deepfool, 10 steps": (deepfool, ("adv", "btr")),
        "ddn, 60 steps": (ddn, ("adv",)),
        "fast: both": (partial(strongest, attacks={"deepfool": deepfool, "ddn": ddn}), ("adv", "btr")),
        "algorithm1, 50 steps of the program": (partial(algorithm1, variant="code", steps=50), ("adv",)),
    }
    for title, (attack, goals) in list(every.items())[: 1 if quick else None]:
        for goal in goals:
            aim = GOALS[goal](y[:n])

            def work(attack=attack, aim=aim) -> Any:
                return attack(model, x[:n], aim)

            passes = float(work().passes.float().mean())
            times, ratios = [], []
            for _ in range(rounds):
                expected = bare.seconds(0, passes)
                times.append(seconds(work) / n)
                ratios.append(times[-1] / expected)
            table.add(title, goal, n, passes, 1000 * spread(times)[0], spread(ratios), most=1.15)
    ball = {"norm": "linf", "radius": 1e-6, "steps": 2 if quick else STEPS}  # too small to fool: no image ends early
    times, ratios = [], []
    for _ in range(rounds):
        expected = bare.seconds(2, ball["steps"])
        times.append(seconds(lambda: pgd(model, x[:n], Adversarial(y[:n]), **ball)) / n)
        ratios.append(times[-1] / expected)
    title = f"pgd, {ball['steps']} steps, linf"
    table.add(title, "adv", n, ball["steps"] + 2, 1000 * spread(times)[0], spread(ratios), most=1.15)
    grown = Table("As the work grows", {"attack": ("text", ""), "size": ("count", "of what is named"), **GROWTH})
    few, sizes = (1, (2, 4)) if quick else (3, (8, 16, 32))

    def descended(n: int, steps: int) -> Callable[[], Any]:
        return lambda: pgd(model, x[:n], Adversarial(y[:n]), norm="linf", radius=1e-6, steps=steps)

    def shrunk(n: int, steps: int) -> Callable[[], Any]:
        return lambda: ddn(model, x[:n], Adversarial(y[:n]), steps=steps)

    scaled(grown, "pgd, 10 steps: images", sizes, lambda k: descended(k, 10), few)
    if not quick:
        scaled(grown, "ddn, 20 steps: images", sizes, lambda k: shrunk(k, 20), few)
        scaled(grown, "pgd, 8 images: steps", (10, 20, 40), lambda k: descended(8, k), few)
        scaled(grown, "ddn, 8 images: steps", (15, 30, 60), lambda k: shrunk(8, k), few)
    return [table, grown]
