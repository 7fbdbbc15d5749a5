"""Curves of accuracy under attack against the metrics, and what the page makes of them."""

import json
import math

import numpy as np
import pytest

from harness.metrics.ara import accuracy_at, area, attack_ara, flip_ara
from harness.record import load_all
from harness.report.boards import boards
from harness.report.figures import robustness
from harness.report.figures.areas import summed
from harness.report.figures.attacked import GRID, bands_of, curves_of, mean, range_of, steps, thinned
from harness.report.literature import load
from harness.report.runpage import page
from harness.report.site import templates_folder


def area_above(curve, naive):
    """The integral of a step function, in plain loops."""
    radii, share = curve.radii.tolist(), curve.share.tolist()
    return sum(max(0.0, s - naive) * (b - a) for a, b, s in zip(radii, radii[1:], share, strict=False))


# ---- curves


def test_a_curve_is_the_share_above_each_radius():
    distance = np.array([0.0, 0.3, 0.1, 0.1, 0.2])
    curve = steps(distance, np.ones(5))
    assert curve.radii.tolist() == [0, 0.1, 0.2, 0.3]
    assert curve.share.tolist() == pytest.approx([0.8, 0.4, 0.2, 0.0])
    at = np.array([0, 0.05, 0.1, 0.15, 0.3, 9])
    assert curve.at(at) == pytest.approx(accuracy_at(distance, np.ones((1, 5)), at)[0])
    assert curve.meets(0.3) == 0.2
    assert steps(distance + 1, np.ones(5)).share[0] == 1.0


def test_the_area_above_naive_is_the_metric(synthetic):
    table = synthetic.attacked(0.01)
    one = np.ones((1, len(table.ids)))
    curves = curves_of(table)
    assert set(curves) == {("adv", "all"), ("btr", "all")}
    assert area_above(curves["adv", "all"], 0.25) == pytest.approx(attack_ara(table, one)[0, 0], rel=1e-12)
    assert area_above(curves["btr", "all"], 0.25) == pytest.approx(area(table.rmse["btr"], one, 0.25)[0], rel=1e-12)
    findings = synthetic.attacked_findings(0.01)
    curves = curves_of(findings)
    areas = [area_above(curves["flip", c], 0.5) for c in findings.classes]
    values = flip_ara(findings, np.ones((1, 48)))[0]
    assert [*areas, np.mean(areas)] == pytest.approx(values.tolist(), rel=1e-12)
    at = np.array([0.0, 0.002, 0.01])
    each = np.mean([curves["flip", c].at(at) for c in findings.classes], axis=0)
    assert curves["flip", "macro"].at(at) == pytest.approx(each)


def test_a_goal_with_a_missing_image_has_no_curve(synthetic):
    table = synthetic.attacked(0.01)
    table.rmse["adv"][3] = np.nan
    assert set(curves_of(table)) == set(bands_of(table, 10)) == {("btr", "all")}


def test_bands_hold_their_curve_and_seeds_their_range(synthetic):
    for table in (synthetic.attacked(0.01), synthetic.attacked_findings(0.01)):
        curves, bands = curves_of(table), bands_of(table, 400)
        assert set(curves) == set(bands)
        for place, band in bands.items():
            middle = curves[place].at(band.radii)
            assert (band.low <= middle + 1e-12).all()
            assert (middle <= band.high + 1e-12).all()
            assert (band.high - band.low).max() > 0.05
    a, b = (curves_of(synthetic.attacked(0.01, seed))["adv", "all"] for seed in (0, 1))
    band, both = range_of([a, b]), mean([a, b])
    assert band.low == pytest.approx(np.minimum(a.at(band.radii), b.at(band.radii)))
    assert both.at(band.radii) == pytest.approx((band.low + band.high) / 2)


def test_a_binomial_band_is_as_wide_as_it_has_to_be():
    """400 images of which half lie above the radius: the interval is 0.5 +- 1.96 * sqrt(0.25 / 400)."""
    table = load_fixture_table(np.repeat([0.1, 0.3], 200))
    band = bands_of(table, 1000)["adv", "all"]
    k = band.radii.tolist().index(0.1)
    assert (band.low[k], band.high[k]) == pytest.approx((0.451, 0.549), abs=0.006)


def load_fixture_table(distance):
    from harness.metrics.robustness import RobustnessTable

    ids = np.array([f"{i:04d}" for i in range(len(distance))])
    return RobustnessTable(
        ids=ids, clusters=ids, task="multiclass", class_names=np.full(len(ids), "a"), classes=("a", "b"), attack="fast",
        naive=0.1, rmse={"adv": np.asarray(distance, float)},
    )  # fmt: skip


def test_thinning_keeps_both_ends():
    assert thinned(np.arange(5.0)).tolist() == [0, 1, 2, 3, 4]
    many = thinned(np.arange(5000.0))
    assert (many[0], many[-1], len(many)) == (0, 4999, GRID)


def test_facts_of_seeds_add_up():
    facts = {
        "images": 10,
        "at the start": 1,
        "passes, mean": 50,
        "passes, maximum": 70,
        "won": {"a": 9},
        "never fooled": 0,
    }
    found = summed([facts, {**facts, "images": 30, "passes, mean": 70, "won": {"a": 1, "b": 20}, "never fooled": 2}])
    assert found == {"images": 40, "start": 2, "won": "b 20, a 10", "mean": "65.0", "most": 70, "never": 2}


# ---- the page


@pytest.fixture(scope="module")
def found(attacked_runs):
    """Return dataset -> board, and the published figures."""
    results, problems = load_all(attacked_runs, None)
    assert problems == []
    return {b.key.dataset: b for b in boards(results, every_class=True)}, load(templates_folder())


class Pages(dict):
    def __missing__(self, run):
        return f"{run}.html"


def figure_of(found, dataset):
    return robustness.figure(found[0][dataset], found[1], Pages(), 30)


def test_each_goal_has_a_line_per_series_and_the_naive_one(found):
    figure = figure_of(found, "cifar10")
    chart = figure["charts"]["curves"]
    assert [g["name"] for g in figure["goals"]] == ["adv", "btr"]
    assert [(t["when"]["goal"], t["when"]["class"]) for t in chart["data"]] == [("adv", "all")] * 2 + [
        ("btr", "all")
    ] * 2
    (naive,) = chart["layout"]["shapes"]
    assert (naive["y0"], naive["y1"], naive["dash"]) == (0.25, 0.25, "dash")
    assert all("<img" not in t["label"] and t["steps"]["x"][0] == 0 for t in chart["data"])
    bars = {t["name"]: t["band"]["bar"] for t in chart["data"]}
    assert bars["baseline"] == "range of the seeds"
    assert set(bars.values()) == {"range of the seeds", "95 % interval"}
    for t in chart["data"]:
        assert t["steps"]["y"] == sorted(t["steps"]["y"], reverse=True)


def test_what_is_drawn_has_the_area_of_the_table(found):
    figure = figure_of(found, "cifar10")
    line = next(x for x in figure["lines"] if "<img" in x["name"])
    for goal, cell in zip(("adv", "btr"), line["cells"], strict=True):
        trace = next(
            t for t in figure["charts"]["curves"]["data"] if t["name"] == line["name"] and t["when"]["goal"] == goal
        )
        x, y = trace["steps"]["x"], trace["steps"]["y"]
        drawn = sum(max(0.0, s - 0.25) * (b - a) for a, b, s in zip(x, x[1:], y, strict=False))
        assert f"{drawn:.4f}" == cell["text"]


def test_ours_come_first_then_what_is_invalid_then_what_was_published(found):
    figure = figure_of(found, "cifar10")
    kinds = [x["kind"] for x in figure["lines"]]
    assert kinds == ["run"] * 2 + ["faulty"] + ["published"] * 19
    assert float(figure["lines"][0]["cells"][0]["text"]) > float(figure["lines"][1]["cells"][0]["text"])
    assert figure["lines"][2]["badges"][0]["text"] == "random output"
    assert any("attacked-3" in x for x in figure["left_out"])
    woods = next(x for x in figure["lines"] if x["name"] == "ResNet-44: psi=0.55, K=1")
    assert (woods["clean"]["text"], [c["text"] for c in woods["cells"]]) == ("0.925", ["0.0022", "0.0026"])
    assert {s["mark"] for s in figure["published"]} == {"seen"}
    assert sum(len(s["name"].split("; ")) for s in figure["published"]) == 19
    assert [x["kind"] for x in figure_of(found, "chestxray14")["lines"]] == ["run"]


def test_facts_that_an_older_run_lacks_are_said_to_be(found):
    lines = figure_of(found, "cifar10")["attacks"]
    assert len(lines) == 4
    both = next(x for x in lines if x["name"] == "baseline")
    assert (both["images"], both["won"], both["never"], both["most"]) == (120, "ddn 100, deepfool 8", 2, 90)
    assert [x["stored"] for x in lines if x["name"] != "baseline"] == [False, False]


def test_findings_have_curves_of_their_own_and_auroc(found):
    figure = figure_of(found, "chestxray14")
    assert figure["classes"] == ["macro", "Cardiomegaly", "Mass"]
    assert [t["when"] for t in figure["charts"]["curves"]["data"]] == [
        {"goal": "flip", "class": c} for c in ("macro", "Cardiomegaly", "Mass")]  # fmt: skip
    assert [t["x"] for t in figure["charts"]["auroc"]["data"]] == [[0, 0.001, 0.005]] * 3
    assert figure["clean"] == ("auroc", "macro")
    assert figure["lines"][0]["clean"]["text"] != "n/a"
    (table,) = figure["by_class"]
    assert [r["class_name"] for r in table["rows"]] == ["Cardiomegaly", "Mass"]
    assert figure["charts"]["curves"]["layout"]["shapes"][0]["y0"] == 0.5


def test_the_logarithmic_axis_has_a_place_for_zero(found):
    chart = figure_of(found, "cifar10")["charts"]["curves"]
    axis = next(x["layout"]["xaxis"] for x in chart["layouts"] if x["when"] == {"axis": "log"})
    zero = chart["data"][0]["steps"]["zero"]
    assert axis["ticktext"][0] == "0"
    assert axis["tickvals"][0] == zero
    assert axis["range"][0] < math.log10(zero) < math.log10(axis["tickvals"][1])
    assert max(max(t["steps"]["x"]) for t in chart["data"]) <= 10 ** axis["range"][1]


def test_other_attacks_are_named_and_not_drawn(synthetic, tmp_path):
    for number, attack in enumerate(("fast", "fast", "strong")):
        table = synthetic.attacked(0.01, number)
        synthetic.write_run(
            tmp_path / "runs", number, method=f"m{number}", pictures=False, dataset="cifar10",
            tables={"robustness": type(table)(**{**table.__dict__, "attack": attack})},
        )  # fmt: skip
    (board,) = boards(load_all(tmp_path / "runs", None)[0], every_class=True)
    figure = robustness.figure(board, [], Pages(), 10)
    assert {x["name"] for x in figure["lines"]} == {"m0", "m1"}
    (said,) = figure["left_out"]
    assert said.startswith("m2-")
    assert "attacked by strong" in said
    assert figure["attack"] == "fast"


def test_a_board_without_attacks_says_how_to_get_them(swept_site):
    (path,) = swept_site.glob("figures/*-robustness.html")
    text = path.read_text()
    assert "harness evaluate RUN --evaluation robustness" in text
    assert "data-chart=" not in text


def test_hostile_names_stay_text(attacked_site):
    for path in attacked_site.glob("figures/*-robustness.html"):
        assert "<img src=x" not in path.read_text()


# ---- other pages


def test_areas_are_headlines_with_four_decimals_and_radii_are_not(attacked_site, found):
    columns = {d: [c.key.metric for c in b.columns if c.headline] for d, b in found[0].items()}
    assert columns["cifar10"] == ["attack_ara", "btr_ara"]
    assert [m for m in columns["chestxray14"] if "flip" in m or "robust" in m] == ["flip_ara"] * 3  # every class
    text = (attacked_site / "index.html").read_text()
    area_cell = found[0]["cifar10"].lines[0].cells
    value = next(c.row.value for k, c in area_cell.items() if k.metric == "attack_ara" and not k.variant)
    assert f'<span class="v">{value:.4f}</span>' in text


def test_a_run_page_has_the_attacks_and_no_wall_of_radii(attacked_runs, attacked_site):
    results = {r.run_id: r for r in load_all(attacked_runs, None)[0]}
    context = page(results["attacked-0"])
    assert [h["metric"] for h in context["headline"]] == ["attack_ara", "btr_ara"]
    assert [(x["name"], x["won"], x["never"]) for x in context["attacks"]] == [("fast", "ddn 50, deepfool 4", 1)] * 2
    assert page(results["attacked-2"])["attacks"] == []
    moved = [h["class_name"] for h in page(results["findings"])["headline"] if h["metric"] == "robust_auroc"]
    assert moved == ["macro, radius 0", "macro, radius 0.001", "macro, radius 0.005"]
    assert "How the attacks went" in (attacked_site / "runs" / "attacked-0.html").read_text()
    assert json.dumps(context["attacks"])
