"""The order of a suite's runs: each after the run that it starts from, every run once."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from harness.plan import Plan, RunSpec, make


@dataclass(frozen=True)
class Node:
    """One run, and the number of the one that it starts from."""

    number: int
    spec: RunSpec
    needs: int | None
    asked: bool  # by the suite itself, not only to start from


@dataclass(frozen=True)
class Ended:
    """How one run of a suite ended; `error` is empty where all is well."""

    node: Node
    seconds: float
    error: str = ""


def graph(specs: Iterable[RunSpec]) -> list[Node]:
    """Return the runs of a suite and those that they start from, in an order in which each can be made.

    Two specs that name one run (one says a default aloud, say) are one node. `UsageError` for what no plan can be made
    of, before anything is trained.
    """
    nodes: dict[str, Node] = {}
    for spec in specs:
        needs: int | None = None
        plans = list(_chain(make(spec)))
        for plan in plans:
            same, asked = identity(plan), plan is plans[-1]
            if same not in nodes:
                own = plan.spec if asked else dataclasses.replace(plan.spec, sets=tuple(plan.assignments()), config=())
                nodes[same] = Node(len(nodes), own, needs, asked)
            elif asked and not nodes[same].asked:
                nodes[same] = dataclasses.replace(nodes[same], spec=plan.spec, asked=True)
            needs = nodes[same].number
    return list(nodes.values())


def identity(plan: Plan) -> str:
    """Return what tells two runs apart: their names, seed and every resolved setting, also of what comes before."""
    before = identity(plan.before) if plan.before else ""
    spec, keys = plan.spec, [part.key() for part in plan.parts]
    return repr((spec.seed, spec.profile, spec.limit, spec.precision, str(spec.checkpoint), keys, before))


def _chain(plan: Plan) -> Iterator[Plan]:
    """Yield the plan that a chain begins with, then each that goes on from it."""
    if plan.before:
        yield from _chain(plan.before)
    yield plan
