"""The pages of the methods: what each is, its settings, and all its runs with their headline numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.record import Result
from harness.report import numbers
from harness.report.boards import Board, status
from harness.report.registered import Registered, doc, spoken
from harness.report.runpage import setting_of, text_of

NOT_HERE = "not registered where this report was made: a plug-in of its own, or of another version"
ZOO = "A network trained elsewhere and loaded as it is (harness list zoo)."


def names_of(results: Sequence[Result]) -> list[str]:
    """Return the methods that runs or their rows name, sorted."""
    return sorted(({name_of(r) for r in results} | {row.method for r in results for row in r.rows}) - {""})


def name_of(result: Result) -> str:
    """Return a run's method; "" for a run that does not say."""
    return str((result.info.get("spec") or {}).get("method") or "")


def described(name: str, known: Registered) -> dict[str, str]:
    """Return what is said of a method: summary, the rest of its docstring, source."""
    component = known.get("method", name)
    if component is None:
        return {"summary": ZOO if name.startswith("zoo:") else NOT_HERE, "more": "", "source": ""}
    rest = doc(component).partition("\n\n")[2]
    return {"summary": spoken(component.summary), "more": rest, "source": component.source}


def page(
    name: str, results: Sequence[Result], boards: Sequence[Board], known: Registered, pages: Mapping[str, str]
) -> dict[str, Any]:
    """Return the context of one method's page. `pages` maps a run to its page's address."""
    mine = [r for r in results if name_of(r) == name]
    found = []
    for board in boards:
        lines = [x for x in board.lines if x.first.method == name]
        if lines:
            found.append({"title": board.key.title(), **numbers.table(board, lines, pages)})
    on_a_board = {x.result.run_id for b in boards for x in b.lines}
    others = [{"run_id": r.run_id, "page": pages[r.run_id], "status": status(r)} for r in mine
              if r.run_id not in on_a_board]  # fmt: skip
    parents = sorted({p for r in mine if (p := _parent(r, results))})
    children = sorted({name_of(r) for r in results if _parent(r, results) == name} - {name})
    return {
        "name": name,
        **described(name, known),
        "settings": settings_of(name, mine),
        "models": sorted({str((r.info.get("spec") or {}).get("model") or "") for r in mine} - {""}),
        "boards": found,
        "others": others,
        "parents": [p for p in parents if p != name],
        "children": children,
        "runs": len(mine),
    }


def _parent(result: Result, results: Sequence[Result]) -> str:
    """Return the method that a run started from; "" where it is not in the report or started from nothing."""
    parent = str(result.info.get("start_from") or "")
    return next((name_of(r) for r in results if r.run_id == parent), "") if parent else ""


def settings_of(name: str, results: Sequence[Result]) -> list[dict[str, Any]]:
    """Return every setting of a method as its runs stored them: default, unit, source, and the values they used."""
    found: dict[str, dict[str, Any]] = {}
    values: dict[str, dict[str, int]] = {}
    for r in results:
        for s in r.info.get("settings") or ():
            if s.get("component") == f"method {name}":
                own = setting_of(s)
                found[own["name"]] = {**own, "type": text_of(s.get("type"))}
                used = values.setdefault(own["name"], {})
                used[own["value"]] = used.get(own["value"], 0) + 1
    return [
        {**s, "values": [{"value": v, "runs": n} for v, n in values[key].items()],
         "changed": any(v != s["default"] for v in values[key])}
        for key, s in found.items()
    ]  # fmt: skip


def index(
    results: Sequence[Result], boards: Sequence[Board], known: Registered, stems: Mapping[str, str]
) -> list[dict]:
    """Return a line per method: those with runs, then those that are registered and have none here."""
    names = names_of(results)
    idle = [c.name for c in known.found.of("method") if c.name not in names]
    lines = []
    for name in (*names, *idle):
        mine = [x for b in boards for x in b.lines if x.first.method == name]
        datasets = sorted({x.first.dataset for x in mine})
        runs = sum(name_of(r) == name for r in results)
        page_of = f"methods/{stems[name]}.html" if name in stems else ""
        lines.append({"name": name, **described(name, known), "runs": runs, "datasets": datasets, "page": page_of})
    return lines
