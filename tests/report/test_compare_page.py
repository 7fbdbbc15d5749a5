"""The page of `harness compare`, as a reader has it: in Chromium, from the file system, without a network."""

import csv
import io
import json
import shutil
from itertools import pairwise

import pytest

from harness.comparison import compare
from harness.record import from_record, from_run
from harness.report import comparison as page
from harness.store import RunFolder

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
HOSTILE = '<img src=x onerror="alert(1)">'
RESAMPLES = 40


@pytest.fixture(scope="module")
def runs(synthetic, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page-runs")
    synthetic.write_run(folder, 0, method="baseline", seed=0, run_id="one")
    synthetic.write_run(folder, 1, method=f"{HOSTILE}</script>%{{x}}", seed=0, run_id="other")
    return folder


@pytest.fixture(scope="module")
def found(runs):
    one, other = (from_run(RunFolder(runs / name)) for name in ("one", "other"))
    return compare(one, other, resamples=RESAMPLES)


@pytest.fixture(scope="module")
def written(found, tmp_path_factory):
    out = tmp_path_factory.mktemp("page") / "compared"
    page.begin(out)
    return page.write(out, found)


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_same_comparison_gives_the_same_bytes(written, found, tmp_path):
    page.begin(tmp_path / "again")
    page.write(tmp_path / "again", found)
    assert contents(tmp_path / "again") == contents(written.parent)


def test_pictures_of_an_earlier_page_go(written, found, synthetic, runs, tmp_path):
    page.begin(tmp_path / "out")
    page.write(tmp_path / "out", found)
    synthetic.publish(RunFolder(runs / "other"), tmp_path / "results")
    record = from_record(tmp_path / "results" / "other.json")
    page.write(tmp_path / "out", compare(found.a, record, resamples=RESAMPLES))
    assert list((tmp_path / "out" / "assets" / "pictures").glob("*")) == []
    text = (tmp_path / "out" / "index.html").read_text()
    assert "No pictures of B (other)" in text
    assert "published records hold numbers, never images" in text


def test_the_pictures_that_changed_most_come_first(found, tmp_path):
    from harness.report.gallery import Pictures

    (cam, _) = page.galleries(found, Pictures(tmp_path), "x")
    assert cam["explainer"] == "cam"
    (changes,) = [c for c in found.changed if c.explainer == "cam"]
    size = {(s.sample, s.class_name): s.size for s in changes.samples}
    sizes = [size.get((r["id"], r["class_name"]), 0.0) for r in cam["rows"]]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 0
    assert all(r["a"]["overlay"] and r["b"]["overlay"] for r in cam["rows"])


def test_each_chart_has_one_unit_and_every_line_is_in_one(found):
    charts = page.figures(found.lines)
    assert sum(len(t["x"]) for c in charts.values() for t in c["data"]) == len(found.lines)
    symbols = {t["name"]: t["symbol"] for c in charts.values() for t in c["data"]}
    assert len(set(symbols.values())) == len(symbols), "words are not told apart by colour alone"


@pytest.fixture(scope="module")
def seen():
    return {"requests": [], "complaints": []}


@pytest.fixture(scope="module")
def opened(written, seen):
    if CHROMIUM is None:
        pytest.skip("no Chromium on the PATH")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        context = started.new_context(viewport={"width": 1440, "height": 900}, accept_downloads=True)
        context.on("request", lambda r: seen["requests"].append(r.url))
        context.on("console", lambda m: m.type in ("error", "warning") and seen["complaints"].append(m.text))
        context.on("weberror", lambda e: seen["complaints"].append(str(e.error)))
        context.on("dialog", lambda d: (seen["complaints"].append("dialog"), d.dismiss()))
        shown = context.new_page()
        shown.goto(written.as_uri())
        yield shown
        started.close()


def column(shown, number):
    return shown.evaluate(
        "n => [...document.querySelectorAll('#lines tbody tr')].map((r) => r.cells[n].dataset.sort)", number
    )


@pytest.mark.browser
def test_the_table_is_sorted_by_its_titles(opened, found):
    first = column(opened, 0)
    assert first == [line.difference.key.metric for line in found.lines]
    button = opened.get_by_role("button", name="B \N{MINUS SIGN} A")
    button.focus()
    opened.keyboard.press("Enter")
    values = [float(v) for v in column(opened, 4)]
    assert values == sorted(values)
    assert opened.locator("th[aria-sort=ascending]").inner_text().startswith("B \N{MINUS SIGN} A")
    button.click()
    assert [float(v) for v in column(opened, 4)] == sorted(values, reverse=True)
    opened.get_by_role("button", name="first order").click()
    assert column(opened, 0) == first
    assert opened.locator("th[aria-sort]").count() == 0


@pytest.mark.browser
def test_charts_and_pictures_are_shown(opened, found):
    opened.wait_for_selector(".plot-container")
    assert opened.locator("[data-chart] .plot-container").count() == len(page.figures(found.lines))
    pictures = opened.locator(".gallery img")
    pictures.first.scroll_into_view_if_needed()
    opened.wait_for_function("document.querySelector('.gallery img').naturalWidth > 0")
    before = opened.locator("img[data-heat]").first.get_attribute("src")
    opened.get_by_label("map alone").check()
    assert opened.locator("img[data-heat]").first.get_attribute("src") != before
    opened.get_by_label("over the image").check()


@pytest.mark.browser
def test_all_numbers_can_be_downloaded(opened, found):
    with opened.expect_download() as got:
        opened.locator("#csv").click()
    rows = list(csv.DictReader(io.StringIO(got.value.path().read_text())))
    assert [float(r["difference"]) for r in rows] == [line.difference.value for line in found.lines]
    with opened.expect_download() as got:
        opened.locator("#json").click()
    assert len(json.loads(got.value.path().read_text())["rows"]) == len(found.lines)


@pytest.mark.browser
@pytest.mark.parametrize("width", [1440, 768, 375])
def test_the_page_fits_its_window(opened, width):
    opened.set_viewport_size({"width": width, "height": 800})
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    opened.set_viewport_size({"width": 1440, "height": 900})


@pytest.mark.browser
def test_every_control_and_picture_has_a_name(opened):
    assert opened.locator("img:not([alt]), img[alt='']").count() == 0
    names = opened.evaluate(
        "[...document.querySelectorAll('button, input')].map((b) => b.ariaLabel || b.textContent || b.labels[0]?.textContent)"
    )
    assert all(n and n.strip() for n in names)
    headings = opened.evaluate("[...document.querySelectorAll('h1, h2, h3')].map((h) => Number(h.tagName[1]))")
    assert headings[0] == 1
    assert all(b <= a + 1 for a, b in pairwise(headings))


@pytest.mark.browser
def test_nothing_was_fetched_run_or_complained(opened, seen):
    assert HOSTILE in opened.inner_text("main")
    assert opened.locator("img[src=x]").count() == 0
    assert seen["requests"]
    assert [u for u in seen["requests"] if not u.startswith(("file://", "blob:"))] == []
    assert seen["complaints"] == []
