"""How many images a network is shown at once: as many as are asked for, until the device's memory does not suffice.

    for part in memory.parts(len(x)):
        with memory:
            found[part] = model(x[part])

A part that runs out of memory comes again, half as large, and nothing after it is larger. What works through images in
batches of its own, inside such a part, asks `at_once`. Only work whose results do not depend on how images are grouped
may be split like this, and it must be possible to do a part twice.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import torch

from harness.device import ran_out
from harness.errors import HarnessError

_CURRENT: ContextVar[Memory | None] = ContextVar("memory", default=None)


def at_once(wanted: int) -> int:
    """Return how many images to show the network at once: `wanted`, or as many as have turned out to fit."""
    memory = _CURRENT.get()
    return wanted if memory is None else memory.at_once(wanted)


@dataclass
class Memory:
    """What is known of how many images fit."""

    most: int | None = None  # images at once; None: as many as are asked for
    fixed: bool = False  # a bound that somebody chose: then running out of memory is an error
    note: Callable[[str], None] = lambda text: None
    _asked: int = field(default=0, init=False)  # the most at once in the part that is worked on
    _failed: bool = field(default=False, init=False)  # whether that part ran out of memory
    _refused: int = field(default=0, init=False)  # how many at once did not fit, of what has not been said yet
    _tokens: list[Token[Any]] = field(default_factory=list, init=False)

    def parts(self, count: int) -> Iterator[slice]:
        """Yield slices of 0..count-1, of as many as fit; one whose `with memory:` ran out of it comes again."""
        start, outside = 0, self._asked
        while start < count:
            self._failed, self._asked = False, 0
            size = self.at_once(count - start)
            yield slice(start, start + size)
            if self._failed:
                torch.cuda.empty_cache()  # what the failed part has left in pieces; does nothing without a GPU
            else:
                start += size
                self._say()
        self._asked = max(outside, self._asked)

    def at_once(self, wanted: int) -> int:
        """Return how many of `wanted` images to show at once."""
        found = wanted if self.most is None else min(wanted, self.most)
        self._asked = max(self._asked, found)
        return found

    def __enter__(self) -> Memory:
        """Let what is done inside ask `at_once`, and run out of memory."""
        self._tokens.append(_CURRENT.set(self))
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: TracebackType | None) -> bool:
        """Take note of a lack of memory, which is an error (`HarnessError`) only where a single image does not fit."""
        _CURRENT.reset(self._tokens.pop())
        if error is None or self.fixed or not ran_out(error):
            return False
        if self._asked <= 1:
            raise HarnessError(
                f"out of memory with a single image ({(str(error) or 'of the host').splitlines()[0][:160]}). Try a "
                "smaller image size, or --device cpu."
            ) from error
        self._failed, self.most = True, self._asked // 2
        self._refused = self._refused or self._asked
        traceback.clear_frames(trace)  # they hold the tensors that did not leave enough room
        return True

    def _say(self) -> None:
        if self._refused:
            self.note(
                f"{self._refused} images at once do not fit in the memory: {self.most} from here on "
                f"(--batch-size {self.most} saves trying)"
            )
            self._refused = 0
