"""Which of the runs that are being made a slot without one should assist with its evaluations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from harness.errors import HarnessError
from harness.executors.graph import Node
from harness.plan import Plan, make

if TYPE_CHECKING:
    from harness.store import RunFolder

LOST = 3  # assistants of one run that are lost before no more are started
LOOK = 1.0  # seconds between two looks at what could be assisted

Helped = Callable[[Node, str], None]  # what is to be said of a run's assistants


class Sharing:
    """What is known of the runs that can be assisted. An assistant that fails is no failure of its run."""

    def __init__(self, helped: Helped) -> None:
        self.helped = helped
        self._plans: dict[int, Plan] = {}
        self._folders: dict[int, RunFolder] = {}
        self._over: set[int] = set()  # runs that need no assistant, or can have none
        self._lost: Counter[int] = Counter()

    def choose(self, running: Iterable[Node], assisted: Iterable[int]) -> tuple[Node, str] | None:
        """Return the run, with its id, that has parts to be made and the fewest assistants; None where none has.

        `assisted` are the numbers of the runs of the assistants that are at work.
        """
        count = Counter(assisted)
        for node in sorted(running, key=lambda n: (count[n.number], n.number)):
            if node.number not in self._over and (run_id := self._offered(node)):
                self.helped(node, "an idle worker joins its evaluations")
                return node, run_id
        return None

    def ended(self, node: Node, error: str) -> None:
        """Take note that an assistant has ended: it found nothing left, or failed."""
        self._over.add(node.number)
        if error:
            self.helped(node, f"goes on without its assistant, which failed: {error}")

    def lost(self, node: Node) -> None:
        """Take note that an assistant was killed."""
        self._lost[node.number] += 1
        self.helped(node, "goes on without its assistant, which was killed; what that had not stored is made again")
        if self._lost[node.number] >= LOST:
            self._over.add(node.number)

    def _offered(self, node: Node) -> str:
        """Return the id of a run whose evaluations are being made; empty for another."""
        from harness.shards import offered

        try:
            folder = self._folder(node)
        except HarnessError:  # the data are not on this machine, say
            self._over.add(node.number)
            return ""
        return folder.run_id if folder and offered(folder) else ""

    def _folder(self, node: Node) -> RunFolder | None:
        """Return the folder of a run; None while its data are being prepared."""
        from harness.standing import cached, chained_key, compute_of
        from harness.store import RunFolder, name_of

        if node.number not in self._folders:
            spec = node.spec
            plan = self._plans.setdefault(node.number, make(spec))
            if (prepared := cached(plan)) is None:
                return None
            key = chained_key(plan, prepared, compute_of(spec))
            self._folders[node.number] = RunFolder(
                spec.runs_dir / name_of(spec.method, plan.dataset_name, spec.seed, key)
            )
        return self._folders[node.number]
