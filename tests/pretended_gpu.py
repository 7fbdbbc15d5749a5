"""A GPU that is not there: CPU tensors that say they are on one, and count what a real one would be waited for.

On a real GPU the host goes on while the device works, until it asks for a value (`float(x)`, `if x.any()`, `x[mask]`,
`x.cpu()`) or copies to it from ordinary memory (`torch.tensor([...], device=...)`, `x.to("cuda")`, `x[[0, 2]]`): torch
then waits for all that was asked of the device before (what `torch.cuda.set_sync_debug_mode` warns of). A copy from
page-locked memory with non_blocking=True is not waited for. Code that branches on `x.is_cuda` takes the GPU's branch, and tensors of both
devices in one operation are the error that they are there.
"""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

GPU = torch.device("cuda", 0)
ASKING = {"_local_scalar_dense", "nonzero", "equal", "masked_select", "is_nonzero", "bincount", "_unique2", "unique_dim",
          "_linalg_check_errors", "linalg_solve_ex"}  # fmt: skip
INDEXING = {"__getitem__", "__setitem__", "index_put_", "index_put"}
GETTERS = {
    torch.Tensor.device.__get__: GPU, torch.Tensor.is_cuda.__get__: True, torch.Tensor.is_cpu.__get__: False,
}  # fmt: skip


class OnGPU(torch.Tensor):
    """A tensor whose values are in the host's memory, whatever it says."""

    __torch_function__ = torch._C._disabled_torch_function_impl


class Pinned(torch.Tensor):
    """A tensor of the host in page-locked memory."""

    __torch_function__ = torch._C._disabled_torch_function_impl


def on_gpu(thing: Any) -> Any:
    """Return a tensor, or a network and all its weights, as if they were on the GPU."""
    if isinstance(thing, torch.Tensor):
        return thing.as_subclass(OnGPU)
    for module in thing.modules():
        for name, value in module._parameters.items():
            if value is not None:
                weight = on_gpu(value.detach()).requires_grad_(value.requires_grad)
                weight._is_param = True  # what nn.Parameter asks for
                module._parameters[name] = weight
        for name, value in module._buffers.items():
            module._buffers[name] = None if value is None else on_gpu(value)
    return thing


def on_host(thing: Any) -> Any:
    """Return the same with plain tensors, for looking at them after the GPU is gone."""
    return tree_map_only(torch.Tensor, lambda t: t.as_subclass(torch.Tensor), thing)


class PretendedGPU:
    """A context in which there is such a GPU; `reads` and `copies` say by what it was waited for, and how often."""

    def __init__(self) -> None:
        self.reads: Counter[str] = Counter()
        self.copies: Counter[str] = Counter()
        self.busy = 0  # calls on the GPU's tensors that are being carried out
        self.checked = 0  # those whose arguments torch looks at on a CPU alone
        self._stack = ExitStack()

    @property
    def waits(self) -> int:
        """Return how often the host waited."""
        return self.reads.total() + self.copies.total()

    def __enter__(self) -> PretendedGPU:
        self._stack.enter_context(_Kernels(self))
        self._stack.enter_context(_Calls(self))
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.close()


class _Kernels(TorchDispatchMode):
    """Counts the operations whose result, or whose result's size, the host has to know."""

    def __init__(self, gpu: PretendedGPU) -> None:
        super().__init__()
        self.gpu = gpu

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.removeprefix("aten::")
        if self.gpu.busy and not self.gpu.checked:
            if name in ASKING:
                self.gpu.reads[name] += 1
            if name in ("index", "index_put", "index_put_", "_index_put_impl_") and _masked(name, args):
                self.gpu.reads["boolean index"] += 1
            if name == "repeat_interleave" and isinstance(args[-1], torch.Tensor):
                self.gpu.reads[name] += 1
        return func(*args, **(kwargs or {}))


def _masked(name: str, args: Any) -> bool:
    """Return whether there is a boolean mask among the indices; filling with one number needs no list of places."""
    masks = [i for i in args[1] if i is not None and i.dtype in (torch.bool, torch.uint8)]
    return bool(masks) and not (name != "index" and len(args[1]) == 1 and args[2].ndim == 0)


class _Calls(TorchFunctionMode):
    """Says which device a tensor is on, and counts what crosses from one to the other."""

    def __init__(self, gpu: PretendedGPU) -> None:
        super().__init__()
        self.gpu = gpu

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", str(func))
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        there = any(isinstance(t, OnGPU) for t in tensors)
        if func in GETTERS:
            return GETTERS[func] if there else func(*args, **kwargs)
        if name == "pin_memory":
            return args[0].as_subclass(Pinned)
        if name in ("to", "cpu", "cuda"):
            return self._moved(name, func, args, kwargs)
        if name in ("numpy", "__array__") and there:
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first.")
        wanted = kwargs.get("device")
        if wanted is not None:
            kwargs["device"] = "cpu"
            to_gpu = torch.device(wanted).type == "cuda"
            if to_gpu and name in ("tensor", "as_tensor"):
                self.gpu.copies[name] += 1
            there = to_gpu
        elif there:
            self._check(name, args, tensors)
        self.gpu.busy += there
        self.gpu.checked += name == "one_hot"
        try:
            found = func(*args, **kwargs)
        finally:
            self.gpu.busy -= there
            self.gpu.checked -= name == "one_hot"
        return tree_map_only(torch.Tensor, on_gpu, found) if there else found

    def _moved(self, name: str, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        x, others = args[0], [*args[1:], *kwargs.values()]
        target = {"cpu": "cpu", "cuda": "cuda"}.get(name)
        for value in others:
            if isinstance(value, torch.Tensor):
                target = "cuda" if isinstance(value, OnGPU) else "cpu"
            elif isinstance(value, str | torch.device):
                target = torch.device(value).type
        here = "cuda" if isinstance(x, OnGPU) else "cpu"
        target = target or here
        if target != here and not (isinstance(x, Pinned) and kwargs.get("non_blocking")):
            (self.gpu.reads if target == "cpu" else self.gpu.copies)[name] += 1
        plain = [torch.device("cpu") if isinstance(v, str | torch.device) else v for v in args[1:]]
        kwargs = {k: torch.device("cpu") if k == "device" else v for k, v in kwargs.items()}
        found = x if name in ("cpu", "cuda") else func(x, *plain, **kwargs)
        return on_gpu(found) if target == "cuda" else found.as_subclass(torch.Tensor)

    def _check(self, name: str, args: Any, tensors: list[torch.Tensor]) -> None:
        if name in ("tolist", "__format__", "__repr__"):
            self.gpu.reads[name] += 1
        elif name in ("new_tensor", "copy_") and not all(isinstance(t, OnGPU) for t in tensors[1:] or [None]):
            self.gpu.copies[name] += 1
        elif name in INDEXING:
            indices = tree_leaves(args[1]) if not isinstance(args[1], list) else [args[1]]
            if any(isinstance(i, list) or (isinstance(i, torch.Tensor) and not isinstance(i, OnGPU)) for i in indices):
                self.gpu.copies["index"] += 1
            if isinstance(args[1], tuple) and any(isinstance(i, list) for i in args[1]):
                self.gpu.copies["index"] += 1
        elif any(not isinstance(t, OnGPU) and t.ndim for t in tensors):
            raise RuntimeError(f"{name}: expected all tensors to be on the same device, found cuda:0 and cpu")
