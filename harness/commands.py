"""`harness run` and `harness evaluate`: from options to finished runs."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from harness.config import split_assignment
from harness.console import Reporter
from harness.errors import UsageError
from harness.outcome import DryRun, Outcome
from harness.plan import RunSpec, make
from harness.reading import read_toml
from harness.record import Result


def read_config(path: Path | None) -> tuple[str, ...]:
    """Return the [set] table of a TOML file as assignments."""
    if path is None:
        return ()
    content = read_toml(path, f"--config {path}")
    extra = set(content) - {"set", "data"}
    if extra or not isinstance(content.get("set", {}), dict):
        raise UsageError(f"--config {path}: expected a table [set], got {', '.join(sorted(content)):.200}.")

    def flat(table: dict[str, Any], prefix: str = "") -> Iterable[str]:
        for name, value in table.items():
            if isinstance(value, dict):
                yield from flat(value, f"{prefix}{name}.")
            else:
                text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
                yield f"{prefix}{name}={text}"

    return tuple(flat(content.get("set", {})))


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
        _ = make(spec).dataset_name  # a value that is none is said before the first training, not after it
    if dry_run:
        return DryRun([entry for spec in specs for entry in _planned(spec)])
    from harness.run import execute

    reporter = Reporter(quiet=quiet)
    done: dict[str, Result] = {}
    for spec in specs:
        done |= {r.run_id: r for r in execute(spec, reporter)}
    if not done:
        raise SystemExit(0)  # one of several processes, and not the one that prints (harness/together.py)
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
                "dataset": plan.dataset_name,
                "model": plan.model.component.name,
                "seed": plan.spec.seed,
                "settings": plan.settings(),
            }
        )
        plan = plan.before
    return chain[::-1]
