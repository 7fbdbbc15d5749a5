"""Kill `harness data prepare` and `harness run` at random moments, start them again, and compare with undisturbed ones.

    OMP_NUM_THREADS=1 python benchmarks/kills.py [--prepare 15] [--training 15] [--seed 0]

Each round begins in a new folder and is killed by SIGKILL one to three times: the whole process group, or the first
process alone, whose others must then end by themselves. Then it is left to finish. The cache, or the weights and the
scores of every sample, must be those of the undisturbed command, byte for byte, and nothing may be left over: no
unfinished folder, no temporary file, no process. Exit status 1 where something is. On Linux alone: it looks into /proc.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

REPOSITORY = Path(__file__).parents[1]
GRACE = 10.0  # seconds in which the other processes of a killed one must have ended
LEFT_OVER = ("*.partial", ".*.tmp", ".*.shards", "kept.npy", "resume.pt", "done", "digests", "boot")
PLUGIN = '''
from dataclasses import dataclass
import numpy as np
import pandas as pd
from harness.api import Dataset, Index, MultiLabel, dataset, setting

@dataset("pictures", source="drawn for a test")
@dataclass(frozen=True, kw_only=True)
class Pictures(Dataset):
    """Pictures of a folder."""
    size: int = setting(64)
    task = MultiLabel()
    default_model = "resnet44"
    folders = ("pictures",)

    def index(self, root):
        ids = sorted(p.name for p in (root / "images").iterdir())
        n = len(ids)
        split = np.array(["train", "validation", "test"])[np.arange(n) % 3]
        samples = pd.DataFrame({"id": ids, "patient": ids, "split": split, "path": [f"images/{i}" for i in ids]})
        return Index(samples, np.stack([np.arange(n) % 2, np.arange(n) % 5 == 0], 1).astype(np.uint8), ("odd", "fifth"))
'''


@dataclass(frozen=True)
class Scenario:
    """A command that is killed, and what must come of it."""

    name: str
    words: Callable[[Path], list[str]]  # in a folder of its own
    compared: tuple[str, ...]  # patterns of the files that must be the same

    def start(self, place: Path) -> subprocess.Popen[bytes]:
        """Start the command in a session of its own; what it says goes to a file."""
        place.mkdir(exist_ok=True)
        environment = os.environ | {"HARNESS_CACHE": str(place / "cache"), "PYTHONPATH": str(REPOSITORY)}
        with (place / "said").open("ab") as said:
            return subprocess.Popen(
                [sys.executable, "-m", "harness", *self.words(place)], stdout=said, stderr=said, env=environment,
                cwd=REPOSITORY, start_new_session=True,
            )  # fmt: skip

    def finish(self, place: Path) -> float:
        """Let the command finish; return its seconds."""
        began = time.monotonic()
        process = self.start(place)
        if process.wait():
            sys.exit(f"{(place / 'said').read_text()}\\n{self.name} ended with {process.returncode}")
        return time.monotonic() - began

    def files(self, place: Path) -> dict[str, bytes]:
        """Return the content of every file that is compared."""
        found = [p for pattern in self.compared for p in place.glob(pattern) if p.is_file()]
        return {str(p.relative_to(place)): p.read_bytes() for p in sorted(found)}


def pictures(folder: Path, count: int, pixels: int) -> Scenario:
    """Return the scenario of preparing `count` images of noise, which are slow to decode."""
    root = folder / "pictures"
    (root / "images").mkdir(parents=True)
    (folder / "plugin.py").write_text(PLUGIN)
    rng = np.random.default_rng(0)
    for i in range(count):
        noise = rng.integers(0, 256, (pixels, pixels), np.uint8)
        Image.fromarray(noise).save(root / "images" / f"{i:04d}.png", compress_level=1)
    words = ["data", "prepare", "pictures", "--plugin", str(folder / "plugin.py"), "--root", str(root)]
    return Scenario("prepare", lambda _: words, ("cache/datasets/*/*",))


def training(epochs: int = 5) -> Scenario:
    """Return the scenario of training and scoring a tiny phantom."""
    sets = (
        "phantom.size=32", "n_train=48", "n_validation=16", "n_test=240", f"max_epochs={epochs}",
        "classification.resamples=50",
    )  # fmt: skip

    def words(place: Path) -> list[str]:
        chosen = [word for s in sets for word in ("--set", s)]
        return ["run", "--method", "baseline", "--dataset", "phantom", "--evaluation", "classification",
                "--device", "cpu", "--runs-dir", str(place / "runs"), *chosen]  # fmt: skip

    files = ("runs/*/fit/model.safetensors", "runs/*/evaluations/*/samples.parquet", "cache/datasets/*/*")
    return Scenario("training", words, files)


def living(session: int) -> list[int]:
    """Return the processes of a session that have not ended."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            state, _, _, own = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if state != "Z" and int(own) == session:
            found.append(int(entry.name))
    return found


def kill(process: subprocess.Popen[bytes], *, group: bool) -> list[str]:
    """Kill a command; return what is wrong with what is left of it."""
    (os.killpg if group else os.kill)(process.pid, signal.SIGKILL)
    process.wait()
    until = time.monotonic() + GRACE
    while (left := living(process.pid)) and time.monotonic() < until:
        time.sleep(0.05)
    return [f"{len(left)} processes went on after their first one was killed"] if left else []


def disturbed(
    scenario: Scenario, place: Path, kills: int, seconds: float, rng: random.Random
) -> tuple[list[bool], list[str]]:
    """Kill the command up to `kills` times in a new folder, and let it finish.

    Returns for each kill whether there was work half done, and what was wrong.
    """
    wrong, midst = [], []
    for _ in range(kills):
        process = scenario.start(place)
        try:
            process.wait(timeout=rng.uniform(0.2, 0.95) * seconds)
            break  # it has finished before
        except subprocess.TimeoutExpired:
            wrong += kill(process, group=rng.random() < 0.5)
            midst.append(any(next(place.rglob(pattern), None) for pattern in LEFT_OVER))
    scenario.finish(place)
    return midst, wrong


def compare(scenario: Scenario, wanted: dict[str, bytes], place: Path) -> list[str]:
    """Return what differs from the undisturbed command, and what is left over."""
    found = scenario.files(place)
    wrong = [f"{name} differs" for name in sorted(wanted.keys() | found.keys()) if wanted.get(name) != found.get(name)]
    return wrong + [f"{p.relative_to(place)} is left over" for pattern in LEFT_OVER for p in place.rglob(pattern)]


def check(scenario: Scenario, folder: Path, kills: int, seed: int, most: int = 3) -> tuple[list[bool], list[str]]:
    """Carry rounds out until the command was killed `kills` times; returns as `disturbed` does."""
    rng = random.Random(seed)
    seconds = scenario.finish(folder / "undisturbed")
    wanted = scenario.files(folder / "undisturbed")
    wrong = [] if wanted else [f"{scenario.name}: nothing to compare"]
    midst: list[bool] = []
    number, in_time = 0, True
    while len(midst) < kills:
        place = folder / f"round-{number}"
        seconds *= 1.0 if in_time else 0.8  # the machine has become faster
        killed, found = disturbed(scenario, place, min(kills - len(midst), rng.randint(1, most)), seconds, rng)
        found += compare(scenario, wanted, place)
        wrong += [f"{scenario.name}, round {number}: {what}" for what in found]
        print(
            f"{scenario.name}, round {number}: killed {len(killed)} times; {'; '.join(found) or 'the same'}", flush=True
        )
        midst, number, in_time = midst + killed, number + 1, bool(killed)
    return midst, wrong


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--prepare", type=int, default=15, help="kills of `data prepare`")
    parser.add_argument("--training", type=int, default=15, help="kills of `run`")
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--pixels", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        midst: list[bool] = []
        wrong: list[str] = []
        for name, kills in (("prepare", options.prepare), ("training", options.training)):
            if kills:
                (folder / name).mkdir()
                made = pictures(folder / name, options.images, options.pixels) if name == "prepare" else training()
                killed, found = check(made, folder / name, kills, options.seed)
                midst, wrong = midst + killed, wrong + found
    print(
        f"{len(midst)} kills, {sum(midst)} of them with work half done: "
        + ("all came to the same bytes, nothing was left over" if not wrong else "WRONG")
    )
    print("\n".join(wrong))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
