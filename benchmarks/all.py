"""Measure every hot path, keep the numbers in benchmarks/measured/ and write docs/benchmarks.md from them.

    OMP_NUM_THREADS=1 HARNESS_DATA=FOLDER uv run --group peers python benchmarks/all.py [--only PART ...] [--quick]

Twenty minutes on two cores on which nothing else runs. Each part is a process of its own, one after the other. --only
measures these parts again and leaves the others as they are: on a machine with a GPU, gpu-training, gpu-attacks and
gpu-explainers. --quick takes the smallest sizes, to see that it works, and writes into --into FOLDER (it refuses to
replace what was measured). A part that fails says why and is left as it
was; the others are measured. Without HARNESS_DATA network and images of Woods et al. 2019 are replaced by drawn ones.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import page
from paths import ASKED, PARTS

PACKAGES = ("torch", "numpy")


def machine() -> str:
    """Return the processor and its number of cores, as the system names them."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {cores} cores, {platform.system()}"


def measured(name: str, quick: bool) -> dict[str, Any]:
    """Measure one part in this process."""
    from paths import subject

    subject.start()
    part = import_module(PARTS[name])
    began = time.perf_counter()
    tables = [asdict(table) for table in part.measure(quick)]
    if quick:  # sizes that no target is of
        for table in tables:
            table["rows"] = [{k: v for k, v in row.items() if k != "target"} for row in table["rows"]]
    return {
        "title": part.TITLE,
        "says": part.SAYS.format(subject=subject.said()),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": getattr(part, "machine", machine)(),
        "versions": {p: metadata.version(p) for p in (*PACKAGES, *getattr(part, "PACKAGES", ()))},
        "command": f"{page.COMMAND} --only {name}",
        "took": time.perf_counter() - began,
        "quick": quick,
        "tables": tables,
    }


def measure(name: str, quick: bool, folder: Path) -> bool:
    """Measure one part in a process of its own and keep it; return whether it went well."""
    print(f"{name} ...", file=sys.stderr, flush=True)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    arguments = [sys.executable, __file__, "--part", name, *(["--quick"] if quick else [])]
    done = subprocess.run(arguments, env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        print(f"{name} failed and is left as it was.", file=sys.stderr)
        return False
    content = json.loads(done.stdout.splitlines()[-1])
    page.check(content)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    print(f"{name}: {content['took']:.0f} s", file=sys.stderr, flush=True)
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--into", type=Path, help="folder for the numbers and the page, else those of the project")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        print(json.dumps(measured(options.part, options.quick), allow_nan=False))
        return
    if options.quick and not options.into:
        parser.error("--quick measures nothing worth keeping: give --into FOLDER")
    folder = options.into or page.MEASURED
    chosen = options.only or [name for name in PARTS if name not in ASKED]
    bad = [name for name in chosen if not measure(name, options.quick, folder)]
    place = folder / "benchmarks.md" if options.into else page.PAGE
    place.write_text(page.page(page.read(folder)), encoding="utf-8")
    print(f"written: {place}")
    if bad:
        sys.exit(f"not measured: {', '.join(bad)}")


if __name__ == "__main__":
    main()
