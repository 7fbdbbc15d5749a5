"""Screenshots of the report's main pages, from the published records and from a small synthetic store with pictures.

    uv run python docs/screenshots.py

Writes docs/screenshots/*.png, which docs/report.md shows. Run by hand where a page has changed its looks: fonts differ
between machines, so nothing compares these pictures.
"""

import importlib.util
import io
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from harness.report.site import build

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "docs" / "screenshots"
LARGEST = 200_000  # bytes of a picture
RUNS = ("baseline-chestxray14-s0-e45421ebc003", "robust_fgsm-chestxray14-s0-f2efa104675a")
PAIR = "#a={}&b={}"
SHOTS = {  # name -> site, page, width, height, colours, element that is scrolled to the top
    "leaderboard": ("records", "index.html", 1280, 860, "light", ""),
    "run": ("records", f"runs/{RUNS[1]}.html", 1280, 860, "light", ""),
    "dataset": ("records", "datasets/chestxray14.html", 1280, 860, "light", "#data-1"),
    "method": ("records", "methods/robust_fgsm.html", 1280, 860, "light", ""),
    "compare": ("records", "versus.html" + PAIR.format(*RUNS), 1280, 900, "light", ""),
    "robustness": ("records", "robustness.html", 1280, 860, "dark", "#board-3"),
    "explainers": ("records", "explainers.html", 1280, 860, "light", "#board-3"),
    "gallery": ("synthetic", "runs/robust_fgsm-chestxray14-s0-000000000001.html", 1100, 690, "dark", "#gallery"),
    "phone": ("records", "versus.html" + PAIR.format(*RUNS), 390, 844, "dark", ""),
}


def synthetic(folder: Path) -> Path:
    """Write three small runs with pictures, as the tests' fixtures do, and return their folder."""
    path = ROOT / "tests" / "report" / "fixtures.py"
    spec = importlib.util.spec_from_file_location("fixtures", path)
    assert spec is not None
    assert spec.loader is not None
    fixtures = importlib.util.module_from_spec(spec)
    sys.modules["fixtures"] = fixtures
    spec.loader.exec_module(fixtures)
    fixtures.write_runs(folder / "runs", 3)
    return folder / "runs"


def compressed(content: bytes) -> bytes:
    """Return a PNG of at most 256 colours: text and lines stay sharp, and it is small."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(content)).convert("RGB").quantize(256).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def main() -> None:
    """Build both reports in a temporary folder and write the pictures."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        raise SystemExit("expected chromium on the PATH, found none. Install it: apt-get install chromium")
    OUT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as made, sync_playwright() as playwright:
        base = Path(made)
        sites = {
            "records": build(None, ROOT / "results", base / "records").index.parent,
            "synthetic": build(synthetic(base), None, base / "synthetic", resamples=200).index.parent,
        }
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for name, (site, page, width, height, scheme, place) in SHOTS.items():
            address, _, view = page.partition("#")
            shown = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
            shown.goto(f"{(sites[site] / address).as_uri()}#{view}")
            if place:
                shown.evaluate("p => document.querySelector(p).scrollIntoView()", place)
            shown.wait_for_timeout(1500)
            content = compressed(shown.screenshot())
            shown.close()
            if len(content) > LARGEST:
                raise SystemExit(
                    f"{name}: {len(content):,} bytes, expected at most {LARGEST:,}. Show less of the page."
                )
            (OUT / f"{name}.png").write_bytes(content)
            print(f"{name}.png  {len(content) / 1000:.0f} kB")
        browser.close()


if __name__ == "__main__":
    main()
