"""The HTML report: a folder that opens from the file system, without a server and without the network."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
from markupsafe import Markup

from harness.draws import user_cache
from harness.errors import UsageError
from harness.metrics.cells import MINIMUM_SCORED
from harness.plugins import checkout_folder
from harness.record import Result, load_all
from harness.report import around, datasets, gallery, literature, methods, runpage, under_attack, versus
from harness.report.apart import ALPHA
from harness.report.boards import Board, boards, own_key
from harness.report.figures import (
    adversarial_explanations,
    classes,
    examples,
    insertion_deletion,
    localisation,
    robustness,
    sweep,
    trust,
)
from harness.report.glossary import glossary
from harness.report.names import file_stems
from harness.report.ranks import rank_board
from harness.report.registered import Registered
from harness.report.scrubber import scrubber
from harness.report.table import board_view, downloadable
from harness.report.unfinished import unfinished
from harness.rows import INVALID, NOTES, PROTOCOL_VERSION
from harness.stats import RESAMPLES
from harness.store import write_bytes, writing
from harness.terms import terms
from harness.visible import visible, visible_json

MARKER = ".harness-report"  # says that this folder may be rewritten
ASSETS = (
    *("report.css", "pages.css", "common.js", "takeaway.js", "table.js", "board.js", "run.js", "figure.js"),
    *("scrubber.js", "zoom.js", "paired.js", "versus.js"),
)
FIGURES = {  # page of a board -> its title
    "examples": "What the methods look at",
    "classes": "AUROC by class",
    "localisation": "Localisation accuracy over T(IoU)",
    "insertion_deletion": "Insertion and deletion",
    "sweep": "What one setting does",
    "robustness": "Accuracy under attack",
    "adversarial_explanations": "Adversarial explanations",
    "trust": "Trust in explanations",
}


@dataclass(frozen=True)
class Summary:
    """What a report holds."""

    runs: int
    records: int
    unreadable: list[str] = field(repr=False)
    index: Path


def build(
    runs_dir: Path | None,
    results_dir: Path | None,
    out: Path,
    *,
    cache: Path | bool = True,
    resamples: int = RESAMPLES,
) -> Summary:
    """Write the report of all runs and records into folder `out`; the same input gives the same bytes.

    `cache` keeps bootstrap replicates between reports: a folder, True for the user's cache folder, or False. Raises
    `UsageError` where `out` holds something else, or cannot be written, or templates are missing.
    """
    results, unreadable = load_all(runs_dir, results_dir)
    results.sort(key=lambda r: r.run_id)
    folder = templates_folder()
    environment = make_environment(folder / "templates")
    claim(out, MARKER, "harness report")
    stems = file_stems(r.run_id for r in results)
    written: set[Path] = set()

    def write(name: str, content: bytes) -> None:
        write_bytes(out / name, content)
        written.add(out / name)

    def render(template: str, name: str, /, **context: Any) -> None:
        text = environment.get_template(template).render(**context)
        write(name, text.encode("utf-8", "replace"))  # a lone surrogate in a name becomes "?"

    published = literature.load(folder)
    drawn = {b.key: b for b in boards(results, every_class=True)}
    figure_stems = file_stems(key.title() for key in drawn)
    figures = {key: _figure_pages(figure_stems[key.title()]) for key in drawn}
    kept = user_cache() if cache is True else cache or None
    problems = list(unreadable)
    views = []
    shown = boards(results)
    run_pages = {n: f"runs/{s}.html" for n, s in stems.items()}
    method_stems, dataset_stems = (file_stems(m.names_of(results)) for m in (methods, datasets))
    for i, board in enumerate(shown):
        ranks = rank_board(board, kept, resamples=resamples)
        problems += ranks.problems
        view = board_view(board, ranks, run_pages, published, i + 1)
        about = {
            "pair": quote(board.lines[0].result.run_id, errors="replace") if len(board.lines) > 1 else "",
            "dataset_page": f"datasets/{dataset_stems[board.key.dataset]}.html",
            "methods": [{"name": m, "page": f"methods/{method_stems[m]}.html"}
                        for m in dict.fromkeys(x.first.method for x in board.lines)],
        }  # fmt: skip
        views.append({**view, "figures": figures[board.key], "about": about})

    pictures = gallery.Pictures(out / "assets" / "pictures")
    pages = {n: f"../runs/{s}.html" for n, s in stems.items()}
    attacked = []
    for key, board in drawn.items():
        for name, context in _figures(board, results, published, pictures, pages, resamples).items():
            own = [{**f, "current": f["name"] == name} for f in figures[key]]
            shared = {
                "title": FIGURES[name],
                "board": key.title(),
                "board_address": quote(key.title(), errors="replace"),
                "figures": own,
            }
            address = next(f["address"] for f in own if f["current"])
            if name == "robustness" and (found := under_attack.summary(key.title(), address, context)):
                attacked.append({**found, "board_address": shared["board_address"]})
            data = {"name": name, "board": key.title(), **{k: context.pop(k, {}) for k in ("charts", "records")}}
            render(f"{name}.html.j2", address, root="../", data=data, **shared, **context)

    siblings = {n: f"{s}.html" for n, s in stems.items()}
    neighbours = gallery.Neighbours.of(results)
    for result in results:
        context = _page(result, neighbours, pictures, siblings)
        context["boards"] = [
            {"title": k.title(), "figures": figures.get(k, [])}
            for k in (own_key(key, result, drawn.values()) for key in context["boards"])
        ]
        context["method_page"] = f"../methods/{method_stems[m]}.html" if (m := methods.name_of(result)) else ""
        context["dataset_page"] = f"../datasets/{dataset_stems[d]}.html" if (d := datasets.name_of(result)) else ""
        context["address"] = quote(result.run_id, errors="replace")
        context["comparable"] = any(len(b.lines) > 1 for b in shown for x in b.lines if x.result is result)
        render("run.html.j2", f"runs/{stems[result.run_id]}.html", root="../", **context)
    known = Registered.here()
    for name, context in around.pages(results, shown, known, terms(folder), pictures, stems, figures).items():
        render(f"{context.pop('template')}.html.j2", name, root="../" * name.count("/"), **context)
    attacks = under_attack.page(attacked)
    render("under_attack.html.j2", "robustness.html", root="", **attacks)
    files = {n: f"assets/draws/{s}.js" for n, s in stems.items()}
    for run_id, content in versus.scripts(results, shown, pictures, kept, resamples):
        write(files[run_id], content)
    render(
        "versus.html.j2", "versus.html", root="", entries=versus.entries(shown, files, run_pages), resamples=resamples
    )
    problems = sorted({*problems, *pictures.problems, *known.problems})
    render(
        "index.html.j2",
        "index.html",
        root="",
        boards=views,
        data={v["id"]: downloadable(v) for v in views},
        unfinished=unfinished(results, run_pages),
        runs=sum(not r.published for r in results),
        records=sum(r.published for r in results),
        unreadable=len(problems),
    )
    render(
        "about.html.j2",
        "about.html",
        root="",
        problems=problems,
        notes=NOTES,
        invalid=INVALID,
        resamples=resamples,
        alpha=ALPHA,
        protocol=PROTOCOL_VERSION,
        glossary=glossary(),
        scored=MINIMUM_SCORED,
    )
    for name in ASSETS:
        write(f"assets/{name}", (folder / "assets" / name).read_bytes())
    if results:
        from plotly.offline import get_plotlyjs

        write("assets/plotly.min.js", get_plotlyjs().encode())
    _remove_stale(out, written | pictures.written)
    runs = sum(not r.published for r in results)
    return Summary(runs, len(results) - runs, problems, out / "index.html")


def _figure_pages(stem: str) -> list[dict[str, str]]:
    return [{"name": n, "title": t, "address": f"figures/{stem}-{n}.html"} for n, t in FIGURES.items()]


def _figures(
    board: Board,
    results: Sequence[Result],
    published: Sequence[literature.Published],
    pictures: gallery.Pictures,
    pages: Mapping[str, str],
    resamples: int,
) -> dict[str, dict[str, Any]]:
    """Return the context of each page of a board's figures."""
    base = "../assets/pictures"
    return {
        "examples": examples.figure(board, pictures, pages, base),
        "classes": classes.figure(board, published, pages),
        "localisation": localisation.figure(board, published, pages),
        "insertion_deletion": insertion_deletion.figure(board, published, pages, resamples),
        "sweep": sweep.figure(board, {r.run_id: r for r in results}, pictures, pages, base),
        "robustness": robustness.figure(board, published, pages, resamples),
        "adversarial_explanations": adversarial_explanations.figure(board, pictures, pages, base),
        "trust": trust.figure(board, pages),
    }


def _page(
    result: Result, neighbours: gallery.Neighbours, pictures: gallery.Pictures, siblings: Mapping[str, str]
) -> dict[str, Any]:
    context = runpage.page(result)
    shown = gallery.gallery(result, neighbours, pictures, siblings, "../assets/pictures")
    parent = str(context["start_from"] or "")
    steps = scrubber(result, pictures, "../assets/pictures")
    return {
        **context,
        "gallery": shown,
        "scrubber": steps,
        "parent": {"run_id": parent, "page": siblings.get(parent, ""), "address": quote(parent, errors="replace")},
    }


def templates_folder() -> Path:
    """Return the folder of templates and assets: the working checkout's, else the one shipped with harness."""
    folder = checkout_folder("reports")
    if folder is None or not (folder / "templates" / "index.html.j2").is_file():
        raise UsageError(
            f"expected the report's templates in {folder or 'reports/'}, found none. Restore the folder, or leave the "
            f"checkout so that the installed ones are used."
        )
    return folder


def make_environment(folder: Path) -> jinja2.Environment:
    """Return the template engine: everything is escaped, a missing value is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.policies["json.dumps_function"] = _json
    environment.policies["json.dumps_kwargs"] = {"sort_keys": True, "allow_nan": False, "separators": (",", ":")}
    environment.filters["breakable"] = breakable
    return environment


def _shown(value: Any) -> Any:
    """Return what a template puts into a page: text without what would turn a line around or end a string."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _json(value: Any, **options: Any) -> str:
    return visible_json(json.dumps(value, **options))


def breakable(name: str) -> Markup:
    """Return a name as it is, with places where a line may be broken after its underscores."""
    return Markup("_<wbr>").join(visible(name).split("_"))


def claim(out: Path, marker: str, command: str) -> None:
    """Mark `out` as a folder that `command` writes; refuse one that holds something else."""
    with writing(out):
        if out.is_dir() and any(out.iterdir()) and not (out / marker).exists():
            raise UsageError(
                f"--out {out}: expected an empty folder or one that {command} made, found other files. Choose another "
                "folder."
            )
    write_bytes(out / marker, f"written by {command}: the next one replaces this folder's files\n".encode())


def _remove_stale(out: Path, written: set[Path]) -> None:
    """Remove the pages and pictures of an earlier report that this one does not have."""
    for pattern in (
        "runs/*.html",
        "figures/*.html",
        "methods/*.html",
        "datasets/*.html",
        "assets/draws/*",
        "assets/pictures/*",
    ):
        for path in out.glob(pattern):
            if path not in written:
                path.unlink()
