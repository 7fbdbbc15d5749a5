"""Which device, precision and memory layout the work runs with."""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from harness.errors import HarnessError, UsageError


@dataclass(frozen=True)
class Compute:
    """A resolved device and precision. Built by `resolve`."""

    device: torch.device
    precision: str  # "fp32" or "bf16"

    @property
    def kind(self) -> str:
        """Return `cpu` or `cuda`: part of an evaluation's key."""
        return self.device.type

    @property
    def memory_format(self) -> torch.memory_format:
        """channels_last is faster for convolutions on the CPU and with tensor cores."""
        return torch.channels_last

    def exact(self) -> Compute:
        """Return the same device in fp32, for measuring: bf16 has 8 bits, a heat map is cut at 256 levels."""
        return replace(self, precision="fp32")

    def autocast(self) -> Any:
        """Return the context in which a model runs: bf16 autocast where asked for."""
        if self.precision == "bf16":
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return nullcontext()


def resolve(device: str = "auto", precision: str = "auto") -> Compute:
    """Return the device and precision for `auto|cpu|cuda[:i]` and `auto|fp32|bf16`.

    `auto` prefers the GPU and bf16 on it; asking for cuda without one is an error, never a silent CPU run.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if not (device in ("cpu", "cuda") or (device.startswith("cuda:") and device[5:].isdigit())):
        raise UsageError(f"--device {device!r}: expected auto, cpu, cuda or cuda:<number>.")
    chosen = torch.device(device)
    if chosen.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (chosen.index or 0) >= count:
            raise UsageError(
                f"--device {device}: expected a CUDA device, found {count}. Use --device cpu (or auto), or install "
                f"a driver and a CUDA build of torch (this one: {torch.__version__})."
            )
    if precision == "auto":
        precision = "bf16" if chosen.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"
    if chosen.type == "cpu":
        keep_allocations()
    else:  # else torch's fp32 convolutions have the 10-bit mantissa of TF32
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    return Compute(chosen, precision)


def sent(x: Tensor, device: torch.device) -> Tensor:
    """Return a tensor of the host on the device, without waiting for what the device still has to do.

    A GPU copies from page-locked memory alone while it works; from any other the host waits for all it has asked for.
    """
    if device.type != "cuda" or x.is_cuda:
        return x.to(device)
    return x.pin_memory().to(device, non_blocking=True)


@functools.cache
def keep_allocations() -> bool:
    """Let glibc keep freed blocks instead of returning each one to the system; returns whether it could.

    A training step frees and asks for the same large blocks again; page faults otherwise take half of its time.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        libc = ctypes.CDLL("libc.so.6")
        m_trim_threshold, m_mmap_max = -1, -4
        return bool(libc.mallopt(m_mmap_max, 0) and libc.mallopt(m_trim_threshold, 2**31 - 1))
    except (OSError, AttributeError):
        return False


NO_ROOM = (  # how torch says it where it is no OutOfMemoryError: the host, the driver, libraries that find no room
    "can't allocate memory",
    "CUDA error: out of memory",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_NOT_INITIALIZED",  # no room for the workspace that it begins with
)


def ran_out(error: BaseException) -> bool:
    """Return whether an error says that memory did not suffice, the host's or a GPU's."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(mark in str(error) for mark in NO_ROOM)


@contextmanager
def memory_advice(batch_size: int, option: str = "--batch-size ") -> Iterator[None]:
    """Turn running out of memory into an error that names a batch size to try."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not ran_out(error):
            raise
        raise HarnessError(
            f"out of memory with {batch_size} images at once "
            f"({(str(error) or type(error).__name__).splitlines()[0][:160]}). "
            f"Try {option}{max(1, batch_size // 2)}, a smaller image size, or --device cpu."
        ) from error
