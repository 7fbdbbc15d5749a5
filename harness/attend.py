"""What the processes of torchrun do for the run that the first one makes: they train it, and make parts of its scores.

Process 0 makes the run and tells the others what to take part in, through the store of keys (together.py). Its
evaluations are told when they are offered (shards.py), and over when they are withdrawn: in between every other process
claims parts and makes them on its own device. All look into the folder of the run, so it must be on a common file
system; a process that does not find it there says so, and the others go on without it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from harness import together
from harness.assist import make_parts, work_of
from harness.console import Reporter
from harness.data.cache import Prepared
from harness.device import Compute
from harness.plan import Plan
from harness.shards import POLL, mark_of, offer, withdraw
from harness.store import RunFolder
from harness.trained import Work, depth, take_part

NOT_SEEN = 60.0  # seconds after which a process gives up to find a run's folder; NFS shows a new file later than that


@dataclass
class Assistants:
    """The other processes, that make parts of a run's evaluations: what process 0 knows and says of them."""

    work: Work
    others: int
    said: bool = False

    def look(self, *, last: bool = False) -> None:
        """Say once how many assist: when every process has answered, or at last where some do not."""
        if self.said or not self.others:
            return
        answers = together.answers()
        count = sum(not why for why in answers.values())
        if (not answers or count == self.others) if last else len(answers) < self.others:
            return
        self.said, note = True, self.work.reporter.note
        of = "" if count == self.others else f"{count} of "
        what = "process assists" if self.others == 1 else "processes assist"
        note(f"{self.work.folder.run_id}: {of}{self.others} other {what} with its evaluations")
        for rank, why in sorted(answers.items()):
            if why:
                note(f"process {rank} of {self.others + 1} does not assist: {why}")


@contextmanager
def assisted(work: Work, stages: Mapping[str, str], shared: bool) -> Iterator[Assistants]:
    """Offer the stages of a run, name: key, that are made inside; `shared`: other processes can make parts of them.

    An assistant of another command may come to them as well (assist.py), without being told.
    """
    others = together.others() if shared else 0
    assistants = Assistants(work, others)
    mark = offer(work.folder, stages)
    try:
        if not others:
            yield assistants
            return
        together.tell({"assist": depth(work.plan), "run": work.folder.run_id, "mark": mark})
        with together.watched():
            yield assistants
        assistants.look(last=True)
        together.tell({})  # it is over
    finally:
        withdraw(work.folder)


def attend(plan: Plan, prepared: Prepared, compute: Compute) -> None:
    """Take part in what process 0 tells of a plan's run and of those before it, until it tells that all is done."""
    plans = [plan]
    while plans[0].before:
        plans.insert(0, plans[0].before)
    while (told := together.hear()) is not None:
        if "train" in told:
            mine = plans[told["train"]]
            folder = RunFolder(mine.spec.runs_dir / told["run"])  # named, neither read nor written
            take_part(Work(mine, prepared, compute, folder, "", Reporter(quiet=True)), told["fold"])
        elif "assist" in told:
            with together.watched():
                _assist(plans[told["assist"]], prepared, compute, told["run"], told["mark"])


def _assist(plan: Plan, prepared: Prepared, compute: Compute, run_id: str, mark: str) -> None:
    """Make parts of a run's evaluations, which are offered under a mark, until they are over."""
    work = work_of(plan, prepared, compute, run_id, Reporter(quiet=True))
    until = time.monotonic() + NOT_SEEN
    while mark_of(work.folder) != mark:
        if together.more():  # they are over already
            return
        if time.monotonic() > until:
            together.answer(
                f"expected the run that process 0 makes in {work.folder.folder.resolve()}, it is not there. Give all "
                "machines a --runs-dir on a common file system."
            )
            return
        time.sleep(POLL)
    together.answer("")
    make_parts(work)
