"""Runs on this machine: one after the other in this process, or several at once, each a process of its own.

A process that has no run to make assists one that is being made (assist.py).
"""

from __future__ import annotations

import dataclasses
import os
import signal
import time
from collections.abc import Callable, Container, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import wait
from typing import Any

from harness.console import Reporter
from harness.errors import HarnessError
from harness.executors.graph import Ended, Node
from harness.executors.sharing import LOOK, Helped, Sharing
from harness.parent import end_with_parent
from harness.plan import RunSpec

Said = Callable[[Node, Ended | None], None]  # a run begins (None), or has ended


def attempt(spec: RunSpec) -> str:
    """Make one run, without a word; return what went wrong, empty where nothing did."""
    return _carried_out(spec, Reporter(quiet=True))


def assistance(spec: RunSpec, run_id: str) -> str:
    """Make parts of a run that another process makes, without a word; return what went wrong."""
    from harness.assist import assist

    return _error_of(lambda: assist(spec, run_id, Reporter(quiet=True)))


def _carried_out(spec: RunSpec, reporter: Reporter) -> str:
    from harness.run import execute

    return _error_of(lambda: execute(spec, reporter))


def _error_of(work: Callable[[], Any]) -> str:
    try:
        work()
    except HarnessError as wrong:
        return str(wrong)
    except Exception as wrong:  # a fault in one run is not one in the others
        return f"{type(wrong).__name__}: {wrong}"
    return ""


def sequential(nodes: Sequence[Node], reporter: Reporter, said: Said) -> list[Ended]:
    """Carry the runs out one after the other; a failed one costs itself and those that start from it."""
    ended: dict[int, Ended] = {}
    for node in nodes:
        if lost := unmade(node, ended):
            ended[node.number] = lost
            said(node, lost)
            continue
        said(node, None)
        began = time.monotonic()
        error = _carried_out(node.spec, reporter)
        ended[node.number] = Ended(node, time.monotonic() - began, error)
        said(node, ended[node.number])
    return list(ended.values())


@dataclass(frozen=True)
class _Process:
    """A process that makes a run, or assists one."""

    node: Node
    slot: int
    began: float
    process: Any
    pipe: Any  # our end; it says what went wrong

    @property
    def over(self) -> bool:
        """Return whether it has said something, or ended without a word."""
        return self.pipe.poll() or not self.process.is_alive()

    def said(self) -> str | None:
        """Return what it said, None where it was killed, and let it end."""
        try:
            return self.pipe.recv() if self.pipe.poll() else None
        except EOFError:
            return None
        finally:
            self.pipe.close()
            self.process.join()


def parallel(nodes: Sequence[Node], jobs: int, said: Said, helped: Helped) -> list[Ended]:
    """Carry the runs out in `jobs` processes at once, each run in one of its own: a crash costs that run alone.

    Processes that are left assist the runs that are being made, until there is another run to make.
    """
    ended: dict[int, Ended] = {}
    running: list[_Process] = []
    assistants: list[_Process] = []
    sharing = Sharing(helped)
    waiting = list(nodes)
    try:
        while waiting or running:
            for node in [n for n in waiting if unmade(n, ended)]:
                waiting.remove(node)
                ended[node.number] = lost = unmade(node, ended) or Ended(node, 0.0)
                said(node, lost)
            ready = startable(waiting, ended, [p.node for p in running], jobs)
            while len(running) + len(ready) + len(assistants) > jobs:
                _end(assistants, assistants[-1])
            for node in ready:
                waiting.remove(node)
                running.append(_started(alone, (node.spec,), node, jobs, [*running, *assistants]))
                said(node, None)
            if not running:  # what was left could not be made; others may wait for it
                continue
            while len(running) + len(assistants) < jobs and (
                found := sharing.choose([p.node for p in running], [p.node.number for p in assistants])
            ):
                node, run_id = found
                assistants.append(_started(aside, (node.spec, run_id), node, jobs, [*running, *assistants]))
            idle = len(running) + len(assistants) < jobs
            at_work = (*running, *assistants)  # one that has much to say cannot end before it is heard
            wait([x for p in at_work for x in (p.process.sentinel, p.pipe)], timeout=LOOK if idle else None)
            for p in [p for p in running if p.over]:
                running.remove(p)
                ended[p.node.number] = Ended(p.node, time.monotonic() - p.began, _error(p))
                for a in [a for a in assistants if a.node is p.node]:
                    _end(assistants, a)
                said(p.node, ended[p.node.number])
            for a in [a for a in assistants if a.over]:
                assistants.remove(a)
                error = a.said()
                sharing.lost(a.node) if error is None else sharing.ended(a.node, error)
    finally:
        for p in (*running, *assistants):
            p.process.terminate()
        for p in (*running, *assistants):
            p.process.join()
    return [ended[n.number] for n in nodes]


def _started(
    work: Callable[..., None], given: tuple[Any, ...], node: Node, jobs: int, beside: Sequence[_Process]
) -> _Process:
    """Start a process in the first free slot, with its share of the cores."""
    context = get_context("spawn")
    slot = min(set(range(jobs)) - {p.slot for p in beside})
    ours, theirs = context.Pipe(duplex=False)
    given = (*given, slot, threads_of(jobs), theirs)
    process = context.Process(target=work, args=given, name=f"{work.__name__}-{node.number}")
    process.start()
    theirs.close()
    return _Process(node, slot, time.monotonic(), process, ours)


def threads_of(jobs: int) -> int:
    """Return the threads of each of `jobs` processes: what OMP_NUM_THREADS says, else their share of the cores."""
    told = os.environ.get("OMP_NUM_THREADS", "")
    return int(told) if told.isdigit() and int(told) else max(1, _cores() // jobs)


def _cores() -> int:
    """Return how many cores this process may use: fewer than there are under taskset, or a scheduler of a cluster."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _end(assistants: list[_Process], one: _Process) -> None:
    """End an assistant at once: that costs the part that it is at."""
    assistants.remove(one)
    one.process.kill()
    one.process.join()
    one.pipe.close()


def unmade(node: Node, ended: dict[int, Ended]) -> Ended | None:
    """Return the end of a run whose start has failed; None where it can be made, or may be later."""
    start = ended.get(node.needs) if node.needs is not None else None
    if start is None or not start.error:
        return None
    return Ended(
        node, 0.0, f"not made: {start.node.spec.method}, seed {start.node.spec.seed}, that it starts from failed"
    )


def startable(waiting: Iterable[Node], ended: Container[int], running: Sequence[Node], jobs: int) -> list[Node]:
    """Return the runs that can begin beside those that run, in order; no two that work in one run folder."""
    found: list[Node] = []
    for node in waiting:
        beside = [*running, *found]
        if len(beside) < jobs and (node.needs is None or node.needs in ended) and not node.waits_for(beside):
            found.append(node)
    return found


def alone(spec: RunSpec, slot: int, threads: int, pipe: Any) -> None:
    """Make one run in a process of its own, and send what went wrong."""
    os.environ["OMP_NUM_THREADS"] = str(threads)  # before torch is loaded
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's; it stops this process by SIGTERM
    signal.signal(signal.SIGTERM, _stop)
    with suppress(KeyboardInterrupt, BrokenPipeError):  # stopped while it speaks: nobody listens
        try:
            end_with_parent(signal.SIGTERM)  # and keep what is done
            error = attempt(dataclasses.replace(spec, device=placed(spec.device, slot)))
        except KeyboardInterrupt:
            error = "interrupted"
        pipe.send(error)


def aside(spec: RunSpec, run_id: str, slot: int, threads: int, pipe: Any) -> None:
    """Assist a run in a process of its own, and send what went wrong."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent(signal.SIGKILL)
    pipe.send(assistance(dataclasses.replace(spec, device=placed(spec.device, slot)), run_id))


def _stop(*_: object) -> None:
    raise KeyboardInterrupt


def placed(device: str, slot: int) -> str:
    """Return the device of a slot: with several GPUs and none named, the slots take turns."""
    import torch

    count = torch.cuda.device_count() if device in ("auto", "cuda") else 0
    return f"cuda:{slot % count}" if count > 1 else device


def _error(p: _Process) -> str:
    if (said := p.said()) is not None:
        return said
    more = ", perhaps for want of memory" if p.process.exitcode == -signal.SIGKILL else ""
    return f"its process ended by itself (exit status {p.process.exitcode}){more}"
