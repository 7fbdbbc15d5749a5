"""The page of `harness compare`: table, chart and pictures of two results, in a folder that opens by itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.changes import Changes
from harness.comparison import ALIKE, ALPHA, BETTER, SAMPLES, UNPAIRED, WORSE, Comparison, Line, sample_line
from harness.conditions import differing, subject
from harness.record import Result, StageResult
from harness.report.gallery import Pictures, Samples, only_masked, pictured, samples
from harness.report.names import chart_text
from harness.report.site import claim, make_environment, templates_folder
from harness.store import write_bytes

MARKER = ".harness-compare"  # says that this folder may be rewritten
ASSETS = ("report.css", "pages.css", "common.js", "figure.js", "zoom.js", "compare.js")
PICTURED = 12  # samples of each explainer that are shown as pictures
LOOK = {  # word -> tone, symbol: never told apart by colour alone
    BETTER: (0, "circle"),
    WORSE: (1, "diamond"),
    ALIKE: ("reference", "circle-open"),
    UNPAIRED: ("reference", "square-open"),
}


def begin(out: Path) -> None:
    """Take `out` for the page; `UsageError` where it holds something else, or there are no templates."""
    templates_folder()
    claim(out, MARKER, "harness compare")


def write(out: Path, found: Comparison) -> Path:
    """Write the page of a comparison into `out`, which `begin` took, and return it; the same input, the same bytes."""
    from plotly.offline import get_plotlyjs

    pictures = Pictures(out / "assets" / "pictures")
    shown = galleries(found, pictures, "assets/pictures")
    without = [f"{s} ({r.run_id})" for s, r in (("A", found.a), ("B", found.b)) if not _pictured(r)]
    folder = templates_folder()
    charts = figures(found.lines)
    context: dict[str, Any] = {
        "a": found.a.run_id,
        "b": found.b.run_id,
        "subjects": _both(subject(found.a), subject(found.b)),
        "unlike": found.unlike,
        "lines": [_line(line) for line in found.lines],
        "words": found.words,
        "notes": found.notes(),
        "changed": [_changed(c) for c in found.changed],
        "galleries": shown,
        "without": without,
        "panels": [{"id": name, "title": chart["title"]} for name, chart in charts.items()],
        "problems": sorted(set(pictures.problems)),
        "alpha": ALPHA,
        "data": {"name": "differences", "board": f"{found.a.run_id} and {found.b.run_id}", "charts": charts,
                 "records": found.entry()["differences"]},
    }  # fmt: skip
    text = make_environment(folder / "templates").get_template("compare.html.j2").render(root="", **context)
    write_bytes(out / "index.html", text.encode("utf-8", "replace"))
    for name in ASSETS:
        write_bytes(out / "assets" / name, (folder / "assets" / name).read_bytes())
    write_bytes(out / "assets" / "plotly.min.js", get_plotlyjs().encode())
    for path in (out / "assets" / "pictures").glob("*"):  # those of an earlier page
        if path not in pictures.written:
            path.unlink()
    return out / "index.html"


def _both(a: Mapping[str, str], b: Mapping[str, str]) -> list[dict[str, Any]]:
    other = {name for name, _, _ in differing(a, b)}
    return [{"name": name, "a": a[name], "b": b[name], "differs": name in other} for name in a]


def _line(line: Line) -> dict[str, Any]:
    d = line.difference
    details, a, b, change, p = line.texts
    assert d.before is not None
    assert d.after is not None
    values = {"a": d.before.value, "b": d.after.value, "difference": d.value, "p": line.adjusted}
    return {
        "metric": d.key.metric,
        "details": details,
        "higher": d.row.higher_is_better,
        "unit": d.row.unit,
        "texts": {"a": _parts(a), "b": _parts(b), "difference": _parts(change), "p": (p, "")},
        "values": {k: v if v == v else "" for k, v in values.items()},
        "word": line.word,
        "reason": line.remark,
    }


def _parts(cell: str) -> tuple[str, str]:
    value, bracket, interval = cell.partition(" [")
    return value, f"[{interval}" if bracket else ""


def _changed(found: Changes) -> dict[str, Any]:
    lines = [sample_line(s) for s in found.most(SAMPLES)]
    return {"label": found.label, "reason": found.reason, "shared": found.shared, "lines": lines}


def figures(lines: list[Line]) -> dict[str, dict[str, Any]]:
    """Return a chart per evaluation and unit: each difference with its interval, beside a line at zero."""
    groups: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        row = line.difference.row
        groups.setdefault((row.evaluation, row.unit), []).append(line)
    return {f"chart-{i}": _figure(*key, mine) for i, (key, mine) in enumerate(groups.items())}


def _figure(evaluation: str, unit: str, lines: list[Line]) -> dict[str, Any]:
    labels = [chart_text(line.difference.key.label()) for line in lines]
    traces = []
    for word, (tone, symbol) in LOOK.items():
        mine = [(label, line) for label, line in zip(labels, lines, strict=True) if line.word == word]
        if not mine:
            continue
        found = [line.difference for _, line in mine]
        traces.append(
            {
                "x": [d.value for d in found],
                "y": [label for label, _ in mine],
                "mode": "markers",
                "name": f"B is {word}" if word in (BETTER, WORSE) else word,
                "tone": tone,
                "symbol": symbol,
                "error_x": {"type": "data", "symmetric": False, "array": [_reach(d.high - d.value) for d in found],
                            "arrayminus": [_reach(d.value - d.low) for d in found]},
                "text": [f"{line.texts[3]}, p {line.texts[4]}" for _, line in mine],
                "hovertemplate": "%{y}: %{text}<extra></extra>",
            }
        )  # fmt: skip
    zero = {"type": "line", "x0": 0, "x1": 0, "y0": 0, "y1": 1, "yref": "paper", "tone": "ink", "dash": "solid"}
    title = "B - A" + (f", {unit}" if unit else "")
    layout = {
        "xaxis": {"title": {"text": chart_text(title)}},
        "yaxis": {"autorange": "reversed", "type": "category", "automargin": True, "categoryorder": "array",
                  "categoryarray": labels},
        "shapes": [zero],
        "showlegend": True,
    }  # fmt: skip
    words = f"{evaluation}, {unit}" if unit else evaluation
    return {"title": words, "data": traces, "layout": layout, "height": 130 + 22 * len(set(labels))}


def _reach(value: float) -> float:
    return max(0.0, value) if value == value else 0.0


def _pictured(result: Result) -> dict[str, StageResult]:
    return {**only_masked(result), **pictured(result)}


def galleries(found: Comparison, pictures: Pictures, base: str) -> list[dict[str, Any]]:
    """Return per explainer the samples that both results have pictures of, those that changed most first."""
    mine, theirs = _pictured(found.a), _pictured(found.b)
    result = []
    for explainer in (name for name in mine if name in theirs):
        one, other = (samples(side[explainer], pictures, base) for side in (mine, theirs))
        evaluation = str(mine[explainer].info.get("evaluation"))
        size = _sizes(found.changed, explainer, evaluation)
        both = sorted(one.keys() & other.keys(), key=lambda k: (-size.get(k, (0.0, ""))[0], k))
        rows = [_row(key, one, other, size.get(key, (0.0, ""))[1]) for key in both[:PICTURED]]
        if rows:
            result.append({"explainer": explainer, "rows": rows, "left_out": len(both) - len(rows)})
    return result


def _sizes(changed: list[Changes], explainer: str, evaluation: str) -> dict[tuple[str, str], tuple[float, str]]:
    """Return sample and class -> how much it changed and in which words; class "" stands for any."""
    found: dict[tuple[str, str], tuple[float, str]] = {}
    for c in changed:
        if (c.explainer, c.evaluation) != (explainer, evaluation):
            continue
        for s in c.samples:
            _, _, score, before, after, _ = sample_line(s)
            for key in ((s.sample, s.class_name), (s.sample, "")):
                found.setdefault(key, (s.size, f"{score}: {before} → {after}"))
    return found


def _row(key: tuple[str, str], one: Samples, other: Samples, words: str) -> dict[str, Any]:
    first = one[key]
    return {**first, "a": one[key], "b": other[key], "words": words}
