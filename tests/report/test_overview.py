"""The overview as a reader has it: opened from the file system, in Chromium, by mouse, by keys, on paper."""

import csv
import io
import json
import re
import shutil
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH"),
]
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
AXE = Path(__file__).with_name("axe.min.js")
HOSTILE = '<img src=x onerror="alert(1)">'
NASTY = f"=1+1{HOSTILE}</script> \\input{{x}} 50%_$a^2$ & #~|*[-]`"


@pytest.fixture(scope="module")
def seen():
    """Return what the page asked for and complained about, over all tests of this file."""
    return {"requests": [], "complaints": []}


@pytest.fixture(scope="module")
def chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield started
        started.close()


@pytest.fixture(scope="module")
def browser(chromium, seen):
    context = chromium.new_context(viewport={"width": 1440, "height": 900}, accept_downloads=True)
    context.on("request", lambda r: seen["requests"].append(r.url))
    context.on("console", lambda m: m.type in ("error", "warning") and seen["complaints"].append(m.text))
    context.on("weberror", lambda e: seen["complaints"].append(str(e.error)))
    context.on("dialog", lambda d: (seen["complaints"].append("dialog"), d.dismiss()))
    return context


@pytest.fixture(scope="module")
def overview(synthetic, tmp_path_factory):
    """Return the index of a report: three seeds of a baseline, one of two others, a hostile one; two boards."""
    from harness.report.site import build

    runs = tmp_path_factory.mktemp("overview") / "runs"
    made = [
        ("baseline", 0, 1.0),
        ("baseline", 1, 1.1),
        ("baseline", 2, 0.9),
        ("robust_fgsm", 0, 1.05),
        ("strong", 0, 2.6),
    ]
    for number, (method, seed, skill) in enumerate(made):
        tables = {"classification": synthetic.classification(skill, number), "cam": synthetic.localisation(0.3 + 0.1 * number, number),
                  "random_map": synthetic.reference(0), "centre": synthetic.reference(1)}  # fmt: skip
        if number < 3:
            tables["saliency"] = synthetic.localisation(0.3, 50 + number)
        synthetic.write_run(
            runs, 0, method=method, seed=seed, run_id=f"{method}-s{seed}", tables=tables, pictures=False
        )
    synthetic.write_run(runs, 3, seed=0, run_id="hostile", method=NASTY, flags=("partial",), pictures=False,
                        tables={"classification": synthetic.classification(1.2, 7)})  # fmt: skip
    synthetic.write_run(runs, 0, method="alone", seed=0, run_id="other", dataset="cifar10", pictures=False,
                        tables={"classification": synthetic.classification(1.2, 8)})  # fmt: skip
    return build(runs, None, tmp_path_factory.mktemp("overview-site") / "s", cache=False, resamples=60).index


@pytest.fixture
def index(browser, overview, seen):
    """Return the page as a first visit shows it; afterwards nothing was fetched and nothing complained."""
    page = browser.new_page()
    page.goto(overview.as_uri())
    yield page
    page.close()
    assert [u for u in seen["requests"] if not u.startswith(("file://", "blob:", "about:"))] == []
    assert seen["complaints"] == []


def table(page):
    """Return the lines of the board as lists of texts, the first line the titles."""
    return page.evaluate("""() => [...document.querySelectorAll('section.board:not([hidden]) .scroll.js tr')]
        .filter(r => !r.classList.contains('heading')).map(r => [...r.cells].map(c => {
            const copy = c.cloneNode(true);
            copy.querySelectorAll('.sr, .g, sup, .badges, small, .arrow, .ref, .more').forEach(x => x.remove());
            return copy.textContent.replace(/\\s+/g, ' ').trim();
        }))""")


def names(page, kind="lines"):
    """Return the first cell of the lines of one part of the table."""
    return page.evaluate(
        """(kind) => [...document.querySelectorAll(`section.board:not([hidden]) .scroll.js tbody.${kind} tr:not(.heading)`)]
        .map(r => (r.querySelector('.who') ?? r.cells[0]).textContent.replace(/needs no model/, '').trim())""",
        kind,
    )


def download(page, name):
    with page.expect_download() as caught:
        page.locator(f"#{name}").click()
    return caught.value.path().read_bytes().decode()


def test_sorting_puts_numbers_in_order_and_says_so(index):
    header = index.locator("th button", has_text="brier").first
    header.click()
    header = index.locator("th button", has_text="brier").first
    assert header.locator("..").get_attribute("aria-sort") == "ascending"  # lower is better: best first
    column = table(index)[0].index("brier")
    values = [float(row[column].split()[0]) for row in table(index)[1:5]]
    assert values == sorted(values)
    assert index.evaluate("document.activeElement.textContent").startswith("brier")
    index.keyboard.press("Enter")
    assert index.locator("[aria-sort]").get_attribute("aria-sort") == "descending"
    assert [float(row[column].split()[0]) for row in table(index)[1:5]] == values[::-1]
    assert index.locator("[aria-sort]").count() == 1


def test_three_seeds_are_one_line_that_a_key_opens(index):
    assert names(index).count("baseline") == 1
    button = index.get_by_role("button", name="3 seeds")
    assert button.get_attribute("aria-expanded") == "false"
    button.focus()
    index.keyboard.press("Enter")
    assert index.evaluate("document.activeElement.getAttribute('aria-expanded')") == "true"
    seeds = index.locator("tr.one-seed")
    assert seeds.count() == 3
    assert [a.get_attribute("href") for a in seeds.locator("a").all()] == [f"runs/baseline-s{s}.html" for s in range(3)]
    rows = table(index)
    column = rows[0].index("auroc")
    at = next(i for i, row in enumerate(rows) if row[0] == "baseline")
    mean, *own = (float(rows[at + k][column].split()[0]) for k in range(4))
    assert mean == pytest.approx(sum(own) / 3, abs=0.001)
    assert index.locator("tr.one-seed .g").count() == 0, "a seed has no rank"
    index.reload()
    assert index.locator("tr.one-seed").count() == 3
    index.get_by_role("button", name="3 seeds").click()
    assert index.locator("tr.one-seed").count() == 0
    index.get_by_label("single seeds").check()
    assert index.locator("tr.one-seed").count() == 3


def test_what_the_data_cannot_separate_is_said_of_the_sorted_column(index):
    said = index.locator(".apart.js:visible")
    assert re.match(
        r"These data \(n = 160\) cannot tell apart \d of 3 pairs of lines in auroc \(macro\).*exceed about 0\.\d",
        said.inner_text(),
    )
    index.locator("th button", has_text="brier").first.click()
    assert " in brier (" in said.inner_text()
    notes = index.locator("section:not([hidden]) .notes").inner_text()
    assert "3 of 4 lines have fewer than three seeds: sampling noise only there" in notes
    assert "Lines of 1 and 3 seeds are ranked together" in notes


def test_a_search_finds_lines_by_what_they_are_and_columns_by_their_metric(index, browser):
    assert len(names(index)) == 4
    index.locator("#filter").fill("fgsm seed")
    assert names(index) == ["robust_fgsm"]
    assert index.locator("#count").inner_text().startswith("1 of 4 lines")
    index.locator("#filter").fill("pointing")
    assert len(names(index)) == 4
    assert {t for t in table(index)[0][3:] if t} == {"pointing_game"}
    again = browser.new_page()
    again.goto(index.evaluate("location.href"))
    assert table(again) == table(index)
    again.close()


def test_several_explainers_and_single_classes_can_be_shown_and_the_address_keeps_them(index, browser):
    before = table(index)[0]
    index.locator("#explainers summary").click()
    index.get_by_label("saliency", exact=True).check()
    assert len(table(index)[0]) > len(before)
    index.keyboard.press("Escape")
    assert not index.get_by_label("saliency", exact=True).is_visible()
    index.locator("#classes summary").click()
    index.get_by_label("Mass", exact=True).check()
    details = index.locator(".scroll.js th.n:visible small").all_inner_texts()
    assert any("Mass" in d for d in details)
    assert {"cam · macro", "saliency · macro"} <= set(details)
    again = browser.new_page()
    again.goto(index.evaluate("location.href"))
    assert table(again) == table(index)
    again.close()


@pytest.mark.parametrize(
    ("fragment", "explainers"), [("explainer=saliency", {"saliency"}), ("explainer=*", {"cam", "saliency"})]
)
def test_addresses_of_an_earlier_report_still_work(index, fragment, explainers):
    index.goto(index.evaluate("location.href").partition("#")[0] + f"#{fragment}&sort=-auroc+%28macro%29&filter=seed+0")
    index.reload()
    details = index.locator(".scroll.js th.n:visible small").all_inner_texts()
    assert {e for e in ("cam", "saliency") for d in details if d.startswith(e)} == explainers
    assert index.locator("[aria-sort=descending]").inner_text().startswith("auroc")
    assert index.locator("#filter").input_value() == "seed 0"


def test_columns_can_be_found_shown_and_hidden(index):
    before = len(table(index)[0])
    index.locator("#columns summary").click()
    index.get_by_label("auroc (macro)", exact=True).uncheck()
    assert len(table(index)[0]) == before - 1
    index.locator("#find-column").fill("T 0.7")
    boxes = index.locator("#column-list label")
    assert boxes.count() >= 1
    assert all("T 0.7" in t for t in boxes.all_inner_texts())
    index.get_by_role("button", name="none").last.click()
    assert len(table(index)[0]) == 3
    index.keyboard.press("Escape")
    assert not index.locator("#column-list").is_visible()


def test_whiskers_share_the_scale_of_their_column(index):
    places = index.evaluate("""() => [...document.querySelectorAll('.scroll.js tbody.lines tr.line')].map(r => {
        const w = r.cells[3].querySelector('.w').style, numbers = r.cells[3].querySelector('.v').textContent;
        return [parseFloat(numbers), parseFloat(w.getPropertyValue('--p')), parseFloat(w.getPropertyValue('--a')), parseFloat(w.getPropertyValue('--b'))];
    })""")
    places.sort()
    assert [p for _, p, _, _ in places] == sorted(p for _, p, _, _ in places)
    assert all(a <= p <= a + b + 0.2 for _, p, a, b in places)
    (v0, p0, *_), (v1, p1, *_) = places[0], places[-1]
    title = index.locator("th.n button").first.get_attribute("title")
    low, high = (float(x) for x in re.search(r"from (\S+) to (\d+\.\d+)", title).groups())
    assert (p1 - p0) / 100 == pytest.approx((v1 - v0) / (high - low), abs=0.03)
    assert index.locator(".w.has-ref").count() > 0
    index.get_by_label("whiskers").uncheck()
    assert index.locator(".w").count() == 0
    index.reload()
    assert index.locator(".w").count() == 0


def test_published_rows_stand_apart_never_ranked_and_name_their_source(index):
    assert names(index, "published")[0] == "Wang 2017 ResNet-50 (NIH)"
    assert index.locator("tbody.published .g").count() == 0
    assert "never ranked" in index.locator("tbody.published .heading").inner_text()
    assert len(names(index, "published")) == 6
    index.get_by_role("button", name="more").click()
    assert len(names(index, "published")) > 6
    index.locator("tbody.published .name").first.focus()
    assert "arXiv 1705.02315v5" in index.locator("#tip").inner_text()
    assert index.locator(".published-sources li:visible").count() > 1
    index.get_by_label("published").uncheck()
    assert names(index, "published") == []
    assert not index.locator(".published-sources:visible").count()


def shown(page):
    """Return what a download has to hold: name and texts of each line on the screen."""
    return [[row[0], *row[3:]] for row in table(page)]


def test_downloads_hold_exactly_what_is_shown(index):
    index.locator("#filter").fill("a")
    index.get_by_role("button", name="3 seeds").click()
    index.locator("th button", has_text="auroc").first.click()
    lines = list(csv.reader(io.StringIO(download(index, "csv"))))
    records = json.loads(download(index, "json"))["rows"]
    head, own = lines[0], shown(index)
    values = [i for i, name in enumerate(head) if f"{name} low" in head]
    assert len(values) == len(own[0]) - 1
    assert len(lines) == len(own) == len(records) + 1
    assert [x["kind"] for x in records] == [x[0] for x in lines[1:]]
    assert {x["kind"] for x in records} == {"line", "seed", "reference", "published"}
    for line, row, record in zip(lines[1:], own[1:], records, strict=True):
        name = f"seed {record['seeds'][0]}" if record["kind"] == "seed" else record["name"]
        assert row[0].removeprefix("baseline, ") == name
        assert line[1].lstrip("'") == record["name"]
        for i, text in zip(values, row[1:], strict=True):
            if line[i]:
                numbers = [f"{float(x):.3f}" for x in line[i : i + 3] if x]
                assert text == numbers[0] + (f" [{numbers[1]}, {numbers[2]}]" if len(numbers) > 1 else "")
                assert record["metrics"][head[i]]["value"] == float(line[i])
            else:
                assert not any(c.isdigit() for c in text)
    (line,) = (r for r in records if r["kind"] == "line" and len(r["seeds"]) == 3)
    assert [(s["run"], s["seed"]) for s in line["by_seed"]] == [(f"baseline-s{s}", s) for s in range(3)]
    assert len({s["metrics"]["auroc (macro)"]["value"] for s in line["by_seed"]}) == 3


def test_a_spreadsheet_runs_nothing(index):
    found = [line[1] for line in csv.reader(io.StringIO(download(index, "csv")))]
    assert any(m.startswith("'=1+1") for m in found)
    assert not any(m.startswith("=") for m in found)


PLAIN = {"textbackslash": "\\", "textasciicircum": "^", "textasciitilde": "~", "textless": "<", "textgreater": ">", "textbar": "|",
         "textquotedbl": '"', "textquotesingle": "'", "textasciigrave": "`", "quad": ""}  # fmt: skip


def typeset(tex):
    """Return what a cell of LaTeX prints; fails on a command it does not know and on a bare special character."""
    text = tex.replace(r"$\uparrow$", "↑").replace(r"$\downarrow$", "↓").replace(r"$\le$", "≤").replace("$-$", "-")
    text = re.sub(r"\\textsuperscript\{\d+\}", "", text)
    text = re.sub(r"\{\\scriptsize\{\}(.*?[^{]\])\}", r"\1", text)
    text = re.sub(r"\{([-\[\]*])\}", r"\1", text)
    tokens = re.findall(r"\\([a-zA-Z]+)\{\}|\\([{}$&#%_])|([^\\{}$&#%_^~])", text)
    assert "".join(f"\\{a}{{}}" if a else f"\\{b}" if b else c for a, b, c in tokens) == text, (
        "something is not escaped"
    )
    names = {"textperiodcentered": "·", **PLAIN}
    return "".join(names[a] if a else b or c for a, b, c in tokens)


def test_latex_is_a_booktabs_table_of_what_is_shown_and_escapes_every_name(index):
    index.get_by_label("single seeds").check()
    text = download(index, "latex")
    body = re.search(r"\\toprule\n(.*)  \\bottomrule", text, re.S)[1]
    rows = [line.strip() for line in body.splitlines() if not line.strip().startswith("\\midrule")]
    assert all(r.endswith(r" \\") for r in rows)
    cells = [[typeset(c).strip() for c in re.split(r"(?<!\\)&", r.removesuffix(r"\\"))] for r in rows]
    own = shown(index)
    (columns,) = re.findall(r"\\begin\{tabular\}\{(\w+)\}", text)
    assert {len(r) for r in cells} == {len(columns)} == {len(own[0]) + 2}
    assert len(cells) == len(own) + 1  # two lines of titles
    for row, mine in zip(cells[2:], own[1:], strict=True):
        name = re.sub(r" \((published|reference)\)$", "", row[0])
        assert " ".join(name.split()) == mine[0].removeprefix("baseline, ")
        assert row[3:] == mine[1:]
    assert " ".join(NASTY.split()) in {r[0] for r in cells}
    assert text.count("\\midrule") == 3
    assert "input{" not in text.replace("\\{", "")


def test_markdown_is_a_table_of_what_is_shown(index):
    text = download(index, "markdown")
    rows = [[c.strip() for c in re.split(r"(?<!\\)\|", r)[1:-1]] for r in text.splitlines() if r.startswith("| ")]
    own = shown(index)
    assert len(rows) == len(own) + 1  # and the line below the titles
    assert len({len(r) for r in rows}) == 1
    plain = {"&lt;": "<", "&gt;": ">", "&amp;": "&"}
    for row, mine in zip(rows[2:], own[1:], strict=True):
        name = re.sub(r"&\w+;", lambda m: plain[m[0]], re.sub(r"\\(.)", r"\1", row[0]))
        assert name.strip("*") == mine[0].strip("*")
        for cell, shown_text in zip(row[4:-1], mine[1:], strict=True):
            assert cell.startswith(shown_text)
    assert HOSTILE not in text
    assert "These data (n = 160)" in text


def test_the_link_to_the_view_is_copied(overview, chromium):
    context = chromium.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.goto(overview.as_uri())
    page.locator("#filter").fill("strong")
    page.get_by_role("button", name="Copy link").click()
    page.wait_for_function("document.getElementById('count').textContent.includes('copied')")
    assert page.evaluate("navigator.clipboard.readText()") == page.evaluate("location.href")
    assert "filter=strong" in page.evaluate("location.href")
    context.close()


def test_keys_go_from_cell_to_cell_and_each_says_what_stands_behind_it(index):
    region = index.locator(".scroll.js:visible")
    region.focus()
    index.keyboard.press("ArrowDown")
    index.keyboard.press("ArrowRight")
    cell = "document.activeElement"
    assert index.evaluate(f"{cell}.matches('td.n')")
    assert index.evaluate(f"{cell}.getAttribute('aria-describedby')") == "tip"
    assert re.match(r"n = 160.*rank group 1", index.locator("#tip").inner_text())
    index.keyboard.press("ArrowDown")
    assert "partial: only a part" in index.locator("#tip").inner_text()
    index.keyboard.press("ArrowDown")
    assert "Holm" in index.locator("#tip").inner_text()
    index.keyboard.press("Escape")
    assert not index.locator("#tip").is_visible()
    empty = index.locator("td.empty sup").first.locator("..")
    empty.focus()
    assert "not run" in index.locator("#tip").inner_text()
    mark = empty.locator("sup").inner_text()
    footnote = index.locator(f"section:not([hidden]) .footnotes div:has(dt:text-is('{mark}'))")
    assert footnote.locator("dd").inner_text() == index.locator("#tip").inner_text()
    index.locator("tbody.lines .name", has_text="=1+1").focus()
    assert "partial: only a part of the samples was scored" in index.locator("#tip").inner_text()


def test_another_board_is_chosen_and_kept(index):
    index.locator("#board").select_option(index.locator("#board option").nth(1).get_attribute("value"))
    assert names(index) == ["alone"]
    assert "nothing to compare" in index.locator(".apart.js:visible").inner_text()
    index.reload()
    assert names(index) == ["alone"]


def test_without_scripts_both_boards_can_be_read(chromium, overview):
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(overview.as_uri())
    assert page.locator("table.leaderboard:visible").count() == 2
    assert page.locator("a[title=baseline-s2]:visible").count() == 1
    assert page.locator("#controls:visible").count() == 0
    context.close()


def test_paper_shows_all_chosen_columns(browser, overview):
    page = browser.new_page()
    page.goto(overview.as_uri())
    page.locator("#columns summary").click()
    page.get_by_role("button", name="all", exact=True).last.click()
    page.keyboard.press("Escape")
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 1047, "height": 700})  # A4 across, less 1 cm margins
    columns = page.locator(".scroll.js:visible th.n").count()
    assert columns > 25
    assert page.evaluate("document.querySelector('.scroll.js table').getBoundingClientRect().right") <= 1047
    assert page.locator("#controls:visible, .more:visible").count() == 0
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 800, 390])
def test_axe_finds_nothing_serious(chromium, overview, scheme, width):
    context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    page.goto(overview.as_uri())
    page.get_by_role("button", name="3 seeds").click()
    page.get_by_role("button", name="more").click()
    page.evaluate(AXE.read_text())
    for opened in (False, True):
        if opened:
            page.locator("#columns summary").click()
        found = page.evaluate(
            "axe.run().then(r => r.violations.map(v => [v.impact, v.id, v.nodes.map(n => n.html + ' ' + n.failureSummary)]))"
        )
        assert [v for v in found if v[0] in ("serious", "critical")] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    context.close()
