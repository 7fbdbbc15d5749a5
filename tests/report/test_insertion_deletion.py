"""The page of insertion and deletion, and the steps on a run's page, without a model and in Chromium."""

import math
import shutil
import types

import numpy as np
import pytest
from PIL import Image

from harness.metrics.insertion_deletion import InsertionDeletionTable
from harness.record import load_all
from harness.report.boards import boards
from harness.report.figures import insertion_deletion
from harness.report.gallery import Pictures
from harness.report.literature import load
from harness.report.runpage import page
from harness.report.scrubber import scrubber
from harness.report.site import build, templates_folder
from harness.store import write_json

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HOSTILE = '<img src=x onerror="alert(1)">'
COUNT = 30


def table(skill: float, seed: int) -> InsertionDeletionTable:
    """Curves of 30 images at 7 x 7 cells; at 28 x 28 the map has too few. A larger skill rises and falls sooner."""
    rng = np.random.default_rng(seed)
    share = np.arange(50) / 49
    rise = np.clip(share[None] * (1 + skill) + 0.05 * rng.random((COUNT, 1)), 0, 1)
    curves = {"insertion": rise, "deletion": 1 - rise}
    area = {n: np.trapezoid(c, share, axis=1) for n, c in curves.items()}
    own = {**area, "insertion_minus_deletion": area["insertion"] - area["deletion"],
           **{f"normalised_{n}": a / 0.9 for n, a in area.items()},
           "p_original": rise[:, -1], "p_blurred": rise[:, 0]}  # fmt: skip
    lists = {f"{n}_curve|resolution=7": np.array([*[(row * 65535).astype(np.uint16) for row in c], None], object)[:-1]
             for n, c in curves.items()}  # fmt: skip
    ids = np.array([f"{i:05d}" for i in range(COUNT)])
    return InsertionDeletionTable(
        ids=ids, clusters=ids, task="multilabel", conditions=[{"resolution": 7}, {"resolution": 28}],
        values={n: np.stack([v, np.full(COUNT, np.nan)], axis=1) for n, v in own.items()},
        extra={**lists, "map_cells": np.full(COUNT, 7)},
    )  # fmt: skip


def pictures(folder) -> None:
    """Two samples: a white image on a black baseline, whose upper cells come first; and one with a damaged order."""
    place = folder / "gallery"
    place.mkdir()
    for name, grey in (("white", 255), ("black", 0)):
        Image.fromarray(np.full((56, 56), grey, np.uint8)).save(place / f"{name}.png")
    good = {"resolution": 7, "counts": list(range(50)), "steps": list(range(1, 50)), "aligned": False,
            "insertion": [i / 49 for i in range(50)], "deletion": [1 - i / 49 for i in range(50)],
            "insertion_area": 0.5, "deletion_area": 0.5}  # fmt: skip
    common = {"class_name": f"Mass{HOSTILE}", "why": "fixed", "image": "white.png", "baseline": "black.png"}
    write_json(place / "gallery.json", [{**common, "id": "00001", "curves": [good]},
                                        {**common, "id": "00002", "curves": [{**good, "steps": [1, 2]}]}])  # fmt: skip


@pytest.fixture(scope="module")
def runs(synthetic, tmp_path_factory):
    folder = tmp_path_factory.mktemp("masked") / "runs"
    for number, method in enumerate(("baseline", HOSTILE)):
        made = {"classification": synthetic.classification(1.0), "cam": table(0.5 + number, number),
                "random_map": table(0.1 * number, 9)}  # fmt: skip
        run = synthetic.write_run(folder, number, method=method, seed=0, run_id=f"masked-{number}", pictures=False,
                                  tables=made)  # fmt: skip
        if number == 0:
            pictures(next((run.folder / "evaluations").glob("insertion_deletion-cam-*")))
    return folder


@pytest.fixture(scope="module")
def board(runs):
    results, problems = load_all(runs, None)
    assert problems == []
    (found,) = boards(results, every_class=True)
    return found


class Pages(dict):
    def __missing__(self, run):
        return f"{run}.html"


@pytest.fixture(scope="module")
def figure(board):
    return insertion_deletion.figure(board, load(templates_folder()), Pages(), 40)


def test_a_table_per_resolution_with_each_model_s_own_reference(figure):
    assert [t["resolution"] for t in figure["tables"]] == [7, 28]
    rows = figure["tables"][0]["rows"]
    assert [(r["explainer"], r["reference"]) for r in rows] == [("cam", False), ("random_map", True)] * 2
    values = {(r["series"], r["explainer"]): float(r["cells"][2]["text"]) for r in rows}
    assert values[HOSTILE, "random_map"] != values["baseline", "random_map"]
    fine = figure["tables"][1]["rows"][0]["cells"][0]
    assert fine["text"] == "n/a"
    assert fine["reason"].startswith("the map has 7 cells per side")
    assert {c["metric"]: c["higher"] for c in figure["columns"]} == {
        "insertion": True, "deletion": False, "insertion_minus_deletion": True, "normalised_insertion": True,
        "normalised_deletion": False, "p_original": None, "p_blurred": None}  # fmt: skip


def test_published_rows_stand_at_their_own_resolution(figure):
    at = {
        t["resolution"]: {p["name"]: [c["text"] for c in p["cells"]] for p in t["published"]} for t in figure["tables"]
    }
    assert at[7]["iGOS++"] == ["0.733", "0.181", "0.552"]
    assert at[28]["I-GOS"] == ["0.599", "0.106", "0.493"]
    assert "RISE" not in at[7], "published at 224 x 224 alone"
    assert len(at[7]) == 4
    assert len(at[28]) == 3


def test_curves_are_the_means_of_the_samples_and_have_the_areas_of_the_table(figure, board):
    data = figure["charts"]["insertion"]["data"]
    lines = [t for t in data if "fill" not in t]
    assert len(lines) == 4, "none at 28: no image has a curve there"
    assert {t["when"]["resolution"] for t in data} == {"7"}
    assert len(data) - len(lines) == 2, "reference maps have no band"
    rows = figure["tables"][0]["rows"]
    for line in lines:
        area = np.trapezoid(line["y"], line["x"])
        assert any(math.isclose(area, float(r["cells"][0]["text"]), abs_tol=1e-3) for r in rows)
    assert not any("<img" in text for t in lines for text in t["text"])
    assert board.references == {}, "a reference map is scored by each model: no row of a board"


def scored(explainer, insertion, *, series=0, reference=False):
    row = types.SimpleNamespace(value=insertion, low=insertion, high=insertion, n=4, reason="")
    return insertion_deletion.Drawn("net", series, explainer, "", reference, rows={(7, "insertion"): [row]})


def test_curves_of_one_model_have_a_colour_for_each_explainer_and_the_best_are_drawn_at_first():
    lines = [scored(f"map{i}", i / 10) for i in range(7)] + [scored("random_map", 0.9, reference=True)]
    looks = insertion_deletion.looks_of(lines)
    assert [e for e, look in looks.items() if look.shown] == [*(f"map{i}" for i in range(2, 7)), "random_map"]
    assert [look.tone for look in looks.values()] == [*range(7), "reference"]
    several = insertion_deletion.looks_of([*lines, scored("map0", 0.95, series=1)])
    assert {look.tone for look in several.values()} == {None}, "a colour is a model then"
    assert several["map0"].shown, "the best of any model"


def test_a_run_page_names_the_resolution_and_keeps_damaged_curves_out(runs, tmp_path):
    results = {r.run_id: r for r in load_all(runs, None)[0]}
    said = {h["class_name"] for h in page(results["masked-0"])["headline"] if h["metric"] == "insertion"}
    assert said == {"all, 7 x 7 cells", "all, 28 x 28 cells"}
    (found,) = scrubber(results["masked-0"], Pictures(tmp_path), "x")
    assert [s["name"][:5] for s in found["samples"]] == ["00001"]
    assert scrubber(results["masked-1"], Pictures(tmp_path), "x") == []


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH")
def test_the_slider_changes_the_picture_by_key_and_nothing_is_fetched(runs, tmp_path):
    from playwright.sync_api import sync_playwright

    site = build(runs, None, tmp_path / "site", cache=False, resamples=10).index.parent
    complaints, requests = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        tab = browser.new_page(viewport={"width": 390, "height": 900})
        tab.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
        tab.on("pageerror", lambda e: complaints.append(str(e)))
        tab.on("dialog", lambda d: complaints.append("dialog"))
        tab.on("request", lambda r: requests.append(r.url))
        tab.goto((site / "runs" / "masked-0.html").as_uri())
        tab.wait_for_selector("[data-part=step][aria-valuetext]")

        def grey(direction: str) -> float:
            path = tmp_path / "shot.png"
            tab.locator(f"canvas[data-part={direction}]").screenshot(path=path)
            return float(np.asarray(Image.open(path).convert("L")).mean() / 255)

        slider = tab.get_by_label("step", exact=True)
        slider.focus()
        for key, step in (("Home", 0), ("ArrowRight", 1), ("End", 49), ("ArrowLeft", 48)):
            slider.press(key)
            tab.wait_for_selector(f".scrubber[data-step='{step}']")
            shown, gone = grey("insertion"), grey("deletion")
            assert shown == pytest.approx(step / 49, abs=0.03), "as much of the white image as there are cells"
            assert gone == pytest.approx(1 - step / 49, abs=0.03)
        assert "Step 48 of 49: 98 % of the cells" in tab.locator("[data-part=said]").inner_text()
        assert tab.evaluate("document.documentElement.scrollWidth") <= 390
        (path,) = (site / "figures").glob("*-insertion_deletion.html")
        tab.goto(path.as_uri())
        tab.wait_for_selector("[data-chart=insertion] .main-svg")
        assert tab.locator("tr.published:visible").count() == 4
        tab.locator("input[data-choice=resolution][value='28']").check()
        assert tab.locator("tr.published:visible").count() == 3
        assert tab.evaluate("document.documentElement.scrollWidth") <= 390
        browser.close()
    assert complaints == []
    assert all(u.startswith("file://") for u in requests)
