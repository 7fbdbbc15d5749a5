"""How much faster a suite is on two workers than on one, one run whose evaluations they share, and what a kill costs.

    python benchmarks/cluster.py [--executor ray|local|torchrun] [--runs 8] [--size 64] [--pairs 4] [--long 10]

Phantoms, one thread for each worker, the data prepared before. Prints a Markdown table. A suite is measured as a
command, with the start of Python and Ray, and from its first run's beginning to its last one's end. The evaluations of
one run, `--long` times as many images, are measured from the end of its training, and as a command. Amid them the
process that assists the run is killed, or, with Ray, the one that makes it: the seconds lost are those of the command
beyond an undisturbed one. Rows and scores of all of them must be the same, byte for byte: exit status 1 where they are
not. Processes are found by the locks that they hold, in /proc: on Linux alone.

With torchrun one run is measured, trained before: its evaluations by one process and by two, from the note that it is
trained to the last score, and as a command. Rows and scores must be the same.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
TARGET = 1.7  # times as fast on two workers
AMID = 2.0  # seconds after both are at work, when one is killed
EVALUATIONS = ["classification", "robustness", "insertion_deletion"]
SETTINGS = """
baseline.max_epochs = 1
classification = {{ resamples = 100, batch = 8 }}
robustness = {{ resamples = 100, pairs = {pairs}, batch = 4 }}
insertion_deletion = {{ resamples = 100, images = {pairs}, batch = 4 }}
phantom = {{ size = {size}, n_train = 64, n_validation = 64, n_test = 240 }}
"""
SUITE = """
[all]
dataset = "phantom"
explainers = ["saliency"]
evaluations = {evaluations}
[all.set]{settings}
[[runs]]
method = "baseline"
seeds = {seeds}
"""


@dataclass
class Done:
    """One command: its seconds, what it said and when, where its runs are, and what was killed."""

    runs: Path
    seconds: float = 0.0
    lines: list[tuple[float, str]] = field(default_factory=list)
    killed: list[int] = field(default_factory=list)

    def span(self) -> float:
        """Return the seconds from the first run's beginning to the last one's end."""
        begun = [at for at, line in self.lines if line.endswith(": begun")]
        ended = [at for at, line in self.lines if ": done in" in line]
        return ended[-1] - begun[0]

    def evaluating(self) -> float:
        """Return the seconds from the end of the training to the last score."""
        (fit,) = self.runs.glob("*/fit/fit.json")
        return max(p.stat().st_mtime for p in self.runs.glob("*/evaluations/*/rows.json")) - fit.stat().st_mtime

    def scoring(self) -> float:
        """Return the seconds from the note that the run is trained already to the last line."""
        return self.lines[-1][0] - next(at for at, line in self.lines if "trained already" in line)

    def files(self) -> dict[str, bytes]:
        """Return the rows and the scores of every run."""
        found = [*self.runs.glob("*/evaluations/*/rows.json"), *self.runs.glob("*/evaluations/*/samples.parquet")]
        return {str(p.relative_to(self.runs)): p.read_bytes() for p in sorted(found)}


def holding(runs: Path, *, assistant: bool) -> list[int]:
    """Return the processes that make a run of the folder, or those that assist it, by the locks they have open."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            files = [os.readlink(file) for file in (entry / "fd").iterdir()]
        except OSError:  # it has ended
            continue
        mine = [file for file in files if file.startswith(f"{runs}/") and file.endswith(".lock")]
        if mine and assistant == all(".shards/" in file for file in mine):
            found.append(int(entry.name))
    return found


def kill(done: Done, process: subprocess.Popen[str], *, assistant: bool) -> None:
    """Kill a process of the run when it has been assisted for a while, a few parts into its evaluations."""
    while not holding(done.runs, assistant=True):
        if process.poll() is not None:
            return
        time.sleep(0.02)
    time.sleep(AMID)
    while not done.killed and process.poll() is None:
        for pid in holding(done.runs, assistant=assistant)[:1]:
            os.kill(pid, signal.SIGKILL)
            done.killed.append(pid)


@dataclass(frozen=True)
class Bench:
    """Where the commands are given, and by which executor."""

    folder: Path
    executor: str

    def carry_out(
        self, name: str, text: str, jobs: int, beside: Callable[[Done, subprocess.Popen[str]], None] | None = None
    ) -> Done:
        """Carry a suite out in a new folder; `beside` is called with it at the same time."""
        file, done = self.folder / f"{name}.toml", Done(self.folder / f"{name}-{jobs}")
        file.write_text(text)
        command = ["harness", "suite", "run", str(file), "--executor", self.executor, "--jobs", str(jobs)]
        return self._measured(f"{name}, {jobs} workers", done, command, beside)

    def torchrun(self, name: str, settings: str, count: int, trained: Done | None = None) -> Done:
        """Give one run to `count` processes of torchrun; of one that is trained, only its evaluations are made."""
        file, done = self.folder / f"{name}.toml", Done(self.folder / f"{name}-{count}")
        file.write_text(f"[set]{settings}")
        if trained:
            shutil.copytree(trained.runs, done.runs, ignore=shutil.ignore_patterns("evaluations", ".lock"))
        command = ["torch.distributed.run", "--nproc-per-node", str(count), "-m", "harness", "run", "--config"]
        command += [str(file), "--method=baseline", "--dataset=phantom", "--explainer=saliency"]
        command += [f"--evaluation={name}" for name in EVALUATIONS]
        return self._measured(f"{name}, {count} processes", done, command)

    def _measured(
        self,
        name: str,
        done: Done,
        command: list[str],
        beside: Callable[[Done, subprocess.Popen[str]], None] | None = None,
    ) -> Done:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "HARNESS_CACHE": str(self.folder / "cache")}
        command = [sys.executable, "-m", *command, "--runs-dir", str(done.runs), "--device", "cpu"]
        began = time.monotonic()
        process = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stderr=subprocess.PIPE,
                                   stdout=subprocess.DEVNULL, text=True)  # fmt: skip
        if beside:
            threading.Thread(target=beside, args=(done, process), daemon=True).start()
        assert process.stderr
        for line in process.stderr:
            done.lines.append((time.monotonic() - began, line.rstrip()))
        if process.wait():
            sys.exit("\n".join(line for _, line in done.lines) + f"\n{name}: ended with {process.returncode}")
        done.seconds = time.monotonic() - began
        print(f"{name}: {done.seconds:.1f} s", file=sys.stderr, flush=True)
        return done


def ranks(bench: Bench, one: str, few: str) -> None:
    """Measure the evaluations of a run by processes of torchrun."""
    trained = bench.torchrun("trained", few, 1)
    alone, both = (bench.torchrun("scored", one, count, trained) for count in (1, 2))
    print("\n| torchrun | 1 process | 2 processes | times as fast |\n|---|---|---|---|")
    for what, a, b in (("evaluations of one run", alone.scoring(), both.scoring()),
                       ("the whole command, trained before", alone.seconds, both.seconds)):  # fmt: skip
        print(f"| {what} | {a:.1f} s | {b:.1f} s | {a / b:.2f} |")
    same = alone.files() == both.files() != {}
    print(f"\nrows and scores: {'the same' if same else 'DIFFERENT'}")
    sys.exit(0 if same else 1)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--executor", choices=("ray", "local", "torchrun"), default="ray")
    parser.add_argument("--runs", type=int, default=8)
    parser.add_argument("--size", type=int, default=64, help="px")
    parser.add_argument("--pairs", type=int, default=4, help="images of each run that are attacked and explained")
    parser.add_argument("--long", type=int, default=10, help="times as many of the one run that is shared")
    options = parser.parse_args()

    def settings(pairs: int) -> str:
        return SETTINGS.format(pairs=pairs, size=options.size)

    def text(seeds: int, pairs: int) -> str:
        return SUITE.format(seeds=list(range(seeds)), settings=settings(pairs), evaluations=EVALUATIONS)

    many, one = text(options.runs, options.pairs), text(1, options.pairs * options.long)
    with tempfile.TemporaryDirectory() as temporary:
        bench = Bench(Path(temporary), options.executor)
        if options.executor == "torchrun":
            ranks(bench, settings(options.pairs * options.long), settings(1))
        bench.carry_out("prepared", text(1, 1), 1)
        suite = [bench.carry_out("suite", many, jobs) for jobs in (1, 2)]
        shared = [bench.carry_out("run", one, jobs) for jobs in (1, 2)]
        disturbed = {
            "the assistant": bench.carry_out("assistant-killed", one, 2, lambda d, p: kill(d, p, assistant=True))
        }
        if options.executor == "ray":  # a process that `--jobs` has started is not started again
            disturbed["the run's own process"] = bench.carry_out(
                "run-killed", one, 2, lambda d, p: kill(d, p, assistant=False)
            )
        rows = [
            (f"{options.runs} runs, first begun to last done", *(d.span() for d in suite)),
            (f"{options.runs} runs, the whole command", *(d.seconds for d in suite)),
            ("evaluations of one run", *(d.evaluating() for d in shared)),
            ("one run, the whole command", *(d.seconds for d in shared)),
        ]
        print(f"\n| {options.executor} | 1 worker | 2 workers | times as fast |\n|---|---|---|---|")
        for what, alone, both in rows:
            print(f"| {what} | {alone:.1f} s | {both:.1f} s | {alone / both:.2f} |")
        print("\n| killed by SIGKILL amid the evaluations | the whole command | seconds lost |\n|---|---|---|")
        for what, done in disturbed.items():
            said = f"{done.seconds - shared[1].seconds:.1f} s" if done.killed else "it was not killed in time"
            print(f"| {what} | {done.seconds:.1f} s | {said} |")
        reached = rows[0][1] / rows[0][2]
        print(f"\n{options.runs} runs: {reached:.2f} times as fast, the target is {TARGET}.")
        pairs = [(suite[0], suite[1]), *((shared[0], other) for other in (shared[1], *disturbed.values()))]
        wrong = [str(other.runs.name) for first, other in pairs if first.files() != other.files() or not first.files()]
        print(f"rows and scores: {'DIFFERENT in ' + ', '.join(wrong) if wrong else 'the same'}")
        sys.exit(1 if wrong or not all(d.killed for d in disturbed.values()) else 0)


if __name__ == "__main__":
    main()
