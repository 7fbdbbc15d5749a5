"""Where the weights of a network trained elsewhere are expected, and whether they are the right ones."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from harness.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor


def zoo_home() -> Path:
    """Return our folder of such weights: HARNESS_ZOO, else `zoo` in the user data folder."""
    return Path(os.environ.get("HARNESS_ZOO") or Path(platformdirs.user_data_dir("harness")) / "zoo")


@dataclass(frozen=True)
class WeightFiles:
    """The files of one network: in the first of `roots` that has them all, each at `names` below it."""

    network: str
    roots: tuple[Path, ...]
    names: tuple[str, ...]
    how_to_get: str
    read: Callable[[Path], dict[str, Tensor]]  # from the root, into the harness's names of the weights
    sha256: str = ""  # of the one file, or its beginning; empty where none is published

    @property
    def label(self) -> str:
        """Return the names of the files, as the fit stage keeps them."""
        return ", ".join(Path(name).name for name in self.names)

    def root(self) -> Path:
        """Return the root that has the files. Raises `UsageError`, which says what is expected where."""
        for root in self.roots:
            if all((root / name).is_file() for name in self.names):
                return root
        first, *others = (", ".join(str(root / name) for name in self.names) for root in self.roots)
        known = f" (sha256 {self.sha256}{'' if len(self.sha256) == 64 else '...'})" if self.sha256 else ""
        raise UsageError(
            f"{self.network}: its weights are not here. Expected {first}{known}"
            f"{''.join(f', or {other}' for other in others)}. {self.how_to_get} Nothing is downloaded by itself."
        )

    def digest(self) -> str:
        """Return the sha256 of the file, or of those of several. Raises `UsageError` where it is not the right one."""
        from harness.models import checkpoint

        root = self.root()
        found = []
        for name in self.names:
            checkpoint.beginning(root / name)
            found.append(checkpoint.digest(root / name))
            if not found[-1].startswith(self.sha256):
                raise UsageError(
                    f"{root / name}: expected the file whose sha256 begins with {self.sha256}, got {found[-1]}. It is "
                    f"damaged, or another one. {self.how_to_get}"
                )
        return found[0] if len(found) == 1 else hashlib.sha256("".join(found).encode()).hexdigest()

    def state(self) -> dict[str, Tensor]:
        """Return the weights by the harness's names, on the CPU; nothing of the files is executed."""
        return self.read(self.root())

    @property
    def place(self) -> Path:
        """Return the (first) file."""
        return self.root() / self.names[0]
