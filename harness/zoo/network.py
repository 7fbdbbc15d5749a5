"""A network trained elsewhere, as the two components that it stands for in a run: a method and an architecture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from harness.errors import UsageError
from harness.plugins import Component
from harness.zoo.files import WeightFiles

if TYPE_CHECKING:
    from torch import nn

    from harness.models.classifier import Classifier


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What stands for a method whose weights are there already: no settings, nothing to train."""

    model: ClassVar[str | None] = None
    start_from: ClassVar[str | None] = None
    batch_size: ClassVar[int] = 1

    def adapt(self, model: nn.Module) -> nn.Module:
        """Return the network as it is."""
        return model


@dataclass(frozen=True)
class Known(Component):
    """A component that was made here instead of being read from a file's decorator."""

    thing: Any = None

    def load(self) -> Any:
        """Return the registered object."""
        return self.thing


@dataclass(frozen=True, eq=False)
class Network:
    """One network: `name` as it is written in full, and how to build it and find its weights."""

    name: str  # zoo:<source>/...
    architecture: str
    num_classes: int
    source: str
    build: Callable[[], Classifier]  # untrained, images (B,3,H,W) in [0,1] to logits
    weights: WeightFiles
    version: int = 1  # of what the harness makes of it

    @cached_property
    def method(self) -> Component:
        """Return what stands for its method."""
        return self._component("method", self.name, Trained)

    def check(self, num_classes: int, channels: int) -> None:
        """Raise `UsageError` where a dataset has other classes or channels than the network was trained for."""
        if (num_classes, channels) != (self.num_classes, 3):
            raise UsageError(
                f"{self.name}: expected a dataset of {self.num_classes} classes and 3 channels, got {num_classes} and "
                f"{channels}. A network trained elsewhere is scored on the classes that it was trained for."
            )

    @cached_property
    def model(self) -> Component:
        """Return its architecture; building it for other classes or channels raises `UsageError`."""

        def model(*, num_classes: int, channels: int, mean: tuple[float, ...], std: tuple[float, ...]) -> Any:
            self.check(num_classes, channels)
            return self.build()

        return self._component("model", self.architecture, model)

    def _component(self, kind: Any, name: str, thing: Any) -> Component:
        return Known(
            kind=kind, name=name, summary="trained elsewhere, its weights are loaded", source=self.source,
            version=self.version, file=Path(__file__), object_name=name, line=1, module=__name__, thing=thing,
        )  # fmt: skip
