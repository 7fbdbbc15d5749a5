"""What a killed training needs to go on exactly where it was.

Order, augmentation and the method's own noise follow from seed, epoch and step, so the state is the weights, the
optimiser and the position alone.
"""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from harness.device import ran_out
from harness.errors import UsageError
from harness.store import write_bytes


@dataclass
class Position:
    """Where the training is, and what it has found."""

    epoch: int = 0  # epochs finished
    step: int = 0  # steps finished in the current epoch
    loss_sum: float = 0.0  # over the images of the current epoch
    images: int = 0
    seconds: float = 0.0  # of training so far, over all processes
    best_loss: float = float("inf")
    best_epoch: int = 0
    history: list[dict[str, float]] = field(default_factory=list)


def save(
    path: Path,
    model: nn.Module,
    best: dict[str, Any],
    optimiser: torch.optim.Optimizer,
    memory: dict[str, torch.Tensor],
    at: Position,
) -> None:
    """Write the resume state atomically."""
    write_bytes(path, packed(model, best, optimiser, memory, at))


def packed(
    model: nn.Module,
    best: dict[str, Any],
    optimiser: torch.optim.Optimizer,
    memory: dict[str, torch.Tensor],
    at: Position,
) -> bytes:
    """Return the resume state as bytes. It does not know how many processes there were."""
    buffer = io.BytesIO()
    content = {"model": model.state_dict(), "best": best, "optimiser": optimiser.state_dict()}
    torch.save(content | {"memory": memory, "position": asdict(at)}, buffer)
    return buffer.getvalue()


def load(
    source: Path | io.BytesIO, model: nn.Module, optimiser: torch.optim.Optimizer, device: torch.device
) -> tuple[Position, dict[str, Any], dict[str, torch.Tensor]]:
    """Restore model and optimiser from a state; return position, best weights so far, the method's memory.

    Raises `UsageError` for a file that is empty, cut off, or no state of this training: whoever deletes it loses the
    epochs in it, and that is not done without asking.
    """
    try:
        state = torch.load(source, map_location=device, weights_only=True)
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        return Position(**state["position"]), state["best"], state.get("memory", {})
    except Exception as error:  # torch.load alone raises five kinds, an EOFError that passes for Ctrl-D among them
        if not isinstance(source, Path) or ran_out(error):
            raise
        said = (str(error).splitlines() or [""])[0][:120]
        raise UsageError(
            f"{source}: expected the state of an interrupted training, got a file that is damaged or of another one "
            f"({type(error).__name__}{': ' if said else ''}{said}). Restore it, or delete it: the training then begins "
            "at its start."
        ) from error
