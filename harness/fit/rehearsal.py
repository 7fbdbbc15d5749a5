"""Before several processes train: is a step that is shared among them the step of one process?

A network may mix the images of a batch, or draw random numbers, in a way that `shared` does not know (a normalisation
of its own, stochastic depth); a method may keep what it saw inside a pass. Such a training is refused, not run with
other weights. A few images are enough: each process takes one step on all of them alone, and one together. Both are
taken in double precision, by a copy of the network: in single precision the gradients of a deep untrained one on a few
images, and still more the sign that FGSM takes of them, are another's by rounding alone.
"""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from harness import together
from harness.data.batches import Feed, augment
from harness.device import Compute
from harness.errors import UsageError
from harness.fit.shared import shared
from harness.recipe import Supervised
from harness.rng import rng_for, seed_for, torch_rng_for
from harness.tasks import Task
from harness.types import Batch

TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-2}  # relative: rounding is 1e-12; a wrong step of the order of 1
ATTEMPTS = 3  # an attack may decide otherwise by the last bit, but not every time


def rehearse(
    method: Supervised,
    model: nn.Module,
    task: Task,
    training: Feed,
    memory: dict[str, Tensor],
    compute: Compute,
    seed: int,
) -> None:
    """Raise `UsageError` where a step shared among the processes is not that of one. Model and memory stay as they are.

    Compared are the loss, all gradients, running statistics and what the method remembers.
    """
    size = together.world().size
    if size == 1:
        return
    worst = {}
    for attempt in range(ATTEMPTS):
        count = min(len(training), 2 * size + 1)  # rows are unequal, and a channel of 1x1 maps has several values
        chosen = rng_for(seed, "rehearsal", attempt).permutation(len(training))[:count]
        batch, numbers = training.batch(chosen), (seed, "rehearsal", attempt)
        tried, fine = copy.deepcopy(model).double(), replace(batch, x=batch.x.double())
        try:
            alone = _step(method, tried, task, fine, memory, numbers)
        except (RuntimeError, TypeError):  # a method that makes single numbers of its own
            tried, fine = copy.deepcopy(model), batch
            alone = _step(method, tried, task, fine, memory, numbers)
        with shared(tried):
            several = _step(method, tried, task, fine, memory, numbers)
        worst = {name: _difference(alone[name], several[name]) for name in alone}
        if together.agreed(max(worst.values())) <= TOLERANCE[fine.x.dtype]:
            return
    name = max(worst, key=worst.__getitem__)
    raise UsageError(
        f"{type(method).__name__} with {type(model).__name__}: expected a step that is the same among {size} processes "
        f"as in one, got another {name} ({worst[name]:.2g} of it). Inside a pass the network mixes images of a batch "
        "other than by BatchNorm, or draws other than by dropout, or the method keeps what it sees there. "
        "Train it in one process: without torchrun."
    )


def _step(
    method: Supervised,
    model: nn.Module,
    task: Task,
    batch: Batch,
    memory: dict[str, Tensor],
    numbers: tuple[object, ...],
) -> dict[str, Tensor]:
    """Return what one step finds, each as one vector; the model is as it was before."""
    seed, *purpose = numbers
    kept = {name: value.clone() for name, value in model.named_buffers()}
    remembered = {name: value.clone() for name, value in memory.items()}
    rng = torch_rng_for(int(str(seed)), *purpose)
    torch.manual_seed(seed_for(int(str(seed)), *purpose, "layers"))
    model.train()
    moved = Batch(augment(batch.x, method.augment, rng), batch.y, batch.index)
    loss = method.step(model, moved, task, rng, remembered)
    loss.backward()
    gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    found = {"loss": [loss.detach().reshape(1)], "gradient": gradients}
    found |= {"running statistics": [b.flatten().clone() for b in model.buffers()]}
    found |= {"memory": [value.detach().flatten() for value in remembered.values()]}
    model.zero_grad(set_to_none=True)
    with torch.no_grad():
        for name, value in model.named_buffers():
            value.copy_(kept[name])
    return {name: torch.cat([v.double() for v in vectors]) for name, vectors in found.items() if vectors}


def _difference(a: Tensor, b: Tensor) -> float:
    """Return |a - b| / |a|; 0 where both are not finite: the training itself says so."""
    if a.shape == b.shape and not (torch.isfinite(a).all() or torch.isfinite(b).all()):
        return 0.0
    if a.shape != b.shape:
        return math.inf
    apart = float((a - b).norm() / a.norm().clamp(min=1e-12))
    return math.inf if math.isnan(apart) else apart
