"""An explainer that says in a file which process explains what, and that waits for others, or fails, as it is told."""

import os
from pathlib import Path

LOGGED = '''
import multiprocessing, os, time
from pathlib import Path
import torch
from harness.api import Explanation, explainer

def assistant():
    """Return whether this process assists a run."""
    if os.environ.get("RANK", "0") != "0":
        return True
    named = multiprocessing.current_process().name, Path("/proc/self/cmdline").read_text()
    return any(word in text for word in ("aside", "assist") for text in named)

def say(word, seeds):
    with open(os.environ["PARTS_LOG"], "a") as log:
        log.write(f"{word} {os.getpid()} {'-'.join(str(int(s)) for s in seeds)}\\n")

@explainer("logged", source="a test")
def logged(model, x, target, *, seeds):
    """Say what is explained, and by which process."""
    say("begun", seeds)
    while os.environ.get("PARTS_WAIT") and not assistant():  # for an assistant to have begun
        if len({line.split()[1] for line in open(os.environ["PARTS_LOG"])}) > 1:
            break
        time.sleep(0.05)
    time.sleep(float(os.environ["PARTS_SECONDS"]))
    if os.environ.get("PARTS_FAIL") and assistant():
        raise ValueError("it broke")
    found = x.mean(1) * torch.tensor([float(s % 7 + 1) for s in seeds]).view(-1, 1, 1)
    say("done", seeds)
    return Explanation(found, 1.0, 0.0)
'''


class Log:
    """What that explainer says, in a file."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "log"
        self.path.touch()

    def environment(self, seconds: float, *, wait: bool = False, fail: bool = False) -> dict[str, str]:
        """Return this process's environment, and what the explainer is told by."""
        told = {"PARTS_LOG": str(self.path), "PARTS_SECONDS": str(seconds)}
        return {**os.environ, **told, "PARTS_WAIT": "1" * wait, "PARTS_FAIL": "1" * fail}

    def lines(self) -> list[tuple[str, int, str]]:
        """Return every word, begun or done, with the process and the part."""
        lines = (line.split() for line in self.path.read_text().splitlines())
        return [(word, int(pid), name) for word, pid, name in lines]

    def named(self, word: str) -> list[str]:
        """Return the parts that were begun, or done."""
        return [name for said, _, name in self.lines() if said == word]

    def done_by(self, pid: int) -> list[str]:
        """Return the parts that a process has made."""
        return [name for word, own, name in self.lines() if word == "done" and own == pid]

    def at(self, pid: int) -> str:
        """Return the part that a process is making at the moment; empty for none."""
        mine = [(word, name) for word, own, name in self.lines() if own == pid]
        return mine[-1][1] if mine and mine[-1][0] == "begun" else ""
