"""What a person reads at the end of `harness run` and `harness evaluate`: the numbers, and what to type next."""

from __future__ import annotations

import json
import math
import shlex
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.console import plain
from harness.record import Result
from harness.rows import Row, cell
from harness.visible import visible

LOCALISATION_T = 0.3  # of the column
AREAS = {"attack_ara": "attack ARA", "btr_ara": "BTR ARA", "flip_ara": "flip ARA (macro)"}  # metric -> its column
CURVES = ("insertion", "deletion")
WIDTH = 160
OVERALL = ("macro", "all")  # classes of a row that stands for all of them


@dataclass(frozen=True)
class Outcome:
    """Finished runs, as text or JSON."""

    results: list[Result]
    runs_dir: Path
    explainers: tuple[str, ...]  # those asked for, without the reference maps
    options: str = ""  # plug-ins and root, as the commands to type next need them

    def json(self) -> str:
        """Return one JSON object per run: info and rows."""
        runs = [{"run": r.info, "rows": [row.to_json() for row in r.rows]} for r in self.results]
        return json.dumps(runs, indent=1)

    def text(self) -> str:
        """Return the tables of the headline numbers, what is missing, and what to type next."""
        console = Console(width=WIDTH, highlight=False)
        with console.capture() as captured:
            console.print(self._runs())
            maps = self._maps()
            if maps.row_count:
                console.print()
                console.print(maps)
        table = "\n".join(line.rstrip() for line in captured.get().splitlines())
        lines = [table, "", "95 % intervals (bootstrap over patients). Localisation: mean over classes."]
        reasons = sorted({f"{label}: {reason}" for r in self.results for label, reason in _reasons(r)})
        lines += ["  " + textwrap.shorten(visible(reason), WIDTH - 2, placeholder=" ...") for reason in reasons]
        last = self.results[-1]
        lines += ["", *(visible(f"{r.source}") for r in self.results)]
        place = "" if self.runs_dir == Path("runs") else f" --runs-dir {shlex.quote(str(self.runs_dir))}"
        lines += [
            "",
            "Next:",
            f"  harness report{place}",
            "      all runs as pages, with pictures: site/index.html",
            f"  harness evaluate {last.run_id}{place}{self.options} --explainer gradcam",
            "      another explainer on the same model, nothing is trained again",
        ]
        return "\n".join(lines)

    def _runs(self) -> Table:
        first = self.results[-1]
        data = first.info["dataset"]
        title = f"{data['name']}, {data['size']} px, {data['counts']['test']:,} test images"
        multilabel = first.info["task"] == "multilabel"
        table = self._table(title, ["AUROC (macro)" if multilabel else "accuracy"])
        areas = [a for a in AREAS if any(r.metric == a for result in self.results for r in result.rows)]
        for area in areas:
            table.add_column(AREAS[area], no_wrap=True)
        for result in self.results:
            main = _pick(result.rows, "auroc" if multilabel else "accuracy")
            cells = [_cell(main), *(_cell(_pick(result.rows, a), digits=4) for a in areas)]
            table.add_row(*self._named(result), *cells)
        return table

    def _maps(self) -> Table:
        """Return a line per run and explainer, reference maps last: how it localises, inserts and deletes."""
        found = [r for result in self.results for r in result.rows]
        table = self._table("Explanations", ["explainer"])
        located = any(r.metric == "localisation_accuracy" for r in found)
        if located:
            table.add_column(f"IoU > {LOCALISATION_T} ↑", no_wrap=True)
        grids = sorted({r.resolution for r in found if r.metric in CURVES and r.resolution and math.isfinite(r.value)})
        for grid in grids:
            table.add_column(f"insertion ↑ {grid} x {grid}", no_wrap=True)
            table.add_column("deletion ↓", no_wrap=True)
        for result in self.results:
            for name, shown in self._explainers(result):
                rows = [r for r in result.rows if r.explainer == name]
                for variant in sorted({"", *(r.variant for r in rows if r.metric in CURVES)}):
                    cells = [_cell(_pick(rows, "localisation_accuracy", variant, threshold=LOCALISATION_T))] * located
                    cells += [_cell(_pick(rows, curve, variant, resolution=grid)) for grid in grids for curve in CURVES]
                    if set(cells) - {"n/a"}:
                        table.add_row(*self._named(result), plain(f"{shown} {variant}".strip()), *cells)
        return table

    def _explainers(self, result: Result) -> Iterator[tuple[str, str]]:
        """Yield each explainer of a run, and what it is called in the table."""
        references = sorted({str(s.info["explainer"]) for s in result.stages if s.info["reference"]})
        yield from ((name, name) for name in self.explainers)
        yield from ((name, f"({name}: reference)") for name in references)

    def _table(self, title: str, columns: Sequence[str]) -> Table:
        table = Table(title=plain(title), title_justify="left", box=None, pad_edge=False)
        table.add_column("method")
        if self._changed:
            table.add_column("settings")
        table.add_column("seed", justify="right")
        for column in columns:
            table.add_column(column, no_wrap=True)
        return table

    @property
    def _changed(self) -> bool:
        return any(_settings(r) for r in self.results)

    def _named(self, result: Result) -> list[Text]:
        spec = result.info["spec"]
        return [plain(spec["method"]), *[plain(_settings(result))] * self._changed, plain(str(spec["seed"]))]


@dataclass(frozen=True)
class DryRun:
    """What a run would do."""

    entries: list[dict[str, Any]]

    def json(self) -> str:
        """Return every setting as JSON."""
        return json.dumps(self.entries, indent=1)

    def text(self) -> str:
        """Return every setting, one a line, with who set it and its source."""
        lines = []
        for entry in self.entries:
            lines.append(f"{entry['method']} on {entry['dataset']} with {entry['model']}, seed {entry['seed']}:")
            for s in entry["settings"]:
                source = f"  ({s['source']})" if s["source"] else ""
                lines.append(f"  {s['component']}.{s['name']} = {s['value']} {s['unit']}  [{s['set_by']}]{source}")
        return "\n".join([*lines, "", "Nothing was done (--dry-run)."])


def _settings(result: Result) -> str:
    return next((row.settings for row in result.rows), "")


def _pick(rows: Iterable[Row], metric: str, variant: str = "", **more: Any) -> Row | None:
    """Return the row over all classes that has a value and is newest, else the newest; None where there is none."""
    found = [
        r for r in rows
        if r.metric == metric and r.class_name in OVERALL and r.variant == variant
        and all(getattr(r, k) == v for k, v in more.items())
    ]  # fmt: skip
    return next((r for r in reversed(found) if math.isfinite(r.value)), found[-1] if found else None)


def _cell(row: Row | None, digits: int = 3) -> str:
    return "n/a" if row is None else cell(row.value, row.low, row.high, digits)


def _reasons(result: Result) -> list[tuple[str, str]]:
    missing = list(result.info.get("missing_evaluations", {}).items())
    rows = [(f"{r.metric} of {r.class_name}", r.reason) for r in result.rows if r.metric == "auroc" and r.reason]
    if not any(r.evaluation == "classification" for r in result.rows):
        missing.append(("classification", "not asked for"))
    flags = [("note", f) for f in sorted({f for r in result.rows for f in r.flags})]
    return missing + rows + flags
