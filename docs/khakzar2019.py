"""Write the tables of docs/khakzar2019.md from the records in results/, or check that they are of these records.

python docs/khakzar2019.py           compute and write (minutes: 1,000 resamples of every run)
python docs/khakzar2019.py --check   exit 1 where the tables are of other records or of another version of this

The text between the tables is written by a person and is not touched.
"""

import csv
import re
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from statistics import NormalDist

import numpy as np
from tables import markdown, write_or_check

from harness.compare import Scores, scores
from harness.record import Result, load_all
from harness.rows import cell
from harness.stats import Estimate, holm

PAGE = Path(__file__).with_suffix(".md")
RESULTS = Path(__file__).parents[1] / "results"
DATASET = "chestxray14"
BASE, ROBUST = "baseline", "robust_fgsm"
CONTROL = "robust_fgsm share=0.0"  # the same further training, no image moved
EXPLAINERS = ("cam", "gradcam", "saliency")
REFERENCES = ("centre", "random_map", "whole_image")
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
BOXED = ("Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax")
CLAIMS = {"Cardiomegaly": "better", "Pneumonia": "better", "Infiltration": "better", "Nodule": "worse"}  # Khakzar 4.2
CLAIM_ELSE = "comparable, still higher"
MEAN = "mean_localisation_accuracy"
LEVEL = 0.05
PARTS = ("train", "validation", "test")

Board = tuple[str, int]  # split, size


@cache
def records() -> dict[Board, dict[str, list[Result]]]:
    """Return the records of the dataset by split and size, then by method (with the settings that were changed)."""
    found: dict[Board, dict[str, list[Result]]] = {}
    for result in load_all(None, RESULTS)[0]:
        rows = [r for r in result.rows if r.dataset == DATASET]
        if rows:
            name = " ".join(filter(None, (rows[0].method, rows[0].settings)))
            found.setdefault((rows[0].split, rows[0].size), {}).setdefault(name, []).append(result)
    return found


def common(board: Board) -> set[int]:
    """Return the seeds that all methods to be compared have."""
    of_each = [{seed(r) for r in records()[board][m]} for m in (BASE, ROBUST, CONTROL) if m in records()[board]]
    return set.intersection(*of_each)


def seed(result: Result) -> int:
    """Return a record's seed."""
    return int(result.info["spec"]["seed"])


@cache
def of(board: Board, method: str, evaluation: str, explainer: str = "") -> Scores:
    """Return the scores of a method's seeds, of those that the others have too."""
    return scores([r for r in records()[board][method] if seed(r) in common(board)], evaluation, explainer)


def boards() -> Iterator[Board]:
    """Yield the boards that have both methods: the official split first."""
    yield from sorted(
        (b for b, m in records().items() if {BASE, ROBUST} <= m.keys()), key=lambda b: (b[0] != "test", b)
    )


def title(board: Board) -> str:
    """Return a board's name, and how many seeds its tables rest on."""
    split, size = board
    count = len(common(board))
    few = "" if count >= 3 else ": sampling noise only, training again may change any line"
    where = "Official split" if split == "test" else "Cross-fitted split"
    return f"**{where}, {size} px**, {count} seed{'s' if count > 1 else ''}{few}"


def text(found: Estimate, k: int) -> str:
    """Return one value with its interval."""
    return cell(float(found.value[k]), float(found.low[k]), float(found.high[k]))


def signed(found: Estimate, k: int) -> str:
    """Return one difference with its interval, with its sign."""
    return re.sub(r"^(?=\d)", "+", text(found, k))


def detectable(found: Estimate, k: int, comparisons: int) -> str:
    """Return the true difference that would be found four times in five, Bonferroni over the comparisons."""
    normal = NormalDist()
    factor = normal.inv_cdf(1 - LEVEL / 2 / comparisons) + normal.inv_cdf(0.8)
    return cell(factor * float(found.standard_error[k]))


def probability(p: float) -> str:
    """Return a p-value as text."""
    return "n/a" if np.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def verdict(value: float, p: float) -> str:
    """Return what an adjusted p-value allows to say of robust minus baseline."""
    if np.isnan(p):
        return "n/a"
    return ("better" if value > 0 else "worse") if p < LEVEL else "not told apart"


def made() -> str:
    """Return the table of all records."""
    head = ("method", "split", "px", "seed", "training images", "epochs (best)", "hours", "format", "made by")
    lines = []
    for (split, size), methods in sorted(records().items(), reverse=True):
        for name, results in sorted(methods.items()):
            for r in sorted(results, key=seed):
                data, fit, origin = r.info["dataset"], r.info["fit"], r.info["provenance"]
                folds = fit.get("folds") or [fit]
                counts = data.get("folds") or [data["counts"]]
                lines.append((
                    name, split, str(size), str(seed(r)),
                    ", ".join(f"{c['train']:,}" for c in counts),
                    ", ".join(f"{f['epochs']} ({f['best_epoch']})" for f in folds),
                    f"{sum(f['seconds'] for f in folds) / 3600:.2f}", origin["precision"], origin["git"]["sha"][:7],
                ))  # fmt: skip
    return markdown(head, lines)


def positives() -> str:
    """Return how many positives each class has in each part of the official split."""
    board = next(boards(), None)
    if board is None:
        sys.exit(f"no records of both {BASE} and {ROBUST} on {DATASET} in {RESULTS}. Publish them first.")
    first = records()[board][BASE][0]
    table, counts = first.info["dataset"]["positives"], first.info["dataset"]["counts"]
    pairs = of(board, BASE, "localisation", "cam")
    estimate = of(board, BASE, "classification").estimate()
    at = of(board, BASE, "classification").at
    frame = next(s for s in first.stages if s.info["explainer"] == "cam").read_samples()
    boxes = frame["class_name"].value_counts()
    assert len(pairs.samples) == frame["id"].nunique()
    lines = []
    for name, n in table.items():
        k = at("auroc", name)
        width = float(estimate.high[k] - estimate.low[k])
        lines.append((name, *(f"{n.get(s, 0):,}" for s in PARTS), str(boxes.get(name, 0)),
                      "n/a" if np.isnan(width) else f"{width:.3f}"))  # fmt: skip
    lines.append(("images", *(f"{counts.get(s, 0):,}" for s in PARTS), str(len(frame)), ""))
    head = ("class", "train", "validation", "test", "boxes", "width of the baseline's AUROC interval")
    return markdown(head, lines)


def seeds() -> str:
    """Return each seed's headline numbers: how much training again moves them."""
    head = ("method", "board", "seed", "AUROC, macro", *(f"{e}: IoU > 0.1, macro" for e in EXPLAINERS),
            *(f"{e}: mean over T" for e in EXPLAINERS))  # fmt: skip
    lines = []
    for board in boards():
        for name in [m for m in (BASE, ROBUST, CONTROL) if m in records()[board]]:
            auroc = of(board, name, "classification")
            maps = [of(board, name, "localisation", e) for e in EXPLAINERS]
            for i, number in enumerate(auroc.seeds):
                values = [auroc.values[i, auroc.at("auroc", "macro")]]
                values += [m.values[i, m.at("localisation_accuracy", "macro", 0.1)] for m in maps]
                values += [m.values[i, m.at(MEAN, "macro")] for m in maps]
                lines.append((name, f"{board[0]}, {board[1]} px", str(number), *(cell(float(v)) for v in values)))
    return markdown(head, lines)


def each_seed() -> str:
    """Return robust minus baseline in the scores without a threshold, for each seed by itself."""
    lines = []
    for board in boards():
        for number in sorted(common(board)):
            for e in EXPLAINERS:
                pair = [[r for r in records()[board][m] if seed(r) == number] for m in (BASE, ROBUST)]
                base, robust = (scores(r, "localisation", e, ["pointing_game", "energy"]) for r in pair)
                diff, p = robust.minus(base)
                places = [base.at(metric, "macro") for metric in ("pointing_game", "energy")]
                cells = [f"{signed(diff, k)}, p {probability(float(p[k]))}" for k in places]
                lines.append((f"{board[0]}, {board[1]} px, {e}", str(number), *cells))
    return markdown(("robust - baseline", "seed", "pointing game", "energy in the box"), lines)


def published() -> dict[str, float]:
    """Return Wang 2017's AUROC per class on the whole official test split (Table 17), from reports/literature.csv."""
    with (RESULTS.parent / "reports" / "literature.csv").open(newline="", encoding="utf-8") as file:
        rows = [r for r in csv.DictReader(file) if "Table 17" in r["source"] and r["split"] == "official test (25,596)"]
    return {r["class_or_setting"]: float(r["value"]) for r in rows}


def auroc() -> str:
    """Return AUROC per class, and robust minus baseline (Fig. 2)."""
    wang, parts = published(), []
    for board in boards():
        base, robust = (of(board, m, "classification") for m in (BASE, ROBUST))
        classes = [c["class_name"] for c in base.cells if c["metric"] == "auroc"]
        scored = [c for c in classes if c != "macro" and np.isfinite(base.estimate().value[base.at("auroc", c)])]
        names = [f"mean of {len(scored)}" if c == "macro" else c for c in classes]
        theirs = wang | {"macro": float(np.mean([wang[c] for c in scored]))}
        values = [("auroc", c, None) for c in classes]
        table = difference_table(base, robust, values, names, {"Wang 2017, all 25,596": theirs}, classes)
        parts += [title(board), "", table]
    return "\n".join(parts)


def difference_table(
    base: Scores,
    robust: Scores,
    values: Sequence[tuple[str, str, float | None]],
    names: Sequence[str],
    more: dict[str, dict[str, float]] | None = None,
    keys: Sequence[str] = (),
) -> str:
    """Return baseline, robust and their paired difference; Holm over the lines but for the macro means."""
    places = [base.at(*v) for v in values]
    (a, b), (diff, p) = (base.estimate(), robust.estimate()), robust.minus(base)
    family = [i for i, v in enumerate(values) if v[1] != "macro"]
    adjusted = p[places].copy()
    adjusted[family] = holm(p[places][family])
    lines = []
    for i, k in enumerate(places):
        extra = [cell(column[keys[i]]) if keys[i] in column else "" for column in (more or {}).values()]
        lines.append((names[i], text(a, k), text(b, k), signed(diff, k), probability(float(adjusted[i])),
                      verdict(float(diff.value[k]), float(adjusted[i])), *extra))  # fmt: skip
    return markdown(("", "baseline", "robust", "robust - baseline", "p", "robust is", *(more or {})), lines)


def over_thresholds() -> str:
    """Return macro localisation accuracy over T(IoU) of every explainer and reference row (Fig. 3)."""
    parts = []
    for board in boards():
        lines = []
        for e in EXPLAINERS:
            for method in (BASE, ROBUST):
                found = of(board, method, "localisation", e)
                estimate = found.estimate()
                at = [found.at("localisation_accuracy", "macro", t) for t in THRESHOLDS]
                lines.append((f"{e}, {method}", *(text(estimate, k) for k in at)))
        for e in REFERENCES:
            found = of(board, BASE, "localisation", e)
            at = [found.at("localisation_accuracy", "macro", t) for t in THRESHOLDS]
            lines.append((f"*{e}*", *(text(found.estimate(), k) for k in at)))
        parts += [title(board), "", markdown(("T(IoU)", *map(str, THRESHOLDS)), lines)]
    return "\n".join(parts)


def per_class() -> str:
    """Return the mean over T of localisation accuracy per class, robust minus baseline, beside the paper's words."""
    parts = []
    for board in boards():
        for e in EXPLAINERS:
            base, robust = (of(board, m, "localisation", e) for m in (BASE, ROBUST))
            (a, b), (diff, p) = (base.estimate(), robust.estimate()), robust.minus(base)
            places = [base.at(MEAN, c) for c in (*BOXED, "macro")]
            adjusted = [*holm(p[places[:-1]]), p[places[-1]]]
            lines = [
                (
                    "mean" if c == "macro" else c,
                    "" if c == "macro" else CLAIMS.get(c, CLAIM_ELSE),
                    text(a, k),
                    text(b, k),
                    signed(diff, k),
                    probability(float(q)),
                    verdict(float(diff.value[k]), float(q)),
                    detectable(diff, k, 1 if c == "macro" else len(BOXED)),
                )
                for c, k, q in zip((*BOXED, "macro"), places, adjusted, strict=True)
            ]
            head = ("class", "the paper says (CAM)", "baseline", "robust", "robust - baseline", "p", "robust is",
                    "would be found from")  # fmt: skip
            parts += [f"{title(board)}, {e}", "", markdown(head, lines)]
    return "\n".join(parts)


SCORES = (("localisation accuracy, mean over T", MEAN, ""), ("the same, threshold chosen per T", MEAN, "per_t"),
          ("mean IoU", "iou", ""), ("IoBB", "iobb", ""), ("pointing game", "pointing_game", ""),
          ("energy in the box", "energy", ""))  # fmt: skip


def other_scores() -> str:
    """Return robust minus baseline of every localisation score, macro: does the answer hang on the score?"""
    parts = []
    for board in boards():
        lines = []
        for e in EXPLAINERS:
            base, robust = (of(board, m, "localisation", e) for m in (BASE, ROBUST))
            (a, b), (diff, p) = (base.estimate(), robust.estimate()), robust.minus(base)
            places = [base.at(metric, "macro", None, variant) for _, metric, variant in SCORES]
            adjusted = holm(p[places])
            for (name, *_), k, q in zip(SCORES, places, adjusted, strict=True):
                lines.append((f"{e}, {name}", text(a, k), text(b, k), signed(diff, k), probability(float(q)),
                              verdict(float(diff.value[k]), float(q))))  # fmt: skip
        parts += [title(board), "", markdown(("", "baseline", "robust", "robust - baseline", "p", "robust is"), lines)]
    return "\n".join(parts)


def above_centre() -> str:
    """Return each explainer minus the centred Gaussian, per class: is the map worth reading at all?"""
    parts = []
    for board in boards():
        columns, table = [], {c: [] for c in (*BOXED, "macro")}
        for method in (BASE, ROBUST):
            for e in EXPLAINERS:
                diff, p = of(board, method, "localisation", e).minus(of(board, method, "localisation", "centre"))
                places = [of(board, method, "localisation", e).at(MEAN, c) for c in table]
                adjusted = np.append(holm(p[places[:-1]]), p[places[-1]])
                columns.append(f"{e}, {method}")
                for c, k, q in zip(table, places, adjusted, strict=True):
                    mark = "" if not q < LEVEL else " ↑" if diff.value[k] > 0 else " ↓"
                    table[c].append(signed(diff, k) + mark)
        lines = [("mean" if c == "macro" else c, *cells) for c, cells in table.items()]
        parts += [title(board), "", markdown(("minus the centre", *columns), lines)]
    return "\n".join(parts)


def control() -> str:
    """Return what the further training gives without the moved images, and what these add to it (macro)."""
    parts = []
    for board in boards():
        if CONTROL not in records()[board]:
            continue
        lines = []
        for evaluation, e, (name, metric, variant) in [
            ("classification", "", ("AUROC", "auroc", "")),
            *(("localisation", e, score) for e in EXPLAINERS for score in SCORES),
        ]:
            base, longer, robust = (of(board, m, evaluation, e) for m in (BASE, CONTROL, ROBUST))
            k = base.at(metric, "macro", None, variant)
            (training, p), (moving, q) = longer.minus(base), robust.minus(longer)
            lines.append((f"{e}, {name}" if e else name, text(base.estimate(), k), text(longer.estimate(), k),
                          text(robust.estimate(), k), f"{signed(training, k)}, p {probability(float(p[k]))}",
                          f"{signed(moving, k)}, p {probability(float(q[k]))}"))  # fmt: skip
        head = ("", "baseline", "trained further, nothing moved", "robust", "the further training", "the moved images")
        parts += [title(board), "", markdown(head, lines)]
    return "\n".join(parts)


TABLES = {
    "runs": made, "positives": positives, "seeds": seeds, "each-seed": each_seed,
    "auroc": auroc, "thresholds": over_thresholds,
    "per-class": per_class, "scores": other_scores, "centre": above_centre,
    "control": control,
}  # fmt: skip


def origin() -> list[Path]:
    """Return the records that the tables are made from."""
    return [RESULTS / f"{r.run_id}.json" for methods in records().values() for rs in methods.values() for r in rs]


if __name__ == "__main__":
    write_or_check(PAGE, TABLES, origin())
