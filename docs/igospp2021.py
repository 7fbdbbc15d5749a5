"""Write the tables of docs/igospp2021.md from the records in results/, or check that they are of these records.

python docs/igospp2021.py           write
python docs/igospp2021.py --check   exit 1 where the tables are of other records or of another version of this

The text between the tables is written by a person and is not touched.
"""

import csv
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tables import markdown, write_or_check

from harness import stats
from harness.metrics.scored import ScoreTable, means, suffix
from harness.metrics.summary import TABLES
from harness.record import Result, StageResult, load_all, newest
from harness.rows import Row, cell
from harness.scores.insertion import counts

PAGE = Path(__file__).with_suffix(".md")
RESULTS = Path(__file__).parents[1] / "results"
PHOTOS, EVALUATION = "imagenet_sample", "insertion_deletion"
BASE = "igos_pp"  # what every other explainer is held against
STEPS = 50  # of a curve, at most (protocol.md, 4)
FEWEST = 10  # photos from which a difference gets a verdict
LEVEL = 0.05
PUBLISHED = {  # explainer with the settings that were changed -> row of the poster's Tables 1 to 3
    "gradcam": "Grad-CAM",
    "integrated_gradients": "Integrated Gradients",
    "rise": "RISE",
    "igos": "I-GOS",
    "igos loss=insertion": "Insertion only",
    "igos_p": "I-GOS + Insertion (naive)",
    "igos_pp": "iGOS++",
    "igos_pp noise=0.0": "iGOS++ (no noise)",
    "igos_pp search=fixed": "iGOS++ (fixed step size)",
    "igos_pp smoothness=tv": "iGOS++ (no BTV)",
    "igos_pp final=x": "Mx",
    "igos_pp final=y": "My",
}


@dataclass(frozen=True, eq=False)
class Line:
    """One explainer of one record at one resolution."""

    result: Result
    stage: StageResult
    table: ScoreTable
    number: int  # of the table's condition

    @property
    def resolution(self) -> int:
        """Return the cells per side that are uncovered and covered."""
        return int(self.table.conditions[self.number]["resolution"])

    @property
    def side(self) -> int:
        """Return the cells per side of the explainer's own maps."""
        return int(self.stage.info["facts"]["cells of the map per side"])

    @cached_property
    def name(self) -> str:
        """Return the explainer's name, and the settings that were changed but for the cells of its mask."""
        explainer = self.stage.info["explainer"]
        changed = [
            f"{s['name']}={s['value']}"
            for s in self.stage.info["settings"]
            if s["component"].split()[-1] == explainer and s["value"] != s["default"] and s["name"] != "cells"
        ]
        return " ".join([explainer, *changed])

    @property
    def rank(self) -> tuple[int, int]:
        """Return what decides between stages of the same explainer; the larger one counts."""
        return -self.side, len(self.table.ids)

    @property
    def rows(self) -> list[Row]:
        """Return the rows at this resolution, of the protocol's own variant."""
        return [r for r in self.stage.rows if r.resolution == self.resolution and not r.variant]

    @property
    def known(self) -> bool:
        """Return whether anything was scored at this resolution."""
        return any(np.isfinite(r.value) for r in self.rows)


@cache
def records() -> list[Result]:
    """Return the records in which iGOS++ was scored, those of the photos first."""
    found = [
        r for r in load_all(None, RESULTS)[0]
        if any((s.info["evaluation"], s.info["explainer"]) == (EVALUATION, BASE) for s in r.stages)
    ]  # fmt: skip
    return sorted(found, key=lambda r: (r.info["dataset"]["name"] != PHOTOS, r.run_id))


def network(result: Result) -> str:
    """Return what the network of a record is called: its method and, where its weights were loaded, their file."""
    spec = result.info["spec"]
    return " ".join(filter(None, (spec["method"], spec.get("checkpoint"))))


@cache
def lines() -> list[Line]:
    """Return what was scored by the protocol: of each record, explainer and resolution one line.

    Of several stages that of the coarsest map counts, which was made for the resolution; among equals that of the most
    photos, so that a part of them hides no other, and then the newest.
    """
    found: dict[tuple[str, int, str], Line] = {}
    for result in records():
        for stage in newest(result.stages):
            if stage.info["evaluation"] != EVALUATION or stage.partial:
                continue
            table = TABLES[EVALUATION].from_frame(stage.read_samples())
            assert isinstance(table, ScoreTable)
            for number, condition in enumerate(table.conditions):
                line = Line(result, stage, table, number)
                if condition.get("variant") or not line.known:
                    continue
                key = (result.run_id, line.resolution, line.name)
                if key not in found or line.rank >= found[key].rank:
                    found[key] = line
    return list(found.values())


def boards() -> Iterator[tuple[str, list[Line]]]:
    """Yield a title and the lines of each record and resolution: explainers by name, reference rows last."""
    if not lines():
        sys.exit(f"no records with {EVALUATION} of {BASE} in {RESULTS}. Publish them first.")
    order = [r.run_id for r in records()]
    for run, resolution in sorted({(order.index(line.result.run_id), line.resolution) for line in lines()}):
        mine = [line for line in lines() if (line.result.run_id, line.resolution) == (order[run], resolution)]
        dataset = mine[0].result.info["dataset"]
        cells = "pixels" if resolution == dataset["size"] else "cells"
        title = f"**{resolution} x {resolution} {cells}**, {network(mine[0].result)}, {dataset['name']}"
        yield title, sorted(mine, key=lambda line: (bool(line.stage.info["reference"]), line.name))


def metrics(mine: list[Line]) -> dict[str, bool]:
    """Return the names of the metrics that the rows have, in their order, and whether higher is better."""
    return {r.metric: r.higher_is_better for line in mine for r in line.rows}


def head(name: str, higher: bool) -> str:
    """Return a metric's name as the head of a column, with its direction."""
    return f"{name.replace('_', ' ')} {'↑' if higher else '↓'}"


def shown(line: Line) -> str:
    """Return an explainer's name in a table; reference rows are set apart."""
    return f"*{line.name}*" if line.stage.info["reference"] else line.name


@cache
def published() -> dict[tuple[str, int, str], str]:
    """Return the poster's figures (reports/literature.csv) for ResNet50: (row, resolution, metric) -> figure."""
    found: dict[tuple[str, int, str], str] = {}
    with (RESULTS.parent / "reports" / "literature.csv").open(newline="", encoding="utf-8") as file:
        for entry in csv.DictReader(file):
            place = re.match(r"ResNet50 (\d+)x\1", entry["class_or_setting"])
            if entry["source"].startswith("iGOS++ poster") and place:
                found.setdefault((entry["system"], int(place[1]), entry["metric"]), entry["value"])
    return found


def paper(line: Line, metric: str) -> str:
    """Return the poster's figure for an explainer at a resolution, an empty cell where it has none."""
    if line.result.info["dataset"]["name"] != PHOTOS:
        return ""
    return published().get((PUBLISHED.get(line.name, ""), line.resolution, metric), "")


def runs() -> str:
    """Return the table of all records: the network, how often it is right, what was scored how."""
    found = []
    for result in records():
        accuracy = next((r for r in result.rows if r.metric == "accuracy"), None)
        stages = [s for s in result.stages if s.info["evaluation"] == EVALUATION]
        origin, info = result.info["provenance"], result.info
        found.append((
            network(result), info["dataset"]["name"], str(info["dataset"]["size"]),
            f"{info['dataset']['counts']['test']:,}",
            cell(accuracy.value, accuracy.low, accuracy.high) if accuracy else "",
            str(len(stages)), ", ".join(sorted({s.info["device"] for s in stages})), origin["git"]["sha"][:7],
        ))  # fmt: skip
    return markdown(("network", "dataset", "px", "test images", "accuracy", "maps scored", "on", "made by"), found)


def scores() -> str:
    """Return every explainer's values at each resolution, beside the poster's."""
    parts = []
    for title, mine in boards():
        names = metrics(mine)
        theirs = [m for m in names if any(paper(line, m) for line in mine)]
        found = []
        for line in mine:
            by = {r.metric: r for r in line.rows}
            n = max(r.n for r in line.rows)
            cells = [cell(by[m].value, by[m].low, by[m].high) if m in by else "" for m in names]
            found.append((shown(line), str(line.side), str(n), *cells, *(paper(line, m) for m in theirs)))
        top = ("explainer", "cells of its map", "n", *(head(m, up) for m, up in names.items()),
               *(f"{m}, poster" for m in theirs))  # fmt: skip
        parts += [title, "", markdown(top, found)]
    return "\n".join(parts)


def against() -> str:
    """Return every explainer minus iGOS++ on the photos that both have, in each metric; Holm over the explainers."""
    parts = []
    for title, mine in boards():
        base = next((line for line in mine if line.name == BASE), None)
        others = [line for line in mine if line is not base]
        if base is None or not others:
            continue
        names = metrics(mine)
        found: dict[str, list[str]] = {line.name: [] for line in others}
        for metric, higher in names.items():
            pairs = [difference(line, base, metric) for line in others]
            adjusted = stats.holm(np.array([p for _, p, _ in pairs]))
            for line, (estimate, _, n), p in zip(others, pairs, adjusted, strict=True):
                found[line.name].append(text(estimate, float(p), higher, n))
        counts = {line.name: difference(line, base, next(iter(names)))[2] for line in others}
        body = [(shown(line), str(counts[line.name]), *found[line.name]) for line in others]
        top = (f"minus {BASE}", "n", *(head(m, up) for m, up in names.items()))
        parts += [title, "", markdown(top, body)]
    return "\n".join(parts) or f"No record has {BASE} and another explainer at one resolution.\n"


@cache
def difference(line: Line, base: Line, metric: str) -> tuple[stats.Estimate, float, int]:
    """Return the paired difference line - base with its interval, its p-value, and the number of photos."""
    ids = [i for i in base.table.ids.tolist() if i in set(line.table.ids.tolist())]
    mine, theirs = (_values(side, metric, ids) for side in (line, base))
    clusters = np.array([dict(zip(base.table.ids, base.table.clusters, strict=True))[i] for i in ids])
    both = np.isfinite(mine) & np.isfinite(theirs)
    found, p = stats.paired(lambda v, w: means(v[:, None], w)[:, 0], mine[both], theirs[both], clusters[both])
    return found, float(p), int(both.sum())


def _values(line: Line, metric: str, ids: list[str]) -> stats.Floats:
    place = {name: i for i, name in enumerate(line.table.ids.tolist())}
    return line.table.values[metric][[place[i] for i in ids], line.number]


def text(found: stats.Estimate, p: float, higher: bool, n: int) -> str:
    """Return a difference with its interval, and what its adjusted p-value allows to say."""
    value, low, high = (float(x) for x in (found.value, found.low, found.high))
    signed = re.sub(r"^(?=\d)", "+", cell(value, low, high))
    if n < FEWEST:
        return f"{signed}, too few"
    if np.isnan(p):
        return signed
    verdict = ("better" if (value > 0) == higher else "worse") if p < LEVEL else "not told apart"
    return f"{signed}, p {'< 0.001' if p < 0.001 else f'{p:.3f}'}, {verdict}"


def passes() -> str:
    """Return what a map costs: passes per photo, without those that score it."""
    found = []
    for title, mine in boards():
        resolution = title.split("**")[1]
        for line in mine:
            spent = line.stage.info["passes"]
            own = spent["forward"] - scoring(line.stage)
            found.append((f"{resolution}, {shown(line)}", f"{own:,.0f}", f"{spent['backward']:,.0f}",
                          f"{scoring(line.stage):,.0f}"))  # fmt: skip
    return markdown(("map", "forward", "forward and backward", "forward, to score it"), found)


def scoring(stage: StageResult) -> float:
    """Return the forward passes that a stage spends on the scores of one map: the two ends, and 2 (S - 1) each."""
    table = TABLES[EVALUATION].from_frame(stage.read_samples())
    scored = [line.resolution for i in range(len(table.conditions)) if (line := Line(None, stage, table, i)).known]  # pyright: ignore
    return 2.0 + sum(2 * (min(STEPS, r * r) - 1) for r in scored)


def attacked() -> str:
    """Return, of each explainer that was scored on images and on the same images attacked, how its insertion climbs.

    Half-way: the share of the cells that are shown when the probability is first half-way from the blurred image's to
    the whole one's, on the images where it rises at all.
    """
    found = []
    for result in records():
        for stage in newest(result.stages):
            for clean, moved in pairs(stage):
                frame = stage.read_samples()
                table = TABLES[EVALUATION].from_frame(frame)
                assert isinstance(table, ScoreTable)
                sides = [table.conditions.index(c) for c in (moved, clean)]
                share = [half_way(frame, c) for c in (moved, clean)]
                areas = [table.values["normalised_insertion"][:, k] for k in sides]
                cells = [text_of_pair(*both, table.clusters) for both in (areas, share)]
                n = int(np.isfinite(areas).all(0).sum())
                found.append((f"{network(result)}, {stage.info['explainer']}", f"{moved_by(stage):g}",
                              f"{clean['resolution']}", str(n), *cells[0], *cells[1]))  # fmt: skip
    top = ("map", "moved by", "cells per side", "n", "normalised insertion, clean", "attacked", "difference",
           "half-way at, clean", "attacked", "difference")  # fmt: skip
    return markdown(top, found) if found else "No record has scored attacked images.\n"


def moved_by(stage: StageResult) -> float:
    """Return how far the images were moved, in multiples of the smallest perturbation."""
    wanted = (f"evaluation {EVALUATION}", "overshoot")
    return float(next((s["value"] for s in stage.info["settings"] if (s["component"], s["name"]) == wanted), 1.0))


def pairs(stage: StageResult) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield the conditions of a stage that differ by the attack alone: clean, attacked."""
    if stage.info["evaluation"] != EVALUATION or stage.partial:
        return
    conditions = TABLES[EVALUATION].from_frame(stage.read_samples()).conditions
    for moved in conditions:
        clean = {**moved, "attack": "", "variant": "clean"}
        if moved.get("variant") == "attacked":
            yield next(c for c in conditions if {**c, "attack": ""} == clean), moved


def half_way(frame: pd.DataFrame, condition: dict[str, Any]) -> stats.Floats:
    """Return the share of cells at which insertion is first half-way, per image; NaN where it does not rise."""
    count = counts(condition["resolution"] ** 2)
    shares = []
    for levels in frame[f"insertion_curve{suffix(condition)}"]:
        curve = np.asarray(levels, float)
        rises = len(curve) > 0 and curve[-1] > curve[0]
        there = curve >= (curve[0] + curve[-1]) / 2 if rises else curve
        shares.append(count[np.argmax(there)] / count[-1] if rises else np.nan)
    return np.array(shares)


def text_of_pair(moved: stats.Floats, clean: stats.Floats, clusters: stats.Floats) -> tuple[str, str, str]:
    """Return both means over the images that have both, and their paired difference."""
    both = np.isfinite(moved) & np.isfinite(clean)
    found, p = stats.paired(lambda v, w: means(v[:, None], w)[:, 0], moved[both], clean[both], clusters[both])
    signed = re.sub(r"^(?=\d)", "+", cell(*(float(x) for x in (found.value, found.low, found.high))))
    return f"{clean[both].mean():.3f}", f"{moved[both].mean():.3f}", f"{signed}, p {float(p):.2g}"


TABLES_OF_PAGE = {"runs": runs, "scores": scores, "against": against, "attacked": attacked, "passes": passes}

if __name__ == "__main__":
    write_or_check(PAGE, TABLES_OF_PAGE, [RESULTS / f"{r.run_id}.json" for r in records()])
