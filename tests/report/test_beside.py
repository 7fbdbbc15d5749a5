from dataclasses import replace

from harness.columns import MISSING, ColumnKey
from harness.report.beside import Beside, fits
from harness.report.literature import Published

KEY = ColumnKey("classification", "", "auroc", "", "", "", "", "macro", MISSING, int(MISSING), MISSING)
ROW = Published(
    "Paper", 2017, "Wang", "chestxray14", "auroc", "macro", None, 0.745, "seen", "their split", "", "CAM -> boxes"
)


def test_a_figure_fits_a_column_of_its_metric_class_and_threshold():
    assert fits(ROW, KEY)
    for field, value in (
        ("metric", "brier"),
        ("class_name", "Mass"),
        ("variant", "v"),
        ("threshold", 0.3),
        ("radius", 0.1),
    ):
        assert not fits(ROW, replace(KEY, **{field: value})), field
    assert fits(replace(ROW, threshold=0.3), replace(KEY, threshold=0.3))


def test_a_column_of_an_explainer_takes_figures_that_name_it():
    assert fits(ROW, replace(KEY, explainer="cam"))
    assert not fits(ROW, replace(KEY, explainer="gradcam"))


def test_the_source_says_how_it_was_read_and_measured():
    row = replace(ROW, mark="seen-secondary", protocol="ten crops")
    text = Beside("Wang", {KEY: row}).source
    for part in (
        "Paper",
        "quoted by another source",
        "Split: their split",
        "Measured otherwise: ten crops",
        "CAM -> boxes",
    ):
        assert part in text
