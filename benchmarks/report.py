"""How long a report of many runs takes to render, how large its overview is, and how soon its table is on the screen.

Every run is a line of its own (other settings), so that nothing is averaged away: the worst case; nine in ten are on
the first of two boards. Times are medians of five fresh Chromium pages: navigationStart to the first painted table
line, and a change of the board to the frame in which its table is painted. `python benchmarks/report.py --runs 3 500`
"""

import argparse
import shutil
import statistics
import tempfile
import time
from functools import cache
from pathlib import Path

from harness.plugins import load_file
from harness.report.site import build

KINDS = 40  # of per-sample scores among the runs: their replicates are computed once each
OPENED = """() => new Promise(done => requestAnimationFrame(() => setTimeout(() => done([
    performance.now(), document.querySelectorAll('.scroll.js tbody.lines tr').length])))) """
CHANGED = """() => new Promise(done => {
    const select = document.getElementById('board'), start = performance.now();
    select.value = select.options[1].value;
    select.dispatchEvent(new Event('change'));
    requestAnimationFrame(() => setTimeout(() => done([performance.now() - start,
        document.querySelectorAll('section:not([hidden]) .scroll.js tbody.lines tr').length])));
})"""


def write(folder: Path, count: int) -> None:
    """Write `count` runs, each with settings of its own, alternately on two boards."""
    made = load_file(Path(__file__).parents[1] / "tests" / "report" / "fixtures.py")

    @cache
    def tables_of(kind: int) -> dict:
        tables = {"classification": made.classification(0.4 + 0.03 * kind, kind)}
        for k, explainer in enumerate(("cam", "saliency")):
            tables[explainer] = made.localisation(0.2 + 0.01 * kind, kind + 50 * k)
        return tables | {name: made.reference(k) for k, name in enumerate(made.REFERENCES)}

    for i in range(count):
        board, tables = int(i % 10 == 1), tables_of(i % KINDS)
        made.write_run(folder, 0, seed=0, epsilon=0.001 * (i + 7), run_id=f"run-{i:04d}", tables=tables, pictures=False,
                       dataset=("chestxray14", "cifar10")[board])  # fmt: skip


def opened(index: Path) -> dict[str, float]:
    """Return milliseconds to the first table, to another board's table, and how many lines they have."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    first, change, lines = [], [], []
    with sync_playwright() as playwright:
        for _ in range(5):
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
            page = browser.new_page(viewport={"width": 1400, "height": 900})
            page.add_init_script(
                "document.addEventListener('DOMContentLoaded', () => requestAnimationFrame(() => setTimeout(() => "
                "{ window.painted = performance.now(); })))"
            )
            page.goto(index.as_uri())
            page.wait_for_function("window.painted && document.querySelector('.scroll.js tbody.lines tr')")
            first.append(page.evaluate("window.painted"))
            _, shown = page.evaluate(OPENED)
            milliseconds, others = page.evaluate(CHANGED)
            change.append(milliseconds)
            lines.append((shown, others))
            browser.close()
    return {"first": statistics.median(first), "change": statistics.median(change), "lines": min(lines[0])}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, nargs="+", default=[3, 500])
    parser.add_argument("--keep", type=Path, help="folder for runs and pages, kept; else a temporary one")
    options = parser.parse_args()
    print("runs | written, s | report, s | again, s | index.html, MB | first table, ms | other board, ms")
    for count in options.runs:
        with tempfile.TemporaryDirectory() as temporary:
            base = (options.keep or Path(temporary)) / str(count)
            start = time.perf_counter()
            if not (base / "runs").exists():
                write(base / "runs", count)
            written = time.perf_counter()
            build(base / "runs", None, base / "site", cache=base / "cache")
            once = time.perf_counter()
            index = build(base / "runs", None, base / "site", cache=base / "cache").index
            again = time.perf_counter()
            found = opened(index)
            print(
                f"{count} | {written - start:.0f} | {once - written:.0f} | {again - once:.0f} | "
                f"{index.stat().st_size / 1e6:.2f} | {found['first']:.0f} | {found['change']:.0f}   "
                f"({found['lines']} lines on a board)", flush=True,
            )  # fmt: skip
