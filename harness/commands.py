"""`harness run` and `harness evaluate`: from options to finished runs, and what a person reads at the end."""

from __future__ import annotations

import itertools
import json
import shlex
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from harness.config import split_assignment
from harness.console import Reporter
from harness.errors import UsageError
from harness.plan import RunSpec, make
from harness.record import Result
from harness.rows import Row, cell

LOCALISATION_T = 0.3  # of the headline column
AREAS = {"attack_ara": "attack ARA", "btr_ara": "BTR ARA", "flip_ara": "flip ARA (macro)"}  # metric -> its column


@dataclass(frozen=True)
class Outcome:
    """Finished runs, as text or JSON."""

    results: list[Result]
    runs_dir: Path
    explainers: tuple[str, ...]
    options: str = ""  # plug-ins and root, as the commands to type next need them

    def json(self) -> str:
        """Return one JSON object per run: info and rows."""
        runs = [{"run": r.info, "rows": [row.to_json() for row in r.rows]} for r in self.results]
        return json.dumps(runs, indent=1)

    def text(self) -> str:
        """Return the table of the headline numbers, what is missing, and what to type next."""
        console = Console(width=160, highlight=False)
        with console.capture() as captured:
            console.print(self._table())
        table = "\n".join(line.rstrip() for line in captured.get().splitlines())
        lines = [table, "", "95 % intervals (bootstrap over patients). Localisation: mean over classes."]
        lines += sorted({f"  {label}: {reason}" for r in self.results for label, reason in _reasons(r)})
        last = self.results[-1]
        lines += ["", *(f"{r.source}" for r in self.results)]
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

    def _table(self) -> Table:
        first = self.results[-1]
        data = first.info["dataset"]
        title = f"{data['name']}, {data['size']} px, {data['counts']['test']:,} test images"
        table = Table(title=title, title_justify="left", box=None, pad_edge=False)
        task = first.info["task"]
        headline = "AUROC (macro)" if task == "multilabel" else "accuracy"
        shown = [e for e in self.explainers if _stage_of(self.results, e)]
        table.add_column("method")
        settings = {r.run_id: next((row.settings for row in r.rows), "") for r in self.results}
        if any(settings.values()):
            table.add_column("settings")
        table.add_column("seed", justify="right")
        table.add_column(headline, no_wrap=True)
        for explainer in shown:
            table.add_column(f"{explainer}: IoU > {LOCALISATION_T}", no_wrap=True)
        areas = [a for a in AREAS if any(r.metric == a for result in self.results for r in result.rows)]
        for area in areas:
            table.add_column(AREAS[area], no_wrap=True)
        references = sorted({s.info["explainer"] for r in self.results for s in r.stages if s.info["reference"]})
        if references:
            table.add_column("best reference row", no_wrap=True)
        for result in self.results:
            rows = result.rows
            main = _pick(rows, "auroc", "macro") if task == "multilabel" else _pick(rows, "accuracy", "all")
            cells = [_cell(main)] + [_cell(_localised(rows, e)) for e in shown]
            cells += [_cell(_area(rows, a), digits=4) for a in areas]
            if references:
                best = max((r for r in (_localised(rows, e) for e in references) if r), key=_value, default=None)
                cells.append(f"{_cell(best)} {best.explainer}" if best else "n/a")
            changed = [settings[result.run_id]] if any(settings.values()) else []
            table.add_row(result.info["spec"]["method"], *changed, str(result.info["spec"]["seed"]), *cells)
        return table


def _value(row: Row) -> float:
    return row.value if row.value == row.value else -1.0


def _pick(rows: Iterable[Row], metric: str, class_name: str, explainer: str = "", **more: Any) -> Row | None:
    for row in reversed(list(rows)):  # of two stages the newer one
        wanted = (row.metric, row.class_name, row.explainer, row.variant) == (metric, class_name, explainer, "")
        if wanted and all(getattr(row, k) == v for k, v in more.items()):
            return row
    return None


def _localised(rows: Iterable[Row], explainer: str) -> Row | None:
    return _pick(rows, "localisation_accuracy", "macro", explainer, threshold=LOCALISATION_T)


def _area(rows: Iterable[Row], metric: str) -> Row | None:
    whole = [r for r in rows if r.metric == metric and r.class_name in ("macro", "all") and not r.variant]
    return whole[-1] if whole else None  # of two stages the newer one


def _cell(row: Row | None, digits: int = 3) -> str:
    return "n/a" if row is None else cell(row.value, row.low, row.high, digits)


def _stage_of(results: Sequence[Result], explainer: str) -> bool:
    return any(s.info["explainer"] == explainer for r in results for s in r.stages)


def _reasons(result: Result) -> list[tuple[str, str]]:
    missing = list(result.info.get("missing_evaluations", {}).items())
    rows = [(f"{r.metric} of {r.class_name}", r.reason) for r in result.rows if r.metric == "auroc" and r.reason]
    if not any(r.evaluation == "classification" for r in result.rows):
        missing.append(("classification", "not asked for"))
    flags = [("note", f) for f in sorted({f for r in result.rows for f in r.flags})]
    return missing + rows + flags


def read_config(path: Path | None) -> tuple[str, ...]:
    """Return the [set] table of a TOML file as assignments."""
    if path is None:
        return ()
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"--config {path}: cannot be read ({error.strerror}).") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"--config {path}: not valid TOML ({error}). Mend it.") from None
    extra = set(content) - {"set", "data"}
    if extra or not isinstance(content.get("set", {}), dict):
        raise UsageError(f"--config {path}: expected a table [set], got {', '.join(sorted(content))}.")

    def flat(table: dict[str, Any], prefix: str = "") -> Iterable[str]:
        for name, value in table.items():
            if isinstance(value, dict):
                yield from flat(value, f"{prefix}{name}.")
            else:
                text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
                yield f"{prefix}{name}={text}"

    return tuple(flat(content.get("set", {})))


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


def combinations(sweeps: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the assignments of each run of a sweep: every combination of `field=v1,v2,...`, one empty one for none.

    >>> combinations(["epsilon=0.001,0.01", "share=0.5"])
    [('epsilon=0.001', 'share=0.5'), ('epsilon=0.01', 'share=0.5')]
    """
    axes: dict[str, list[str]] = {}
    for text in sweeps:
        name, values = split_assignment(text, "--sweep")
        if name in axes:
            raise UsageError(f"--sweep {text!r}: {name} is swept twice. Give all its values after one =.")
        found = list(dict.fromkeys(v.strip() for v in values.split(",") if v.strip()))
        if not found:
            raise UsageError(f"--sweep {text!r}: expected values after the =, separated by commas.")
        axes[name] = [f"{name}={value}" for value in found]
    return list(itertools.product(*axes.values()))


def run(
    options: dict[str, Any],
    *,
    seeds: Sequence[int],
    sweeps: Sequence[str],
    config: Path | None,
    dry_run: bool,
    quiet: bool,
) -> Outcome | DryRun:
    """Make or finish the runs of every seed and every combination of swept values."""
    both = {split_assignment(s)[0] for s in options["sets"]} & {split_assignment(s, "--sweep")[0] for s in sweeps}
    if both:
        raise UsageError(f"--set and --sweep both give {', '.join(sorted(both))}. Leave one of them out.")
    given: dict[str, Any] = _tuples(options) | {"config": read_config(config)}
    specs = [
        RunSpec(**given | {"seed": seed, "sets": (*given["sets"], *swept)})
        for swept in combinations(sweeps)
        for seed in dict.fromkeys(seeds)
    ]
    for spec in specs:
        make(spec)  # a value that is none is said before the first training, not after it
    if dry_run:
        return DryRun([entry for spec in specs for entry in _planned(spec)])
    from harness.run import execute

    reporter = Reporter(quiet=quiet)
    done: dict[str, Result] = {}
    for spec in specs:
        done |= {r.run_id: r for r in execute(spec, reporter)}
    explainers = tuple(make(specs[0]).explainers)
    return Outcome(list(done.values()), specs[0].runs_dir, _own(explainers, done.values()), _again(options))


def evaluate(run_id: str, options: dict[str, Any], runs_dir: Path, *, quiet: bool) -> Outcome:
    """Add evaluations to a finished run."""
    from harness.run import evaluate as add

    given = {k: v for k, v in _tuples(options).items() if v not in (None, (), "auto")}
    result = add(run_id, given, runs_dir, Reporter(quiet=quiet))
    names = tuple(dict.fromkeys(s.info["explainer"] for s in result.stages if s.info["explainer"]))
    return Outcome([result], runs_dir, _own(names, [result]), _again(options))


def _again(options: dict[str, Any]) -> str:
    words = [("--plugin", p) for p in options["plugins"]] + [("--root", options["root"])] * bool(options["root"])
    return "".join(f" {option} {shlex.quote(str(value))}" for option, value in words)


def _tuples(options: dict[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}


def _own(explainers: Iterable[str], results: Iterable[Result]) -> tuple[str, ...]:
    references = {s.info["explainer"] for r in results for s in r.stages if s.info["reference"]}
    return tuple(e for e in explainers if e not in references)


def _planned(spec: RunSpec) -> list[dict[str, Any]]:
    plan = make(spec)
    chain = []
    while plan is not None:
        chain.append(
            {
                "method": plan.spec.method,
                "dataset": plan.spec.dataset,
                "model": plan.model.component.name,
                "seed": plan.spec.seed,
                "settings": plan.settings(),
            }
        )
        plan = plan.before
    return chain[::-1]
