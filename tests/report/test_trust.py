"""The page of trust in explanations: every number where it belongs, and what there is without any."""

import json

import pytest

from harness.record import load_all
from harness.report.boards import boards
from harness.report.figures import trust


@pytest.fixture(scope="module")
def results(trusted_runs):
    return load_all(trusted_runs, None)[0]


@pytest.fixture(scope="module")
def figure(results):
    (board,) = boards(results, every_class=True)
    return trust.figure(board, {r.run_id: f"{r.run_id}.html" for r in results})


def value_of(results, run, metric, explainer="", variant="", resolution=None):
    (row,) = [r for x in results if x.run_id == run for s in x.stages for r in s.rows
              if (r.metric, r.explainer, r.variant) == (metric, explainer, variant)
              and resolution in (None, r.resolution)]  # fmt: skip
    return row.value


def named(lines, start):
    return next(x for x in lines if x["name"].startswith(start))


def test_randomisation_beside_its_references(figure, results):
    (hostile,) = [x for x in figure["randomisation"] if x["name"].endswith("· saliency") and "img" in x["name"]]
    wanted = [value_of(results, "trusted-2", "randomisation", "saliency", v)
              for v in ("", "two_random_networks", "edge_detector")]  # fmt: skip
    assert [c["text"] for c in hostile["cells"]["randomisation"]] == [f"{v:.3f}" for v in wanted]
    assert [s["stage"] for s in hostile["stages"]["randomisation"]] == ["head", "norm5", "conv0"]
    last = hostile["stages"]["randomisation_rank"][-1]["cell"]["text"]
    assert last == f"{value_of(results, 'trusted-2', 'randomisation_rank', 'saliency'):.3f}"
    seeds = named(figure["randomisation"], "baseline · cam")
    both = [value_of(results, f"trusted-{k}", "randomisation", "cam") for k in (0, 1)]
    assert seeds["cells"]["randomisation"][0]["text"] == f"{sum(both) / 2:.3f}"
    assert [x["name"] for x in figure["randomisation"] if x["kind"] == "reference"] == ["random_map"]
    assert seeds["passes"] == "2 + 0"


def test_the_curve_starts_at_the_trained_network_and_ends_where_all_is_random(figure, results):
    traces = figure["charts"]["depth"]["data"]
    own = [t for t in traces if "series-0" in t["groups"] and "explainer-cam" in t["groups"]]
    curve, aside = (t for t in own if t["variant"] == "randomisation")
    assert curve["x"] == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert curve["y"][0] == 1.0
    assert aside["x"] == [1.15, 1.3]
    assert all("<" not in text for t in traces for text in t["text"])
    assert {t["visible"] for t in traces if t["variant"] == "randomisation_rank"} == {False}


def test_infidelity_and_sensitivity(figure, results):
    line = named(figure["faithful"], "baseline · adversarial")
    assert line["n"] == 24
    wanted = [sum(value_of(results, f"trusted-{k}", m, "adversarial") for k in (0, 1)) / 2
              for m in ("unexplained_change", "infidelity", "max_sensitivity")]  # fmt: skip
    assert [c["text"] for c in line["cells"]] == [f"{wanted[0]:.3f}", f"{wanted[1]:.4f}", f"{wanted[2]:.3f}"]


def test_a_reference_map_is_as_faithful_as_its_model_lets_it_be(figure, results):
    lines = {x["name"]: x for x in figure["faithful"] if x["kind"] == "reference"}
    shared = lines.pop("random_map")
    assert shared["cells"][:2] == [None, None]
    assert shared["cells"][2]["text"] == f"{value_of(results, 'trusted-0', 'max_sensitivity', 'random_map'):.3f}"
    hostile = next(x for name, x in lines.items() if "img" in name)
    assert hostile["name"].endswith("· random_map")
    assert len(lines) == 2, "one of each series"
    wanted = value_of(results, "trusted-2", "unexplained_change", "random_map")
    assert wanted != value_of(results, "trusted-0", "unexplained_change", "random_map")
    assert hostile["cells"][0]["text"] == f"{wanted:.3f}"
    assert hostile["cells"][2] is None


def test_the_matrix_has_correlations_above_and_overlaps_below(figure, results):
    matrix = next(m for m in figure["agreement"] if "img" in m["name"])
    assert matrix["names"] == ["cam", "saliency", "adversarial"]
    for i, a in enumerate(matrix["names"]):
        for j, b in enumerate(matrix["names"]):
            cell = matrix["rows"][i]["cells"][j]
            if i == j:
                assert cell is None
                continue
            metric, pair = ("explainer_agreement", (a, b)) if i < j else ("explainer_overlap", (b, a))
            assert cell["text"] == f"{value_of(results, 'trusted-2', metric, '', ' and '.join(pair)):.3f}"
            assert "12 x 12 cells" in cell["title"]


def test_shortcuts(figure, results):
    model = next(x for x in figure["shortcut"] if "img" in x["name"])
    assert [g["n"] for g in model["groups"]] == [18, 6, 24]
    effect = [value_of(results, "trusted-2", "shortcut_effect", "", v) for v in ("before", "erased", "")]
    assert [c["text"] for c in model["groups"][0]["cells"]] == [f"{v:.3f}" for v in effect]
    assert effect[2] == pytest.approx(effect[0] - effect[1])
    maps = next(x for x in figure["maps"] if x["name"].endswith("· cam") and "img" in x["name"])
    assert maps["n"] == [24, 6]
    assert maps["cells"][0]["text"] == f"{value_of(results, 'trusted-2', 'shortcut_mass', 'cam'):.3f}"
    assert maps["cells"][5]["text"] == f"{value_of(results, 'trusted-2', 'shortcut_lesion_mass', 'cam', 'area'):.3f}"


def test_the_download_holds_every_number(figure, results):
    rows = [r for x in results if x.run_id == "trusted-2" for s in x.stages for r in s.rows
            if r.evaluation in trust.EVALUATIONS and r.explainer != "random_map"]  # fmt: skip
    mine = [r for r in figure["records"] if "img" in r["name"] and r["kind"] == "run"]
    assert len(mine) == len(rows) > 60
    assert sorted(r["value"] for r in mine) == pytest.approx(sorted(r.value for r in rows), abs=1e-7)
    json.dumps(figure["records"], allow_nan=False)


def test_without_any_the_page_names_the_command(results):
    (board,) = boards([r for r in results if r.run_id == "trusted-3"], every_class=True)
    figure = trust.figure(board, {"trusted-3": "x.html"})
    assert not any(
        figure[k] for k in ("randomisation", "faithful", "agreement", "shortcut", "maps", "charts", "records")
    )
    assert figure["command"].startswith("harness evaluate trusted-3 --evaluation randomisation")


def test_a_map_without_an_order_says_so(synthetic, tmp_path):
    run = synthetic.write_run(
        tmp_path / "runs", 0, pictures=False, tables={"classification": synthetic.classification(1.0)}
    )
    table = synthetic.trusted("randomisation", 0, 0.3)
    for values in table.values.values():
        values[:] = float("nan")
    info = {"evaluation": "randomisation", "explainer": "gradcam", "key": "k", "settings": [], "seconds": 1.0,
            "facts": {"stages": list(synthetic.STAGES)}}  # fmt: skip
    with run.new_stage("randomisation-gradcam", "0" * 12) as folder:
        from harness.store import write_stage

        write_stage(folder, info, synthetic.rows_of(table, run.run_id, "randomisation", "gradcam"), table.to_frame())
    results = load_all(tmp_path / "runs", None)[0]
    (board,) = boards(results, every_class=True)
    figure = trust.figure(board, {results[0].run_id: "x"})
    (line,) = figure["randomisation"]
    assert line["cells"]["randomisation"][0]["text"] == "n/a"
    assert line["cells"]["randomisation"][0]["reason"] == "no samples that could be scored"
    json.dumps(figure["charts"], allow_nan=False)
