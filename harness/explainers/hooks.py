"""A library's hooks are gone when it returns, also after an exception."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
)


@contextmanager
def no_hooks_left(model: nn.Module) -> Iterator[None]:
    """Put the hooks of every module back to what they were. captum leaves its own behind when a pass raises."""
    before = [(m, name, dict(getattr(m, name))) for m in model.modules() for name in HOOKS]
    try:
        yield
    finally:
        for module, name, hooks in before:
            current = getattr(module, name)
            current.clear()
            current.update(hooks)
