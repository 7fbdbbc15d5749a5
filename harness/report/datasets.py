"""The pages of the datasets: what each is, where it is from and on what terms, its splits and classes, its boards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.record import Result
from harness.report import gallery
from harness.report.boards import Board
from harness.report.names import chart_text
from harness.report.registered import Registered, doc, spoken, text
from harness.report.runpage import setting_of, text_of
from harness.terms import NOT_STATED, registered

CLASSES_LISTED = 40  # classes that a chart and a table hold; of more, those with most images
EXAMPLES = 8  # pictures at most
SPLITS = ("train", "validation", "test")


def name_of(result: Result) -> str:
    """Return a run's dataset; "" for a run that does not say."""
    own = result.info.get("dataset") or {}
    return str(own.get("name") or (result.info.get("spec") or {}).get("dataset") or "")


def names_of(results: Sequence[Result]) -> list[str]:
    """Return the datasets that runs or their rows name, sorted."""
    return sorted(({name_of(r) for r in results} | {row.dataset for r in results for row in r.rows}) - {""})


def described(name: str, known: Registered, stated: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Return what is said of a dataset: summary, more of it, source, how to get it, terms and where they are said."""
    component = known.get("dataset", registered(name))
    own = stated.get(registered(name), {"terms": "", "terms_source": ""})
    if component is None:
        return {"summary": "", "more": "", "source": "", "how_to_get": "", **own, "terms": own["terms"] or NOT_STATED}
    said = text(component, "terms")
    return {
        "summary": spoken(component.summary),
        "more": doc(component).partition("\n\n")[2],
        "source": component.source,
        "how_to_get": text(component, "how_to_get"),
        "terms": said or own["terms"] or NOT_STATED,
        "terms_source": "its own file" if said else own["terms_source"],
    }


def page(
    name: str,
    results: Sequence[Result],
    boards: Sequence[Board],
    known: Registered,
    stated: Mapping[str, Mapping[str, str]],
    pictures: gallery.Pictures,
    base: str,
) -> dict[str, Any]:
    """Return the context of one dataset's page."""
    mine = [r for r in results if name_of(r) == name]
    versions = _versions(mine)
    return {
        "name": name,
        **described(name, known, stated),
        "task": next((str(r.info.get("task")) for r in mine if r.info.get("task")), ""),
        "settings": _settings(name, mine),
        "versions": versions,
        "charts": {f"prevalence-{i}": _chart(v) for i, v in enumerate(versions) if v["classes"]},
        "examples": _examples(mine, pictures, base),
        "boards": [{"title": b.key.title(), "methods": sorted({x.first.method for x in b.lines}), "runs": len(b.lines)}
                   for b in boards if b.key.dataset == name],
    }  # fmt: skip


def _versions(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Return the data as the runs saw it: one entry per fingerprint, with sizes, notes and positives per class."""
    found: dict[str, dict[str, Any]] = {}
    for r in results:
        own = r.info.get("dataset") or {}
        mark = str(own.get("fingerprint") or "")
        if mark and mark not in found:
            found[mark] = _version(r, own)
        if mark:
            found[mark]["runs"].append(r.run_id)
    return sorted(found.values(), key=lambda v: (v["settings"], v["fingerprint"]))


def _version(result: Result, own: Mapping[str, Any]) -> dict[str, Any]:
    counts = {k: int(v) for k, v in (own.get("counts") or {}).items() if isinstance(v, int)}
    splits = [s for s in (*SPLITS, *sorted(set(counts) - set(SPLITS))) if counts.get(s)]
    positives = own.get("positives") or {}
    names = [str(c) for c in result.info.get("classes") or positives]
    kept, left_out = _listed(names, positives, splits)
    return {
        "settings": str(own.get("settings") or ""),
        "size": text_of(own.get("size")),
        "fingerprint": str(own.get("fingerprint")),
        "manifest": str(own.get("manifest_sha256") or ""),
        "notes": [str(n) for n in own.get("notes") or ()],
        "corrupt": len(own.get("corrupt") or ()),
        "counts": [(s, counts[s]) for s in splits],
        "folds": [{k: text_of(v) for k, v in f.items()} for f in own.get("folds") or ()],
        "splits": splits,
        "classes": [_class(c, positives.get(c) or {}, counts, splits) for c in kept],
        "left_out": left_out,
        "runs": [],
    }


def _listed(names: Sequence[str], positives: Mapping[str, Any], splits: Sequence[str]) -> tuple[list[str], int]:
    """Return the classes that are shown, in their order, and how many are not: those with fewest images."""
    known = [c for c in names if isinstance(positives.get(c), Mapping)]
    if len(known) <= CLASSES_LISTED:
        return known, 0
    size = {c: sum(int(positives[c].get(s) or 0) for s in splits) for c in known}
    most = set(sorted(known, key=lambda c: (-size[c], known.index(c)))[:CLASSES_LISTED])
    return [c for c in known if c in most], len(known) - CLASSES_LISTED


def _class(name: str, positives: Mapping[str, Any], counts: Mapping[str, int], splits: Sequence[str]) -> dict[str, Any]:
    found = [(s, positives.get(s)) for s in splits]
    cells = [{"positives": p, "share": round(100 * p / counts[s], 4)} if isinstance(p, int) else None for s, p in found]
    return {"name": name, "cells": cells}


def _chart(version: Mapping[str, Any]) -> dict[str, Any]:
    """Return the prevalence of each class, a mark per split: positions and symbols, so that no colour is needed."""
    symbols = ("circle", "square-open", "diamond")
    rows = version["classes"]
    data = []
    for tone, split in enumerate(version["splits"]):
        have = [(chart_text(r["name"]), r["cells"][tone]) for r in rows if r["cells"][tone]]
        data.append({
            "x": [c["share"] for _, c in have], "y": [n for n, _ in have], "name": split, "tone": tone,
            "symbol": symbols[tone % len(symbols)], "mode": "markers",
            "text": [f"{n}, {split}: {c['positives']:,} images, {c['share']:.2f} %" for n, c in have],
            "hovertemplate": "%{text}<extra></extra>",
        })  # fmt: skip
    layout = {
        "xaxis": {"title": {"text": "images of the split with the class, %", "standoff": 6}, "rangemode": "tozero"},
        "yaxis": {"type": "category", "autorange": "reversed", "automargin": True},
        "showlegend": len(data) > 1,
        "margin": {"l": 44, "r": 12, "t": 34, "b": 44},
    }
    return {"data": data, "layout": layout, "height": 110 + 22 * len(rows)}


def _settings(name: str, results: Sequence[Result]) -> list[dict[str, Any]]:
    """Return the settings of a dataset as its runs stored them, with every value that was used."""
    found: dict[str, dict[str, Any]] = {}
    for r in results:
        for s in r.info.get("settings") or ():
            if s.get("component") == f"dataset {registered(name)}":
                own = setting_of(s)
                kept = found.setdefault(own["name"], {**own, "values": []})
                if own["value"] not in kept["values"]:
                    kept["values"].append(own["value"])
    return list(found.values())


def _examples(results: Sequence[Result], pictures: gallery.Pictures, base: str) -> list[dict[str, Any]]:
    """Return images of the first run that has pictures, one per sample, a class after the other."""
    for r in results:
        found: dict[str, dict[str, Any]] = {}
        for stage in gallery.pictured(r).values():
            for (name, _), e in sorted(gallery.fixed_samples(stage, pictures, base).items(), key=lambda x: x[0][::-1]):
                if e["image"]:
                    found.setdefault(name, e)
        if found:
            return list(found.values())[:EXAMPLES]
    return []


def index(
    results: Sequence[Result], known: Registered, stated: Mapping[str, Mapping[str, str]], stems: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Return a line per dataset: those with runs, then those that are registered and have none here."""
    names = names_of(results)
    used = {registered(name) for name in names}
    idle = [c.name for c in known.found.of("dataset") if c.name not in used]
    lines = []
    for name in (*names, *idle):
        mine = [r for r in results if name_of(r) == name]
        sizes = sorted(
            {text_of((r.info.get("dataset") or {}).get("size")) for r in mine} - {""}, key=lambda s: (len(s), s)
        )
        lines.append({"name": name, **described(name, known, stated), "runs": len(mine), "sizes": sizes,
                      "page": f"datasets/{stems[name]}.html" if name in stems else ""})  # fmt: skip
    return lines
