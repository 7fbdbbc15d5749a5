"""Write the tables of docs/woods2019.md from the records in results/, or check that they are of these records.

python docs/woods2019.py           write
python docs/woods2019.py --check   exit 1 where the tables are of other records or of another version of this

The text between the tables is written by a person and is not touched.
"""

import csv
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
from tables import markdown, write_or_check

from harness import stats
from harness.compare import scores
from harness.metrics.ara import area
from harness.metrics.robustness import RobustnessTable
from harness.record import Result, StageResult, load_all, newest
from harness.rows import Row, cell

PAGE = Path(__file__).with_suffix(".md")
RESULTS = Path(__file__).parents[1] / "results"
CIFAR, XRAYS, PHANTOM = "cifar10", "chestxray14", "phantom"
FAST = ("deepfool", "ddn")
THEIRS = {  # published network -> accuracy on 10,000 images, and its areas over the first 1,000 by the authors' program
    "resnet44-standard.pt": ("0.9384", "0.0013", "0.0015"),
    "resnet44-adv-train.pt": ("0.8643", "0.0100", "0.0157"),
    "resnet44-all.pt": ("0.6790", "0.0188", "0.0414"),
    "resnet44-robust.pt": ("0.6758", "0.0142", "0.0395"),
}
PROGRAM = {  # areas of the authors' program over the first 100 images (naive 0.1), by network and goal
    ("resnet44-standard.pt", "adv"): 0.001162, ("resnet44-standard.pt", "btr"): 0.001356,
    ("resnet44-all.pt", "adv"): 0.016475, ("resnet44-all.pt", "btr"): 0.039881,
}  # fmt: skip
GOALS = {"adv": "attack", "btr": "BTR"}


@cache
def records(evaluation: str = "robustness") -> list[Result]:
    """Return the records that have an evaluation, by run."""
    found = [r for r in load_all(None, RESULTS)[0] if any(s.info["evaluation"] == evaluation for s in r.stages)]
    return sorted(found, key=lambda r: r.run_id)


def of(dataset: str, *, theirs: bool = False) -> Iterator[tuple[str, Result]]:
    """Yield the records of a dataset with their names: published networks, or those trained here."""
    for result in records():
        file = result.info["spec"].get("checkpoint")
        if result.info["dataset"]["name"] == dataset and bool(file) == theirs:
            settings = next(r.settings for r in result.rows)
            yield file or result.info["spec"]["method"] + (f" ({settings})" if settings else ""), result


def stages(result: Result, attack: str) -> list[StageResult]:
    """Return a record's robustness stages of one set of attacks."""
    return [s for s in newest(result.stages) if any(r.metric.endswith("_ara") and r.attack == attack for r in s.rows)]


def value(rows: list[Row], metric: str, digits: int = 4, class_name: str = "") -> str:
    """Return the text of a value without variant or radius, `n/a` and why, or an empty cell."""
    wanted = (class_name,) if class_name else ("macro", "all")
    mine = [r for r in rows if r.metric == metric and not r.variant and r.radius is None and r.class_name in wanted]
    if not mine:
        return ""
    return cell(mine[-1].value, mine[-1].low, mine[-1].high, digits)


@cache
def table_1() -> dict[str, dict[str, str]]:
    """Return the paper's Table 1 (reports/literature.csv): row -> column -> figure."""
    found: dict[str, dict[str, str]] = {}
    with (RESULTS.parent / "reports" / "literature.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["source"].startswith("Woods 2019") and row["system"].startswith("ResNet-44: "):
                found.setdefault(row["system"].removeprefix("ResNet-44: "), {})[row["metric"]] = row["value"]
    return found


def paper(name: str) -> tuple[str, str, str]:
    """Return accuracy, attack and BTR ARA of a row of Table 1; empty where the table has no such row."""
    row = next((v for k, v in table_1().items() if k.startswith(name)), {})
    accuracy = row.get("clean accuracy (%)")
    return (f"{float(accuracy) / 100:.3f}" if accuracy else "", row.get("attack ARA", ""), row.get("BTR ARA", ""))


def networks() -> str:
    """Return the published networks under the fast set, 100 images, beside the published figures."""
    lines = []
    for name, result in of(CIFAR, theirs=True):
        rows = [r for s in stages(result, "fast") for r in s.rows]
        accuracy = value(result.rows, "accuracy", 4)
        theirs = THEIRS[name]
        passes = [str(s.info["facts"][g]["passes, mean"]) for s in stages(result, "fast") for g in GOALS]
        areas = (value(rows, "attack_ara"), theirs[1], value(rows, "btr_ara"), theirs[2])
        lines.append((name, accuracy, theirs[0], *areas, " / ".join(passes)))
    return markdown(("network", "accuracy", "published", "attack ARA", "published", "BTR ARA", "published",
                     "passes per image, attack / BTR"), lines)  # fmt: skip


def program() -> str:
    """Return Algorithm 1 by the authors' steps beside their program, over the first 100 images."""
    lines = []
    for name, result in of(CIFAR, theirs=True):
        for stage in stages(result, "algorithm1"):
            rows = stage.rows
            for goal, word in GOALS.items():
                ours = next(r for r in rows if r.metric == f"{word.lower()}_ara" and not r.variant)
                theirs = PROGRAM[name, goal]
                lines.append((f"{name}, {word}", cell(ours.value, digits=6), f"{theirs:.6f}",
                              f"{ours.value / theirs - 1:+.2%}", str(ours.n)))  # fmt: skip
    return markdown(("network, goal", "ARA here", "ARA of their program", "difference", "n"), lines)


def sets() -> str:
    """Return what each attack and each set of attacks leaves of the areas, on the same images, as shares."""
    lines = []
    for name, result in of(CIFAR, theirs=True):
        for stage in stages(result, "strong"):
            frame = stage.read_samples()
            naive = RobustnessTable.from_frame(frame).naive
            for goal, word in GOALS.items():
                each = {a: frame[f"rmse_of:{a}:{goal}"].to_numpy(float) for a in (*FAST, "algorithm1")}
                each["fast"] = np.minimum(each["deepfool"], each["ddn"])
                each["strong"] = np.minimum(each["fast"], each["algorithm1"])
                areas = {a: _area(d, naive) for a, d in each.items()}
                won = stage.info["facts"][goal]["won"]
                lines.append((f"{name}, {word}", f"{areas['algorithm1']:.5f}",
                              *(f"{areas[a] / areas['algorithm1']:.3f}" for a in ("deepfool", "ddn", "fast", "strong")),
                              f"{areas['fast'] / areas['strong'] - 1:+.1%}",
                              ", ".join(f"{a} {n}" for a, n in won.items()), str(len(frame))))  # fmt: skip
    return markdown(("network, goal", "ARA, Algorithm 1", "DeepFool", "DDN", "fast", "strong", "fast above strong",
                     "smallest found by", "n"), lines)  # fmt: skip


def _area(distance: stats.Floats, naive: float) -> float:
    known = np.where(np.isfinite(distance), distance, np.nan)  # an image not fooled has no area
    return float(area(known, np.ones((1, len(known))), naive)[0])


def bounded() -> str:
    """Return what bounded attacks at the usual radii leave right, AutoAttack the last."""
    lines = []
    for result in records("autoattack"):
        name = result.info["spec"].get("checkpoint") or result.info["spec"]["method"]
        rows = {(r.metric, r.attack, r.variant): r for r in result.rows}
        clean = rows["robust_accuracy", "", "clean"]
        kinds = [("robust_accuracy", "pgd"), ("robust_accuracy", "foolbox_pgd"), ("autoattack_accuracy", "autoattack")]
        cells = [cell(r.value, r.low, r.high, 3) for norm in ("linf", "l2")
                 for r in (rows[metric, attack, norm] for metric, attack in kinds)]  # fmt: skip
        lines.append((name, cell(clean.value, clean.low, clean.high, 3), *cells, str(clean.n)))
    return markdown(("network", "as they are", "Linf 8/255: PGD", "foolbox's PGD", "AutoAttack", "L2 0.5: PGD",
                     "foolbox's PGD", "AutoAttack", "n"), lines)  # fmt: skip


def trained() -> str:
    """Return the networks trained here, beside the rows of Table 1 that their methods stand for."""
    rows_of = {
        "baseline": "Traditional ResNet-44",
        "lipschitz ": "psi=220",
        "lipschitz_hhrelu ": "psi=12,000, HHReLU",
        "lipschitz_hhrelu_adversarial": "Eq. 4 + adversarial",
    }
    lines = []
    for name, result in of(CIFAR):
        rows = [r for s in stages(result, "fast") for r in s.rows]
        row = next((v for k, v in rows_of.items() if (name + " ").startswith(k)), "")
        theirs = paper(row) if row else ("", "", "")
        lines.append((name.split(" (")[0], value(result.rows, "accuracy", 3), theirs[0], value(rows, "attack_ara"),
                      theirs[1], value(rows, "btr_ara"), theirs[2],
                      f"{result.info['fit'].get('seconds', 0) / 60:.0f} min"))  # fmt: skip
    return markdown(("method", "accuracy", "paper", "attack ARA", "paper", "BTR ARA", "paper", "training"), lines)


def pairs() -> str:
    """Return paired differences over the same images: of the methods trained here, and of the published networks."""
    here = {name.split(" (")[0]: result for name, result in of(CIFAR)}
    lines = _differences(here, "baseline") + _differences(dict(of(CIFAR, theirs=True)), "resnet44-adv-train.pt")
    return markdown(("difference", "attack ARA", "BTR ARA", "n"), lines)


def _differences(named: dict[str, Result], least: str) -> list[tuple[str, ...]]:
    lines = []
    base = _tables(named.pop(least, None))
    for name, result in named.items():
        mine = _tables(result)
        cells = []
        for goal in GOALS:
            found, p = stats.paired(
                lambda d, w, naive=base.naive: area(d, w, naive)[:, None],
                mine.rmse[goal],
                base.rmse[goal],
                base.clusters,
            )
            cells.append(_difference(*(float(x[0]) for x in (found.value, found.low, found.high, p))))
        lines.append((f"{name} - {least}", *cells, str(len(base.ids))))
    return lines


def _difference(value: float, low: float, high: float, p: float) -> str:
    beyond = low > 0 or high < 0
    return f"{value:+.4f} [{low:.4f}, {high:.4f}], p {p:.2g}" + ("" if beyond else ", not shown")


def robust_minus_baseline() -> str:
    """Return FGSM-robust minus baseline on the X-rays: the same pairs, seeds drawn alike."""
    lines = []
    for split, size in (("test", 112), ("cross_fitted", 64)):
        sides = []
        for method in ("baseline", "robust_fgsm"):
            mine = [r for name, r in of(XRAYS) if name == method and _where(r) == (split, size)]
            sides.append(scores(mine, "robustness", metrics=["flip_ara", "robust_auroc"]))
        base, robust = sides
        found, p = robust.minus(base)
        for k, place in enumerate(base.cells):
            what = place["metric"] + (f" at RMSE {place['radius']:g}" if place["radius"] is not None else "")
            ends = (float(x[k]) for x in (found.value, found.low, found.high, p))
            lines.append((f"{split}, {size} px, seeds {', '.join(map(str, base.seeds))}", what, place["class_name"],
                          _difference(*ends)))  # fmt: skip
    return markdown(("robust_fgsm - baseline", "metric", "finding", "difference"), lines)


def _where(result: Result) -> tuple[str, int]:
    return next(r.split for r in result.rows), int(result.info["dataset"]["size"])


def _tables(result: Result | None) -> RobustnessTable:
    assert result is not None, "publish the baseline first"
    return RobustnessTable.from_frame(stages(result, "fast")[-1].read_samples())


def findings() -> str:
    """Return the X-ray records: ARA of the decisions, AUROC as it is and moved, localisation of CAM."""
    lines = []
    for dataset in (PHANTOM, XRAYS):
        for name, result in of(dataset):
            info, rows = result.info, [r for s in stages(result, "fast") for r in s.rows]
            split = next(r.split for r in result.rows)
            where = f"{dataset}, {split}, {info['dataset']['size']} px, {name}, seed {info['spec']['seed']}"
            areas = [f"{r.class_name} {cell(r.value, r.low, r.high, 4)}" for r in rows
                     if r.metric == "flip_ara" and r.class_name != "macro"]  # fmt: skip
            moved = [cell(r.value, r.low, r.high, 2) for r in rows
                     if r.metric == "robust_auroc" and r.class_name == "macro"]  # fmt: skip
            n = next((r.n for r in rows if r.metric == "flip_ara" and r.class_name == "macro"), 0)
            lines.append((where, value(result.rows, "auroc", 3), value(rows, "flip_ara"), "; ".join(areas),
                          " / ".join(moved), str(n)))  # fmt: skip
    return markdown(("record", "AUROC, test split", "flip ARA, macro", "flip ARA by finding",
                     "AUROC of the pairs at RMSE 0 / 0.001 / 0.005", "pairs"), lines)  # fmt: skip


TABLES = {"networks": networks, "program": program, "sets": sets, "bounded": bounded, "trained": trained,
          "pairs": pairs, "findings": findings, "robust-minus-baseline": robust_minus_baseline}  # fmt: skip

if __name__ == "__main__":
    used = dict.fromkeys(r.run_id for r in (*records(), *records("autoattack")))
    write_or_check(PAGE, TABLES, [RESULTS / f"{run_id}.json" for run_id in used])
