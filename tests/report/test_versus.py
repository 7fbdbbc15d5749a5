"""Two runs held against each other in the browser: the numbers are those of harness.stats."""

import csv
import io
import json
import math
from urllib.parse import quote

import numpy as np
import pytest

from harness import stats
from harness.draws import Draws
from harness.metrics.cells import cells, registration
from harness.metrics.summary import TABLES, builtin, joint
from harness.record import from_run
from harness.report import versus
from harness.report.boards import boards, digits_of
from harness.report.site import build
from harness.store import RunFolder

RESAMPLES = 60  # of the shared report
pytestmark = pytest.mark.browser
HOSTILE = '<img src=x onerror="alert(1)">'


@pytest.fixture(scope="module")
def pairs(folders):
    """Return the three good runs of the shared report."""
    found = [from_run(RunFolder(p.parent)) for p in sorted(folders[0].glob("*-chestxray14-*/run.json"))]
    assert len(found) == 3
    return found


@pytest.fixture
def compared(watched, site):
    """Return a function that opens the comparison of two runs, and waits until it is shown."""
    opened = []

    def open_it(a, b, more=""):
        address = f"{(site.index.parent / 'versus.html').as_uri()}#a={quote(a)}&b={quote(b)}{more}"
        page = watched.open(address)
        page.wait_for_function("document.body.dataset.shown")
        opened.append(page)
        return page

    yield open_it
    for page in opened:
        page.close()
    assert watched.quiet() is True


def lines_of(page):
    """Return the lines of the table: number, details, then the texts of the cells."""
    return page.evaluate("""() => [...document.querySelectorAll('#differences-table tbody tr:not(.heading)')].map(r => [
        r.cells[0].firstChild && [...r.cells[0].childNodes].filter(n => n.nodeType === 3).map(n => n.data).join(''),
        r.cells[0].querySelector('small').textContent,
        ...[...r.cells].slice(1).map(c => c.textContent.replaceAll('\\u2212', '-').trim())])""")


def by_the_estimator(first, second):
    """Return (explainer, metric) -> estimate and p of second - first, by stats.paired on the tables themselves."""
    found = {}
    for stage in first.stages:
        other = next(s for s in second.stages if s.info["evaluation"] == stage.info["evaluation"]
                     and s.info["explainer"] == stage.info["explainer"])  # fmt: skip
        kind = TABLES[stage.info["evaluation"]]
        a, b = (kind.from_frame(s.read_samples()) for s in (stage, other))
        metrics = [m for m in builtin() if registration(m)["evaluation"] == kind.evaluation
                   and a.task in registration(m).get("tasks", (a.task,))]  # fmt: skip
        estimate, p = stats.paired(joint(metrics), b, a, a.clusters, resamples=RESAMPLES)
        places = [(registration(m)["name"], c) for m in metrics for c in cells(a, m)]
        for i, (name, c) in enumerate(places):
            if c["class_name"] in ("macro", "all") and not c["variant"] and c["threshold"] is None:
                found[stage.info["explainer"], name] = (estimate[i], float(p[i]))
    return found


@pytest.mark.parametrize(("one", "two"), [(0, 1), (1, 2), (2, 0)])
def test_the_numbers_are_those_of_the_estimator(compared, pairs, one, two):
    a, b = pairs[one], pairs[two]
    expected = by_the_estimator(a, b)
    page = compared(a.run_id, b.run_id)
    lines = lines_of(page)
    shown = {}
    for metric, details, *texts in lines:
        explainer = next((e for e in ("cam", "saliency") if e in details.split(" · ")), "")
        assert len(texts) == 6, texts
        shown[explainer, metric] = texts
    adjusted = dict(zip(shown, stats.holm(np.array([expected[k][1] for k in shown])), strict=True))
    assert len(shown) == 12
    for key, (_, _, difference, p, holm, verdict) in shown.items():
        e, own = expected[key]
        digits = digits_of(key[1])
        assert difference == f"{e.value:+.{digits}f} [{e.low:+.{digits}f}, {e.high:+.{digits}f}]", key
        said = lambda x: "< 0.001" if x < 0.001 else f"{x:.3f}"  # noqa: E731
        assert (p, holm) == (said(own), said(adjusted[key])), key
        assert verdict.startswith("not told apart") == (adjusted[key] >= 0.05), key


def test_a_replicate_that_is_undefined_stays_so():
    draws = Draws(0.5, np.array([0.25, np.nan, np.inf, 0.75]), "x")
    import base64

    away = np.frombuffer(base64.b64decode(versus.packed(draws)), "<f4")
    assert away.tolist()[0] == -0.25
    assert np.isnan(away[1:3]).all()


def test_the_browser_summarises_as_the_estimator_does(watched, site):
    page = watched.open((site.index.parent / "versus.html").as_uri())
    rng = np.random.default_rng(3)
    for undefined in (0, 10, 80):
        first, second = rng.normal(0.5, 0.1, 1000), rng.normal(0.52, 0.2, 1000)
        second[:undefined] = np.nan
        a, b = ({"value": v, "replicates": versus.packed(Draws(v, r, ""))} for v, r in ((0.5, first), (0.9, second)))
        found = page.evaluate("([b, a]) => paired.difference(b, a)", [b, a])
        expected = stats.summarise(np.array(0.4), second - first)
        wanted = [expected.low, expected.high, stats.normal_p(expected.value, expected.standard_error)]
        got = [math.nan if found[k] is None else found[k] for k in ("low", "high", "p")]
        assert got == pytest.approx([float(x) for x in wanted], rel=1e-5, nan_ok=True)
        assert math.isnan(got[0]) == (undefined > 50)
    p = [0.01, 0.04, math.nan, 0.03]
    assert page.evaluate("(p) => paired.holm(p)", p)[:2] == stats.holm(np.array(p)).tolist()[:2]
    for z in (0.1, 1.0, 2.7, 2.9, 6.0):
        got = page.evaluate(
            """z => { const r = [-1, 1].map(s => s / Math.SQRT2);
            const text = btoa(String.fromCharCode(...new Uint8Array(new Float32Array(r).buffer)));
            const none = btoa(String.fromCharCode(...new Uint8Array(new Float32Array(2).buffer)));
            return paired.difference({ value: z, replicates: text }, { value: 0, replicates: none }).p; }""",
            z,
        )
        assert got == pytest.approx(math.erfc(z / math.sqrt(2)), rel=1e-6)
    page.close()
    assert watched.quiet() is True


def test_swap_turns_the_signs_and_the_address_keeps_the_pair(compared, pairs, watched):
    a, b = pairs[0].run_id, pairs[1].run_id
    page = compared(a, b)
    before = [line[4] for line in lines_of(page)]
    page.locator("#swap").focus()
    page.keyboard.press("Enter")
    page.wait_for_function(f"document.body.dataset.shown === '{b} {a}'")
    turned = [line[4] for line in lines_of(page)]
    assert [x.split(" ")[0].translate(str.maketrans("+-", "-+")) for x in turned] == [x.split(" ")[0] for x in before]
    again = watched.open(page.evaluate("location.href"))
    again.wait_for_function("document.body.dataset.shown")
    assert lines_of(again) == lines_of(page)
    assert again.locator("#page-a").inner_text() == b
    again.close()


def test_fewer_numbers_make_fewer_comparisons(compared, pairs):
    page = compared(pairs[0].run_id, pairs[1].run_id)
    everything = {tuple(x[:2]): x[6] for x in lines_of(page)}
    page.locator("#evaluation").select_option("classification")
    few = {tuple(x[:2]): (x[5], x[6]) for x in lines_of(page)}
    assert 0 < len(few) < len(everything)
    assert "evaluation=classification" in page.evaluate("location.href")
    number = lambda text: 0.0 if text.startswith("<") else float(text)  # noqa: E731
    assert all(number(p) <= number(holm) <= number(everything[k]) for k, (p, holm) in few.items())
    page.locator("#explainer").select_option("cam")
    assert lines_of(page) == []
    page.locator("#evaluation").select_option("*")
    assert {x[1].split(" · ")[0] for x in lines_of(page)} == {"cam"}


def test_the_chart_shows_what_the_table_says(compared, pairs):
    page = compared(pairs[0].run_id, pairs[1].run_id)
    counted = [x for x in lines_of(page) if len(x) == 8]
    told = sum(not x[7].startswith("not") for x in counted)
    drawn = "document.querySelector('#chart').data.map(t => t.x.length)"
    assert page.evaluate(drawn) == [told, len(counted) - told]
    page.get_by_label("as they are").check()
    values = page.evaluate("document.querySelector('#chart').data.flatMap(t => t.x)")
    assert sorted(f"{v:+.3f}" for v in values) == sorted(x[4].split(" ")[0] for x in counted)
    assert "scale=plain" in page.evaluate("location.href")


def test_what_cannot_be_compared_says_why(compared, pairs, synthetic, watched, tmp_path):
    a = pairs[0].run_id
    page = compared(a, a)
    assert "the same run" in page.locator("#said").inner_text()
    assert not page.locator("#result").is_visible()
    page = compared(a, "../../escaped")  # partial
    assert "partial: only a part of the samples was scored" in lines_of(page)[0][4]
    page = compared(a, "nobody")
    assert "Not in this report: nobody" in page.locator("#said").inner_text()

    runs = tmp_path / "runs"
    for number, name in enumerate(("here", "fewer", "lacking", "elsewhere")):
        table = synthetic.classification(1.0, number)
        if name == "fewer":
            keep = slice(0, 120)
            table = type(table)(table.ids[keep], table.clusters[keep], table.classes, table.task, table.label[keep],
                                table.probability[keep])  # fmt: skip
        tables = {"cam": synthetic.localisation(0.3)} if name == "lacking" else {"classification": table}
        synthetic.write_run(runs, number, run_id=name, tables=tables, pictures=False, method=f"{name}{HOSTILE}",
                            dataset="cifar10" if name == "elsewhere" else "chestxray14")  # fmt: skip
    index = build(runs, None, tmp_path / "site", cache=False, resamples=20).index

    def said(one, two):
        page = watched.open(f"{(index.parent / 'versus.html').as_uri()}#a={one}&b={two}")
        page.wait_for_function("document.body.dataset.shown")
        found = page.locator("#said").inner_text() + "".join(x[4] for x in lines_of(page) if len(x) == 5)
        assert page.locator("img[src=x]").count() == 0
        page.close()
        return found

    assert "other samples: A was scored on 160, B on 120" in said("here", "fewer")
    assert "B: not run" in said("here", "lacking")
    assert "Numbers of different boards are never compared" in said("here", "elsewhere")


def test_shared_samples_stand_side_by_side(compared, pairs):
    page = compared(pairs[0].run_id, pairs[1].run_id)
    rows = page.locator("#samples tr")
    assert rows.count() == 8  # four fixed samples of each of two explainers
    rows.first.scroll_into_view_if_needed()
    assert rows.first.locator(".picture").count() == 3
    assert rows.first.locator("rect").count() == 3
    first = rows.first.locator("img").nth(1)
    before = first.get_attribute("src")
    page.get_by_label("map alone").check()
    assert first.get_attribute("src") != before
    page.wait_for_function("[...document.querySelectorAll('#samples img')].every(i => i.complete && i.naturalWidth)")
    page.get_by_label("boxes", exact=True).uncheck()
    assert not rows.first.locator("svg").first.is_visible()


def test_downloads_hold_the_comparison(compared, pairs):
    page = compared(pairs[0].run_id, pairs[2].run_id)
    with page.expect_download() as caught:
        page.locator("#csv").click()
    lines = list(csv.DictReader(io.StringIO(caught.value.path().read_text())))
    with page.expect_download() as caught:
        page.locator("#json").click()
    rows = json.loads(caught.value.path().read_text())["rows"]
    shown = lines_of(page)
    assert len(lines) == len(rows) == len(shown)
    for line, row, (metric, _, _, _, difference, *_) in zip(lines, rows, shown, strict=True):
        assert line["number"].startswith(metric)
        assert float(line["difference"]) == row["difference"] == pytest.approx(row["b"] - row["a"])
        assert difference.startswith(f"{row['difference']:+.3f}")


def test_every_board_offers_its_runs(pairs, folders):
    found = boards(pairs)
    offered = versus.entries(found, {r.run_id: "f" for r in pairs}, {r.run_id: "p" for r in pairs})
    assert [r["text"] for r in offered[0]["runs"]] == [
        "baseline, seed 0", "gradient_penalty, seed 0", "robust_fgsm, seed 0"]  # fmt: skip
