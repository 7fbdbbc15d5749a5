"""The pages as a reader has them: opened from the file system, in Chromium, without a network."""

import csv
import io
import json
import shutil
from itertools import pairwise

import pytest
from PIL import Image

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH"),
]
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@pytest.fixture(scope="module")
def seen():
    """Return what the pages asked for and complained about, over all tests of this file."""
    return {"requests": [], "complaints": []}


@pytest.fixture(scope="module")
def browser(seen):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        context = started.new_context(viewport={"width": 1440, "height": 900}, accept_downloads=True)
        context.on("request", lambda r: seen["requests"].append(r.url))
        context.on("console", lambda m: m.type in ("error", "warning") and seen["complaints"].append(m.text))
        context.on("weberror", lambda e: seen["complaints"].append(str(e.error)))
        context.on("dialog", lambda d: (seen["complaints"].append("dialog"), d.dismiss()))
        yield context
        started.close()


@pytest.fixture(scope="module")
def index(browser, site):
    page = browser.new_page()
    page.goto(site.index.as_uri())
    return page


@pytest.fixture(autouse=True)
def quiet(index, seen):
    """Put the board back to what a first visit shows; afterwards nothing was fetched and nothing complained."""
    index.goto(index.evaluate("location.href").partition("#")[0])
    yield
    assert seen["requests"]
    assert [u for u in seen["requests"] if not u.startswith(("file://", "blob:"))] == []
    assert seen["complaints"] == []


def test_a_run_page_draws_its_charts_and_pictures(browser, site):
    page = browser.new_page()
    page.goto((site.index.parent / "runs" / "baseline-chestxray14-s0-000000000000.html").as_uri())
    page.wait_for_selector("#training-chart .main-svg")
    page.wait_for_selector("[data-panel='3'] .main-svg")
    page.wait_for_selector("#auroc .main-svg")
    picture = page.locator("img[data-heat]").first
    picture.scroll_into_view_if_needed()
    page.wait_for_function("document.querySelector('img[data-heat]').naturalWidth > 0")
    overlay = picture.get_attribute("src")
    page.get_by_label("map alone").check()
    assert picture.get_attribute("src") == picture.get_attribute("data-heat") != overlay
    page.get_by_label("boxes").uncheck()
    assert not page.locator(".picture svg").first.is_visible()
    page.close()


FIGURES = ("examples", "classes", "localisation", "insertion_deletion", "sweep", "robustness",
           "adversarial_explanations", "trust")  # fmt: skip


@pytest.fixture
def figure_of(swept_site, explained_site, attacked_site, trusted_site):
    """Return a function to the file of one figure: of the sweep's board, or of one that has what the figure shows."""

    def path(name, dataset=""):
        where = {"adversarial_explanations": explained_site, "robustness": attacked_site, "trust": trusted_site}
        return sorted((where.get(name, swept_site) / "figures").glob(f"{dataset}*-{name}.html"))[0]

    return path


@pytest.fixture
def opened(browser, figure_of):
    """Return a function that opens one figure."""
    pages = []

    def open_figure(name, dataset=""):
        path = figure_of(name, dataset)
        pages.append(browser.new_page())
        pages[-1].goto(path.as_uri())
        return pages[-1]

    yield open_figure
    for page in pages:
        page.close()


def drawn(page, chart):
    """Return how many traces a chart shows."""
    page.wait_for_selector(f"[data-chart='{chart}'] .main-svg")
    return page.evaluate(
        "(c) => document.querySelector(`[data-chart='${c}']`).data.filter(t => t.visible !== false).length", chart
    )


@pytest.mark.parametrize("name", [*(f"figures/{n}" for n in FIGURES), "index.html", "about.html",
                                  "runs/baseline-chestxray14-s0-000000000000.html"])  # fmt: skip
def test_nothing_is_wider_than_a_phone(browser, site, figure_of, name):
    page = browser.new_page()
    page.set_viewport_size({"width": 390, "height": 800})
    folder, _, figure = name.rpartition("/")
    path = figure_of(figure) if folder == "figures" else site.index.parent / name
    page.goto(path.as_uri())
    page.wait_for_load_state("networkidle")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.close()


def test_figures_are_reached_from_the_board_and_from_each_other(browser, swept_site):
    page = browser.new_page()
    page.goto((swept_site / "index.html").as_uri())
    page.get_by_role("link", name="AUROC by class").click()
    assert page.locator("h1").inner_text() == "AUROC by class"
    for title in (
        "What the methods look at",
        "Localisation accuracy over T(IoU)",
        "What one setting does",
        "Accuracy under attack",
    ):
        page.get_by_role("link", name=title).click()
        assert page.locator("h1").inner_text() == title
        assert page.locator("nav [aria-current]").inner_text() == title
    page.locator(".crumb a").click()
    assert page.locator("section.board:not([hidden])").count() == 1
    page.goto((swept_site / "runs" / "base-s0.html").as_uri())
    page.get_by_role("link", name="What one setting does").click()
    assert page.locator("h2").first.inner_text() == "robust_fgsm: epsilon"
    page.close()


def test_a_series_is_hidden_and_a_published_one_shown_by_key(opened):
    page = opened("classes")
    before = drawn(page, "classes")
    assert before == 4 + 4  # series, and the first published systems
    page.get_by_label("baseline").focus()
    page.keyboard.press("Space")
    assert drawn(page, "classes") == before - 1
    page.get_by_label("ZexinYan").check()
    assert drawn(page, "classes") == before
    hollow = page.evaluate("document.querySelector('[data-chart]').data.map(t => t.marker.symbol.endsWith('-open'))")
    assert hollow == [False] * 4 + [True] * (len(hollow) - 4)


def test_the_other_variant_and_one_explainer_can_be_asked_for(opened):
    page = opened("localisation")
    everything = drawn(page, "panel-0")
    assert everything == 4 * 2 + 3 + 1  # method x explainer, references, published
    shown = page.locator("details[data-variant]:visible summary")
    assert not any("of its own" in t for t in shown.all_inner_texts())
    page.get_by_label("saliency").uncheck()
    assert drawn(page, "panel-0") == everything - 4
    places = "document.querySelector('[data-chart=panel-0]').data.flatMap((t, i) => (t.visible === false ? [] : [i]))"
    before = page.evaluate(places)
    page.get_by_label("a threshold of its own").check()
    assert drawn(page, "panel-0") == everything - 4
    after = page.evaluate(places)
    assert len(set(after) - set(before)) == len(set(before) - set(after)) == 4 + 3  # all but the published one
    assert all("of its own" in t for t in shown.all_inner_texts())
    page.get_by_label("Wang 2017").uncheck()
    assert drawn(page, "panel-0") == everything - 5


def test_a_figure_is_downloaded_with_marks_and_sources(opened):
    page = opened("localisation")
    with page.expect_download() as caught:
        page.locator("#csv").click()
    lines = list(csv.DictReader(io.StringIO(caught.value.path().read_text())))
    with page.expect_download() as caught:
        page.locator("#json").click()
    assert len(json.loads(caught.value.path().read_text())["rows"]) == len(lines)
    assert {line["kind"] for line in lines} == {"run", "reference", "published"}
    assert all(bool(line["mark"]) == bool(line["source"]) == (line["kind"] == "published") for line in lines)
    first = next(x for x in lines if (x["kind"], x["class_name"], x["variant"]) == ("run", "macro", ""))
    cell = page.locator("details[open] tbody td .v").first.inner_text()
    assert f"{float(first['value']):.3f}" == cell
    assert first["bar"] == "range of the seeds"


def test_a_sweep_draws_its_charts_and_pictures(opened):
    page = opened("sweep")
    assert drawn(page, "sweep-1-panel-0") >= 1
    assert page.locator("figure .main-svg").count() >= page.locator("figure").count() > 3
    heads = page.locator("table.gallery").first.locator("thead th").all_inner_texts()
    assert [h.split("\n")[0].strip() for h in heads[2:]] == [
        "epsilon 0 (baseline)",
        "epsilon 0.001",
        "epsilon 0.01",
        "epsilon 0.1",
    ]
    picture = page.locator("img[data-heat]").first
    picture.scroll_into_view_if_needed()
    page.wait_for_function("document.querySelector('img[data-heat]').naturalWidth > 0")
    overlay = picture.get_attribute("src")
    page.get_by_label("map alone").check()
    assert picture.get_attribute("src") != overlay


def test_examples_show_every_method_and_name_other_seeds(opened):
    page = opened("examples")
    assert page.locator("table.gallery img").count() == 4 * (1 + 8)
    assert page.locator("thead a").all_inner_texts() == [
        "baseline", "1", "robust_fgsm, epsilon = 0.001", "robust_fgsm, epsilon = 0.01", "1", "robust_fgsm, epsilon = 0.1"]  # fmt: skip
    assert page.locator(".picture rect").first.is_visible()
    page.get_by_label("boxes").uncheck()
    assert not page.locator(".picture rect").first.is_visible()


WHOLE = "none"


def transforms(page, row="tr"):
    """Return how image, maps and boxes are magnified, a set per row of the gallery."""
    found = page.evaluate(
        """(row) => [...document.querySelectorAll(row)].filter(r => r.querySelector('.zoom')).map(r =>
            [...r.querySelectorAll('.picture img, .picture svg')].map(x => getComputedStyle(x).transform))""", row)  # fmt: skip
    return [set(own) for own in found]


def matrix(own):
    """Return magnification and place of the upper left corner of a row whose pictures are magnified alike."""
    (text,) = own
    scale, *_, x, y = (float(v) for v in text.removeprefix("matrix(").removesuffix(")").split(","))
    return scale, x, y


@pytest.fixture
def gallery(opened):
    """Return the page of examples, with the first picture where the mouse reaches it."""
    page = opened("examples")
    page.locator("table.gallery .picture").first.scroll_into_view_if_needed()
    return page


def over(page, row, column, at=0.5):
    """Put the mouse over a picture, `at` this share of its width and height, and return the place."""
    box = page.locator("table.gallery tbody tr").nth(row).locator(".picture").nth(column).bounding_box()
    place = box["x"] + at * box["width"], box["y"] + at * box["height"]
    page.mouse.move(*place)
    return place


def turn(page, amount):
    """Turn the wheel with Ctrl held."""
    page.keyboard.down("Control")
    page.mouse.wheel(0, amount)
    page.keyboard.up("Control")
    page.wait_for_function("document.querySelector('.zoomed')")


def test_ctrl_and_wheel_magnify_all_pictures_of_a_row_around_the_mouse(gallery):
    assert transforms(gallery) == [{WHOLE}] * 4
    over(gallery, 1, 3, at=0.25)
    turn(gallery, -100)
    first, own, *others = transforms(gallery)
    assert [first, *others] == [{WHOLE}] * 3
    scale, x, y = matrix(own)
    assert 1.2 < scale < 1.4
    assert [x, y] == pytest.approx([30 * (1 - scale)] * 2, abs=0.2)  # a quarter of 120 px stays where it is
    box = gallery.locator("tbody tr").nth(1).locator("svg rect").first
    width = float(box.evaluate("r => getComputedStyle(r).strokeWidth").removesuffix("px"))
    assert width * scale == pytest.approx(2, abs=0.01)


def test_the_wheel_alone_scrolls(gallery):
    gallery.evaluate("window.scrollTo(0, 0)")
    over(gallery, 0, 0)
    gallery.mouse.wheel(0, 60)
    gallery.wait_for_function("window.scrollY > 0")
    assert transforms(gallery) == [{WHOLE}] * 4


def test_dragging_moves_all_pictures_of_a_row_within_their_edges(gallery):
    over(gallery, 0, 0)
    for _ in range(6):
        turn(gallery, -100)
    before = matrix(transforms(gallery)[0])
    x, y = over(gallery, 0, 2)
    gallery.mouse.down()
    gallery.mouse.move(x + 20, y - 10, steps=3)
    scale, right, down = matrix(transforms(gallery)[0])
    assert [scale, right, down] == pytest.approx([before[0], before[1] + 20, before[2] - 10], abs=0.1)
    gallery.mouse.move(x + 2000, y, steps=3)
    gallery.mouse.up()
    assert matrix(transforms(gallery)[0])[1] == 0
    gallery.mouse.move(x, y)
    assert matrix(transforms(gallery)[0])[1] == 0, "nothing is held any more"
    assert transforms(gallery)[1:] == [{WHOLE}] * 3


def test_keys_magnify_move_and_go_back(gallery):
    row = gallery.locator("tbody tr").nth(2)
    plus = row.get_by_role("button", name="Zoom in on")
    assert row.get_by_role("group").get_attribute("aria-label").startswith("Zoom of ")
    whole = row.get_by_role("button", name="Whole pictures")
    plus.focus()
    scroll = gallery.evaluate("window.scrollY")
    gallery.keyboard.press("Enter")
    gallery.keyboard.press("+")
    assert matrix(transforms(gallery)[2]) == pytest.approx((2.25, -75, -75))
    gallery.keyboard.press("ArrowRight")
    gallery.keyboard.press("ArrowDown")
    gallery.keyboard.press("ArrowDown")
    assert matrix(transforms(gallery)[2]) == pytest.approx((2.25, -87, -99))
    assert gallery.get_by_role("status").inner_text() == (
        "2.3 times, around 54 % from the left and 59 % from the top"
    )  # fmt: skip
    assert gallery.evaluate("window.scrollY") == scroll
    gallery.keyboard.press("-")
    assert matrix(transforms(gallery)[2])[0] == pytest.approx(1.5)
    gallery.keyboard.press("Escape")
    assert transforms(gallery) == [{WHOLE}] * 4
    assert not whole.is_visible()
    for _ in range(9):
        gallery.keyboard.press("+")
    assert matrix(transforms(gallery)[2])[0] == 16
    whole.focus()
    gallery.keyboard.press("Enter")
    assert transforms(gallery) == [{WHOLE}] * 4
    assert gallery.evaluate("document.activeElement.textContent") == "+", "the focus is not lost with its button"


def test_one_place_in_all_rows_can_be_asked_for_and_paper_shows_everything(gallery):
    gallery.locator(".zoom button").first.click()
    gallery.get_by_label("zoom all rows alike").check()
    assert len({matrix(own) for own in transforms(gallery)}) == 1
    gallery.locator(".zoom button").nth(-3).click()
    assert {matrix(own)[0] for own in transforms(gallery)} == {2.25}
    gallery.emulate_media(media="print")
    assert transforms(gallery) == [{WHOLE}] * 4
    assert not gallery.locator(".zoom").first.is_visible()
    gallery.emulate_media(media="screen")
    gallery.keyboard.press("Escape")
    assert transforms(gallery) == [{WHOLE}] * 4


def test_pixels_are_squares_once_they_can_be_told_apart(gallery):
    image = gallery.locator("tbody tr").first.locator(".picture img").first
    style = "i => getComputedStyle(i).imageRendering"
    gallery.locator(".zoom button").first.click()
    image.evaluate("""image => new Promise(done => {
        const canvas = Object.assign(document.createElement('canvas'), {width: 200, height: 200});
        canvas.getContext('2d');
        canvas.toBlob(blob => { image.onload = done; image.src = URL.createObjectURL(blob); });
    })""")
    for zoom in (1.5, 2.25, 3.375, 5.0625):
        assert (image.evaluate(style) == "pixelated") == (zoom * 120 >= 2 * 200)
        gallery.locator(".zoom button").first.click()
    gallery.keyboard.press("Escape")
    assert image.evaluate(style) == "auto"


def test_two_fingers_magnify_around_their_middle(gallery):
    x, y = over(gallery, 0, 1)
    fingers = gallery.context.new_cdp_session(gallery)

    def touch(kind, *places):
        points = [{"x": px, "y": y, "id": i} for i, px in enumerate(places)]
        fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", x - 10, x + 10)
    for apart in (12, 16, 20):
        touch("touchMove", x - apart, x + apart)
    touch("touchEnd")
    gallery.wait_for_function("document.querySelector('.zoomed')")
    scale, left, _ = matrix(transforms(gallery)[0])
    assert 1.5 < scale <= 2.01
    assert left == pytest.approx(60 * (1 - scale), abs=4)
    assert gallery.evaluate("visualViewport.scale") == 1
    assert transforms(gallery)[1:] == [{WHOLE}] * 3


def test_the_cut_of_a_magnified_picture_stays_under_the_slider(opened):
    page = opened("adversarial_explanations")
    row = page.locator("[data-of=sample]:visible tbody tr").first
    row.scroll_into_view_if_needed()
    page.wait_for_function(
        "[...document.querySelectorAll('.compare img')].filter(i => i.offsetParent && i.complete && i.naturalWidth).length > 3"
    )
    picture = row.locator(".compare").first
    row.get_by_role("button", name="Zoom in on").click()
    page.keyboard.press("ArrowRight")
    page.locator("#shown").fill("0")
    original = pixels(page, picture)
    page.locator("#shown").fill("100")
    changed = pixels(page, picture)
    page.locator("#shown").fill("50")
    assert pixels(page, picture) == [*original[:2], *changed[2:]]
    assert all(a != b for a, b in zip(original, changed, strict=True))


def test_a_run_s_own_choice_is_magnified_sample_by_sample(browser, site):
    page = browser.new_page()
    page.goto((site.index.parent / "runs" / "baseline-chestxray14-s0-000000000000.html").as_uri())
    page.locator(".strip .zoom button").first.click()
    first, *others = transforms(page, ".strip li")
    assert matrix(first)[0] == 1.5
    assert others
    assert all(own == {WHOLE} for own in [*others, *transforms(page)])
    page.close()


def pixels(page, picture):
    """Return the colours of what is seen of a picture, in four places from left to right."""
    image = Image.open(io.BytesIO(picture.screenshot())).convert("RGB")
    return [image.getpixel((int(image.width * at), image.height // 2)) for at in (0.15, 0.4, 0.6, 0.85)]


def test_the_slider_uncovers_the_original_from_the_left(opened):
    page = opened("adversarial_explanations")
    picture = page.locator(".compare:visible").first
    picture.scroll_into_view_if_needed()
    page.wait_for_function(
        "[...document.querySelectorAll('.compare img')].filter(i => i.offsetParent && i.complete && i.naturalWidth).length > 3"
    )
    slider = page.locator("#shown")
    changed = pixels(page, picture)
    slider.focus()
    page.keyboard.press("Home")
    assert slider.get_attribute("aria-valuetext") == "0 % changed, 100 % original"
    original = pixels(page, picture)
    assert all(a != b for a, b in zip(original, changed, strict=True))
    slider.fill("50")
    assert pixels(page, picture) == [*original[:2], *changed[2:]]
    page.keyboard.press("ArrowRight")
    assert slider.get_attribute("aria-valuetext") == "51 % changed, 49 % original"
    page.keyboard.press("End")
    page.get_by_label("difference", exact=True).check()
    page.wait_for_function(
        "[...document.querySelectorAll('.difference')].some(i => i.offsetParent && i.complete && i.naturalWidth)"
    )
    assert all(a != b for a, b in zip(pixels(page, picture), changed, strict=True))
    assert page.locator(".explained:visible").count() == 0
    page.get_by_label("changed image", exact=True).check()
    assert pixels(page, picture) == changed


def test_one_image_and_one_run_are_chosen(opened):
    page = opened("adversarial_explanations")
    by_image = page.locator("[data-of=sample]:visible")
    assert by_image.count() == 1
    assert by_image.locator("tbody th a").all_inner_texts() == ["baseline", "lipschitz"]
    page.locator("[data-chooser=sample]").select_option(label="Mass, 00001")
    assert "00001" in by_image.inner_text()
    assert by_image.locator(".compare").count() == 4
    assert by_image.locator("td b").first.inner_text().count("→") == 1
    by_run = page.locator("[data-of=run]:visible")
    assert by_run.locator("tbody tr").first.locator(".compare").count() == 8  # four classes, both directions
    page.locator("[data-chooser=run]").select_option(label="lipschitz, seed 0")
    assert by_run.locator("thead a").inner_text() == "lipschitz"
    assert by_run.locator("td strong", has_text="onerror").count() == 1  # a class's name is text
    assert page.locator("tbody img[src=x]").count() == 0


def test_without_explanations_the_page_names_the_command(browser, swept_site):
    page = browser.new_page()
    page.goto(next(swept_site.glob("figures/*-adversarial_explanations.html")).as_uri())
    assert page.locator(".nothing pre").inner_text() == "harness evaluate base-s0 --evaluation adversarial_explanations"
    assert page.locator("#shown").count() == 0
    page.close()


def curves(page):
    """Return what the chart of accuracy under attack shows: kind of trace, first and last place, first height."""
    page.wait_for_selector("[data-chart=curves] .main-svg")
    return page.evaluate("""() => document.querySelector('[data-chart=curves]').data.map(t => [
        t.fillpattern ? 'area' : t.fill ? 'band' : t.mode, t.x[0], t.x.at(-1), t.y[0]])""")


def test_the_goal_the_axis_and_the_area_are_switched_by_key(opened):
    page = opened("robustness", "cifar10")
    attack = curves(page)
    assert sorted(k for k, *_ in attack) == ["area", *["band"] * 2, *["lines"] * 2, *["markers"] * 2]
    tables = page.locator("h3.group:visible")
    assert tables.all_inner_texts() == ["attack: another class is more probable"]
    page.get_by_label("attack: another class").focus()
    page.keyboard.press("ArrowRight")
    btr = curves(page)
    assert len(btr) == len(attack)
    ends = [max(x[2] for x in found if x[0] == "lines") for found in (attack, btr)]
    assert ends[1] > 1.5 * ends[0]  # the fixture's BTR minima are at least twice as large
    assert tables.all_inner_texts() == ["BTR: the class is below chance"]
    page.get_by_label("logarithmic").check()
    places = [x[1] for x in curves(page) if x[0] == "markers"]
    assert len(set(places)) == 1
    assert places[0] > 0  # where 0 stands
    assert not any(x[0] == "area" for x in curves(page))
    axis = page.evaluate(
        "(c => [c.layout.xaxis.type, c.layout.xaxis.ticktext[0]])(document.querySelector('[data-chart=curves]'))"
    )
    assert axis == ["log", "0"]
    page.get_by_label("linear").check()
    page.get_by_role("combobox", name="hatched area").select_option("")
    assert not any(x[0] == "area" for x in curves(page))
    page.get_by_role("checkbox", name="baseline").uncheck()
    assert drawn(page, "curves") == 3


def test_a_finding_can_be_chosen(opened):
    page = opened("robustness", "chestxray14")
    macro = curves(page)
    assert drawn(page, "auroc") == 1
    page.get_by_role("combobox", name="finding").select_option("Mass")
    assert curves(page) != macro
    assert "Mass" in page.locator("h3.group:visible").first.inner_text()
    assert drawn(page, "auroc") == 1


def test_the_download_holds_the_curves_and_their_bands(opened):
    page = opened("robustness", "cifar10")
    with page.expect_download() as caught:
        page.locator("#csv").click()
    lines = list(csv.DictReader(io.StringIO(caught.value.path().read_text())))
    with page.expect_download() as caught:
        page.locator("#json").click()
    assert len(json.loads(caught.value.path().read_text())["rows"]) == len(lines)
    mine = [
        x for x in lines if x["name"] == "baseline" and x["goal"] == "adv" and x["metric"] == "accuracy over radius"
    ]
    shown = page.evaluate("""() => document.querySelector('[data-chart=curves]').data
        .filter(t => t.mode === 'lines' && !t.fill && t.text === 'baseline').map(t => [t.customdata, t.y])[0]""")
    assert [[float(x["radius"]) for x in mine], [float(x["value"]) for x in mine]] == shown
    assert {x["bar"] for x in lines if x["metric"].startswith("band")} == {"range of the seeds", "95 % interval"}
    assert all(bool(x["mark"]) == (x["kind"] == "published") for x in lines)
    assert sum(x["kind"] == "published" for x in lines) == 3 * 19


@pytest.mark.parametrize(("name", "dataset"), [*((n, "") for n in FIGURES), ("robustness", "cifar10")])
def test_figures_are_in_order_for_a_reader_without_eyes(opened, name, dataset):
    page = opened(name, dataset)
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3')].map(h => +h.tagName[1])")
    assert levels[0] == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))
    unnamed = page.evaluate("""() => [...document.querySelectorAll('button, select, input, a, summary, [role=img], img')]
        .filter(e => !(e.textContent.trim() || e.labels?.length || e.ariaLabel || e.alt)).length""")
    assert unnamed == 0


def test_headings_and_controls_have_names(index):
    unnamed = index.evaluate("""() => [...document.querySelectorAll('button, select, input, a, summary')]
        .filter(e => !(e.textContent.trim() || e.labels?.length || e.ariaLabel)).length""")
    assert unnamed == 0
    levels = index.evaluate("[...document.querySelectorAll('h1,h2,h3')].map(h => +h.tagName[1])")
    assert levels[0] == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))


def test_trust_draws_its_curves_by_series_explainer_and_sign(opened):
    page = opened("trust")
    everything = drawn(page, "depth")
    assert everything == 2 * 3 * 2  # series x explainers x (curve, references)
    page.get_by_role("checkbox", name="saliency").uncheck()
    assert drawn(page, "depth") == everything - 4
    signed = page.locator("[data-variant=randomisation_rank]")
    assert not signed.is_visible()
    page.get_by_role("radio", name="with its sign").check()
    assert signed.is_visible()
    assert drawn(page, "depth") == everything - 4
    headings = page.locator("h2").all_inner_texts()
    assert headings[0] == "Random weights"
    assert headings[-1] == "Known shortcuts: the maps"
    with page.expect_download() as caught:
        page.locator("#json").click()
    rows = json.loads(caught.value.path().read_text())["rows"]
    assert {r["metric"] for r in rows} >= {"randomisation", "infidelity", "max_sensitivity", "explainer_agreement",
                                           "shortcut_effect", "shortcut_mass"}  # fmt: skip
