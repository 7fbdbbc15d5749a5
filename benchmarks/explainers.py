"""What explanations cost: the fast search of I-GOS and iGOS++ against the full one, and seconds against bare passes.

    HARNESS_DATA=FOLDER OMP_NUM_THREADS=1 python benchmarks/explainers.py search [--net resnet44-all] [--images 50] \
        [--cells 8] [--points 20] [--l1 1] [--l2 20] [--explainer igos_pp]
    HARNESS_DATA=FOLDER OMP_NUM_THREADS=1 python benchmarks/explainers.py time [--net resnet44-all] [--images 8] \
        [--rounds 7] [--explainer igos_pp]

search: both searches of the same images with the same settings and points. Passes (a forward and backward pass counted
as 2.5 forward ones, and counted alike), the objective of the masks that were found, looked at anew with the same noise
for both (16 draws, none of them the searches' own), and insertion and deletion, paired, with 95 % intervals over the
images (1,000 resamples). Targets: 0.40 of the passes, 1.01 of the objective, the loss in either area below 0.01. With
`--net efficientnet-lite0 --cells 28` on photos of imagenet_sample, the first of the order that all evaluations share.

time: seconds of every explainer over those of as many bare passes, forward alone or with an input gradient, each at the
fastest batch size; they take turns, medians are compared (target: 1.15). Nothing else may run meanwhile.
"""

import argparse
import os
import statistics
from functools import partial
from typing import Any

import numpy as np
import torch
from attacks import NETS, bare, fastest_batch, images, network, seconds

from harness.data.decode import to_size
from harness.data.roots import find_root
from harness.device import resolve
from harness.evaluations.masked import both_ways
from harness.evaluations.subject import fixed_order
from harness.explainers.igos import IGOS, IGOSPlusPlus, Masked
from harness.explainers.mask_noise import Noise
from harness.explainers.mask_objective import Objective
from harness.explainers.masks import heat_of
from harness.masking import blurred
from harness.models.checkpoint import load_into
from harness.plugins import catalogue
from harness.scores.insertion import counts, deletion, insertion
from harness.zoo import names

BACKWARD = 2.5  # forward passes that a forward and backward pass costs
DRAWS, FIRST_DRAW = 16, 10_000  # of noise that no search has drawn
PHOTO_NET = "efficientnet-lite0"
BATCH = {PHOTO_NET: 2}  # images searched together, else 10
SEARCHED = {"igos": IGOS, "igos_pp": IGOSPlusPlus}
FEW = {"iterations": 3, "points": 10}  # enough to time: all iterations cost alike
TIMED = {
    "saliency": {}, "gradcam": {}, "cam": {}, "integrated_gradients": {}, "smoothgrad": {}, "occlusion": {},
    "lime": {"samples": 256}, "rise": {"masks": 256}, "mask": {"iterations": 30}, "igos": FEW, "igos_p": FEW,
    "igos_pp": FEW,
}  # fmt: skip


def photos(count: int) -> torch.Tensor:
    """Return the first photos of imagenet_sample in the order that all evaluations share, (count,3,224,224)."""
    data = catalogue().load("dataset", "imagenet_sample")()
    root = find_root(data, "imagenet_sample")
    samples = data.index(root).samples
    chosen = samples.iloc[np.sort(fixed_order(len(samples))[:count])].to_dict("records")
    return torch.stack([torch.from_numpy(to_size(data.read(row, root), data.size)) for row in chosen]) / 255


def subject(name: str, count: int) -> tuple[torch.nn.Module, torch.Tensor]:
    """Return a network and images of its data."""
    if name != PHOTO_NET:
        return network(name), images(count)[0]
    found = names.find("zoo:efficientnet_lite/efficientnet_lite0", "imagenet_sample")
    model = found.build()
    load_into(model, found.weights.state(), found.weights.place)
    model.eval().requires_grad_(False)
    return model.to(memory_format=torch.channels_last), photos(count).to(memory_format=torch.channels_last)


def interval(values: np.ndarray, over: np.ndarray | None = None) -> str:
    """Return the mean of one value per image, or the ratio of two means, with its 95 % interval."""
    draws = np.random.default_rng(1776).integers(len(values), size=(1000, len(values)))
    below = 1.0 if over is None else over.mean()
    each = values[draws].mean(1) / (1.0 if over is None else over[draws].mean(1))
    low, high = np.quantile(each, [0.025, 0.975])
    return f"{values.mean() / below:.4f} [{low:.4f}, {high:.4f}]"


class Seen:
    """The searches' results for some images: what their masks are worth, by a judge that is the same for both."""

    def __init__(self, explainer: Masked, model: torch.nn.Module, x: torch.Tensor, target: torch.Tensor, cells: int):
        baseline, seeds = blurred(x), torch.arange(len(x))
        found = explainer.find(model, x, target, seeds=seeds, baseline=baseline)
        objective = Objective(
            model, x, baseline, target, explainer._terms(), 20, explainer._cost(x, cells), Noise(seeds, 0.045)
        )
        with torch.no_grad():
            worth = [objective.value(found.masks, FIRST_DRAW + draw) for draw in range(DRAWS)]
        shown, hidden = both_ways(
            model, x, target, heat_of(explainer._final(found.masks), found.values), seeds, cells, at_once=32
        )
        count = counts(cells * cells)
        self.columns = {
            "forwards": found.forwards,
            "backwards": found.backwards,
            "objective": torch.stack(worth).mean(0),
            "insertion": insertion(shown.double(), count, "protocol"),
            "deletion": deletion(hidden.double(), count, "protocol"),
        }


def search(name: str, count: int, only: list[str], **settings: Any) -> None:
    model, x = subject(name, count)
    with torch.no_grad():
        target = model(x).argmax(1)
    for title in only:
        kind = SEARCHED[title]
        parts: dict[str, dict[str, list[torch.Tensor]]] = {"fast": {}, "full": {}}
        for rows in torch.arange(count).split(BATCH.get(name, 10)):
            for way, columns in parts.items():
                seen = Seen(kind(search=way, **settings), model, x[rows], target[rows], settings["cells"])
                for column, values in seen.columns.items():
                    columns.setdefault(column, []).append(values)
        fast, full = ({c: torch.cat(v).double().numpy() for c, v in columns.items()} for columns in parts.values())
        cost = {way: f["forwards"] + BACKWARD * f["backwards"] for way, f in (("fast", fast), ("full", full))}
        alike = {way: f["forwards"] + f["backwards"] for way, f in (("fast", fast), ("full", full))}
        print(f"{name} {title}, {settings}, n = {count}")
        for way, f in (("fast", fast), ("full", full)):
            print(f"  {way}: {f['forwards'].mean():.0f} forward, {f['backwards'].mean():.0f} forward and backward; "
                  f"objective {f['objective'].mean():.4f}, insertion {f['insertion'].mean():.4f}, deletion "
                  f"{f['deletion'].mean():.4f}")  # fmt: skip
        print(f"  passes, weighted: {interval(cost['fast'], cost['full'])}; alike: "
              f"{interval(alike['fast'], alike['full'])}")  # fmt: skip
        print(f"  objective, fast minus full: {interval(fast['objective'] - full['objective'])}; lower on "
              f"{(fast['objective'] < full['objective']).sum()} of {count}")  # fmt: skip
        print(f"  lost insertion: {interval(full['insertion'] - fast['insertion'])}; lost deletion: "
              f"{interval(fast['deletion'] - full['deletion'])}", flush=True)  # fmt: skip


def forward(model: torch.nn.Module, x: torch.Tensor) -> None:
    with torch.no_grad():
        model(x)


def time(name: str, count: int, rounds: int, only: list[str] | None) -> None:
    model, (x, y) = network(name), images(count)
    seeds = torch.arange(count)
    parts = {}
    for kind, size in (("forward", fastest_batch(model, x, forward)[0]), ("backward", fastest_batch(model, x)[0])):
        parts[kind] = x.repeat(-(-size // count), 1, 1, 1)[:size].contiguous(memory_format=torch.channels_last)
    for title, settings in TIMED.items():
        if only and title not in only:
            continue
        call = partial(catalogue().load("explainer", title)(**settings), model, x, y, seeds=seeds)
        said = call()
        ratios, times = [], []
        for _ in range(rounds):
            once = statistics.median(seconds(lambda: forward(model, parts["forward"])) for _ in range(3))
            both = statistics.median(seconds(lambda: bare(model, parts["backward"])) for _ in range(3))
            expected = said.forwards * once / len(parts["forward"]) + said.backwards * both / len(parts["backward"])
            times.append(seconds(call) / count)
            ratios.append(times[-1] / expected)
        print(f"{name} {title:21} {said.forwards:7.0f} forward {said.backwards:7.0f} forward and backward  "
              f"{statistics.median(times) * 1000:8.1f} ms per image  {statistics.median(ratios):.2f} x bare passes",
              flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("search", "time"))
    parser.add_argument("--net", choices=(*NETS, PHOTO_NET), action="append")
    parser.add_argument("--images", type=int)
    parser.add_argument("--cells", type=int, default=8)
    parser.add_argument("--points", type=int, default=20)
    parser.add_argument("--l1", type=float)
    parser.add_argument("--l2", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--explainer", choices=TIMED, action="append")
    options = parser.parse_args()
    resolve("cpu")
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    for name in options.net or ["resnet44-all"]:
        if options.what == "search":
            settings = {k: getattr(options, k) for k in ("cells", "points", "l1", "l2")}
            search(name, options.images or 50, options.explainer or list(SEARCHED), **settings)
        else:
            time(name, options.images or 8, options.rounds, options.explainer)


if __name__ == "__main__":
    main()
