"""Commands of the harness as processes of their own: what each took, and what was wrong. Used by full_size*.py.

Memory is anonymous memory, which the system cannot take back: not the memory maps of images and labels, of which it
keeps as much as there is room for. Polled from /proc every 20 ms, so on Linux alone.
"""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from harness.models import checkpoint
from harness.plugins import catalogue

REPOSITORY = Path(__file__).parents[1]
POLL = 0.02  # s


@dataclass(frozen=True)
class Measured:
    """What one command took."""

    name: str
    bound: float  # GB that its largest process may hold
    seconds: float
    cpu: float
    largest: int  # bytes of anonymous memory of the largest process, at its peak
    together: int  # of all its processes at the same time
    out: str


@dataclass
class Measuring:
    """Where everything lies, what was measured, and what was wrong."""

    folder: Path
    measured: list[Measured] = field(default_factory=list, init=False)
    wrong: list[str] = field(default_factory=list, init=False)

    def call(self, name: str, bound: float, *arguments: str, status: int = 0) -> str:
        """Run one command of the harness and return its stdout; another exit `status` ends the benchmark."""
        print(f"{name} ...", file=sys.stderr, flush=True)
        found = measure(name, bound, arguments, self.folder, status)
        self.measured.append(found)
        print(_line(found), file=sys.stderr, flush=True)
        if found.largest > bound * 1e9:
            self.wrong.append(f"{name}: {found.largest / 1e9:.2f} GB of anonymous memory, more than {bound}")
        return found.out

    def expect(self, what: str, found: object, wanted: object) -> None:
        """Note what is not as it must be."""
        if found != wanted:
            self.wrong.append(f"{what}: {found}, expected {wanted}")

    def table(self) -> str:
        """Return what was measured, as Markdown."""
        head = ["| command | wall s | CPU s | largest process, GB | all, GB | bound, GB |", "|---|---|---|---|---|---|"]
        return "\n".join([*head, *map(_line, self.measured)])

    def finish(self, title: str) -> None:
        """Print everything and end the process: with 1 where something was wrong."""
        print(f"{title}, {os.cpu_count()} cores\n\n{self.table()}\n")
        print("\n".join(self.wrong) or "All counts are right, and every process kept within its bound.")
        sys.exit(1 if self.wrong else 0)


def _line(m: Measured) -> str:
    held = f"{m.largest / 1e9:.2f} | {m.together / 1e9:.2f}"
    return f"| {m.name} | {m.seconds:.0f} | {m.cpu:.0f} | {held} | {m.bound} |"


def memory(session: int) -> list[int]:
    """Return the anonymous memory of every process of a session, in bytes."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if int((entry / "stat").read_text().rpartition(")")[2].split()[3]) == session:
                lines = (entry / "status").read_text().splitlines()
                found += [int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:")]
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended
    return found


def measure(name: str, bound: float, arguments: Sequence[str], folder: Path, status: int = 0) -> Measured:
    """Return what a command of the harness takes; its stderr goes to ours."""
    environment = os.environ | {"HARNESS_CACHE": str(folder / "cache"), "PYTHONPATH": str(REPOSITORY)}
    largest = together = 0
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with (folder / "stdout").open("w+") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "harness", *arguments], stdout=out, env=environment, cwd=REPOSITORY,
            start_new_session=True,
        )  # fmt: skip
        while process.poll() is None:
            held = memory(process.pid)
            largest, together = max([largest, *held]), max(together, sum(held))
            time.sleep(POLL)
        seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        out.seek(0)
        text = out.read()
    if process.returncode != status:
        sys.exit(f"{text}\n{name}: harness {' '.join(arguments)} ended with {process.returncode}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Measured(name, bound, seconds, cpu, largest, together, text)


def write_weights(path: Path, dataset: str, classes: int, architecture: str = "") -> torch.nn.Module:
    """Write the weights of a network that has learned nothing, and return it; default: the dataset's architecture."""
    torch.manual_seed(0)
    made = catalogue().load("dataset", dataset)()
    built = catalogue().load("model", architecture or made.default_model)
    model = built(num_classes=classes, channels=made.channels, mean=made.mean, std=made.std)
    checkpoint.save(model, path)
    return model.eval()
