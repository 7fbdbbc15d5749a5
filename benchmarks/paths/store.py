"""Listing and reporting many stored runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import report

from harness.report.site import build
from paths.turns import GROWTH, Table, seconds, spread

TITLE = "The store and the report"
SAYS = (
    "Made-up runs: one written by the store's own writer, and copies of it under other names. Every command is a "
    "process of its own, files lie in the page cache."
)
KEPT = ("classification-000000000000", "localisation-cam-000000000000")  # evaluations of a run that is listed
SETTLED = 2.5  # s that must have passed since the last change of a run for the index to keep it
REPOSITORY = Path(__file__).parents[2]


def copies(folder: Path, count: int) -> None:
    """Write `count` runs of two evaluations each, 88 kB of JSON."""
    with tempfile.TemporaryDirectory() as temporary:
        report.write(Path(temporary), 1)
        (base,) = Path(temporary).iterdir()
        wanted = [p for p in base.rglob("*.json*") if "evaluations" not in p.parts or set(p.parts) & set(KEPT)]
        texts = {str(p.relative_to(base)): p.read_text() for p in wanted}
        for number in range(count):
            name = f"robust_fgsm-chestxray14-s{number % 5}-{number:012x}"
            for place, text in texts.items():
                path = folder / name / place
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text.replace(base.name, name))


def command(cache: Path, *arguments: str, every_core: bool = False) -> float:
    """Return the seconds of one command of harness in a process of its own, on one core or as a user has it."""
    environment = os.environ | {"HARNESS_CACHE": str(cache), "PYTHONPATH": str(REPOSITORY)}
    if every_core:
        environment.pop("OMP_NUM_THREADS", None)
    return seconds(
        lambda: subprocess.run(
            [sys.executable, "-m", "harness", *arguments], env=environment, cwd=REPOSITORY, check=True,
            stdout=subprocess.DEVNULL,
        )
    )  # fmt: skip


def listing(quick: bool) -> Table:
    table = Table(
        "`harness list runs`", {
            "runs": ("count", "stored, with two evaluations each"),
            "known": ("s", "the runs are as they were at the last listing: median of five processes"),
            "anew": ("s", "without an index: every run is read and checked; one process"),
        }, judged="known",
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as place:
        base = Path(place)
        for count in (2, 4) if quick else (10, 100, 1_000, 10_000):
            runs = base / str(count)
            copies(runs, count)
            time.sleep(SETTLED)
            anew = command(base / "cache", "list", "runs", "--runs-dir", str(runs))
            known = [command(base / "cache", "list", "runs", "--runs-dir", str(runs)) for _ in range(1 if quick else 5)]
            table.add(count, spread(known)[0], anew, **({"most": 1.0} if count == 10_000 else {}))
            shutil.rmtree(runs)
    return table


def reports(quick: bool) -> Table:
    table = Table(
        "`harness report`", {
            "runs": ("count", "each a line of its own; they share ten sets of per-sample scores"),
            "first": ("s", "with the bootstrap replicates of the ten sets"),
            "again": ("s", "replicates kept from the first"),
            "per unit": GROWTH["per unit"],
        }, says="Rendered from the stored runs to HTML, without starting Python.", judged="per unit",
    )  # fmt: skip
    report.KINDS = 10
    before = None
    for count in (2, 3) if quick else (10, 30, 100, 300):
        with tempfile.TemporaryDirectory() as place:
            base = Path(place)
            report.write(base / "runs", count)

            def work(base=base) -> None:
                build(base / "runs", None, base / "site", cache=base / "cache")

            first, again = seconds(work), spread(seconds(work) for _ in range(1 if quick or count > 100 else 3))[0]
        grown = None if before is None else again / count / before
        table.add(count, first, again, grown, **({} if grown is None or quick else {"most": 1.15}))
        before = again / count
    return table


def measure(quick: bool) -> list[Table]:
    return [listing(quick), reports(quick)]
