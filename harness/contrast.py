"""The command `harness compare`: find both results, compare them, and write the page where it is asked for."""

from __future__ import annotations

from pathlib import Path

from harness.comparison import Comparison
from harness.comparison import compare as compared
from harness.draws import user_cache
from harness.named import find_result


def compare(
    names: tuple[str, str],
    runs_dir: Path,
    results_dir: Path,
    out: Path | None,
    *,
    metrics: tuple[str, ...],
    every: bool,
) -> tuple[Comparison, Path | None]:
    """Return the comparison of the results called `names`, and its page in folder `out`, if there is one."""
    from harness.report import comparison as page

    a, b = (find_result(name, runs_dir, results_dir) for name in names)
    if out is not None:
        page.begin(out)  # a folder that cannot be used is said before anything is computed
    found = compared(a, b, metrics=metrics, every=every, cache=user_cache())
    return found, page.write(out, found) if out is not None else None
