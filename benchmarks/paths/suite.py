"""The embedded board: three seeds of both methods on the phantom. Measured only where it is asked for."""

from __future__ import annotations

from paths.phantom import COLUMNS, timed
from paths.turns import Table

TITLE = "The suite of the embedded board"
SAYS = "Six runs, one at a time."


def measure(quick: bool) -> list[Table]:
    table = Table("On radiographs that the project draws itself", COLUMNS, judged="time")
    timed(table, "suite", "run", "suites/phantom.toml", *(("--dry-run",) if quick else ()))
    return [table]
