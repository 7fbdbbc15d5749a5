"""`harness report`: the pages of runs and records, and leaderboard.md of the records alone."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from harness.draws import user_cache
from harness.errors import HarnessError, NothingMeasured
from harness.report import literature
from harness.report.markdown import leaderboard
from harness.report.single import bundle, refuse
from harness.report.site import build, make_environment, templates_folder
from harness.store import write_bytes
from harness.visible import visible


class Stale(HarnessError):
    """A generated file differs from what the command would write (exit status 1)."""

    exit_status = 1


def write(runs_dir: Path, results_dir: Path, out: Path, markdown: Path, *, single_file: bool = False) -> str:
    """Write the pages, a folder or one file, and the Markdown table; return what was written, for a person."""
    if single_file:
        refuse(out)
        with TemporaryDirectory() as made:
            summary = build(runs_dir, results_dir, Path(made) / "site")
            folder = templates_folder()
            router = folder / "assets" / "single.js"
            size = bundle(Path(made) / "site", make_environment(folder / "templates"), router, out)
        place, how = out, f"one file of {size / 1e6:.1f} MB"
    else:
        summary = build(runs_dir, results_dir, out)
        place, how = summary.index, "opens from the file system"
    if not summary.runs and not summary.records:
        raise NothingMeasured(
            f"no runs in {runs_dir} and no records in {results_dir}. Make one first: harness run --method baseline "
            "--dataset phantom"
        )
    records = len(list(results_dir.glob("*.json")))
    lines = [f"{place}   ({summary.runs} runs, {records} records; {how})"]
    if records or markdown.exists():  # without either, nobody asked for a table
        published = literature.load(templates_folder())
        write_bytes(markdown, leaderboard(results_dir, published=published, cache=user_cache()).encode())
        lines.append(f"{markdown}   (records alone)")
    lines += [f"left out: {visible(problem)}" for problem in summary.unreadable]
    return "\n".join(lines)


def check(results_dir: Path, markdown: Path) -> str:
    """Return a sentence where the Markdown table is up to date; raise `Stale` where it is not."""
    current = markdown.read_text(encoding="utf-8") if markdown.exists() else ""
    if current != leaderboard(results_dir, published=literature.load(templates_folder())):
        raise Stale(f"{markdown} is stale. Run `harness report` and commit it.")
    return f"{markdown} is up to date."
