"""Synthetic runs, written through harness.store as a real run would be: known sizes, no model, no torch."""

import json
from functools import cache
from itertools import combinations
from pathlib import Path

import numpy as np
from PIL import Image

from harness.metrics.classification_table import ClassificationTable
from harness.metrics.explanations import ExplanationTable
from harness.metrics.localisation_table import FOLDS, LEVELS, LocalisationTable, quantise
from harness.metrics.robustness import RobustnessTable
from harness.metrics.summary import TABLES, summarise
from harness.record import from_run, write_record
from harness.rows import Row
from harness.store import RunFolder, write_bytes, write_json, write_stage

CLASSES = ("Cardiomegaly", "Mass", "Pleural_Thickening", "Hernia")  # the last has too few positives
METHODS = ("baseline", "robust_fgsm", "gradient_penalty")
REFERENCES = ("centre", "random_map", "whole_image")
IMAGES, PAIRS = 160, 20
RESAMPLES = 40


@cache
def reference(number: int) -> LocalisationTable:
    """Return the table of a reference row, the same for every run."""
    return localisation(0.15 + 0.05 * number, 900 + number)


@cache
def lines_of(table, resamples):
    """Return the metrics of a table; tables are compared by identity, so references are computed once."""
    return summarise(table, resamples=resamples)


def classification(skill: float, seed: int = 0) -> ClassificationTable:
    """Return N images of N/2 patients; a larger `skill` separates the classes better."""
    shared = np.random.default_rng(7)
    label = (shared.random((IMAGES, len(CLASSES))) < (0.4, 0.3, 0.25, 0.03)).astype(np.uint8)
    own = np.random.default_rng(seed)
    noise = shared.normal(size=label.shape) + 0.3 * own.normal(size=label.shape)
    ids = np.array([f"{i:05d}" for i in range(IMAGES)])
    patients = np.array([f"p{i // 2:04d}" for i in range(IMAGES)])
    probability = 1 / (1 + np.exp(-(skill * (label - 0.5) + noise)))
    return ClassificationTable(ids, patients, CLASSES, "multilabel", label, probability)


def localisation(skill: float, seed: int = 0) -> LocalisationTable:
    """Return pairs of an image and a class; maps of a larger `skill` overlap more with the boxes."""
    rng = np.random.default_rng(seed)
    classes = CLASSES[:3]
    names = np.repeat(classes, PAIRS)
    p = len(names)
    levels = np.arange(LEVELS)
    peak = np.clip(skill + 0.25 * rng.normal(size=(p, 1)), 0.02, 0.98)
    share = peak * np.exp(-(((levels - 150) / 70.0) ** 2))
    quantised = quantise((share * 10_000).astype(int), np.full((p, LEVELS), 10_000))
    scores = np.clip(rng.random(p) * 0.4 + skill * 0.6, 0, 1)
    chance = np.full(p, 0.12)
    ids = np.array([f"{i:05d}" for i in range(p)])
    patients = np.array([f"p{i // 2:04d}" for i in range(p)])
    fold = (np.arange(p) % FOLDS).astype(np.int8)
    return LocalisationTable(ids, patients, names, classes, fold, quantised, quantised, (scores > 0.4).astype(float),
                             chance, scores, chance, chance)  # fmt: skip


def attacked(skill: float, seed: int = 0) -> RobustnessTable:
    """Return 60 images of one label each; the class of a larger `skill` needs more of a change."""
    rng = np.random.default_rng(seed)
    ids = np.array([f"{i:05d}" for i in range(60)])
    right = rng.random(60) < 0.9
    adv = right * skill * rng.lognormal(0, 0.7, 60)
    return RobustnessTable(
        ids=ids, clusters=ids, task="multiclass", class_names=np.array(CLASSES)[np.arange(60) % 4], classes=CLASSES,
        attack="fast", naive=0.25, rmse={"adv": adv, "btr": 2 * adv + (rng.random(60) < 0.9) * skill / 9},
        extra={"won:adv": np.array(["ddn"] * 60, object)},
    )  # fmt: skip


def attacked_findings(skill: float, seed: int = 0) -> RobustnessTable:
    """Return 12 positives and 12 negatives of each of two findings, some patients with pairs of both."""
    rng = np.random.default_rng(seed)
    names = np.repeat(CLASSES[:2], 24)
    positive = np.tile(np.arange(24) < 12, 2)
    moved = {r: np.clip(0.5 + shift * (positive - 0.5) + 0.2 * rng.normal(size=48), 0, 1)
             for r, shift in (("0", 0.6), ("0.001", 0.2), ("0.005", -0.4))}  # fmt: skip
    return RobustnessTable(
        ids=np.array([f"{i:05d}" for i in range(48)]), clusters=np.array([f"p{i % 30:03d}" for i in range(48)]),
        task="multilabel", class_names=names, classes=CLASSES[:2], attack="fast", naive=0.5,
        rmse={"flip": (rng.random(48) < 0.85) * skill * rng.lognormal(0, 0.6, 48)}, positive=positive, probability=moved,
    )  # fmt: skip


FACTS = {"images": 60, "at the start": 6, "passes, mean": 70.5, "passes, maximum": 90, "won": {"ddn": 50, "deepfool": 4},
         "never fooled": 1}  # fmt: skip


def rows_of(table, run_id, evaluation, explainer="", resamples=RESAMPLES, **fields):
    """Return the rows of a table, with what a run adds to the metrics' fields."""
    known = {"dataset": "chestxray14", "split": "test", "size": 112, "profile": "quick", "method": "baseline",
             "model": "densenet121_2block", "seed": 0} | fields  # fmt: skip
    return [
        Row(run_id=run_id, evaluation=evaluation, evaluation_key="k" * 12, explainer=explainer, **known, **line)
        for line in lines_of(table, resamples)
    ]


def picture(path: Path, seed: int, *, colour: bool, kind: str) -> None:
    """Write one 64x64 PNG that looks like what it stands for, roughly."""
    y, x = np.mgrid[0:64, 0:64] / 63
    rng = np.random.default_rng(seed % 24)
    base = 40 + 140 * np.exp(-(((x - 0.3) / 0.15) ** 2) - ((y - 0.5) / 0.35) ** 2)
    base = base + 140 * np.exp(-(((x - 0.7) / 0.15) ** 2) - ((y - 0.5) / 0.35) ** 2) + 12 * rng.normal(size=x.shape)
    cx, cy = 0.5 + 0.2 * np.cos(seed), 0.5 + 0.2 * np.sin(seed)
    heat = np.exp(-(((x - cx) / 0.18) ** 2) - ((y - cy) / 0.18) ** 2)
    grey = np.clip(base if kind != "heat" else 255 * heat, 0, 255)
    image = np.repeat(grey[..., None], 3, 2)
    if kind == "overlay":
        image = image * 0.65 + 0.35 * 255 * np.stack([heat, heat**2 * 0.6, 1 - heat], 2)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(path)


def gallery(folder: Path, seed: int, samples: int = 6) -> None:
    """Write a gallery of fixed samples, and two of its own choice."""
    entries = []
    for i in range(samples):
        why = "fixed" if i < samples - 2 else ("best", "worst")[i % 2]
        identity = i if why == "fixed" else 20 + seed + i
        names = {kind: f"{identity:03d}-{kind}.png" for kind in ("image", "heat", "overlay")}
        for kind, name in names.items():
            picture(folder / "gallery" / name, identity + (0 if kind == "image" else 3 * seed), colour=True, kind=kind)
        entries.append({"id": f"{identity:05d}", "class_name": CLASSES[i % 3], "why": why, "probability": 0.5 + 0.05 * i,
                        "positive": True, "scores": {"iou": 0.1 * i}, "boxes": [[0.2, 0.25, 0.5, 0.7]], **names})  # fmt: skip
    write_json(folder / "gallery" / "gallery.json", entries)


def explain(run: RunFolder, number: int, classes: tuple[str, ...] = CLASSES) -> None:
    """Add adversarial explanations to a run: three fixed samples, the first for all `classes`, the others for two."""
    rng = np.random.default_rng(number)
    before = rng.random((3, 1)).repeat(2, 1)
    after = np.stack([0.5 + before[:, 0] / 2, before[:, 0] / 2], 1)
    values = {f"{role}_{what}": array for role in ("true", "other")
              for what, array in (("before", before), ("after", after), ("rmse", np.full((3, 2), 0.1)))}  # fmt: skip
    conditions = [{"attack": f"explain{sign}", "radius": 0.1} for sign in "+-"]
    ids = np.array([f"{i:05d}" for i in range(3)])
    table = ExplanationTable(ids, ids, values, conditions, task="multilabel")
    info = {"evaluation": table.evaluation, "explainer": "", "key": "k" * 12, "settings": [], "seconds": 1.0,
            "device": "cpu", "precision": "fp32", "passes": {"forward": 5, "backward": 200}}  # fmt: skip
    entries = []
    with run.new_stage(table.evaluation, f"{number:012x}") as folder:
        method = run.info["spec"]["method"]
        rows = rows_of(table, run.run_id, table.evaluation, method=method, seed=run.info["spec"]["seed"],
                       flags=("partial",))  # fmt: skip
        write_stage(folder, info, rows, table.to_frame())
        for i, (name, own) in enumerate(zip(ids.tolist(), CLASSES, strict=False)):
            for order, c in enumerate(dict.fromkeys((own, *(classes if i == 0 else classes[:1])))):
                kinds = {"image": "image", "plus": "overlay", "plus_difference": "heat", "minus": "overlay",
                         "minus_difference": "heat"}  # fmt: skip
                names = {kind: f"{i}-{order}-{kind}.png" for kind in kinds}
                for k, (kind, look) in enumerate(kinds.items()):
                    picture(
                        folder / "gallery" / names[kind], i + (number + k + order) * bool(k), colour=True, kind=look
                    )
                reached = {d: {"probability": float(after[i, k]), "rmse": 0.1, "top": [[c, 0.9], ["Mass", 0.1]]}
                           for k, d in enumerate(("plus", "minus"))}  # fmt: skip
                entries.append({"id": name, "class_name": c, "own": own, "order": order, "why": "fixed",
                                "probability": float(before[i, 0]), "positive": c == own, "scores": {},
                                "boxes": [[0.2, 0.25, 0.5, 0.7]] if c == own else [], "top": [[own, 0.6]],
                                "explanations": reached, "rho": 0.1, "amplification": 2.5, **names})  # fmt: skip
        write_json(folder / "gallery" / "gallery.json", entries)


STAGES = ("head", "norm5", "conv0")  # of a network whose weights are drawn anew
TRUSTED = ("cam", "saliency", "adversarial")
TRUST = {"randomisation": 0.2, "infidelity": 0.5, "sensitivity": 0.1, "shortcut_maps": 0.3}  # and a level of its scores


def trusted(evaluation: str, seed: int, level: float):
    """Return the table of an evaluation of trust on 24 images, its scores around `level`."""
    rng = np.random.default_rng(seed)
    kind, n = TABLES[evaluation], 24
    conditions = [{}]
    if evaluation == "randomisation":
        variants = ("head", "norm5", "", "two_random_networks", "edge_detector")
        conditions = [{"variant": v} if v else {} for v in variants]
    if evaluation == "agreement":
        conditions = [{"variant": f"{a} and {b}", "resolution": 12} for a, b in combinations(TRUSTED, 2)]
    values = {s: np.clip(level + 0.1 * rng.normal(size=(n, len(conditions))), 0.0, 1.0) for s in kind.scores}
    extra = {}
    for score, (column, value) in getattr(kind, "groups", {}).items():
        extra[column] = np.arange(n) % 4 == 0
        values[score][extra[column] != value] = np.nan
    ids = np.array([f"{i:05d}" for i in range(n)])
    return kind(ids, ids, values, conditions, task="multilabel", extra=extra)


def trust(run: RunFolder, number: int, evaluations: tuple[str, ...] = (*TRUST, "agreement", "shortcut")) -> None:
    """Add the evaluations of trust in explanations to a run, those of maps for three explainers and a reference."""
    for evaluation in evaluations:
        for k, explainer in enumerate((*TRUSTED, "random_map") if evaluation in TRUST else ("",)):
            reference = explainer == "random_map"
            table = trusted(evaluation, 10 * number + k, TRUST.get(evaluation, 0.4) + 0.1 * k)
            info = {"evaluation": evaluation, "explainer": explainer, "reference": reference, "key": "k" * 12,
                    "settings": [], "seconds": 1.0, "device": "cpu", "precision": "fp32",
                    "passes": {"forward": 2, "backward": 35.0 * k},
                    "facts": {"images": 24, **({"stages": list(STAGES)} if evaluation == "randomisation" else {})}}  # fmt: skip
            stage = f"{evaluation}-{explainer}" if explainer else evaluation
            with run.new_stage(stage, f"{number:012x}") as folder:
                spec = run.info["spec"]
                rows = rows_of(table, run.run_id, evaluation, explainer, method=spec["method"], seed=spec["seed"])
                write_stage(folder, info, rows, table.to_frame())


def write_run(runs_dir: Path, number: int, *, status: str = "complete", run_id: str = "", pictures: bool = True,
              flags: tuple[str, ...] = (), resamples: int = RESAMPLES, method: str = "", seed: int | None = None,
              tables: dict | None = None, epsilon: float | None = None, start_from: str | None = None,
              folds: int = 0, dataset: str = "chestxray14", facts: dict | None = None) -> RunFolder:  # fmt: skip
    """Write one run. `number` decides method, seed and how good it is; `tables` are taken as they are.

    `epsilon` sets that setting; `folds` makes it a cross-fitted run of so many models; `facts` are those of its stages.
    """
    method = method or METHODS[number % len(METHODS)]
    seed = number // len(METHODS) if seed is None else seed
    run = RunFolder(runs_dir / (run_id or f"{method}-chestxray14-s{seed}-{number:012x}"))
    if epsilon is None:
        epsilon = 0.01 if method == "robust_fgsm" and seed % 2 else 0.005
    changed = "" if epsilon == 0.005 else f"epsilon = {epsilon:g}"
    fields = {"dataset": dataset, "method": method, "seed": seed, "settings": changed, "flags": flags}
    info = {
        "status": status,
        "spec": {"method": method, "dataset": "chestxray14", "model": "densenet121_2block", "seed": seed,
                 "profile": "quick", "precision": "fp32", "limit": None},
        "settings": [
            {"component": f"method {method}", "name": "step" if method == "baseline" else "epsilon", "type": "float", "value": epsilon,
             "default": 0.005, "unit": "Linf radius, [0,1] pixels", "source": "Khakzar 2019, 3.4",
             "help": "size of the step", "set_by": "--set" if changed else "default"},
            {"component": f"method {method}", "name": "epochs", "type": "int", "value": 12, "default": 40,
             "unit": "epochs", "source": "", "help": "at most", "set_by": "dataset"},
        ],
        "start_from": start_from,
        "classes": list(CLASSES),
        "task": "multilabel",
        "dataset": {"name": "chestxray14", "size": 112, "fingerprint": "3f" * 32, "notes": ["subset"],
                    "counts": {"train": 800, "validation": 90, "test": IMAGES},
                    "positives": {c: {"train": 99, "validation": 9, "test": 40 - i} for i, c in enumerate(CLASSES)}},
        "fit": {"key": "f" * 12, "epochs": 8, "best_epoch": 5, "best_validation_loss": 0.4213, "stopped": "validation",
                "images_per_second": 39.2, "seconds": 1630.0, "weights_sha256": "ab" * 32, "device": "cpu"},
        "provenance": {"created": "2026-11-20T10:00:00+00:00", "git": {"sha": "0" * 40, "dirty": False},
                       "python": "3.11.9", "platform": "Linux x86_64", "packages": {"harness": "0.1.0"}, "device": "cpu"},
        "missing_evaluations": {"robustness": "not in the version of harness that made the run"},
    }  # fmt: skip
    if folds:
        info["fit"] = {"key": "f" * 12, "seconds": 99.0, "folds": [
            {**info["fit"], "best_epoch": 4 + i, "best_validation_loss": 0.4 + i} for i in range(folds)]}  # fmt: skip
        info["dataset"]["folds"] = [{"train": 700 + i, "validation": 80, "test": 20} for i in range(folds)]
    if status == "failed":
        info["message"] = "the loss is not a number at epoch 2"
    run.update(**info)
    history = [
        {"epoch": e, "train_loss": 0.9 * 0.85**e + 0.1, "validation_loss": 0.95 * 0.9**e + 0.1 + 0.004 * max(0, e - 5) ** 2,
         "learning_rate": 0.01, "seconds": 200.0, "images_per_second": 39.2}
        for e in range(1, 9)
    ]  # fmt: skip
    history = [{"fold": i, **h} for i in range(folds) for h in history] or history
    write_bytes(run.fit / "history.jsonl", "".join(json.dumps(h) + "\n" for h in history).encode())
    if status == "failed":
        return run
    skill = 0.4 + 0.9 * (number % len(METHODS))
    made = tables or {
        "classification": classification(skill, number),
        "cam": localisation(0.35 + 0.1 * (number % 3), number),
        "saliency": localisation(0.2 + 0.12 * (number % 3), number + 50),
        **{name: reference(i) for i, name in enumerate(REFERENCES)},
    }
    for name, table in made.items():
        evaluation = table.evaluation
        explainer = "" if name == evaluation else name
        stage = f"{evaluation}-{explainer}" if explainer else evaluation
        info = {"evaluation": evaluation, "explainer": explainer, "reference": explainer in REFERENCES, "key": "k" * 12,
                "settings": [], "seconds": 12.5, "device": "cpu", "precision": "fp32",
                "created": "2026-11-20T10:00:00+00:00", "git": {"sha": "0" * 40, "dirty": False},
                "passes": {"forward": 1, "backward": int(explainer == "saliency")},
                **({"facts": facts} if facts else {})}  # fmt: skip
        with run.new_stage(stage, f"{number:012x}") as folder:
            rows = rows_of(table, run.run_id, evaluation, explainer, resamples, **fields)
            write_stage(folder, info, rows, table.to_frame())
            if pictures and explainer in ("cam", "saliency"):
                gallery(folder, number + (explainer == "saliency"))
    return run


def write_runs(runs_dir: Path, count: int = 3, **options) -> list[RunFolder]:
    """Write `count` runs of three methods."""
    return [write_run(runs_dir, i, **options) for i in range(count)]


def publish(run: RunFolder, results_dir: Path) -> Path:
    """Write a run's record."""
    return write_record(from_run(run), results_dir)
