"""The plain training recipe. A method file subclasses `Supervised` and adds the few lines that make it different."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from harness.config import setting
from harness.errors import UsageError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from harness.tasks import Task
    from harness.types import Batch

KHAKZAR = "Khakzar 2019, 3.2"


@dataclass(frozen=True, kw_only=True)
class Supervised:
    """Supervised training with SGD until the validation loss diverges; the weights of its minimum are kept.

    Override `objective`, `perturb` or `penalty`; override `step` only where a method needs all of it. Datasets may
    replace the defaults of these settings by their own `schedule`; `--set` replaces both.
    """

    model: ClassVar[str | None] = None  # architecture that the method stands for; None: the dataset's default

    start_from: str | None = setting(
        None,
        help="method whose trained weights this one starts from; it is run and scored as a run of its own",
    )
    learning_rate: float = setting(0.01, unit="per step", source=KHAKZAR)
    momentum: float = setting(0.9, source=KHAKZAR)
    weight_decay: float = setting(0.0, source=KHAKZAR)
    batch_size: int = setting(32, unit="images", source=KHAKZAR)
    max_epochs: int = setting(100, unit="epochs", source="ours: a bound; the paper gives none")
    patience: int = setting(
        5, unit="epochs", source="ours: the paper trains 'until the validation loss diverges'",
        help="stop after this many epochs without a new minimum of the validation loss",
    )  # fmt: skip
    decay_at: tuple[int, ...] = setting((), unit="epochs", source=KHAKZAR, help="learning rate / 10 at each")
    one_cycle: bool = setting(False, source="ours: for schedules of a few epochs (Smith 2018, arXiv:1803.09820)",
                              help="warm up, then anneal to 0 over max_epochs")  # fmt: skip
    augment: Literal["none", "flip", "pad_crop_flip"] = setting("none", source="Khakzar 2019 names none")

    def __post_init__(self) -> None:
        """Refuse settings that cannot be trained with."""
        for name in ("batch_size", "max_epochs", "patience"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name}: expected at least 1, got {getattr(self, name)}.")
        for name in ("learning_rate", "momentum", "weight_decay"):
            if not getattr(self, name) >= 0:
                raise UsageError(f"{name}: expected 0 or more, got {getattr(self, name)}.")

    smoke: ClassVar[dict[str, object]] = {"max_epochs": 1, "batch_size": 4}

    def adapt(self, model: nn.Module) -> nn.Module:
        """Return the architecture as the method wants it (with other activations, say); weights are loaded after."""
        return model

    def memory(self) -> dict[str, Tensor]:
        """Return what the method remembers from step to step, as it is at the start; a stopped training keeps it."""
        return {}

    def step(
        self, model: nn.Module, batch: Batch, task: Task, rng: torch.Generator, memory: dict[str, Tensor]
    ) -> Tensor:
        """Return the loss of one training step, a scalar to differentiate; `memory` may be replaced entry by entry."""
        moved = self.perturb(model, batch, task, rng)
        return self.loss(model, moved, task) + self.penalty(model, moved, task, rng)

    def loss(self, model: nn.Module, batch: Batch, task: Task) -> Tensor:
        """Return the objective on a batch, a scalar."""
        return self.objective(model(batch.x), batch.y, task)

    def objective(self, logits: Tensor, y: Tensor, task: Task) -> Tensor:
        """Return the loss of logits (B,V) against targets, a scalar: minimised in training, watched in validation."""
        return task.loss(logits, y)

    def perturb(self, model: nn.Module, batch: Batch, task: Task, rng: torch.Generator) -> Batch:
        """Return the batch to learn from; an inner attack moves its images."""
        return batch

    def penalty(self, model: nn.Module, batch: Batch, task: Task, rng: torch.Generator) -> Tensor | float:
        """Return a regulariser to add to the loss."""
        return 0.0
