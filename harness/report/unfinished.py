"""Runs that did not finish: what happened to them and which command goes on."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from harness.record import Result
from harness.report.boards import FINISHED, status

ADVICE = {
    "failed": "Mend what the message names, then give the command again: finished stages are kept.",
    "running": "It is still at work, or its process was killed. Wait, or give the command again: it refuses while "
    "another process holds the run.",
    "interrupted": "Give the command again: it goes on where it stopped.",
}


def command(info: Mapping[str, Any]) -> str:
    """Return the `harness run` that made, or will finish, a run; its settings as they were set by hand."""
    spec: Mapping[str, Any] = info.get("spec") or {}
    words = ["harness", "run"]
    for name in ("method", "dataset", "model", "seed", "profile", "precision", "limit"):
        value = spec.get(name)
        if value not in (None, ""):
            words += [f"--{name}", str(value)]
    for described in info.get("settings") or ():
        if described.get("set_by") in ("--set", "config"):
            owner = str(described.get("component", "")).split(" ")[-1]
            words += ["--set", f"{owner}.{described.get('name')}={described.get('value')}"]
    for plugin in spec.get("plugins") or ():
        words += ["--plugin", str(plugin)]
    for option, names in (("--explainer", "explainers"), ("--evaluation", "evaluations")):
        words += [word for name in spec.get(names) or () for word in (option, str(name))]
    return shlex.join(words)


def unfinished(results: Sequence[Result], pages: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the runs that are not complete, by id."""
    return [
        {
            "run_id": r.run_id,
            "page": pages[r.run_id],
            "status": status(r),
            "error": str(r.info.get("message") or ""),
            "stages": len(r.stages),
            "advice": ADVICE.get(status(r), f"Status {status(r)!r} is not known to this version of harness."),
            "command": command(r.info),
        }
        for r in sorted(results, key=lambda r: r.run_id)
        if status(r) != FINISHED
    ]
