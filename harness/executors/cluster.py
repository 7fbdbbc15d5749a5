"""Runs as tasks of Ray: on one machine, or on every machine of a cluster that shares the folder of the runs.

A worker or machine that is lost costs what it had not stored: Ray gives its task to another one, and the run goes on
from its last epoch and shard, since all of it lies in the store. A worker without a run assists one (assist.py).
"""

from __future__ import annotations

import dataclasses
import logging
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from harness import device as devices
from harness.errors import UsageError
from harness.executors.graph import Ended, Node
from harness.executors.local import Said, assistance, attempt, startable, threads_of, unmade
from harness.executors.sharing import LOOK, Helped, Sharing
from harness.plan import RunSpec

RETRIES = 5  # of a task whose worker was lost
PASSED_ON = ("HARNESS_DATA", "HARNESS_CACHE", "HARNESS_ZOO")


def distributed(nodes: Sequence[Node], jobs: int, said: Said, helped: Helped) -> list[Ended]:
    """Carry the runs out as Ray tasks, `jobs` at once: a task has one CPU, and its share of the GPUs there are."""
    with _connected(jobs) as (ray, share):
        task = ray.remote(num_cpus=1, num_gpus=share, max_retries=RETRIES)(attempt)
        aside = ray.remote(num_cpus=1, num_gpus=share, max_retries=0)(assistance)
        return _all(ray, task, aside, nodes, jobs, said, Sharing(helped))


def as_workers(specs: Sequence[RunSpec], jobs: int, note: Callable[[str], None]) -> tuple[RunSpec, ...]:
    """Return the specs with the device and precision that a worker of the cluster makes of theirs, each once.

    All keys follow from these, and the machine of this command may have no GPU. Raises `UsageError` where no worker
    has what is asked for.
    """
    found: dict[tuple[str, str], dict[str, str]] = {}
    with _connected(jobs) as (ray, share):
        task = ray.remote(num_cpus=1, num_gpus=share, max_retries=RETRIES)(on_this_machine)
        for asked in dict.fromkeys((s.device, s.precision) for s in specs):
            try:
                found[asked], wrong = ray.get(task.remote(*asked))
            except ray.exceptions.RayError as lost:
                wrong = (
                    f"expected a worker that can run harness, got {str(lost).strip().splitlines()[-1]:.300}. Install "
                    "the same environment on every machine of the cluster."
                )
            if wrong:
                raise UsageError(f"--executor ray: {wrong}")
            note(f"the workers of Ray have {found[asked]['device']}, and train in {found[asked]['precision']}")
    return tuple(dict.fromkeys(dataclasses.replace(s, **found[s.device, s.precision]) for s in specs))


def on_this_machine(device: str, precision: str) -> tuple[dict[str, str], str]:
    """Return what `auto` means on this machine, as fields of a spec, and what is wrong."""
    try:
        compute = devices.resolve(device, precision)
    except UsageError as wrong:
        return {}, str(wrong)
    return {"device": compute.kind if device == "auto" else device, "precision": compute.precision}, ""


@contextmanager
def _connected(jobs: int) -> Iterator[tuple[Any, float]]:
    """Give Ray, connected, and the share of a GPU that each of `jobs` tasks has.

    `RAY_ADDRESS` names the cluster; without it one of this machine's processes is made and ended here.
    """
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")  # else Ray would build an environment for each worker
    try:
        import ray  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise UsageError(
            "--executor ray: expected the package ray, it is not installed. Install it: uv pip install 'harness[ray]'"
        ) from None
    environment = {"env_vars": {**places(), "OMP_NUM_THREADS": str(threads_of(jobs))}}
    address = os.environ.get("RAY_ADDRESS")
    here = {} if address else {"num_cpus": jobs, "include_dashboard": False}
    with redirect_stdout(sys.stderr):  # what Ray says: stdout carries the result
        ray.init(
            address=address or "local", runtime_env=environment, log_to_driver=False, logging_level=logging.ERROR,
            **here,
        )  # fmt: skip
        try:
            yield ray, share_of(ray.cluster_resources().get("GPU", 0), jobs)
        finally:
            ray.shutdown()


def places() -> dict[str, str]:
    """Return where things lie, for the workers: absolute, since a worker's folder is not this one."""
    return {name: str(Path(os.environ[name]).resolve()) for name in PASSED_ON if os.environ.get(name)}


def _all(
    ray: Any, task: Any, aside: Any, nodes: Sequence[Node], jobs: int, said: Said, sharing: Sharing
) -> list[Ended]:
    ended: dict[int, Ended] = {}
    running: dict[Any, tuple[Node, float]] = {}
    assistants: dict[Any, Node] = {}
    waiting = list(nodes)

    def end(assistant: Any) -> None:  # that costs the part that it is at
        del assistants[assistant]
        ray.cancel(assistant, force=True)

    while waiting or running:
        for node in [n for n in waiting if unmade(n, ended)]:
            waiting.remove(node)
            ended[node.number] = lost = unmade(node, ended) or Ended(node, 0.0)
            said(node, lost)
        for node in startable(waiting, ended, [n for n, _ in running.values()], jobs):
            waiting.remove(node)
            if len(running) + len(assistants) == jobs:
                end(list(assistants)[-1])
            running[task.remote(anywhere(node.spec))] = (node, time.monotonic())
            said(node, None)
        while len(running) + len(assistants) < jobs and (
            found := sharing.choose([n for n, _ in running.values()], [n.number for n in assistants.values()])
        ):
            node, run_id = found
            assistants[aside.remote(anywhere(node.spec), run_id)] = node
        at_work = [*running, *assistants]
        done, _ = ray.wait(at_work, num_returns=1, timeout=LOOK) if at_work else ([], [])
        for future in done:
            try:
                error = ray.get(future)
            except ray.exceptions.RayError as lost:
                error = lost
            if future in assistants:
                node = assistants.pop(future)
                sharing.ended(node, error) if isinstance(error, str) else sharing.lost(node)
                continue
            node, began = running.pop(future)
            if not isinstance(error, str):
                error = f"its worker was lost {RETRIES + 1} times ({type(error).__name__})"
            ended[node.number] = Ended(node, time.monotonic() - began, error)
            for assistant in [a for a, n in assistants.items() if n is node]:
                end(assistant)
            said(node, ended[node.number])
    return [ended[n.number] for n in nodes]


def share_of(gpus: float, jobs: int) -> float:
    """Return each task's share of a GPU so that `jobs` fit at once: no task spans two, Ray counts in 1/10000."""
    return math.floor(10_000 / math.ceil(jobs / gpus)) / 10_000 if gpus else 0.0


def anywhere(spec: RunSpec) -> RunSpec:
    """Return the spec with absolute paths: a worker's folder is not this one."""
    return dataclasses.replace(
        spec,
        runs_dir=spec.runs_dir.resolve(),
        root=spec.root.resolve() if spec.root else None,
        checkpoint=spec.checkpoint.resolve() if spec.checkpoint else None,
        plugins=tuple(str(Path(p).resolve()) for p in spec.plugins),
    )
