"""`harness explain`: what a run's model sees in a user's own images, as pictures, arrays and a small page.

No data of the run are needed, only its weights. Of a cross-fitted run the first fold's model is explained, so that a
map belongs to the probability beside it; the mean over all of its models is given as well. A user's image has no fold:
where it is one of the dataset's own, most of those models were trained on it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from harness import device as devices
from harness.attacks.minimal import rmse
from harness.config import route
from harness.console import Reporter
from harness.data.decode import to_size
from harness.errors import HarnessError, unknown
from harness.evaluations.explained import levels, plain
from harness.evaluations.gallery import display_levels, overlaid
from harness.evaluations.masked import both_ways
from harness.models.classifier import Classifier
from harness.plan import Part, remade
from harness.plugins import catalogue
from harness.report import explained as page
from harness.report.names import file_stems
from harness.rng import seed_for
from harness.scores.insertion import counts, resolutions_of
from harness.scores.threshold_iou import finite, to_levels
from harness.shapes import WHOLE, need
from harness.store import find_run
from harness.tasks import Task
from harness.trained import stored, trained
from harness.types import Explanation

PAIRS = 16  # (image, class) pairs explained at once
AT_ONCE = 32  # partly shown images that the model sees at once
WAYS = ("insertion", "deletion")
SHOWN = 5  # most probable classes of an image
STRONG = 0.25  # of the range of grey: how a change of one RMSE is shown


@dataclass(frozen=True)
class Written:
    """The page, and what it says."""

    entry: dict[str, Any]
    page: Path

    def json(self) -> str:
        """Return the entry as JSON: the run, each image with its classes, maps and files, each explainer's cost."""
        files = {"page": str(self.page), "arrays": str(self.page.with_name("explanations.npz"))}
        return json.dumps({**self.entry, **files}, indent=1, allow_nan=False)

    def text(self) -> str:
        """Return the most probable classes of each image and where the pages and arrays lie."""
        lines = [
            f"{image['path']}: " + ", ".join(f"{c['class_name']} {c['probability']:.3f}" for c in image["classes"])
            for image in self.entry["images"]
        ]
        if self.entry["folds"]:
            lines.append(f"{self.entry['note']}")
        maps = sum(len(image["maps"]) for image in self.entry["images"])
        return "\n".join(
            [*lines, f"{self.page}   ({maps} maps; opens from the file system)",
             f"{self.page.with_name('explanations.npz')}   (images, probabilities and maps as arrays)"]
        )  # fmt: skip


@dataclass(frozen=True)
class Pairs:
    """The (image, class) pairs that are explained."""

    image: list[int]
    target: list[int]
    seeds: list[int]

    def __len__(self) -> int:
        return len(self.image)


def explain(
    run: str,
    images: Sequence[Path],
    *,
    explainers: Sequence[str],
    targets: Sequence[str],
    out: Path,
    sets: Sequence[str] = (),
    device: str = "auto",
    plugins: Sequence[str] = (),
    runs_dir: Path = Path("runs"),
    quiet: bool = False,
) -> Written:
    """Explain images by a run's model and write pictures, arrays and a page into `out`.

    `targets` are names of classes, () for each image's most probable one; `sets` are settings of the explainers.
    Raises `UsageError` for what cannot be read, is not known, or a run without weights, before anything is written.
    """
    reporter = Reporter(quiet=quiet)
    folder = find_run(runs_dir, run)
    info = folder.info
    need(info, WHOLE, f"{folder.folder}/run.json", "Give its `harness run` command again.")
    trained(folder)
    parts, plan = _parts(info, explainers, sets, plugins, runs_dir)
    classes: list[str] = info["classes"]
    wanted = [_number(name, classes) for name in dict.fromkeys(targets)]
    data, task = plan.data, plan.data.task
    originals = [data.decode(path) for path in images]
    pixels = np.stack([to_size(image, data.size) for image in originals])  # (N,C,S,S)
    compute = devices.resolve(device).exact()
    models = stored(plan, folder, len(classes), compute)
    x = torch.from_numpy(pixels).to(compute.device).float().div_(255).contiguous(memory_format=compute.memory_format)
    every = _probabilities(models, task, x)  # (F,N,V)
    for path, known in zip(images, every.isfinite().all(2).all(0).tolist(), strict=True):
        if not known:
            raise HarnessError(f"{folder.run_id} gives no number for {path}: its weights are damaged. Look at its run.")
    page.begin(out)
    pairs = _pairs(pixels, every[0], wanted, classes)
    found = {name: _explained(models[0], part, x, pairs, reporter) for name, part in parts.items()}
    pictures, maps = _pictures(models[0], task, x, pixels, pairs, found, classes)
    curves = {name: _curves(models[0], x, pairs, explanation.heat) for name, explanation in found.items()}
    for entry, curve in zip(maps, [c for every in curves.values() for c in every.described()], strict=True):
        entry["curves"] = curve
    folds = len(models) if len(models) > 1 else 0
    entry = {
        "run_id": folder.run_id,
        "dataset": info["spec"]["dataset"],
        "size": data.size,
        "folds": folds,
        "note": f"A cross-fitted run: the model of fold 0 is explained, beside the mean of all {folds}." * bool(folds),
        "images": [
            {
                "path": str(path),
                "name": path.name,
                "pixels": [original.shape[1], original.shape[0]],
                "picture": f"{n:02d}-image.png",
                "classes": _classes(every[:, n], wanted, classes),
                "maps": [m for m, i in zip(maps, pairs.image * len(found), strict=True) if i == n],
            }
            for n, (path, original) in enumerate(zip(images, originals, strict=True))
        ],
        "explainers": [
            {
                "name": name,
                "source": parts[name].component.source,
                "settings": [{"name": s.name, "value": s.value, "unit": s.unit} for s in parts[name].settings],
                "forwards": explanation.forwards,
                "backwards": explanation.backwards,
                "resolution": curves[name].resolution,
            }
            for name, explanation in found.items()
        ],
    }
    arrays = _arrays(images, pixels, every, classes, pairs, found, curves)
    return Written(entry, page.write(out, entry, pictures, arrays))


def _parts(
    info: dict[str, Any], explainers: Sequence[str], sets: Sequence[str], plugins: Sequence[str], runs_dir: Path
) -> tuple[dict[str, Part], Any]:
    """Return the explainers that are asked for, with the run's settings and `sets`, and the run's plan."""
    known = catalogue(plugins)
    routed = route(sets, {name: known.load("explainer", name) for name in explainers})  # of the explainers alone
    named = tuple(f"{name}.{field}={v}" for name, fields in routed.items() for field, v in fields.items())
    changes = {"explainers": tuple(explainers), "evaluations": (), "sets": named, "plugins": tuple(plugins)}
    plan = remade(info, changes, runs_dir)
    return {name: plan.explainers[name] for name in dict.fromkeys(explainers)}, plan


def _number(name: str, classes: Sequence[str]) -> int:
    if name not in classes:
        raise unknown("class", name, classes)
    return list(classes).index(name)


@torch.no_grad()
def _probabilities(models: Sequence[Classifier], task: Task, x: Tensor) -> Tensor:
    """Return the probabilities that each model gives each image, (F,N,V)."""
    return torch.stack([torch.cat([task.probability(m(part).float()) for part in x.split(PAIRS)]) for m in models])


def _pairs(pixels: NDArray[np.uint8], probability: Tensor, wanted: Sequence[int], classes: Sequence[str]) -> Pairs:
    """Return every image with each of the classes `wanted`, or with its most probable one.

    A pair's seed follows from the pixels and the class: the same image has the same maps wherever it lies.
    """
    most = probability.argmax(1).tolist()
    pairs = [(n, c) for n in range(len(pixels)) for c in (wanted or [most[n]])]
    digests = [hashlib.sha256(image.tobytes()).hexdigest() for image in pixels]
    return Pairs([n for n, _ in pairs], [c for _, c in pairs], [seed_for(0, digests[n], classes[c]) for n, c in pairs])


def _explained(model: Classifier, part: Part, x: Tensor, pairs: Pairs, reporter: Reporter) -> Explanation:
    """Return the explanation of every pair, in parts that fit memory."""
    image, target = (torch.tensor(v, device=x.device) for v in (pairs.image, pairs.target))
    done: list[Explanation] = []
    with reporter.task(part.component.name) as update, devices.memory_advice(PAIRS, "fewer images at once, say "):
        for rows in torch.arange(len(pairs)).split(PAIRS):
            seeds = torch.tensor(pairs.seeds)[rows]
            done.append(part.made(model, x[image[rows]], target[rows], seeds=seeds))
            update(int(rows[-1]) + 1, len(pairs), "")
    images = [e.image for e in done if e.image is not None]
    heat = torch.cat([e.heat for e in done])
    return dataclasses.replace(done[0], heat=heat, image=torch.cat(images) if images else None)


def _classes(probability: Tensor, wanted: Sequence[int], classes: Sequence[str]) -> list[dict[str, Any]]:
    """Return the most probable classes of one image by the explained model, and those `wanted`; from (F,V)."""
    order = probability[0].argsort(descending=True).tolist()
    shown = [c for rank, c in enumerate(order) if rank < SHOWN or c in wanted]
    mean = probability.mean(0)
    return [{"class_name": classes[c], "probability": plain(probability[0, c]), "mean": plain(mean[c])} for c in shown]


def _pictures(
    model: Classifier,
    task: Task,
    x: Tensor,
    pixels: NDArray[np.uint8],
    pairs: Pairs,
    found: dict[str, Explanation],
    classes: Sequence[str],
) -> tuple[dict[str, bytes], list[dict[str, Any]]]:
    """Return every picture as PNG by its name, and what is to be said of each map, explainer by explainer."""
    pictures = {f"{n:02d}-image.png": _png(image) for n, image in enumerate(pixels)}
    stems = file_stems(classes)
    before = _probabilities([model], task, x)[0].cpu()
    maps: list[dict[str, Any]] = []
    for name, explanation in found.items():
        usable = finite(explanation.heat).tolist()
        heats = explanation.heat.nan_to_num().cpu()
        changed = explanation.image
        after = None if changed is None else _probabilities([model], task, changed)[0].cpu()
        for i, (n, c) in enumerate(zip(pairs.image, pairs.target, strict=True)):
            stem = f"{n:02d}-{stems[classes[c]]}-{name}"
            heat = _display(heats[i], pixels.shape[-1])
            files = {"heat": heat[None], "overlay": overlaid(pixels[n], heat).transpose(2, 0, 1)}
            entry = {"explainer": name, "class_name": classes[c], "probability": plain(before[n, c]),
                     "finite": usable[i]}  # fmt: skip
            if changed is not None and after is not None:
                delta = (changed[i] - x[n]).cpu()
                size = rmse(delta[None])[0]
                amplification = STRONG / float(size) if size > 0 else 1.0
                files["changed"] = levels(changed[i])
                files["difference"] = levels(0.5 + amplification * delta)
                entry |= {"after": plain(after[i, c]), "rmse": plain(size), "amplification": amplification}
            for kind, picture in files.items():
                entry[kind] = f"{stem}-{kind}.png"
                pictures[entry[kind]] = _png(picture)
            maps.append(entry)
    return pictures, maps


@dataclass(frozen=True)
class Curves:
    """Insertion and deletion of P pairs under one explainer's maps."""

    resolution: int  # cells per side; 0: the maps are too coarse
    shown: NDArray[np.float64]  # (S+1,) share of the cells that have changed
    ways: dict[str, NDArray[np.float64]]  # insertion and deletion, (P,S+1), NaN where the map is not finite

    def described(self) -> list[dict[str, Any] | None]:
        """Return of each pair the areas and the points of the curves, or None."""
        found: list[dict[str, Any] | None] = []
        for levels_of in zip(*self.ways.values(), strict=True):
            sides = dict(zip(self.ways, levels_of, strict=True))
            whole = all(np.isfinite(v).all() for v in levels_of) and len(self.shown) > 0
            found.append(
                {"shown": self.shown.tolist()}
                | {way: {"area": float(np.trapezoid(v, self.shown)), "p": v.tolist()} for way, v in sides.items()}
                if whole
                else None
            )
        return found


def _curves(model: Classifier, x: Tensor, pairs: Pairs, heat: Tensor) -> Curves:
    """Follow the probability of each pair's class at the coarsest resolution of protocol.md, 4."""
    resolution = resolutions_of(x.shape[-1])[0]
    if min(heat.shape[-2:]) < resolution:
        return Curves(0, np.zeros(0), {way: np.zeros((len(pairs), 0)) for way in WAYS})
    count = counts(resolution**2)
    ways = {way: np.full((len(pairs), len(count)), np.nan) for way in WAYS}
    for row in torch.nonzero(finite(heat))[:, 0].split(PAIRS):
        image, target = (torch.tensor(v, device=x.device)[row] for v in (pairs.image, pairs.target))
        seeds = torch.tensor(pairs.seeds)[row.cpu()]
        both = both_ways(model, x[image], target, heat[row], seeds, resolution, at_once=AT_ONCE)
        for way, values in zip(WAYS, both, strict=True):
            ways[way][row.cpu().numpy()] = values.double().cpu().numpy()
    return Curves(resolution, count / count[-1], ways)


def _display(heat: Tensor, size: int) -> NDArray[np.uint8]:
    """Return a map (h,w) for display, (S,S).

    One of the image's own resolution is shown without its outliers, and from 0 upwards where it has two signs: else
    nearly all of it would lie in the middle of the scale.
    """
    if heat.shape[-1] == size:
        return display_levels((heat.clamp(min=0) if heat.max() > 0 else heat).numpy())
    return to_levels(heat[None], size)[0].numpy()


def _png(pixels: NDArray[np.uint8]) -> bytes:
    """Return (C,S,S) as a PNG."""
    buffer = io.BytesIO()
    image = pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)
    Image.fromarray(np.ascontiguousarray(image)).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _arrays(
    images: Sequence[Path],
    pixels: NDArray[np.uint8],
    every: Tensor,
    classes: Sequence[str],
    pairs: Pairs,
    found: dict[str, Explanation],
    curves: dict[str, Curves],
) -> bytes:
    """Return an NPZ: images (N,C,S,S), probability (F,N,V), of each of P pairs image and target, and the maps.

    heat_<explainer> (P,h,w) is not scaled; changed_<explainer> (P,C,S,S) is there where an explainer changes images;
    insertion_<explainer> and deletion_<explainer> (P,S+1) are the probabilities at each step.
    """
    arrays: dict[str, Any] = {
        "paths": np.array([str(p) for p in images]),
        "images": pixels,
        "classes": np.array(classes),
        "probability": every.cpu().numpy(),
        "image": np.array(pairs.image),
        "target": np.array(pairs.target),
    }
    for name, explanation in found.items():
        arrays[f"heat_{name}"] = explanation.heat.cpu().numpy()
        if explanation.image is not None:
            arrays[f"changed_{name}"] = explanation.image.cpu().numpy()
        arrays |= {f"{way}_{name}": values for way, values in curves[name].ways.items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()
