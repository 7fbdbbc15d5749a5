"""What a dataset file provides. Decoding, caching, batching and augmentation are this layer's, not the file's."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from harness.config import setting
from harness.data.decode import read_image
from harness.data.downloads import Download
from harness.data.index import SPLITS, Index
from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.tasks import Task


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A named dataset: frozen settings, what its labels mean, and an index of its samples.

    A subclass gives the class variables and `index`; `read` only where the files are not plain images. What depends on
    its settings is a setting or a property of the same name there, but for `default_model`, `schedule` and
    `continuation`, which are asked of the class.
    """

    size: int = setting(224, unit="px", source="ours", help="side of the square image the model sees")
    skip_corrupt: bool = setting(False, source="ours", help="leave images out that cannot be decoded, and count them")

    task: ClassVar[Task]
    channels: ClassVar[int] = 1  # 1 grey, 3 colour
    splits: ClassVar[tuple[str, ...]] = SPLITS  # ("test",): nothing to train on; a property where a setting decides
    default_model: ClassVar[str]
    schedule: ClassVar[Mapping[str, Any]] = {}  # replaces defaults of the method's training settings
    continuation: ClassVar[Mapping[str, Any]] = {}  # the same, for methods that start from trained weights
    mean: ClassVar[tuple[float, ...]] = (0.5,)  # per channel, for the model's first layer
    std: ClassVar[tuple[float, ...]] = (0.25,)
    needs_root: ClassVar[bool] = True
    label_files: ClassVar[tuple[str, ...]] = ()  # patterns of files with labels in folders of the root
    folders: ClassVar[tuple[str, ...]] = ()  # names under which users hold it, for finding its root
    how_to_get: ClassVar[str] = ""  # the exact steps, shown when the root is not found
    downloads: ClassVar[tuple[Download, ...]] = ()  # for `data prepare --download`: what needs no registration
    not_downloaded: ClassVar[str] = ""  # what is needed besides, in a sentence
    named_by: ClassVar[str] = ""  # the setting by which a user's own data are told from another's, a part of their name
    split_rule: ClassVar[str] = ""  # how the parts were made, in a sentence
    smoke: ClassVar[dict[str, object]] = {}  # settings of the conformance suite

    def title(self, name: str) -> str:
        """Return what rows call these data: the registered name, and a user's own name for own data (`folder:mine`).

        Raises `UsageError` where there should be a name and is none, or one that no file could have.
        """
        if not self.named_by:
            return name
        own = str(getattr(self, self.named_by))
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}", own):
            raise UsageError(
                f"{name}: expected a name of these data, by which boards tell them from another {name}; got "
                f"{own!r:.60}. Give --set {name}.{self.named_by}=NAME: letters, digits, - . and _, 40 at most."
            )
        return f"{name}:{own}"

    def index(self, root: Path) -> Index:
        """Return the table of samples. Raise `UsageError` for missing, truncated or unexpected files."""
        raise TypeError(f"{type(self).__name__} does not define index(root)")

    def read(self, row: Mapping[str, Any], root: Path) -> NDArray[np.uint8]:
        """Return one image, (H,W) or (H,W,3) uint8, for one row of the index. Called once, at prepare."""
        return self.decode(root / row["path"])

    def decode(self, path: Path) -> NDArray[np.uint8]:
        """Return an image file as these data are read: also a user's, that `harness explain` is given."""
        return read_image(path, self.channels)

    def found_at(self, root: Path) -> bool:
        """Return whether `root` looks like this dataset's own folder."""
        return root.is_dir()

    def checksums(self, root: Path) -> dict[str, str]:
        """Return file name -> "as published", "differs" or "no published sum" for the files with label and splits."""
        return {}

    def remarks(self, root: Path) -> list[str]:
        """Return what `harness data verify` should say of the files that is no problem: their version, say."""
        return []

    def fingerprint(self, index: Index, pixels: NDArray[np.uint8] | None) -> str:
        """Return a sha256 that changes when labels, splits, boxes or pixels change.

        `pixels` holds a digest of every decoded image. A dataset drawn by its own code ignores it and answers for
        its generator's version and settings instead.
        """
        h = hashlib.sha256(index.digest().encode())
        h.update(b"" if pixels is None else pixels.tobytes())
        return h.hexdigest()
