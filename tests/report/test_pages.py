"""The pages of methods, datasets, explainers and robustness, and those that say how numbers are made."""

import csv
import io
import json
import math
import re
from itertools import pairwise
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.metrics.cells import registration
from harness.metrics.summary import builtin
from harness.plugins import catalogue
from harness.record import from_run
from harness.report import datasets, explainers, methods, numbers, registered
from harness.report.boards import boards
from harness.report.gallery import Pictures
from harness.report.glossary import glossary
from harness.report.names import file_stems
from harness.report.registered import Registered
from harness.report.site import templates_folder
from harness.store import RunFolder
from harness.terms import FILE, terms

AXE = Path(__file__).with_name("axe.min.js")
SIZES = ((1400, 900), (800, 1000), (390, 844))
HOSTILE = '<img src=x onerror="alert(1)">'


def results_of(runs):
    return [from_run(RunFolder(p.parent)) for p in sorted(runs.glob("*/run.json"))]


def pages_of(results):
    return {r.run_id: f"{r.run_id}.html" for r in results}


def test_a_method_s_numbers_are_those_of_its_runs_and_their_mean(swept):
    results = results_of(swept)
    (board,) = boards(results)
    mine = [x for x in board.lines if x.first.method == "baseline"]
    table = numbers.table(board, mine, pages_of(results))
    assert [(c["kind"], c["name"]) for c in table["columns"]] == [
        ("run", "seed 0"), ("run", "seed 1"), ("mean", "mean of 2 seeds")]  # fmt: skip
    (group,) = table["groups"]
    line = next(x for x in group["lines"] if x["metric"] == "auroc")
    values = [next(r.value for r in x.result.rows if (r.metric, r.class_name, r.variant) == ("auroc", "macro", ""))
              for x in mine]  # fmt: skip
    assert [c["text"] for c in line["cells"]] == [f"{v:.3f}" for v in (*values, sum(values) / 2)]
    assert line["cells"][2]["interval"] == f"({min(values):.3f} to {max(values):.3f})"
    assert {g["name"] for g in table["explained"]} == {"localisation · cam", "localisation · saliency"}


def test_a_method_says_its_settings_and_who_starts_from_it(swept):
    results = results_of(swept)
    found = boards(results)
    page = methods.page("robust_fgsm", results, found, Registered.here(), pages_of(results))
    (epsilon,) = (s for s in page["settings"] if s["name"] == "epsilon")
    assert {(v["value"], v["runs"]) for v in epsilon["values"]} == {("0.01", 2), ("0.001", 1), ("0.1", 1)}
    assert (epsilon["unit"], epsilon["source"], epsilon["changed"]) == (
        "Linf radius, [0,1] pixels", "Khakzar 2019, 3.4", True)  # fmt: skip
    assert page["parents"] == ["baseline"]
    assert "FGSM" in page["summary"]
    assert methods.page("baseline", results, found, Registered.here(), pages_of(results))["children"] == ["robust_fgsm"]


def test_methods_without_runs_are_listed_without_a_page(swept):
    results = results_of(swept)
    stems = file_stems(methods.names_of(results))
    lines = {x["name"]: x for x in methods.index(results, boards(results), Registered.here(), stems)}
    assert lines["baseline"]["runs"] == 2
    assert lines["baseline"]["page"] == "methods/baseline.html"
    assert lines["chexnet"]["runs"] == 0
    assert lines["chexnet"]["page"] == ""


def test_a_dataset_s_counts_are_what_its_runs_stored(swept, tmp_path):
    results = results_of(swept)
    page = datasets.page("chestxray14", results, boards(results), Registered.here(), terms(templates_folder()),
                         Pictures(tmp_path), "pictures")  # fmt: skip
    (version,) = page["versions"]
    assert version["counts"] == [("train", 800), ("validation", 90), ("test", 160)]
    cardiomegaly = version["classes"][0]
    assert [c["positives"] for c in cardiomegaly["cells"]] == [99, 9, 40]
    assert cardiomegaly["cells"][2]["share"] == 25.0
    assert [t["x"][0] for t in page["charts"]["prevalence-0"]["data"]] == [99 / 8, 10.0, 25.0]
    assert version["notes"] == ["subset"]
    assert len(version["runs"]) == len(results)
    assert "attribute the NIH" in page["terms"]
    assert "https://nihcc.app.box.com" in page["how_to_get"]
    assert [len(page["examples"]), len({e["id"] for e in page["examples"]})] == [4, 4]
    assert all(e["image"] for e in page["examples"])


def test_of_many_classes_those_with_most_images_are_shown():
    positives = {f"c{i:03d}": {"test": i} for i in range(100)}
    kept, left_out = datasets._listed(list(positives), positives, ["test"])
    assert (len(kept), left_out) == (datasets.CLASSES_LISTED, 100 - datasets.CLASSES_LISTED)
    assert kept == sorted(kept)
    assert kept[0] == "c060"


def test_a_dataset_s_own_terms_come_first(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        'from harness.api import Dataset, dataset\nSTEP = "one"\n'
        'class Base(Dataset):\n    terms = "ours alone"\n    how_to_get = f"ask {STEP}"\n'
        '@dataset("mine", source="us")\nclass Mine(Base):\n    """Mine, `code`.\n\n    More\n    of it."""\n'
    )
    known = Registered(catalogue([file]))
    said = datasets.described("mine", known, {"mine": {"terms": "another's", "terms_source": "elsewhere"}})
    assert said == {"summary": "Mine, code.", "more": "More of it.", "source": "us", "how_to_get": "ask one",
                    "terms": "ours alone", "terms_source": "its own file"}  # fmt: skip
    assert datasets.described("nobody's", known, {})["terms"] == "not stated"


def test_every_shipped_dataset_states_terms():
    known, stated = Registered.here(), terms(templates_folder())
    names = [c.name for c in known.found.of("dataset")]
    assert len(names) >= 5
    assert set(stated) <= set(names)
    assert all(datasets.described(n, known, stated)["terms"] for n in names)


def test_a_table_of_terms_that_is_none_is_refused(tmp_path):
    (tmp_path / FILE).write_text("a,b\n1,2\n")
    with pytest.raises(UsageError, match="expected the columns dataset, terms, source"):
        terms(tmp_path)
    assert terms(tmp_path / "nowhere") == {}


@pytest.mark.parametrize("line", ["d", "d,free", "d,free,us,more", "c,again,us"])
def test_a_line_of_terms_that_is_none_is_named(tmp_path, line):
    (tmp_path / FILE).write_text(f"dataset,terms,source\nc,free,us\n{line}\n")
    with pytest.raises(
        UsageError, match=r"datasets\.csv, line 3: expected the three fields of a dataset not yet named"
    ):
        terms(tmp_path)


def test_a_plug_in_that_cannot_be_read_costs_its_words_alone(tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").write_text('name = "harness"\n')
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods" / "broken.py").write_text("def (")
    monkeypatch.chdir(tmp_path)
    known = Registered.here()
    assert known.get("method", "baseline") is None
    assert "broken.py" in known.problems[0]


def test_the_glossary_has_every_metric_in_a_sentence():
    found = {m["name"]: m for g in glossary() for m in g["metrics"]}
    assert set(found) == {registration(m)["name"] for m in builtin()}
    for name, m in found.items():
        assert len(m["sentence"]) > 20, name
        assert "(R" not in m["sentence"], name
        assert "`" not in m["sentence"], name
    assert found["ece"]["higher"] is False
    assert found["attack_ara"]["unit"] == "RMSE"


def test_explainers_show_what_the_boards_hold(trusted_runs, swept):
    results = results_of(swept)
    page = explainers.page(boards(results), Registered.here(), pages_of(results))
    (board,) = page["boards"]
    group = board["groups"][0]
    cam = next(x for x in group["lines"] if x["name"] == "cam")
    at = [c["metric"] for c in board["columns"]].index("pointing_game")
    values = [r.value for x in results for r in x.rows if r.method == "baseline" and r.explainer == "cam"
              and (r.metric, r.class_name, r.variant) == ("pointing_game", "macro", "")]  # fmt: skip
    assert cam["cells"][at]["text"] == f"{sum(values) / len(values):.3f}"
    assert cam["passes"] == "1 + 0: the map alone"
    assert {x["name"] for x in board["references"]} == {"centre", "random_map", "whole_image"}
    assert all(r["value"] is None or math.isfinite(r["value"]) for r in page["data"]["records"])
    trust = explainers.page(boards(results_of(trusted_runs)), Registered.here(), pages_of(results_of(trusted_runs)))
    columns = [c["metric"] for c in trust["boards"][0]["columns"]]
    assert columns == ["randomisation", "unexplained_change", "max_sensitivity"]
    assert not any(c["higher"] for c in trust["boards"][0]["columns"])


def test_directions_on_the_explainers_page_are_those_of_the_metrics():
    own = {registration(m)["name"]: registration(m)["higher_is_better"] for m in builtin()}
    assert {m for m in explainers.METRICS if not own[m]} == set(explainers.LOWER)


def test_the_robustness_page_gathers_every_attacked_board(attacked_site):
    text = (attacked_site / "robustness.html").read_text()
    assert [len(re.findall(f"<h2[^>]*>{d}", text)) for d in ("cifar10", "chestxray14")] == [1, 1]
    data = json.loads(re.search(r'id="figure">(.*?)</script>', text)[1])
    assert set(data["charts"]) == {"areas-0", "areas-1"}
    assert "random output" in text  # a fault is named, and takes no part in the chart
    assert not any("broken" in y for t in data["charts"]["areas-1"]["data"] for y in t["y"])
    assert "<img src=x" not in text
    own = {(r["name"], r["metric"], r["variant"]): r["value"] for r in data["records"] if "cifar10" in r["board"]}
    drawn = {(y, t["name"]): x for t in data["charts"]["areas-1"]["data"] for y, x in zip(t["y"], t["x"], strict=True)}
    assert drawn["baseline", "attack_ara"] == own["baseline", "attack_ara", ""]
    assert all(len(t["y"]) == len(set(t["y"])) for t in data["charts"]["areas-1"]["data"])  # no other variant of it
    (figure,) = attacked_site.glob("figures/cifar10*-robustness.html")
    there = json.loads(re.search(r'id="figure">(.*?)</script>', figure.read_text())[1])["records"]
    assert own["baseline", "attack_ara", ""] == next(
        r["value"] for r in there if (r["name"], r["metric"], r["variant"]) == ("baseline", "attack_ara", ""))  # fmt: skip


@pytest.mark.browser
def test_a_method_of_a_board_is_chosen_and_downloaded(watched, swept_site):
    page = watched.open((swept_site / "explainers.html").as_uri())
    chooser = page.locator("[data-chooser]")
    names = chooser.locator("option").all_inner_texts()
    shown = "[...document.querySelectorAll('tbody[data-of]')].filter(b => !b.hidden).map(b => b.dataset.choice)"
    assert page.evaluate(shown) == ["0"]
    chooser.select_option(label=names[-1])
    assert page.evaluate(shown) == [str(len(names) - 1)]
    with page.expect_download() as caught:
        page.locator("#csv").click()
    lines = list(csv.DictReader(io.StringIO(caught.value.path().read_text())))
    with page.expect_download() as caught:
        page.locator("#json").click()
    assert len(json.loads(caught.value.path().read_text())["rows"]) == len(lines) > 0
    page.locator("tbody:not([hidden]) th[scope=row] a").first.click()
    assert page.evaluate("document.getElementById(location.hash.slice(1)).textContent").strip()
    page.close()
    assert watched.quiet() is True


@pytest.mark.browser
def test_charts_of_datasets_and_robustness_are_drawn(watched, attacked_site):
    for address in ("robustness.html", "datasets/chestxray14.html"):
        page = watched.open((attacked_site / address).as_uri())
        page.wait_for_selector("[data-chart] .main-svg")
        charts = page.evaluate("[...document.querySelectorAll('[data-chart]')].map(c => c.data.length)")
        assert charts
        assert min(charts) > 0
        page.close()
    assert watched.quiet() is True


def every_page(site, attacked_site, trusted_site):
    """Return the addresses of one page of each kind, with runs that have pictures, attacks, explanations."""
    found = [site / f"{n}.html" for n in ("about", "methods", "datasets", "explainers", "robustness", "versus")]
    found += [next(site.glob("methods/baseline.html")), next(site.glob("datasets/*.html"))]
    found += [site / "runs" / "baseline-chestxray14-s0-000000000000.html", site / "runs" / "failed-run.html"]
    found += [attacked_site / "robustness.html", trusted_site / "explainers.html", *sorted(site.glob("figures/*.html"))]
    return [p.as_uri() for p in found]


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_at_three_sizes(watched, site, attacked_site, trusted_site, scheme):
    script, found = AXE.read_text(), []
    page = watched.context.new_page()
    page.emulate_media(color_scheme=scheme)
    for address in every_page(site.index.parent, attacked_site, trusted_site):
        page.goto(address)
        page.evaluate(script)
        for width, height in SIZES:
            page.set_viewport_size({"width": width, "height": height})
            page.wait_for_function("document.documentElement.scrollWidth <= innerWidth")  # charts follow in a moment
            violations = page.evaluate(
                "axe.run(document, { resultTypes: ['violations'], preload: false }).then(r => r.violations"
                ".filter(v => ['serious', 'critical'].includes(v.impact)).map(v => [v.id, v.nodes[0].html]))"
            )
            found += [(address.rpartition("/")[2], width, v) for v in violations]
    page.close()
    assert found == []
    assert watched.quiet() is True


@pytest.mark.browser
def test_axe_would_find_something(watched):
    page = watched.context.new_page()
    page.set_content("<html lang=en><title>x</title><main><h1>x</h1><img src='data:,'></main>")
    page.evaluate(AXE.read_text())
    assert "image-alt" in page.evaluate("axe.run(document, { preload: false }).then(r => r.violations.map(v => v.id))")
    page.close()
    watched.quiet()


@pytest.mark.browser
def test_pages_are_in_order_for_a_reader_without_eyes(watched, site, attacked_site, trusted_site):
    page = watched.context.new_page()
    for address in every_page(site.index.parent, attacked_site, trusted_site):
        page.goto(address)
        levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3')].map(h => +h.tagName[1])")
        assert levels.count(1) == 1, address
        assert all(b - a <= 1 for a, b in pairwise(levels)), address
        assert page.locator("[role=img]").count() == page.locator("[role=img][aria-label]").count()
    page.close()
    assert watched.quiet() is True


def test_words_are_read_without_importing(tmp_path):
    found = catalogue()
    component = found.find("dataset", "imagenet_sample")
    assert "synsets.txt" in registered.text(component, "how_to_get")
    assert registered.text(component, "no such attribute") == ""
    assert registered.text(found.find("dataset", "phantom_shortcut"), "tied") == "Effusion"
