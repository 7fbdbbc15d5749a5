"""The order of a suite's runs: each after the run that it starts from, every run once."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from harness.errors import HarnessError
from harness.plan import Plan, RunSpec, make


@dataclass(frozen=True)
class Node:
    """One run, and the number of the one that it starts from.

    `fits` names the fits that its run folders are of: of those that it starts from, then its own.
    """

    number: int
    spec: RunSpec
    needs: int | None
    asked: bool  # by the suite itself, not only to start from
    fits: tuple[str, ...] = ()

    def waits_for(self, running: Iterable[Node]) -> bool:
        """Return whether one that runs works in this one's run folder, or would come to it, or this one to its own."""
        return any({*self.fits[-1:]} & {*n.fits} or {*n.fits[-1:]} & {*self.fits} for n in running)


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
        fits: tuple[str, ...] = ()
        for plan in plans:
            fits = (*fits, fit_of(plan, fits))
            same, asked = identity(plan), plan is plans[-1]
            if same not in nodes:
                own = plan.spec if asked else dataclasses.replace(plan.spec, sets=tuple(plan.assignments()), config=())
                nodes[same] = Node(len(nodes), own, needs, asked, fits)
            elif asked and not nodes[same].asked:
                nodes[same] = dataclasses.replace(nodes[same], spec=plan.spec, asked=True)
            needs = nodes[same].number
    return list(nodes.values())


def identity(plan: Plan) -> str:
    """Return what tells two runs apart: their names, seed and every resolved setting, also of what comes before."""
    before = identity(plan.before) if plan.before else ""
    spec, keys = plan.spec, [part.key() for part in plan.parts]
    return repr((spec.seed, spec.profile, spec.limit, spec.precision, str(spec.checkpoint), keys, before))


def fit_of(plan: Plan, before: tuple[str, ...]) -> str:
    """Return what tells the fits of two plans apart, without their data: neither explainers nor evaluations do.

    `before` are the fits that it starts from. Runs of one fit have one folder (stages.fit_key).
    """
    from harness.standing import compute_of  # not above: torch is loaded after a process knows its threads
    from harness.trained import weights_of

    spec, precision = plan.spec, plan.spec.precision
    with suppress(HarnessError):  # no such device here: where there is one may be known elsewhere
        precision = compute_of(spec).precision
    weights = str(spec.checkpoint)
    if found := weights_of(plan):
        with suppress(HarnessError):  # the run itself says what is wrong with its file
            weights = found.digest()
    parts = [part.key() for part in (plan.method, plan.dataset, plan.model)]
    return repr((spec.method, spec.dataset, spec.seed, precision, weights, parts, before[-1:]))


def _chain(plan: Plan) -> Iterator[Plan]:
    """Yield the plan that a chain begins with, then each that goes on from it."""
    if plan.before:
        yield from _chain(plan.before)
    yield plan
