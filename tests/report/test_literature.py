import csv

import pytest

from harness.errors import UsageError
from harness.metrics.cells import registration
from harness.metrics.summary import builtin
from harness.plugins import catalogue, load_file
from harness.report.literature import COLUMNS, FILE, load, systems
from harness.report.site import templates_folder

LINE = dict(zip(COLUMNS, ["Paper, Table 1", "2017", "Net", "X", "own", "AUROC", "Mass", "", "70", "a note", "seen",
                          "chestxray14", "auroc", "Mass", "0.01", "another split"], strict=True))  # fmt: skip


def write(folder, lines, columns=COLUMNS):
    with (folder / FILE).open("w", newline="") as target:
        writer = csv.DictWriter(target, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(lines)


def test_the_file_is_good_and_holds_nothing_from_memory():
    rows = load(templates_folder())
    assert len(rows) > 600
    assert {r.mark for r in rows} == {"seen", "seen-secondary", "seen-corrected", "derived"}


def test_what_is_joined_is_in_our_vocabulary():
    rows = [r for r in load(templates_folder()) if r.metric]
    components = catalogue()
    assert {r.dataset for r in rows} <= {c.name for c in components.of("dataset")}
    assert {r.metric for r in rows} <= {registration(m)["name"] for m in builtin()}
    for name in {r.dataset for r in rows}:
        classes = {*load_file(components.find("dataset", name).file).CLASSES, "macro", "all"}
        assert {r.class_name for r in rows if r.dataset == name} <= classes
    assert all(0 <= r.value <= 1 for r in rows)
    places = [(r.system, r.source, r.metric, r.class_name, r.threshold) for r in rows]
    assert len(places) == len(set(places))
    assert all(r.threshold is not None for r in rows if r.metric == "localisation_accuracy")


def test_published_numbers_are_those_of_the_sources():
    rows = load(templates_folder())
    wang = {r.class_name: r.value for r in systems(rows, "chestxray14", "auroc")[0].rows}
    assert (wang["Atelectasis"], wang["Cardiomegaly"], wang["macro"]) == (0.7003, 0.81, 0.7451)
    (curve,) = systems(rows, "chestxray14", "localisation_accuracy")
    assert [r.value for r in curve.by_class()["Atelectasis"]] == [0.6888, 0.4722, 0.2444, 0.0944, 0.05, 0.0222, 0.0055]
    assert "boxes drawn around" in curve.facts()["protocol"]


def test_a_figure_is_brought_to_our_unit_and_keeps_its_mark(tmp_path):
    write(tmp_path, [LINE, {**LINE, "our_class": "macro", "note": "computed. a note"}, {**LINE, "note": "a note"}])
    (system,) = systems(load(tmp_path), "chestxray14", "auroc")
    assert system.rows[0].value == pytest.approx(0.7)
    facts = system.facts()
    assert (facts["mark"], facts["year"], facts["note"]) == ("seen", "2017", "a note; macro: computed.")
    assert systems(load(tmp_path), "chestxray14", "iou") == []


@pytest.mark.parametrize(("change", "message"), [
    ({"value": "0,7"}, "line 2: expected a number as value, got '0,7'"),
    ({"value": "nan"}, "line 2: expected a number as value"),
    ({"value": "1e308", "factor": "100"}, "line 2: expected a finite value times factor"),
    ({"year": "MMXVII"}, "line 2: expected a number as year"),
    ({"source": " "}, "source is empty"),
    ({"seen_or_memory": ""}, "seen_or_memory is empty"),
    ({"our_class": ""}, "expected all of our_dataset, our_metric, our_class, factor or none"),
], ids=str)  # fmt: skip
def test_a_damaged_line_is_named(tmp_path, change, message):
    write(tmp_path, [{**LINE, **change}])
    with pytest.raises(UsageError, match=message):
        load(tmp_path)


def test_a_damaged_file_is_one_clear_error(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        load(tmp_path)
    write(tmp_path, [LINE], columns=[*COLUMNS[:-1], "protokoll"])
    with pytest.raises(UsageError, match="missing: protocol; unknown: protokoll"):
        load(tmp_path)
    (tmp_path / FILE).write_text(",".join(COLUMNS) + "\na,b\n")
    with pytest.raises(UsageError, match="line 2: expected 16 fields"):
        load(tmp_path)
    (tmp_path / FILE).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="cannot be read"):
        load(tmp_path)
    (tmp_path / FILE).write_text(",".join(COLUMNS) + '\n"unfinished')
    with pytest.raises(UsageError, match="cannot be read"):
        load(tmp_path)
