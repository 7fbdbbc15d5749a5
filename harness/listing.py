"""What `harness list` and `harness show` print. Listing reads decorators and imports no component."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from harness import run_index
from harness.config import build
from harness.errors import UsageError, closest
from harness.grid import grid
from harness.plugins import KINDS, catalogue
from harness.store import RunFolder
from harness.visible import visible
from harness.zoo import names


def components(kind: str, plugins: Sequence[str]) -> list[dict[str, Any]]:
    """Return the components of one kind with summary, source and the file that registers them."""
    return [
        {"name": c.name, "summary": c.summary, "source": c.source, "file": _short(c.file), **c.options}
        for c in catalogue(plugins).of(kind)
    ]


def zoo() -> list[dict[str, Any]]:
    """Return every network trained elsewhere that can be named as a method."""
    return names.every()


def _short(path: Path) -> str:
    return "/".join(path.parts[-2:])


def runs(runs_dir: Path) -> list[dict[str, Any]]:
    """Return the runs of a folder with their status and evaluations; runs that are as they were are not read again."""
    return run_index.listed(runs_dir, _entry)


def _entry(folder: Path) -> tuple[dict[str, str], bool]:
    """Return what a run is listed as, and whether it can be read."""
    from harness.record import from_run  # loads pandas

    run = RunFolder(folder)
    try:
        result = from_run(run)
    except UsageError as error:
        return {"name": run.run_id, "status": "unreadable", "evaluations": "", "message": str(error)}, False
    named = [(s.info.get("evaluation"), s.info.get("explainer")) for s in result.stages]
    done = sorted({"-".join(filter(None, both)) for both in named})
    entry = {"name": run.run_id, "status": result.info.get("status", "?"), "evaluations": ", ".join(done)}
    return {**entry, "message": result.info.get("message", "")}, True


def table(entries: list[dict[str, Any]]) -> str:
    """Return entries as a table for a terminal."""
    if not entries:
        return "none"
    named = ("name", "summary", "finds", "source", "file", "status", "evaluations", "message")
    columns = [c for c in named if any(entry.get(c) for entry in entries)]
    rows = [[visible(str(entry.get(c, "")), layout="\n") for c in columns] for entry in entries]
    return grid(columns, rows, max(120, Console().width), columns.index("name")).rstrip()


def show(kind: str, name: str, plugins: Sequence[str]) -> dict[str, Any]:
    """Return one component with its settings; here its file is imported."""
    singular = kind.removesuffix("s")
    if singular not in KINDS:
        raise UsageError(f"unknown kind {kind!r}.{closest(singular, KINDS)} Known: {', '.join(KINDS)}.")
    component = catalogue(plugins).find(singular, name)
    thing = component.load()
    schedule, continuation = getattr(thing, "schedule", {}), getattr(thing, "continuation", {})
    _, settings = build(thing, f"{component.kind} {component.name}")
    return {
        "kind": component.kind,
        "name": component.name,
        "summary": component.summary,
        "doc": (thing.__doc__ or "").strip(),
        "source": component.source,
        "version": component.version,
        "file": _short(component.file),
        "settings": [
            {**dataclasses.asdict(s), "value": _plain(s.value), "default": _plain(s.default)} for s in settings
        ],
        **({"schedule": {k: _plain(v) for k, v in schedule.items()}} if schedule else {}),
        **({"continuation": {k: _plain(v) for k, v in continuation.items()}} if continuation else {}),
    }


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def card(entry: dict[str, Any]) -> str:
    """Return one component as text: what it is, and each setting with unit, default and source."""
    lines = [f"{entry['kind']} {entry['name']}  (version {entry['version']}, {entry['file']})", "", entry["doc"], ""]
    if entry["source"]:
        lines += [f"Source: {entry['source']}", ""]
    lines.append("Settings (replace with --set):" if entry["settings"] else "No settings.")
    for s in entry["settings"]:
        lines.append(f"  {s['name']} = {s['default']}{' ' + s['unit'] if s['unit'] else ''}   [{s['type']}]")
        lines += [f"      {text}" for text in (s["help"], s["source"] and f"source: {s['source']}") if text]
    for name, text in (("schedule", ""), ("continuation", ", where it starts from trained weights")):
        if name in entry:
            lines += ["", f"Replaces these defaults of a method's training settings{text}:"]
            lines += [f"  {field} = {value}" for field, value in entry[name].items()]
    return "\n".join(lines)
