"""Runs on this machine: one after the other in this process, or several at once, each a process of its own."""

from __future__ import annotations

import dataclasses
import os
import signal
import time
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from multiprocessing.connection import wait
from typing import Any

from harness.console import Reporter
from harness.errors import HarnessError
from harness.executors.graph import Ended, Node
from harness.plan import RunSpec

Said = Callable[[Node, Ended | None], None]  # a run begins (None), or has ended


def attempt(spec: RunSpec) -> str:
    """Make one run, without a word; return what went wrong, empty where nothing did."""
    return _carried_out(spec, Reporter(quiet=True))


def _carried_out(spec: RunSpec, reporter: Reporter) -> str:
    from harness.run import execute

    try:
        execute(spec, reporter)
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


def parallel(nodes: Sequence[Node], jobs: int, said: Said) -> list[Ended]:
    """Carry the runs out in `jobs` processes at once, each run in one of its own: a crash costs that run alone."""
    context = get_context("spawn")
    ended: dict[int, Ended] = {}
    running: dict[int, tuple[Any, Any, float, int]] = {}  # process, its end of the pipe, start, slot
    waiting = list(nodes)
    try:
        while waiting or running:
            for node in [n for n in waiting if unmade(n, ended)]:
                waiting.remove(node)
                ended[node.number] = lost = unmade(node, ended) or Ended(node, 0.0)
                said(node, lost)
            ready = [n for n in waiting if n.needs is None or n.needs in ended]
            for node in ready[: jobs - len(running)]:
                waiting.remove(node)
                slot = min(set(range(jobs)) - {s for *_, s in running.values()})
                ours, theirs = context.Pipe(duplex=False)
                threads = max(1, (os.cpu_count() or 1) // jobs)
                given = (node.spec, slot, threads, theirs)
                process = context.Process(target=alone, args=given, name=f"run-{node.number}")
                process.start()
                theirs.close()
                running[node.number] = (process, ours, time.monotonic(), slot)
                said(node, None)
            if not running:  # what was left could not be made; others may wait for it
                continue
            wait([process.sentinel for process, *_ in running.values()])
            for number in [n for n, (process, *_) in running.items() if not process.is_alive()]:
                process, ours, began, _ = running.pop(number)
                node = next(n for n in nodes if n.number == number)
                ended[number] = Ended(node, time.monotonic() - began, _error(process, ours))
                said(node, ended[number])
    finally:
        for process, *_ in running.values():
            process.terminate()
        for process, *_ in running.values():
            process.join()
    return [ended[n.number] for n in nodes]


def unmade(node: Node, ended: dict[int, Ended]) -> Ended | None:
    """Return the end of a run whose start has failed; None where it can be made, or may be later."""
    start = ended.get(node.needs) if node.needs is not None else None
    if start is None or not start.error:
        return None
    return Ended(
        node, 0.0, f"not made: {start.node.spec.method}, seed {start.node.spec.seed}, that it starts from failed"
    )


def alone(spec: RunSpec, slot: int, threads: int, pipe: Any) -> None:
    """Make one run in a process of its own, and send what went wrong."""
    os.environ["OMP_NUM_THREADS"] = str(threads)  # before torch is loaded
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's; it stops this process by SIGTERM
    signal.signal(signal.SIGTERM, _stop)
    try:
        error = attempt(dataclasses.replace(spec, device=placed(spec.device, slot)))
    except KeyboardInterrupt:
        error = "interrupted"
    pipe.send(error)


def _stop(*_: object) -> None:
    raise KeyboardInterrupt


def placed(device: str, slot: int) -> str:
    """Return the device of a slot: with several GPUs and none named, the slots take turns."""
    import torch

    count = torch.cuda.device_count() if device in ("auto", "cuda") else 0
    return f"cuda:{slot % count}" if count > 1 else device


def _error(process: Any, pipe: Any) -> str:
    try:
        return pipe.recv() if pipe.poll() else f"its process ended by itself (exit status {process.exitcode})"
    except EOFError:
        return f"its process ended by itself (exit status {process.exitcode}), perhaps for want of memory"
    finally:
        pipe.close()
