"""What the parts that need a GPU share: the device, its name, times that wait for it, and its ceiling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from harness.device import Compute, resolve
from paths import turns

PRECISIONS = ("fp32", "bf16")


def compute(quick: bool, precision: str = "fp32") -> Compute:
    """Return the GPU; with `quick`, which only shows that it works, what there is."""
    return resolve("auto" if quick else "cuda", precision)


def machine() -> str:
    """Return the GPU and its memory; the processor's name where there is none."""
    if not torch.cuda.is_available():
        return "no GPU"
    found = torch.cuda.get_device_properties(0)
    return f"{found.name}, {found.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}"


def waited(work: Callable[[], Any]) -> float:
    """Return the seconds of one call, what it has asked the GPU for included."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()

    def all_of_it() -> None:
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    return turns.seconds(all_of_it)


def rounds(work: Callable[[], Any], count: int) -> list[float]:
    """Return the seconds of `count` calls after one that is not counted."""
    work()
    return [waited(work) for _ in range(count)]


def ceiling(quick: bool) -> float:
    """Return the bf16 operations per second of a large product of matrices, the most that was measured."""
    where, side = compute(quick).device, 256 if quick else 8192
    a, b = (torch.randn(side, side, device=where, dtype=torch.bfloat16) for _ in range(2))
    return 2 * side**3 / min(rounds(lambda: a @ b, 3 if quick else 20))
