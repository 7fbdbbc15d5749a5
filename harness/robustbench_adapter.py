"""robustbench and AutoAttack as they are published today: how to import the one and how to call the other.

robustbench 1.1.1 (Croce et al. 2021, arXiv:2010.09670) does not import as installed: it asks for `autoattack`, where
its dependency is called pyautoattack, and for `pkg_resources`, which setuptools has dropped. pyautoattack 0.2 (Croce &
Hein 2020, arXiv:2003.01690) has another interface than the original. Both are imported on use alone.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import torch
from torch import Tensor, nn

from harness.errors import HarnessError, UsageError

Version = Literal["standard", "apgd"]
NORMS = {"linf": "Linf", "l2": "L2"}
TARGETS = 9  # classes that the targeted attacks try, of those there are


def robustbench(module: str = "robustbench.utils") -> ModuleType:
    """Return a module of robustbench. Names it asks for in vain are stood in for, only while it is imported.

    torch's random state and the filters of warnings are afterwards as before. Raises `UsageError`.
    """
    if module in sys.modules:
        return sys.modules[module]
    try:
        with _stand_ins(), warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")
            return importlib.import_module(module)
    except ImportError as error:
        raise UsageError(f"{module}: cannot be imported ({error}). Install robustbench 1.1 and pyautoattack.") from None


@contextmanager
def _stand_ins() -> Iterator[None]:
    """Put modules under the names that robustbench imports, where nothing has those names."""
    import pyautoattack
    import pyautoattack.state

    resources = ModuleType("pkg_resources")
    resources.resource_filename = _resource_filename  # pyright: ignore[reportAttributeAccessIssue]
    names = {"autoattack": pyautoattack, "autoattack.state": pyautoattack.state, "pkg_resources": resources}
    absent = {n: m for n, m in names.items() if n not in sys.modules and not _installed(n.partition(".")[0])}
    sys.modules.update(absent)
    try:
        yield
    finally:
        for name in absent:
            sys.modules.pop(name, None)


def _installed(name: str) -> bool:
    return name in sys.modules or importlib.util.find_spec(name) is not None


def _resource_filename(module: str, path: str) -> str:
    return str(Path(str(sys.modules[module].__file__)).parent / path)


def attacks_of(version: Version, classes: int) -> tuple[str, ...]:
    """Return the attacks of a version, in order. Targeted APGD needs four classes, the DLR loss three.

    With fewer it is left out (auto-attack, issue 70): three classes get the untargeted DLR loss instead.
    """
    if classes < 2:
        raise UsageError(f"AutoAttack: expected at least 2 classes, got {classes}. It changes the most probable one.")
    margin = ("apgd-t",) if classes >= 4 else ("apgd-dlr",) if classes == 3 else ()
    return ("apgd-ce", *margin, *(("fab-t", "square") if version == "standard" else ()))


def autoattack(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    norm: str,
    epsilon: float,
    version: Version = "standard",
    seed: int = 0,
    batch: int = 64,
    remarks: list[str] | None = None,
) -> Tensor:
    """Return the images moved where an attack of AutoAttack fools the model, elsewhere as they are, (B,C,H,W).

    x (B,C,H,W) in [0,1]; y (B,) long; `norm` "linf" or "l2" with the radius `epsilon` in that norm's own length.
    "standard" is APGD on the cross-entropy, targeted APGD, targeted FAB and Square, one restart each; "apgd" the
    first two. Each attack sees the images that those before it did not fool. The model gives logits, is in eval mode
    and normalises itself. The same arguments give the same bits; torch's random state is left as it was. What
    AutoAttack warns of is appended to `remarks`.
    """
    from pyautoattack import AutoAttack

    if norm not in NORMS or not epsilon > 0:
        raise UsageError(f"AutoAttack: expected norm linf or l2 and a radius above 0, got {norm!r} and {epsilon}.")
    with torch.no_grad():
        classes = model(x[:1]).shape[1]
    with _undisturbed(x.device), _heard([] if remarks is None else remarks):
        attack: Any = AutoAttack(
            model, attacks=list(attacks_of(version, classes)), device=x.device, eps=epsilon, norm=NORMS[norm],  # pyright: ignore
            seed=seed, version="custom",
        )  # fmt: skip
        attack.apgd.n_restarts = attack.apgd_targeted.n_restarts = attack.fab.n_restarts = 1
        attack.apgd_targeted.n_target_classes = attack.fab.n_target_classes = min(TARGETS, classes - 1)
        moved, _ = attack.run_standard_evaluation(x.detach().contiguous(), y.detach(), batch_size=batch)
    if not bool(moved.isfinite().all()):
        raise HarnessError("AutoAttack moved an image to NaN or infinity. The model's gradients are not finite.")
    return moved.detach()


@contextmanager
def _undisturbed(device: torch.device) -> Iterator[None]:
    """Keep torch's random state and the tracing function, which AutoAttack sets; ask cuDNN for repeatable kernels."""
    trace, deterministic = sys.gettrace(), torch.backends.cudnn.deterministic
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.backends.cudnn.deterministic = True
        try:
            yield
        finally:
            torch.backends.cudnn.deterministic = deterministic
            sys.settrace(trace)


@contextmanager
def _heard(remarks: list[str]) -> Iterator[None]:
    """Collect what AutoAttack warns of, without printing it."""
    logger = logging.getLogger("auto-attack")

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            remarks.append(record.getMessage())

    handler, propagate = Collect(logging.WARNING), logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate
