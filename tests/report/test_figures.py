import math
from dataclasses import replace

import pytest

from harness.record import Result, StageResult
from harness.report.boards import boards
from harness.report.charts import training
from harness.report.figures import adversarial_explanations, classes, examples, localisation, sweep
from harness.report.figures.series import labels, point, series_of
from harness.report.gallery import Pictures
from harness.report.literature import Published
from harness.rows import Row

ROW = Row(run_id="r", evaluation="classification", evaluation_key="k", metric="auroc", dataset="d", split="test", size=64,
          profile="quick", method="m", model="n", seed=0, class_name="Mass", value=0.7, low=0.6, high=0.8, n=9,
          higher_is_better=True)  # fmt: skip
AT_T = replace(ROW, evaluation="localisation", metric="localisation_accuracy", explainer="cam", threshold=0.1, value=0.4,
               low=0.3, high=0.5)  # fmt: skip
PAPER = Published(
    "Paper, Table 1", 2017, "Net", "d", "auroc", "Mass", None, 0.9, "seen-secondary", "own", "boxes drawn", ""
)


class Pages(dict):
    def __missing__(self, run):
        return f"{run}.html"


PAGES = Pages()


def result(name, *rows, start_from=None, created="", settings=None, method="m", reference=(), **info):
    described = [
        {"component": f"method {method}", "name": n, "value": v, "unit": "px"} for n, v in (settings or {}).items()
    ]
    stages = [StageResult("own", {}, [replace(r, run_id=name, method=method) for r in rows], dict)]
    stages += (
        [StageResult("ref", {"reference": True}, [replace(r, run_id=name) for r in reference], dict)]
        if reference
        else []
    )
    known = {"run_id": name, "status": "complete", "classes": ["Atelectasis", "Mass"], "start_from": start_from,
             "settings": described, "spec": {"method": method, "seed": rows[0].seed}, "provenance": {"created": created}}  # fmt: skip
    return Result(known | info, stages, None, published=False)


def board_of(*results):
    (board,) = boards(results, every_class=True)
    return board


def found_sweeps(*results):
    return sweep.sweeps(board_of(*results), {r.run_id: r for r in results})


# ---- series


def test_one_seed_keeps_its_interval_and_several_have_their_range():
    one = point([ROW])
    assert (one.value, one.low, one.high, one.seeds) == (0.7, 0.6, 0.8, 1)
    several = point([ROW, replace(ROW, value=0.9, low=0.1, high=0.99)])
    assert (several.value, several.low, several.high, several.seeds) == (pytest.approx(0.8), 0.7, 0.9, 2)
    assert "mean of 2 seeds" in several.shown()["title"]


def test_a_mean_over_seeds_is_missing_where_one_of_them_is():
    found = point([ROW, replace(ROW, value=math.nan, reason="too few")])
    assert math.isnan(found.value)
    assert found.shown()["reason"] == "too few"


def test_what_only_some_seeds_have_says_so():
    runs = [result("a", ROW, replace(ROW, class_name="macro")), result("b", replace(ROW, seed=1, value=0.9))]
    (series,), _ = series_of(board_of(*runs))
    texts = {k.class_name: p.text() for k, p in series.points().items()}
    assert texts == {"Mass": "0.800 [0.700, 0.900]", "macro": "0.700 [0.600, 0.800] (1 of 2 seeds)"}


def test_partial_faulty_and_older_runs_are_left_out_and_named():
    good = result("new", ROW, created="2026-02-01")
    old = result("old", replace(ROW, value=0.1), created="2026-01-01")
    partial = result("partial", replace(ROW, seed=1, flags=("partial",)))
    faulty = result("faulty", replace(ROW, seed=2, flags=("random output",)))
    (series,), left_out = series_of(board_of(good, old, partial, faulty))
    assert [x.result.run_id for x in series.lines] == ["new"]
    assert sorted(x.split(" ")[0] for x in left_out) == ["faulty", "old", "partial"]


def test_labels_name_what_tells_series_apart_and_no_more():
    runs = [result("a", replace(ROW, settings="epsilon=0.1, layers=(1, 2)")), result("b", replace(ROW, settings="layers=(1, 2)")),
            result("c", ROW, method="other")]  # fmt: skip
    assert labels(series_of(board_of(*runs))[0]) == ["m, epsilon=0.1", "m", "other"]
    runs[1] = result("b", replace(ROW, settings="layers=(1, 3)"))
    assert labels(series_of(board_of(*runs))[0]) == ["m, epsilon=0.1, layers=(1, 2)", "m, layers=(1, 3)", "other"]


# ---- Fig. 2


def test_classes_are_bands_with_ours_filled_and_published_hollow():
    macro = replace(ROW, class_name="macro", value=0.65)
    runs = [result("a", ROW, macro), result("b", replace(ROW, seed=1, value=0.8), replace(macro, seed=1))]
    figure = classes.figure(board_of(*runs), [PAPER, replace(PAPER, dataset="other", system="Other")], PAGES)
    assert figure["classes"] == ["Mass", "macro"]
    ours, theirs = figure["charts"]["classes"]["data"]
    assert ours["x"] == [0.75, 0.65]
    assert "symbol" not in ours
    assert theirs["symbol"].endswith("-open")
    assert theirs["x"] == [0.9]
    assert ours["y"][0] < 0 < theirs["y"][0] < 0.5  # each in its lane of the first band
    assert figure["legend_series"][0]["detail"] == "mean of seeds 0, 1 (their range)"
    assert figure["published"][0]["mark"] == "seen-secondary"
    assert "Other" not in str(figure)
    kinds = [(r["kind"], r["class_name"], r["value"], r["mark"], r["source"]) for r in figure["records"]]
    assert kinds == [("run", "Mass", 0.75, "", ""), ("run", "macro", 0.65, "", ""),
                     ("published", "Mass", 0.9, "seen-secondary", "Paper, Table 1")]  # fmt: skip


def test_only_one_kind_of_evaluation_is_shown_and_no_other_metric_of_that_name():
    other = replace(ROW, evaluation_settings="bins = 3", value=0.1)
    moved = [replace(ROW, attack="pgd", radius=0.1, value=0.2), replace(ROW, explainer="cam", value=0.3)]
    figure = classes.figure(board_of(result("a", ROW, *moved), result("b", replace(ROW, seed=1), other)), [], PAGES)
    assert [r["value"] for r in figure["records"]] == [0.7]
    assert figure["evaluation_settings"] == ""


def test_a_board_without_auroc_has_no_chart():
    figure = classes.figure(board_of(result("a", AT_T)), [PAPER], PAGES)
    assert figure["charts"] == {}
    assert figure["lines"] == []


# ---- Fig. 3


def test_localisation_has_a_panel_per_class_and_a_line_per_method_and_explainer():
    curve = [AT_T, replace(AT_T, threshold=0.2, value=0.2), replace(AT_T, explainer="saliency")]
    macro = [replace(r, class_name="macro") for r in curve]
    best = replace(AT_T, variant="per_t", value=0.45)
    empty = replace(AT_T, class_name="Atelectasis", value=math.nan, reason="too few")
    run = result("a", *curve, *macro, best, empty, reference=[replace(AT_T, explainer="centre")])
    wang = replace(PAPER, metric="localisation_accuracy", threshold=0.1)
    figure = localisation.figure(board_of(run), [replace(wang, threshold=0.2, value=0.3), wang], PAGES)
    assert [p["title"] for p in figure["panels"]] == ["macro", "Mass"]
    traces = figure["charts"]["panel-1"]["data"]
    kinds = [(t["tone"], t["line"]["dash"], t.get("variant"), t.get("visible", True)) for t in traces]
    assert kinds == [(0, "solid", "", True), (0, "solid", "per_t", False), (0, "solid", "", True),
                     ("reference", "dash", "", True), ("published", "8px,3px", None, True)]  # fmt: skip
    assert traces[0]["symbol"] != traces[2]["symbol"]
    assert (traces[0]["x"], traces[0]["y"]) == ([0.1, 0.2], [0.4, 0.2])
    assert (traces[-1]["x"], traces[-1]["y"]) == ([0.1, 0.2], [0.9, 0.3])
    table = next(t for t in figure["tables"] if (t["variant"], t["class_name"]) == ("", "Mass"))
    assert [(r["kind"], r["cells"][0]["text"]) for r in table["rows"]] == [
        ("run", "0.400"), ("run", "0.400"), ("reference", "0.400"), ("published", "0.900")]  # fmt: skip
    assert table["rows"][-1]["mark"] == "seen-secondary"
    assert figure["published"][0]["protocol"] == "boxes drawn"


# ---- Fig. 4


def test_a_sweep_is_what_differs_in_one_number_alone():
    runs = [
        result(f"r{e}", replace(ROW, settings=f"e={e}"), settings={"e": e, "epochs": 3, "flag": True})
        for e in (0.1, 10, 9)
    ]
    runs.append(result("two", replace(ROW, settings="e=5, epochs=4"), settings={"e": 5, "epochs": 4, "flag": True}))
    runs.append(result("flag", replace(ROW, settings="flag"), settings={"e": 0.1, "epochs": 3, "flag": False}))
    (found,) = found_sweeps(*runs)
    assert (found.method, found.setting, found.unit) == ("m", "e", "px")
    assert [s.value for s in found.steps] == [0.1, 9, 10]


def test_the_run_that_all_started_from_stands_at_zero():
    base = [result(f"base{seed}", replace(ROW, seed=seed), method="b", settings={"epochs": 3}) for seed in (0, 1)]
    runs = [result(f"r{e}-{seed}", replace(ROW, seed=seed, settings=f"e={e}"), settings={"e": e}, start_from=f"base{seed}")
            for e in (1, 2) for seed in (0, 1)]  # fmt: skip
    (found,) = found_sweeps(*base, *runs)
    assert [s.text for s in found.steps] == ["0 (b)", "1", "2"]
    assert [s.series.seeds for s in found.steps] == [[0, 1]] * 3
    at_zero = [replace_setting(r, 0) if r.run_id.startswith("r1") else r for r in runs]
    assert [s.text for s in found_sweeps(*base, *at_zero)[0].steps] == ["0", "2"]


def test_a_setting_that_the_start_has_too_is_not_zero_there():
    """Trained with a rate of 0.1 and then swept over rates, the first run stands for no rate of 0."""
    base = result("base", ROW, method="b", settings={"rate": 0.1})
    runs = [
        result(f"r{e}", replace(ROW, settings=f"rate={e}"), settings={"rate": e}, start_from="base") for e in (1, 2)
    ]
    (found,) = found_sweeps(base, *runs)
    assert [s.value for s in found.steps] == [1, 2]


def replace_setting(found, value):
    return replace(found, info={**found.info, "settings": [{**found.info["settings"][0], "value": value}]})


@pytest.mark.parametrize("change", [{"start_from": "other"}, {"spec": {"precision": "bf16"}}], ids=str)
def test_runs_of_another_start_or_precision_are_no_sweep(change):
    other = result("other", replace(ROW, seed=3), method="b", settings={"epochs": 9})
    base = result("base", ROW, method="b", settings={"epochs": 3})
    first = result("r1", replace(ROW, settings="e=1"), settings={"e": 1}, start_from="base", spec={})
    second = result(
        "r2", replace(ROW, settings="e=2"), settings={"e": 2}, **{"start_from": "base", "spec": {}} | change
    )
    assert found_sweeps(other, base, first, second) == []


def test_runs_that_start_from_each_other_do_not_hang():
    runs = [result(f"r{e}", replace(ROW, settings=f"e={e}"), settings={"e": e}, start_from=f"r{3 - e}") for e in (1, 2)]
    assert found_sweeps(*runs) == []


def test_a_sweep_shows_metrics_over_evenly_spaced_values(tmp_path):
    macro = replace(ROW, class_name="macro")
    runs = [result(f"r{e}", replace(macro, settings=f"e={e}", value=v, low=v, high=v), settings={"e": e})
            for e, v in ((0.1, 0.8), (10, 0.7))]  # fmt: skip
    figure = sweep.figure(board_of(*runs), {r.run_id: r for r in runs}, Pictures(tmp_path), PAGES, "p")
    (found,) = figure["sweeps"]
    (panel,) = figure["charts"].values()
    assert panel["data"][0]["x"] == [0, 1]
    assert panel["data"][0]["y"] == [0.8, 0.7]
    assert panel["layout"]["xaxis"]["ticktext"] == ["0.1", "10"]
    assert [c["text"] for c in found["lines"][0]["cells"]] == ["0.800", "0.700"]
    assert found["galleries"] == []
    assert [(r["setting"], r["setting_value"], r["value"]) for r in figure["records"]] == [
        ("e", 0.1, 0.8),
        ("e", 10, 0.7),
    ]


# ---- pictures


def test_pictures_are_of_the_lowest_seed_and_the_same_samples(swept, tmp_path):
    from harness.record import load_all

    results, _ = load_all(swept, None)
    board = board_of(*results)
    page = examples.figure(board, Pictures(tmp_path), PAGES, "p")
    assert page["chosen"]["rows"] == []
    figure = page["annotated"]
    assert [(g["name"], g["seed"], len(g["others"])) for g in figure["groups"]] == [
        ("baseline", 0, 1), ("robust_fgsm, epsilon = 0.001", 0, 0), ("robust_fgsm, epsilon = 0.01", 0, 1),
        ("robust_fgsm, epsilon = 0.1", 0, 0)]  # fmt: skip
    assert len(figure["columns"]) == 8
    assert len(figure["rows"]) == 4
    assert all(len(r["cells"]) == 8 and all(r["cells"]) for r in figure["rows"])
    assert figure["rows"][0]["boxes"] == [{"x": 20.0, "y": 25.0, "w": 30.0, "h": 45.0}]
    shown = sweep.figure(board, {r.run_id: r for r in results}, Pictures(tmp_path), PAGES, "p")
    (found,) = shown["sweeps"]
    assert [h["text"] for h in found["heads"]] == ["0 (baseline)", "0.001", "0.01", "0.1"]
    assert [(g["explainer"], len(g["rows"]), len(g["rows"][0]["cells"])) for g in found["galleries"]] == [
        ("cam", 4, 4), ("saliency", 4, 4)]  # fmt: skip


def masked(run, explainer, folder, entries, evaluation="insertion_deletion"):
    """Return a stage with a gallery whose pictures are there."""
    for kind in ("image", "overlay"):
        (folder / f"{kind}.png").write_bytes(kind.encode())
    common = {"why": "fixed", "probability": 0.9, "positive": True, "image": "image.png", "overlay": "overlay.png"}
    info = {"evaluation": evaluation, "explainer": explainer}
    rows = [replace(ROW, run_id=run, method=run)]
    return StageResult(f"{evaluation}-{explainer}", info, rows, dict, [{**common, **e} for e in entries], folder)


def test_explainers_that_only_insertion_and_deletion_looked_at_are_shown_by_image(tmp_path):
    curve = {"resolution": 7, "insertion_area": 0.625, "deletion_area": 0.25}
    clean = {"id": "a", "class_name": "cat", "variant": "clean", "curves": [curve, {**curve, "resolution": 28}]}
    first = [clean, {**clean, "class_name": "dog", "variant": "attacked"}, {**clean, "id": "b", "why": "best"}]
    second = [{"id": "a", "class_name": "dog", "positive": False, "curves": [{**curve, "deletion_area": None}]}]
    boxed = [{"id": "b", "class_name": "bird"}]
    stages = {
        "x": [masked("x", "cam", tmp_path, first), masked("x", "rise", tmp_path, first),
              masked("x", "cam", tmp_path, boxed, "localisation")],
        "y": [masked("y", "cam", tmp_path, second)],
    }  # fmt: skip
    runs = [replace(result(name, ROW, method=name), stages=own) for name, own in stages.items()]
    figure = examples.figure(board_of(*runs), Pictures(tmp_path / "out"), PAGES, "p")
    assert [c["explainer"] for c in figure["annotated"]["columns"]] == ["cam"]
    assert [r["id"] for r in figure["annotated"]["rows"]] == ["b"]
    chosen = figure["chosen"]
    assert [(c["name"], c["explainer"]) for c in chosen["columns"]] == [("x", "rise"), ("y", "cam")]
    (row,) = chosen[
        "rows"
    ]  # of one image, whatever class each model chose; none that is attacked or a run's own choice
    assert [(c["class_name"], c["positive"], c["areas"]) for c in row["cells"]] == [
        ("cat", True, "insertion 0.62, deletion 0.25 at 7 x 7 cells"), ("dog", False, "")]  # fmt: skip
    assert figure["without"] == []


def test_explanations_stand_by_image_and_by_run_partial_runs_as_well(explained, tmp_path):
    from harness.record import load_all

    results, _ = load_all(explained, None)
    pictures = Pictures(tmp_path)
    figure = adversarial_explanations.figure(board_of(*results), pictures, PAGES, "p")
    assert [(g["name"], g["rho"], g["amplification"]) for g in figure["groups"]] == [
        ("baseline", "0.1", "2.5"), ("lipschitz", "0.1", "2.5")]  # fmt: skip
    assert figure["without"] == ["gradient_penalty"]
    assert pictures.problems == []
    assert {s["own"] for s in figure["samples"]} == {"Cardiomegaly", "Mass", "Pleural_Thickening"}
    assert all(cell["class_name"] == s["own"] for s in figure["samples"] for cell in s["cells"])
    first = next(r for r in figure["by_run"][0] if r["id"] == "00000")
    assert [t["class_name"] for t in first["targets"]] == ["Cardiomegaly", "Mass", "Pleural_Thickening", "Hernia"]
    assert figure["targets"] == 4
    cell = first["targets"][0]
    stage = adversarial_explanations.explained(results[0])
    entry = stage.gallery[0]
    assert cell["before"] == f"{entry['probability']:.2f}"
    assert cell["plus"]["after"] == f"{entry['explanations']['plus']['probability']:.2f}"
    assert len({cell["image"], *(cell[d][k] for d in ("plus", "minus") for k in ("image", "difference"))}) == 5
    assert all((tmp_path / cell[d]["image"].removeprefix("p/")).is_file() for d in ("plus", "minus"))


def test_without_explanations_the_page_says_how_to_make_them(swept, tmp_path):
    from harness.record import load_all

    results, _ = load_all(swept, None)
    figure = adversarial_explanations.figure(board_of(*results), Pictures(tmp_path), PAGES, "p")
    assert figure["groups"] == []
    assert figure["command"] == "harness evaluate base-s0 --evaluation adversarial_explanations"


def test_numbers_that_are_none_and_pictures_elsewhere_are_not_shown(tmp_path):
    entry = {"id": "a", "class_name": "c", "own": "c", "probability": None, "image": "../secret.png",
             "top": [["c", "1.0"], "c"], "explanations": {"plus": {"probability": True, "rmse": float("inf")}}}  # fmt: skip
    stage = StageResult("s", {"evaluation": "adversarial_explanations"}, [replace(ROW)], dict, [entry], tmp_path)
    pictures = Pictures(tmp_path)
    made = Result({**result("r", ROW).info}, [stage], tmp_path, published=False)
    figure = adversarial_explanations.figure(board_of(made), pictures, PAGES, "p")
    (cell,) = figure["by_run"][0][0]["targets"]
    assert (cell["before"], cell["plus"]["after"], cell["minus"]["after"]) == ("n/a", "n/a", "n/a")
    assert cell["top"] == [{"class_name": "c", "probability": "n/a"}]
    assert (cell["image"], cell["plus"]["image"]) == ("", "")
    assert "'../secret.png'" in pictures.problems[0]


def test_explanations_are_no_column_of_the_maps(explained):
    from harness.record import load_all
    from harness.report.gallery import pictured

    results, _ = load_all(explained, None)
    assert all(pictured(r) == {} for r in results)


# ---- training by fold


def test_each_fold_has_a_thin_line_and_a_mark_where_it_was_kept():
    history = [
        {"fold": f, "epoch": e, "train_loss": 9.0, "validation_loss": f + e / 10} for f in (0, 1) for e in (1, 2, 3)
    ]
    chart = training(history, None, [{"best_epoch": 2}, {"best_epoch": 3}])
    first, second, kept = chart["data"]
    assert (first["y"], second["y"]) == ([0.1, 0.2, 0.3], [1.1, 1.2, 1.3])
    assert (first["tone"], first["line"]) == (second["tone"], second["line"]) == (1, {"width": 1})
    assert [first["showlegend"], second["showlegend"]] == [True, False]
    assert (kept["x"], kept["y"], kept["text"]) == ([2, 3], [0.2, 1.3], ["fold 0", "fold 1"])


def test_a_cross_fitted_run_is_a_table_and_no_dictionary(swept_site):
    text = (swept_site / "runs" / "robust-0-s0.html").read_text()
    assert "best_epoch:" not in text
    assert text.count('<th scope="row">4</th><td>704</td>') == 1
    assert "5 folds, each with a model of its own" in text
