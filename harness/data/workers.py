"""Work shared among processes. The calling one is one of them, so nothing waits until the others have started."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from typing import Any, TypeVar

from harness.errors import UsageError

START = 1.0  # seconds that a process takes to start: less work than that is done without others
AHEAD = 2  # jobs per other process that are handed out at once: the table is not copied to a queue as a whole

T = TypeVar("T")


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def parallel(
    work: Callable[..., T], jobs: Iterable[tuple[Any, ...]], count: int, workers: int | None, name: str
) -> Iterator[T]:
    """Yield the result of each of `count` jobs, as they are done, by `workers` processes (None: one per core).

    Jobs are made only when a process is about to need them. Raises `UsageError` where a process is killed.
    """
    others = min(workers or cores(), count) - 1
    jobs, spent = iter(jobs), 0.0
    for done, job in enumerate(jobs, 1):
        began = time.monotonic()
        result = work(*job)
        spent += time.monotonic() - began
        yield result
        if others > 0 and spent / done * (count - done) > START:
            yield from _together(work, jobs, others, name)


def _together(work: Callable[..., T], jobs: Iterator[tuple[Any, ...]], others: int, name: str) -> Iterator[T]:
    """Yield the results of the jobs that are left, by this process and `others`."""
    pool = ProcessPoolExecutor(others, mp_context=get_context("spawn"), initializer=_serve)
    waiting: dict[Future[T], tuple[Any, ...]] = {}
    try:
        for job in jobs:
            if len(waiting) < AHEAD * others:
                waiting[pool.submit(work, *job)] = job
                continue
            yield work(*job)
            for future in [f for f in waiting if f.done()]:
                del waiting[future]
                yield future.result()
        while waiting:
            mine = next((f for f in waiting if f.cancel()), None)  # not begun: done here
            if mine is not None:
                yield work(*waiting.pop(mine))
                continue
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                del waiting[future]
                yield future.result()
    except BrokenProcessPool:
        raise UsageError(
            f"a worker that reads {name} was killed, perhaps for want of memory. Give the command again: "
            "what was read is kept."
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _serve() -> None:
    """Make this process end with the one that started it, even by SIGKILL, and leave Ctrl-C to that one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
