"""`harness suite run` and `harness suite status`: what of a suite is there, carrying out the rest, what came of it."""

from __future__ import annotations

import dataclasses
import json
import os
import textwrap
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from harness.console import Reporter, duration, plain
from harness.errors import UsageError
from harness.executors.graph import Ended, Node, graph
from harness.plan import RunSpec
from harness.standing import Standing, read_store
from harness.suite import Suite, read
from harness.visible import visible

WIDTH = 140
EXECUTORS = ("local", "ray")


@dataclass(frozen=True)
class State:
    """A suite's runs as they stand; after it was run, also how each of them ended."""

    suite: Suite
    nodes: Sequence[Node]
    standings: Sequence[Standing]
    ended: Sequence[Ended] = ()

    @property
    def failed(self) -> list[Ended]:
        """Return the runs that failed or were not made."""
        return [e for e in self.ended if e.error]

    def json(self) -> str:
        """Return every run of the suite as JSON."""
        errors = {e.node.number: e.error for e in self.ended}
        runs = [
            {"method": s.spec.method, "dataset": s.spec.dataset, "seed": s.spec.seed, "sets": list(s.spec.sets),
             "run_id": s.run_id, "complete": s.complete, "trained": s.fit, "evaluations": list(s.done),
             "missing": list(s.missing), "seconds_left": s.seconds, "why": s.why, "asked": n.asked,
             "error": errors.get(n.number, "")}
            for n, s in zip(self.nodes, self.standings, strict=True)
        ]  # fmt: skip
        return json.dumps({"suite": str(self.suite.path), "title": self.suite.title, "runs": runs}, indent=1)

    def text(self) -> str:
        """Return a table with a line per run, what is left to do, and what failed."""
        console = Console(width=WIDTH, highlight=False)
        table = Table(box=None, pad_edge=False)
        common = set.intersection(*(set(s.spec.sets) for s in self.standings))
        own = [self._own(s.spec, common) for s in self.standings]
        for name in ("method", "dataset", *(("settings",) * bool(any(own)))):
            table.add_column(name)
        for name in ("seed", "state", "left"):
            table.add_column(name, justify="right" if name == "seed" else "left", no_wrap=True)
        for node, s, settings in zip(self.nodes, self.standings, own, strict=True):
            name = s.spec.method if node.asked else f"({s.spec.method}: others start from it)"
            left = "" if s.complete else "?" if s.seconds is None else f"about {duration(s.seconds)}"
            words = [name, s.spec.dataset, *[settings] * bool(any(own)), str(s.spec.seed), s.word(), left]
            table.add_row(*map(plain, words))
        with console.capture() as captured:
            console.print(plain(self.suite.title or str(self.suite.path)))
            console.print(table)
        lines = ["\n".join(line.rstrip() for line in captured.get().splitlines()), ""]
        lines += [f"Every run: {', '.join(x for x in self.standings[0].spec.sets if x in common)}"] if common else []
        lines.append(self._rest())
        notes = dict.fromkeys(
            [*(s.why for s in self.standings if s.why), *(s.status for s in self.standings if s.status)]
        )
        lines += [f"  {_short(why)}" for why in notes]
        for e in self.failed:
            lines.append(_short(f"  {e.node.spec.method} on {e.node.spec.dataset}, seed {e.node.spec.seed}: {e.error}"))
        return "\n".join(lines)

    @staticmethod
    def _own(spec: RunSpec, common: Collection[str]) -> str:
        """Return what was set in one run but not in all of them."""
        loaded = [f"checkpoint={spec.checkpoint.name}"] if spec.checkpoint else []
        return ", ".join([*(x for x in spec.sets if x not in common), *loaded])

    def _rest(self) -> str:
        todo = [s for s in self.standings if not s.complete]
        if not todo:
            return f"All {len(self.standings)} runs are complete."
        known = [s.seconds for s in todo if s.seconds is not None]
        said = f"{len(self.standings) - len(todo)} of {len(self.standings)} runs are complete"
        if known:
            said += f"; {len(known)} of the others should take about {duration(sum(known))}, one after the other"
        if unknown := len(todo) - len(known):
            said += f"; how long {unknown} of the others take is not known: no run alike is stored"
        return f"{said}."


def status(path: Path, machine: Mapping[str, Any]) -> State:
    """Return how the runs of a suite stand in the store. Nothing is prepared, trained or written."""
    suite = read(path, machine)
    return _state(suite, graph(suite.specs))


def run(path: Path, machine: Mapping[str, Any], *, executor: str, jobs: int, dry_run: bool, quiet: bool) -> State:
    """Carry out what is missing of a suite, and return how it stands then.

    A failed run costs itself and those that start from it. `UsageError` for a file or setting that is wrong, before
    anything is trained.
    """
    if jobs < 1:
        raise UsageError(f"--jobs {jobs}: expected at least 1.")
    suite, reporter = read(path, machine), Reporter(quiet=quiet)
    if executor == "ray" and os.environ.get("RAY_ADDRESS"):  # its workers are other machines than this
        from harness.executors.cluster import as_workers

        suite = dataclasses.replace(suite, specs=as_workers(suite.specs, jobs, reporter.note))
    before = _state(suite, graph(suite.specs))
    left = _left(before)
    if dry_run or not left:
        return before
    ended = _carry_out(left, executor, jobs, reporter)
    return State(suite, before.nodes, _state(suite, before.nodes).standings, ended)


def _state(suite: Suite, nodes: Sequence[Node]) -> State:
    store = read_store(suite.specs[0])
    return State(suite, nodes, [store.standing(n.spec) for n in nodes])


def _left(state: State) -> list[Node]:
    """Return the runs that are not complete; one whose start is complete needs nobody."""
    left = [n for n, s in zip(state.nodes, state.standings, strict=True) if not s.complete]
    numbers = {n.number for n in left}
    return [n if n.needs in numbers else dataclasses.replace(n, needs=None) for n in left]


def _carry_out(nodes: Sequence[Node], executor: str, jobs: int, reporter: Reporter) -> list[Ended]:
    def name(node: Node) -> str:
        return f"{nodes.index(node) + 1}/{len(nodes)} {node.spec.method} on {node.spec.dataset}, seed {node.spec.seed}"

    def helped(node: Node, what: str) -> None:
        reporter.note(f"{name(node)}: {_short(what)}")

    def said(node: Node, ended: Ended | None) -> None:
        what = name(node)
        if ended is None:
            reporter.note(f"{what}: begun")
        elif ended.error:
            reporter.note(f"{what}: failed: {_short(ended.error)}")
        else:
            reporter.note(f"{what}: done in {duration(ended.seconds)}")

    if executor == "ray":
        from harness.executors.cluster import distributed

        return distributed(nodes, jobs, said, helped)
    from harness.executors.local import parallel, sequential

    return sequential(nodes, reporter, said) if jobs == 1 else parallel(nodes, jobs, said, helped)


def _short(text: str) -> str:
    indent = text[: len(text) - len(text.lstrip())]
    return indent + textwrap.shorten(visible(text), 300, placeholder=" ...")
