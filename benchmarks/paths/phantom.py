"""The first line of the README, from nothing prepared to both runs scored."""

from __future__ import annotations

import tempfile
from pathlib import Path

from paths.store import command
from paths.turns import Table

TITLE = "The first line of the README"
SAYS = "Nothing is downloaded and nothing was prepared before."
COLUMNS = {"command": ("text", ""), "time": ("s", "wall, on all cores, from nothing prepared")}


def timed(table: Table, *arguments: str, most: float | None = None) -> None:
    with tempfile.TemporaryDirectory() as place:
        took = command(Path(place) / "cache", *arguments, "--runs-dir", f"{place}/runs", every_core=True)
    table.add(f"`harness {' '.join(arguments)}`", took, most=most)


def measure(quick: bool) -> list[Table]:
    table = Table("On radiographs that the project draws itself", COLUMNS, judged="time")
    settings = ("n_train=200", "n_test=40", "size=48", "robust_fgsm.max_epochs=1", "baseline.max_epochs=1")
    less = [word for one in settings for word in ("--set", one)] if quick else []
    timed(table, "run", "--method", "robust_fgsm", "--dataset", "phantom", *less, most=None if quick else 360.0)
    return [table]
