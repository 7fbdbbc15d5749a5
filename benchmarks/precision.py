"""What bf16 changes: every metric of the same networks in fp32 and under bf16 autocast, and training in either.

    HARNESS_DATA=FOLDER OMP_NUM_THREADS=1 python benchmarks/precision.py metrics [--images 40] [--net resnet44-all]
    HARNESS_DATA=FOLDER OMP_NUM_THREADS=1 python benchmarks/precision.py maps [--images 24]
    OMP_NUM_THREADS=1 python benchmarks/precision.py training [--size 64] [--epochs 2] [--seeds 2]

metrics: whole evaluations on the authors' networks of Woods 2019 and images of CIFAR-10, once as they are and once
with the network and its gradients under autocast, all else in fp32. maps: how far the heat maps of both agree, image
by image, and what the smallest perturbations found in bf16 are worth in fp32. training: the phantom's baseline, the
same seeds in both formats, scored in fp32; then the networks of fp32 scored in bf16, with boxes. Differences are
bf16 - fp32 on the same images, paired, with 95 % intervals over the images (1,000 resamples), * where these exclude
0. Not a timing: other work may run meanwhile. Processors with AVX-512 BF16 multiply in bf16, others emulate it.
"""

import argparse
import copy
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from attacks import NETS, images, network
from torch import nn

from harness import compare, stats
from harness.attacks.ddn import ddn
from harness.attacks.deepfool import deepfool
from harness.attacks.goals import Adversarial
from harness.attacks.strongest import strongest
from harness.console import Reporter
from harness.data.cache import Prepared
from harness.data.index import Index
from harness.device import resolve
from harness.evaluations.subject import Subject
from harness.metrics.cells import cells, registration
from harness.metrics.robustness import RobustnessTable
from harness.metrics.summary import TABLES, builtin, joint
from harness.plan import RunSpec, make
from harness.plugins import catalogue
from harness.run import execute, prepare_data
from harness.scores.agreement import rank_agreement, top_overlap
from harness.store import RunFolder
from harness.tasks import MultiClass
from harness.trained import Work, load

NAMES = tuple("abcdefghij")
SMALL = {"resamples": 1}
EVALUATIONS: dict[str, tuple[str, dict[str, Any]]] = {  # name: explainer, settings; images are as many as asked for
    "classification": ("", {}),
    "robustness": ("", {"images": 1.0, "black_box": "none"}),
    "robust_accuracy": ("", {"images": 1.0}),
    "gradient_bound": ("", {"images": 1.0}),
    "insertion_deletion": ("saliency", {"images": 1.0}),
    "infidelity": ("saliency", {"images": 1.0}),
    "sensitivity": ("saliency", {"images": 0.5}),
    "randomisation": ("saliency", {"images": 0.5, "draws": 2}),
    "alignment": ("cam", {"images": 1.0}),
    "adversarial_explanations": ("", {"images": 0.5}),
}
MAPS: dict[str, dict[str, Any]] = {
    "saliency": {}, "cam": {}, "gradcam": {}, "integrated_gradients": {"steps": 20}, "occlusion": {},
    **{name: {"iterations": 5, "points": 5, "l1": 0.1, "l2": 2.0} for name in ("igos", "igos_pp")},
}  # fmt: skip
TOP = 0.1  # of the cells, whose overlap is taken


def subject(name: str, count: int) -> Subject:
    """Return a network and images of CIFAR-10's test split as what an evaluation is given."""
    x, y = images(count)
    names = [f"i{i}" for i in range(count)]
    samples = pd.DataFrame({"id": names, "patient": names, "split": "test"})
    index = Index(samples, np.eye(len(NAMES), dtype=np.uint8)[y.numpy()], NAMES)
    prepared = Prepared(Path(), index, (x * 255).round().byte().numpy(), "benchmark")
    attacks = {n: catalogue().load("attack", n) for n in ("deepfool", "ddn", "pgd", "explain")}
    return Subject((network(name),), MultiClass(), prepared, resolve("cpu"), attacks=attacks)


def in_bf16(model: nn.Module) -> nn.Module:
    """Return a copy of a network that computes in bf16 where autocast does, and returns fp32 logits."""

    def wrapped(kind: type[nn.Module], *, last: bool) -> type[nn.Module]:
        def forward(self: nn.Module, x: torch.Tensor) -> torch.Tensor:
            with resolve("cpu", "bf16").autocast():
                found = kind.forward(self, x)
            return found.float() if last else found

        return type(kind.__name__, (kind,), {"forward": forward})  # of the class, so that copies have it too

    model = copy.deepcopy(model)
    for module in (model.features, model.head, model):
        module.__class__ = wrapped(type(module), last=module is model)
    return model


def differences(evaluation: str, frames: Sequence[pd.DataFrame], macro: bool = True) -> Iterator[str]:
    """Yield a line per metric of an evaluation: its value in fp32, and bf16 - fp32 on the same samples."""
    tables = [TABLES[evaluation].from_frame(frame) for frame in frames]
    metrics = [m for m in builtin() if registration(m)["evaluation"] == evaluation and _measured(m, tables[0])]
    statistic = joint(metrics)
    points = [stats.point(statistic, t, len(t.clusters)) for t in tables]
    draws = [stats.replicates(statistic, t, t.clusters) for t in tables]
    found = stats.summarise(points[1] - points[0], draws[1] - draws[0])
    every = [(registration(m), cell) for m in metrics for cell in cells(tables[0], m)]
    for k, (options, cell) in enumerate(every):
        of = [f"{key} {value}" for key, value in cell.items() if value not in ("", None) and key != "class_name"]
        if (cell.get("class_name") not in ("", "all", "macro", None) and macro) or not np.isfinite(points[0][k]):
            continue
        where = f" ({', '.join(of)})" if of else ""
        yield f"{options['name']}{where} | {points[0][k]:.4g} | {interval(found.value[k], found.low[k], found.high[k])}"


def _measured(metric: Any, table: Any) -> bool:
    options = registration(metric)
    return table.task in options.get("tasks", (table.task,)) and (
        not isinstance(table, RobustnessTable) or options.get("score") in table.rmse
    )


def interval(value: float, low: float, high: float) -> str:
    apart = " *" if low > 0 or high < 0 else ""
    return f"{value:+.2g} [{low:+.2g}, {high:+.2g}]{apart}"


def of_mean(values: Any) -> str:
    """Return the mean of one number per image, with its interval."""
    values = np.asarray(values, float)
    known = values[np.isfinite(values)]
    draws = np.random.default_rng(1776).integers(len(known), size=(1000, len(known)))
    low, high = np.quantile(known[draws].mean(1), [0.025, 0.975])
    return f"{known.mean():.4g} [{low:.4g}, {high:.4g}], n = {len(known)}"


def metrics(name: str, count: int, chosen: Sequence[str]) -> None:
    """Print every metric of every evaluation in both formats."""
    made = subject(name, count)
    for evaluation in chosen:
        explainer, options = EVALUATIONS[evaluation]
        settings = {k: int(v * count) if k == "images" else v for k, v in options.items()}
        scored = catalogue().load("evaluation", evaluation)(**SMALL, **settings)
        heat = catalogue().load("explainer", explainer)() if explainer else None
        mine = {n: a for n, a in made.attacks.items() if n in _attacks(scored, made)}
        each = [replace(made, models=models, attacks=mine) for models in (made.models, (in_bf16(made.models[0]),))]
        frames = [scored.score(one, heat).samples for one in each]
        for line in differences(evaluation, frames):
            print(f"| {name} | {evaluation}{f', {explainer}' if explainer else ''} | {line} |", flush=True)


def _attacks(evaluation: Any, made: Subject) -> Sequence[str]:
    return evaluation.attack_names(made.task, made.profile) if hasattr(evaluation, "attack_names") else ()


def maps(name: str, count: int, chosen: Sequence[str]) -> None:
    """Print how far logits, maps and smallest perturbations agree."""
    model, (x, y) = network(name), images(count)
    pair = model, in_bf16(model)
    with torch.no_grad():
        a, b = (m(x) for m in pair)
    print(f"| {name} | logits | largest difference | {of_mean((a - b).abs().amax(1))} |")
    print(f"| {name} | probabilities | largest difference | {of_mean((a.softmax(1) - b.softmax(1)).abs().amax(1))} |")
    print(f"| {name} | decisions | share that changes | {of_mean(a.argmax(1) != b.argmax(1))} |")
    for explainer in chosen:
        made = catalogue().load("explainer", explainer)(**MAPS[explainer])
        one, two = (made(m, x, y, seeds=torch.arange(count)).heat.float() for m in pair)
        overlap = top_overlap(one, two, top=TOP)
        print(f"| {name} | {explainer} | rank correlation | {of_mean(rank_agreement(one, two))} |")
        print(f"| {name} | {explainer} | IoU of the highest tenth | {of_mean(overlap / (2 - overlap))} |", flush=True)
    goal, attacks = Adversarial(y), {"deepfool": deepfool, "ddn": ddn}
    one, two = (strongest(m, x, goal, attacks) for m in pair)
    attacked = (one.rmse > 0) & one.rmse.isfinite() & (two.rmse > 0) & two.rmse.isfinite()
    ratio = two.rmse[attacked].double() / one.rmse[attacked].double()
    print(f"| {name} | deepfool and ddn | RMSE in bf16 / in fp32 | {of_mean(ratio)} |")
    with torch.no_grad():
        holds = goal.reached(model(x + two.delta))[attacked]
    print(f"| {name} | deepfool and ddn | share found in bf16 that fools in fp32 | {of_mean(holds)} |")


def training(size: int, epochs: int, seeds: int, images_: int) -> None:
    """Print what the format of the training changes, then what that of the evaluation does."""
    with tempfile.TemporaryDirectory() as place:
        sets = (f"phantom.size={size}", f"n_train={images_}", "n_validation=256", "n_test=600",
                f"baseline.max_epochs={epochs}", "baseline.one_cycle=true")  # fmt: skip
        runs: dict[str, list[Any]] = {}
        for precision in ("fp32", "bf16"):
            for seed in range(seeds):
                spec = RunSpec(
                    method="baseline", dataset="phantom", seed=seed, sets=sets, device="cpu", precision=precision,
                    runs_dir=Path(place), evaluations=("classification", "localisation"), explainers=("cam",),
                )  # fmt: skip
                runs.setdefault(precision, []).extend(execute(spec, Reporter(quiet=True)))
        for evaluation, explainer in (("classification", ""), ("localisation", "cam")):
            one, two = (compare.scores(runs[p], evaluation, explainer) for p in ("fp32", "bf16"))
            found, _ = two.minus(one)
            mean = one.estimate()
            for k, cell in enumerate(one.cells):
                if cell["class_name"] not in ("macro", "all", "") or not np.isfinite(found.value[k]):
                    continue
                at = f" ({cell['variant']})" if cell["variant"] else ""
                at += f", t = {cell['threshold']:g}" if cell["threshold"] is not None else ""
                print(f"| training, {seeds} seeds | {evaluation} | {cell['metric']}{at} | {mean.value[k]:.4g} | "
                      f"{interval(found.value[k], found.low[k], found.high[k])} |", flush=True)  # fmt: skip
        spec = RunSpec(method="baseline", dataset="phantom", sets=sets, device="cpu", runs_dir=Path(place),
                       evaluations=("classification", "localisation"), explainers=("cam",))  # fmt: skip
        plan, compute, reporter = make(spec), resolve("cpu"), Reporter(quiet=True)
        prepared = prepare_data(plan, reporter)
        first = runs["fp32"][0]
        models = load(Work(plan, prepared, compute, RunFolder(first.source), first.info["fit"]["key"], reporter))
        each = [Subject(m, plan.data.task, prepared, compute) for m in (models, tuple(map(in_bf16, models)))]
        for evaluation, explainer in (("classification", ""), ("localisation", "cam")):
            heat = plan.explainers[explainer].made if explainer else None
            part = plan.evaluations[evaluation].made
            frames = [part.score(one, heat).samples for one in each]
            for line in differences(evaluation, frames):
                print(f"| phantom, trained in fp32 | {evaluation} | {line} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["metrics", "maps", "training"])
    parser.add_argument("--images", type=int, help="of CIFAR-10: 40 (metrics), 24 (maps); of the phantom: 768")
    parser.add_argument("--explainer", choices=MAPS, action="append", help="of maps: all where none is named")
    parser.add_argument("--net", choices=NETS, action="append")
    parser.add_argument("--evaluation", choices=EVALUATIONS, action="append")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    nets = options.net or ["resnet44-standard", "resnet44-all"]
    if options.what == "metrics":
        for name in nets:
            metrics(name, options.images or 40, options.evaluation or tuple(EVALUATIONS))
    elif options.what == "maps":
        for name in nets:
            maps(name, options.images or 24, options.explainer or tuple(MAPS))
    else:
        training(options.size, options.epochs, options.seeds, options.images or 768)


if __name__ == "__main__":
    main()
