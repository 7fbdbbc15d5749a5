"""Several processes that make one run: who they are, what they tell each other, how all end when one does.

`torchrun --nproc-per-node N -m harness run ...` starts N copies of one command. Process 0 leads: it alone reads and
writes runs and prints; the others hear from it what to take part in. Nothing else in harness knows of
torch.distributed. Started without torchrun there is one process, and nothing here does anything.

What is said goes through torchrun's store of keys, where waiting for hours is free and can be interrupted; tensors go
through collectives: gloo on the CPU, nccl between GPUs. Whoever fails writes its message and exit status into the
store and closes its connections, so that the others, wherever they wait, wake, find the message and end as it did.

Collectives are for trainings alone, and no process enters one before all are back from what they did before. While
evaluations are shared (attend.py) nobody is inside one, so none can time out, however long an evaluation takes. The
connections stay, idle, since the next run of the same command trains over them: the one that starts from this run,
another seed, another fold. An idle one has no timeout, and costs a GPU some memory. What wakes the others there is a
thread that looks into the store (`watched`).
"""

from __future__ import annotations

import _thread
import atexit
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from harness.errors import HarnessError, UsageError
from harness.parent import end_with_parent
from harness.visible import visible

VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # torchrun sets them
LAUNCHED = "TORCHELASTIC_RUN_ID"  # torchrun sets it, other launchers do not
LONGEST_STEP = timedelta(hours=2)  # that one process waits for another inside a training
LOOK_EVERY = 0.1  # seconds between two looks into the store
WATCH_EVERY = 0.5  # the same, of a thread beside other work
GRACE = 3.0  # seconds in which the others hear why one has ended
SILENCE = 10.0  # seconds without a sign of life after which a process is waited for no more
CLOSING = 5.0  # seconds that closing connections may take where something has failed
AGAIN = "Finished work is kept: the same command goes on where it was."


class LostError(HarnessError):
    """Another process is gone, and has not said why."""


@dataclass(frozen=True)
class World:
    """This process among those that were started together."""

    rank: int = 0
    size: int = 1
    local: int = 0  # rank among those of the same machine

    @property
    def leads(self) -> bool:
        """Return whether this is the process that writes and prints."""
        return self.rank == 0


@dataclass
class _Words:
    """The store of keys; once it is gone, with torchrun or the process that held it, it has and takes nothing."""

    store: Any
    gone: bool = False

    def _ask(self, call: Callable[..., Any], *arguments: Any) -> Any:
        if not self.gone:
            try:
                return call(*arguments)
            except RuntimeError:
                self.gone = True
        return None

    def has(self, key: str) -> bool:
        """Return whether somebody has put something under `key`."""
        return bool(self._ask(self.store.check, [key]))

    def get(self, key: str) -> Any:
        """Return what is under `key`, which is there; None where the store is gone."""
        found = self._ask(self.store.get, key)
        return None if found is None else json.loads(found)

    def put(self, key: str, value: Any) -> None:
        """Put a value that JSON knows under `key`."""
        self._ask(self.store.set, key, json.dumps(value))

    def first(self, key: str, value: Any) -> bool:
        """Put a value under `key` unless one is there; return whether this is the first, or the store is gone."""
        mine = json.dumps(value)
        found = self._ask(self.store.compare_set, key, "", mine)
        return found is None or found.decode() == mine

    def awaited(self, key: str) -> bool:
        """Return whether something comes under `key` within GRACE seconds."""
        until = time.monotonic() + GRACE
        while not (found := self.has(key)) and not self.gone and time.monotonic() < until:
            time.sleep(LOOK_EVERY)
        return found


@dataclass
class _Group:
    """The connection to the others."""

    world: World
    words: _Words
    told: int = 0  # messages of process 0 so far
    gpus: bool = False  # whether tensors of GPUs go through nccl
    status: int | None = None  # with which this process ends at once, since its connections could not be closed

    @property
    def others(self) -> range:
        """Return the ranks of all processes but process 0."""
        return range(1, self.world.size)


_groups: list[_Group] = []  # none, or the one that this process is in


def world() -> World:
    """Return this process among those that torchrun has started; alone where it has not.

    Raises `UsageError` where the environment speaks of several processes and does not say all of it.
    """
    size = os.environ.get("WORLD_SIZE", "1")
    if size == "1":
        return World()
    wrong = [f"{v}={os.environ.get(v, '')!r}" for v in VARIABLES[:3] if not os.environ.get(v, "").isdigit()]
    wrong += [f"{v}=''" for v in VARIABLES[3:] if not os.environ.get(v)]
    if wrong:
        raise UsageError(
            f"WORLD_SIZE={size!r}: expected the environment of one of several processes, got {', '.join(wrong)}. Start "
            "with torchrun --nproc-per-node N -m harness run ..., or unset WORLD_SIZE to train in one process."
        )
    return World(int(os.environ["RANK"]), int(size), int(os.environ["LOCAL_RANK"]))


def device(name: str) -> str:
    """Return the device of this process for `--device name`: of several processes each takes the GPU of its own."""
    mine = world()
    if mine.size == 1 or name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return name
    if name.startswith("cuda:"):
        raise UsageError(
            f"--device {name}: expected cuda, got one GPU for {mine.size} processes. Process r of a machine takes "
            "cuda:r; CUDA_VISIBLE_DEVICES says which GPUs these are."
        )
    if name not in ("auto", "cuda"):
        return name
    if mine.local < torch.cuda.device_count():
        torch.cuda.set_device(mine.local)  # else every process also takes room on the first one
    return f"cuda:{mine.local}"


@contextmanager
def session() -> Iterator[None]:
    """Be one of the processes that were started together, as long as this lasts.

    An error of process 0 passes through as it is. Every other process leaves here with the exit status of whatever
    ended first, and speaks only where process 0 cannot.
    """
    mine = world()
    if mine.size == 1:
        yield
        return
    try:
        _join(mine)
        yield
    except SystemExit:
        raise
    except BaseException as error:
        _leave(mine, error)
        raise


def _join(mine: World) -> None:
    if _groups:
        return
    store, _, _ = next(rendezvous("env://", mine.rank, mine.size, timeout=LONGEST_STEP))
    words, tensors = (dist.PrefixStore(part, store) for part in ("harness", "tensors"))  # pyright: ignore
    _groups.append(_Group(mine, _Words(words)))
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _stopped)
    if LAUNCHED in os.environ:
        end_with_parent(signal.SIGTERM)  # torchrun: without it these would train on, with nobody to hear them
    _groups[0].gpus = torch.cuda.is_available()
    atexit.register(_end)
    kinds = "cpu:gloo,cuda:nccl" if _groups[0].gpus else "gloo"
    dist.init_process_group(kinds, store=tensors, rank=mine.rank, world_size=mine.size, timeout=LONGEST_STEP)


def _close() -> None:
    with suppress(Exception):
        dist.destroy_process_group()


def _end() -> None:
    """Close the connections as the last thing that this process does, unless they can only be dropped."""
    status = _groups[0].status
    if status is None:
        _close()
    else:
        _drop(status)


def _drop(status: int) -> None:
    """End this process without Python's own end, which would wait for connections that cannot be closed."""
    for stream in (sys.stdout, sys.stderr, sys.__stderr__):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()  # pyright: ignore[reportOptionalMemberAccess]
    os._exit(status)


def _closed_in_time(group: _Group) -> bool:
    """Close the connections where something has failed; return whether that was done within CLOSING seconds.

    Those of nccl are not closed at all: closing them waits, perhaps with Python's lock held, for what the GPU is at,
    and that waits in turn for a process that is in another place by now, up to LONGEST_STEP. Those of gloo are closed,
    since the others wake by it while this process can still tell them why; in a thread, since gloo waits as well where
    a transfer is under way. The system closes what is left when the process ends.
    """
    if group.gpus:
        return False
    thread = threading.Thread(target=_close, daemon=True)
    thread.start()
    thread.join(CLOSING)
    return not thread.is_alive()


def _stopped(*_: object) -> None:
    """Answer SIGTERM, which torchrun sends to the others when one process has ended, and when it is stopped itself.

    `watched` sends it where another process has said why it ends, or the store is gone, with process 0.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough: what follows is left to finish
    if LAUNCHED not in os.environ and _groups[0].words.gone:
        raise _why("process 0 is gone.")
    raise _why("torchrun stopped this process: another one was killed, or torchrun itself was stopped.")


def _leave(mine: World, error: BaseException) -> None:
    """Say why this process ends and break its connections; every process but the leading one ends here."""
    if not _groups:
        return
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # torchrun sends it to those that are ending already
    group, words = _groups[0], _groups[0].words
    status = getattr(error, "exit_status", 130 if isinstance(error, KeyboardInterrupt) else 1)
    if not isinstance(error, LostError):
        words.first("ended", {"status": status, "message": _said(error, mine)})
    group.status = status  # for a second Ctrl-C as well
    if _closed_in_time(group):
        group.status = None
    if mine.leads:
        words.put("closed", mine.rank)
        return  # what calls speaks; then `_end`
    status = _ended().get("status", status)
    led = words.awaited("closed") or (words.gone and LAUNCHED in os.environ)  # it lives where torchrun was killed
    if not led and words.first("spoken", mine.rank):
        print(f"Error: {visible(_said(error, mine))}", file=sys.__stderr__, flush=True)
    if group.status is not None:
        _drop(status)
    raise SystemExit(status) from None


def _said(error: BaseException, mine: World) -> str:
    if isinstance(error, HarnessError):
        return str(error)
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    where = traceback.extract_tb(error.__traceback__)[-1:]
    place = f" ({os.path.basename(where[0].filename)}, line {where[0].lineno})" if where else ""
    return f"process {mine.rank} of {mine.size} failed: {type(error).__name__}: {error}{place}."


def _ended() -> dict[str, Any]:
    """Return status and message of the process that failed first; {} where none has said anything."""
    words = _groups[0].words
    return (words.get("ended") or {}) if words.has("ended") else {}


def _why(seen: str) -> BaseException:
    """Return what to raise where the others are gone: what one of them has said, else what was `seen`."""
    _groups[0].words.awaited("ended")
    if not (found := _ended()):
        return LostError(f"{seen} {AGAIN}")
    if found["status"] == 130:
        return KeyboardInterrupt()
    error = HarnessError(found["message"])
    error.exit_status = found["status"]
    return error


def tell(message: dict[str, Any] | None, *, wait: bool = False) -> None:
    """Tell the other processes what comes next, as process 0; None: that nothing does. Alone it tells nobody.

    With `wait`, as with None, it returns when they have heard it, and so are done with what they were told before.
    """
    if not _groups:
        return
    group = _groups[0]
    group.told += 1
    group.words.put(f"told/{group.told}", message)
    if wait or message is None:  # the store may end with this process
        _await_all(group)


def _await_all(group: _Group) -> None:
    """Wait until the others have heard the last message; for one that is silent, killed perhaps, SILENCE seconds."""
    words, signs = group.words, dict.fromkeys(group.others, None)
    since = dict.fromkeys(group.others, time.monotonic())
    while since and not words.gone:
        for rank in list(since):
            if words.has(f"heard/{group.told}/{rank}"):
                del since[rank]
            elif words.has(f"alive/{rank}") and (sign := words.get(f"alive/{rank}")) != signs[rank]:
                signs[rank], since[rank] = sign, time.monotonic()
            elif time.monotonic() - since[rank] > SILENCE:
                del since[rank]
        if since and _ended():
            raise _why("another process is gone.")
        if since:
            time.sleep(LOOK_EVERY)


def hear() -> dict[str, Any] | None:
    """Wait for what process 0 tells next, as another one."""
    group = _groups[0]
    group.told += 1
    words, key = group.words, f"told/{group.told}"
    while not words.has(key):
        if words.gone or _ended():
            raise _why("process 0 is gone.")
        time.sleep(LOOK_EVERY)
    message = words.get(key)
    words.put(f"heard/{group.told}/{group.world.rank}", True)
    return message


def others() -> int:
    """Return how many other processes hear what this one tells."""
    return len(_groups[0].others) if _groups else 0


def more() -> bool:
    """Return whether process 0 has told something that this process has not heard yet."""
    group = _groups[0]
    return group.words.has(f"told/{group.told + 1}")


def answer(text: str) -> None:
    """Answer what process 0 has told last, as another process."""
    group = _groups[0]
    group.words.put(f"answer/{group.told}/{group.world.rank}", text)


def answers() -> dict[int, str]:
    """Return, as process 0, who has answered what was told last, and what."""
    if not _groups:
        return {}
    group = _groups[0]
    keys = {rank: f"answer/{group.told}/{rank}" for rank in group.others}
    return {rank: group.words.get(key) or "" for rank, key in keys.items() if group.words.has(key)}


@contextmanager
def watched() -> Iterator[None]:
    """End this process, wherever it is inside, when another one has failed or the store is gone: it waits for nobody.

    A process that was killed has said nothing, and is no reason to end; torchrun ends the others then.
    """
    if not _groups:
        yield
        return
    over = threading.Event()
    watch = threading.Thread(target=_watch, args=(_groups[0], over), daemon=True)
    watch.start()
    try:
        yield
    finally:
        over.set()
        watch.join()


def _watch(group: _Group, over: threading.Event) -> None:
    """Look into the store until it is over, and show that this process lives, whatever its main thread is at."""
    looks, words = 0, group.words
    while not over.wait(WATCH_EVERY):
        looks += 1
        if words.has("ended") or words.gone:
            if group.world.leads:
                words.put("closed", 0)  # it will speak, as soon as its main thread comes to it
            _thread.interrupt_main(signal.SIGTERM)  # where it is not ended already: `_stopped`
            return
        if not group.world.leads:
            words.put(f"alive/{group.world.rank}", looks)


def _gone(error: RuntimeError) -> BaseException:
    text = str(error).strip().splitlines() or [""]
    return _why(f"one of the {_groups[0].world.size} processes is gone ({text[0][:160]}).")


def _with_all(collective: Callable[..., Any], *arguments: Any, **options: Any) -> None:
    """Take part in a collective of torch; where a process is gone, raise what it has said."""
    try:
        collective(*arguments, **options)
    except RuntimeError as error:
        raise _gone(error) from None


def summed(x: Tensor) -> Tensor:
    """Return the sum of every process's x, any shape."""
    total = x.detach().clone(memory_format=torch.contiguous_format)
    _with_all(dist.all_reduce, total)
    return total


def gathered(x: Tensor) -> list[Tensor]:
    """Return every process's x, of equal shapes, in the order of their ranks."""
    x = x.detach().contiguous()
    parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
    _with_all(dist.all_gather, parts, x)
    return parts


def agreed(value: float) -> float:
    """Return process 0's value, in all processes; its own where there is one."""
    if not _groups:
        return value
    said = torch.tensor([value], dtype=torch.float64)
    _with_all(dist.broadcast, said, 0)
    return float(said)


def handed_out(content: bytes) -> bytes:
    """Return process 0's bytes, in all processes."""
    if not _groups:
        return content
    length = int(agreed(len(content)))
    buffer = torch.empty(length, dtype=torch.uint8)
    if _groups[0].world.leads:
        buffer = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    _with_all(dist.broadcast, buffer, 0)
    return buffer.numpy().tobytes()
