"""Records and runs made to do harm: their names are text, they write nowhere else, and they break no other result."""

import errno
import functools
import hashlib
import json
import os
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from harness import store
from harness.errors import UsageError
from harness.plugins import load_file
from harness.publish import publish
from harness.reading import DEEPEST, read_json, read_table
from harness.record import from_record, load_all, write_record
from harness.report import site
from harness.report.markdown import leaderboard
from harness.rows import cell
from harness.shapes import LONGEST
from harness.store import find_run, runs, write_json
from harness.store import read_json as stored_json
from harness.visible import HIDDEN, visible, visible_json

RECORDS = Path(__file__).parent / "records"
ESCAPE, TURN = "\x1b[31;1m", "\u202e"
NASTY = f"<script>alert(1)</script>../../x{ESCAPE}{TURN}\0[/red]|`*"
SHOWN = "&lt;script&gt;alert(1)&lt;/script&gt;../../x\\x1b[31;1m\\u202e\\x00[/red]|`*"


@pytest.fixture(autouse=True)
def _fast(monkeypatch):
    import plotly.offline

    monkeypatch.setattr(site, "make_environment", functools.cache(site.make_environment))
    monkeypatch.setattr(plotly.offline, "get_plotlyjs", lambda: "")


@pytest.fixture
def record(tmp_path) -> Path:
    """Return the JSON of a copy of a real record, in results/."""
    shutil.copytree(RECORDS, tmp_path / "results")
    (path,) = (tmp_path / "results").glob("*.json")
    return path


def changed(path: Path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def refused(path: Path) -> str:
    with pytest.raises(UsageError) as found:
        from_record(path)
    message = str(found.value)
    assert str(path.with_suffix("")) in message
    assert "\n" not in message
    assert len(message) < 1000
    return message


def rename(content) -> None:
    """Put the nasty text wherever a record holds a name of its own choosing."""
    run = content["run"]
    run["spec"] |= {"method": NASTY, "model": NASTY, "dataset": NASTY, "sets": [NASTY], "plugins": [NASTY]}
    run["classes"][0] = NASTY
    run["dataset"] |= {"name": NASTY, "notes": [NASTY], "settings": NASTY}
    run["missing_evaluations"] = {NASTY: NASTY}
    run["settings"][0] |= {"name": NASTY, "help": NASTY, "source": NASTY, "unit": NASTY, "value": NASTY}
    run["provenance"]["packages"] = {NASTY: NASTY}
    for stage in content["stages"]:
        stage["info"] |= {"explainer": NASTY * bool(stage["info"]["explainer"]), "device": NASTY}
        for row in stage["rows"]:
            row |= {
                "method": NASTY,
                "model": NASTY,
                "settings": NASTY,
                "flags": [NASTY],
                "reason": row["reason"] and NASTY,
            }
            row["explainer"] = row["explainer"] and NASTY
            row["class_name"] = (
                row["class_name"] if row["class_name"] in ("macro", "all") else NASTY + row["class_name"]
            )


def tree(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*")}


def test_names_are_text_on_every_page_and_in_the_markdown_table(record, tmp_path):
    changed(record, rename)
    before = tree(tmp_path)
    summary = site.build(None, record.parent, tmp_path / "site", cache=False, resamples=5)
    assert summary.records == 1
    assert {name for name in tree(tmp_path) - before if not name.startswith("site")} == set()
    pages = {p.name: p.read_text() for p in (tmp_path / "site").rglob("*.html")}
    for name, text in pages.items():
        assert "<script>alert" not in text, name
        assert not set(HIDDEN.findall(text)) - {"\n", "\t"}, name
        for data in re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', text, re.S):
            held = json.loads(data)
            assert not set(HIDDEN.findall(json.dumps(held, ensure_ascii=False))) - {"\n"}, name
    assert SHOWN in pages[f"{record.stem}.html"]
    table = leaderboard(record.parent, resamples=5)
    assert "<script" not in table
    assert not set(HIDDEN.findall(table)) - {"\n"}
    assert "\\\\x1b\\[31;1m\\\\u202e" in table


def test_names_are_text_on_the_terminal(harness, tmp_path, synthetic):
    run = synthetic.write_run(tmp_path / "runs", 0, run_id="hostile", pictures=False, resamples=5,
                              tables={"classification": synthetic.classification(1.0)})  # fmt: skip
    run.update(status="failed", message=NASTY)
    code, out, _ = harness("list", "runs", "--runs-dir", tmp_path / "runs")
    assert code == 0
    assert not set(HIDDEN.findall(out)) - {"\n"}
    assert "[/red]|`*" in out.replace("\n", ""), "the markup of rich is not read"
    run.update(run_id=NASTY)
    code, _, err = harness("publish", "hostile", "--runs-dir", tmp_path / "runs", "--to", tmp_path / "results")
    assert code == 2
    assert "its run.json is that of" in err
    assert not set(HIDDEN.findall(err)) - {"\n"}
    assert not (tmp_path / "results").exists()
    (tmp_path / "runs" / f"n{ESCAPE}").mkdir()
    (tmp_path / "runs" / f"n{ESCAPE}" / "run.json").write_text("{")
    code, out, _ = harness("report", "--runs-dir", tmp_path / "runs", "--results", tmp_path / "none",
                           "--out", tmp_path / "site", "--leaderboard", tmp_path / "l.md")  # fmt: skip
    assert code == 0
    assert "left out" in out
    assert ESCAPE not in out


@pytest.fixture(scope="module")
def synthetic():
    return load_file(Path(__file__).parent / "report" / "fixtures.py")


def test_what_is_hidden_becomes_visible():
    assert visible("a\x07\u2066b\ud800é\n") == "a\\x07\\u2066b\\ud800é\n"
    assert json.loads(visible_json(json.dumps("\x1b\\u001b\\\x1b\u202e😀\n"))) == "\\u001b\\u001b\\\\u001b\\u202e😀\n"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(record_schema=2), "record schema 2, expected 1 at most. Update harness"),
        (lambda c: c.update(record_schema="1"), "expected a whole number as record_schema"),
        (lambda c: c.pop("run"), "no 'run'"),
        (lambda c: c.update(run=[]), r"expected an object as run, got \[\]"),
        (lambda c: c["run"].update(run_id="../../x"), "it is the record of '../../x'"),
        (lambda c: c["run"].update(run_id=None), "no 'run_id'|it is the record of None"),
        (lambda c: c["run"].update(spec=[NASTY]), "expected an object as run.spec"),
        (lambda c: c["run"].update(classes=[["a"]]), r"expected a text as run.classes\[0\]"),
        (lambda c: c["run"].update(message="a" * 10_000_000), "a text of at most 20,000 characters as run.message"),
        (lambda c: c["run"].update(other={"a": ["b" * (LONGEST + 1)]}), r"as run.other.a\[0\]"),
        (lambda c: c["stages"][0]["info"].update(passes={"forward": "many"}), "passes.forward"),
        (lambda c: c["stages"][0]["rows"][0].update(value="1"), "row 1: a row's field 'value' holds '1'"),
        (lambda c: c["stages"][0]["rows"][0].update(class_name="a" * 10_000_000), "longer than 20,000 characters"),
        (lambda c: c["stages"][0]["rows"][0].update(schema_version=3), "schema version 3, expected 2 at most. Update"),
        (lambda c: c["stages"][0]["rows"][0].update(run_id="another"), "rows of this run, got one of 'another'"),
        (lambda c: c["stages"][0].update(rows={}), "expected a list of rows, got {}"),
        (lambda c: c["stages"].append(c["stages"][0]), "expected each stage once"),
        (lambda c: c["history"].append("x"), r"expected an object as history\[[0-9]+\]"),
        (lambda c: c.update(samples_sha256="0" * 64), "expected the file that .*json was written with"),
    ],
)
def test_a_damaged_record_is_refused_by_name_and_the_others_stay(record, tmp_path, synthetic, change, message):
    good = synthetic.write_run(tmp_path / "runs", 0, pictures=False, resamples=5,
                               tables={"classification": synthetic.classification(1.0)})  # fmt: skip
    synthetic.publish(good, record.parent)
    changed(record, change)
    assert re.search(message, refused(record)), refused(record)
    results, problems = load_all(None, record.parent)
    assert [r.run_id for r in results] == [good.run_id]
    assert len(problems) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1e400}', "1e400 is beyond a number of 64 bits"),
        ('{"a": NaN}', "NaN is no JSON"),
        ('{"a": -Infinity}', "-Infinity is no JSON"),
        (f'{{"a": {10**30}}}', "beyond a number of 64 bits"),
        (f'{{"a": {"9" * 5000}}}', "beyond a number of 64 bits"),
        ('{"a": 1, "b": 2, "a": 3}', "'a' is given twice"),
        ('{"a": "\\ud800"}', "not UTF-8 text"),
        ("[" * (DEEPEST + 2) + "]" * (DEEPEST + 2), "deep"),
        ("[" * 100_000, "recursion"),
        ("", "Expecting value"),
        ("\xff", "Expecting value|not UTF-8"),
    ],
)
def test_json_that_a_strict_reader_refuses(tmp_path, text, message):
    path = tmp_path / "run.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=message) as found:
        read_json(path)
    assert str(path) in str(found.value)
    assert len(str(found.value)) < 500


def test_json_of_a_pair_of_surrogates_is_one_character(tmp_path):
    (tmp_path / "a.json").write_text('"\\ud83d\\ude00"')
    assert stored_json(tmp_path / "a.json") == "😀"


def test_a_text_that_utf8_does_not_have_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(UsageError, match="expected names and paths in UTF-8"):
        write_json(tmp_path / "run.json", {"root": "\udcff"})
    assert list(tmp_path.iterdir()) == []


def test_huge_numbers_are_short():
    assert cell(1e308, -1e308, 1.5e308) == "1e+308 [-1e+308, 1.5e+308]"
    assert cell(123456.789) == "123456.789"


@pytest.mark.parametrize("damage", [
    lambda b: b[: len(b) // 2],
    lambda b: b"",
    lambda _: b"PAR1 is not enough PAR1",
    lambda b: b[:4] + bytes(len(b) // 2) + b[4 + len(b) // 2 :],
], ids=["cut", "empty", "junk", "zeros"])  # fmt: skip
def test_a_damaged_parquet_is_named_and_its_cells_are_not_ranked(record, tmp_path, damage):
    samples = record.with_suffix(".parquet")
    samples.write_bytes(damage(samples.read_bytes()))
    summary = site.build(None, record.parent, tmp_path / "site", cache=False, resamples=5)
    assert summary.records == 1
    assert any(str(samples) in problem for problem in summary.unreadable)
    changed(record, lambda c: c.update(samples_sha256="0" * 64))
    assert str(samples) in refused(record)


def test_a_parquet_of_more_cells_than_any_record_has_is_not_opened(tmp_path):
    pd.DataFrame({"a": [0] * 1000, "b": [0] * 1000}).to_parquet(tmp_path / "a.parquet")
    assert len(read_table(tmp_path / "a.parquet", cells=2000)) == 1000
    with pytest.raises(UsageError, match="1,000 rows of 2 columns"):
        read_table(tmp_path / "a.parquet", cells=1999)


def test_a_record_is_intact_wherever_publishing_is_stopped(record, tmp_path, monkeypatch):
    """Killed between the two files: the pair is refused. Stopped by Ctrl-C or a full disk: the old pair is there."""
    write_record(from_record(record), record.parent)
    before = {p.name: p.read_bytes() for p in record.parent.iterdir()}
    assert json.loads(record.read_text())["samples_sha256"] == hashlib.sha256(
        before[record.with_suffix(".parquet").name]
    ).hexdigest()  # fmt: skip
    result = from_record(record)
    less = type(result)(result.info, result.stages[:1], result.source, published=True, history=result.history)
    replace, renamed = os.replace, []

    def stopped(source, target):
        if str(target).endswith(".json"):
            raise KeyboardInterrupt
        renamed.append(target)
        replace(source, target)

    monkeypatch.setattr(store.os, "replace", stopped)
    with pytest.raises(KeyboardInterrupt):
        write_record(less, record.parent)
    assert renamed
    assert {p.name: p.read_bytes() for p in record.parent.iterdir()} == before

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.undo()
    monkeypatch.setattr(store.os, "fsync", full)
    with pytest.raises(UsageError, match="disk is full"):
        write_record(less, record.parent)
    assert {p.name: p.read_bytes() for p in record.parent.iterdir()} == before
    with pytest.raises(UsageError, match="disk is full"):
        site.build(None, record.parent, tmp_path / "site", cache=False, resamples=5)
    monkeypatch.undo()

    write_record(less, tmp_path / "other")
    shutil.copy(tmp_path / "other" / record.with_suffix(".parquet").name, record.parent)
    assert "was written with" in refused(record)


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
def test_a_folder_of_records_that_cannot_be_written(record, monkeypatch, code):
    before = record.read_bytes()

    def refuse(*_, **__):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(store.tempfile, "mkstemp", refuse)
    with pytest.raises(UsageError, match="cannot be written"):
        write_record(from_record(record), record.parent)
    assert record.read_bytes() == before


@pytest.mark.parametrize("name", ["../../etc", "/etc", "..", "", "a\0b", "a" * 5000, "*", "[", "x/../../y"])
def test_a_run_is_found_by_its_name_alone(tmp_path, name):
    for run in ("baseline-a", "baseline-b"):
        store.RunFolder(tmp_path / "runs" / run).update(status="complete")
    with pytest.raises(UsageError, match=r"no run|expected a name"):
        find_run(tmp_path / "runs", name)


@pytest.mark.parametrize("command", ["evaluate", "publish"])
@pytest.mark.parametrize("name", ["../../etc", "/etc/passwd", "a" * 5000])
def test_a_path_in_place_of_a_run_writes_nothing(harness, tmp_path, command, name):
    code, _, err = harness(command, name, "--runs-dir", tmp_path / "runs")
    assert code == 2
    assert err.startswith("Error: no run")
    assert list(tmp_path.iterdir()) == []


def test_links_in_a_run_lead_nowhere(tmp_path, synthetic):
    run = synthetic.write_run(tmp_path / "runs", 0, tables={"cam": synthetic.localisation(0.4)}, resamples=5)
    secret = tmp_path / "secret"
    shutil.copytree(run.stages()[0].folder / "gallery", secret)
    (secret / "000-image.png").write_bytes(b"secret")
    shutil.rmtree(run.stages()[0].folder / "gallery")
    (run.stages()[0].folder / "gallery").symlink_to(secret)
    site.build(tmp_path / "runs", None, tmp_path / "site", cache=False, resamples=5)
    assert b"secret" not in [p.read_bytes() for p in (tmp_path / "site").rglob("*.png")]


def test_a_pipe_in_a_gallery_does_not_stop_the_report(tmp_path, synthetic):
    run = synthetic.write_run(tmp_path / "runs", 0, tables={"cam": synthetic.localisation(0.4)}, resamples=5)
    picture = run.stages()[0].folder / "gallery" / "000-image.png"
    picture.unlink()
    os.mkfifo(picture)
    summary = site.build(tmp_path / "runs", None, tmp_path / "site", cache=False, resamples=5)
    assert any("000-image.png" in problem for problem in summary.unreadable)


def test_two_folders_of_one_run_are_both_named(tmp_path, synthetic):
    run = synthetic.write_run(tmp_path / "runs", 0, pictures=False, resamples=5,
                              tables={"classification": synthetic.classification(1.0)})  # fmt: skip
    shutil.copytree(run.folder, run.folder.with_name(f"{run.run_id}-copy"))
    results, problems = load_all(tmp_path / "runs", None)
    assert len(results) == 1
    assert "another folder holds run" in problems[0]


def test_the_first_schema_still_loads_and_is_published_anew_without_a_change(record, tmp_path):
    """tests/records holds a record of each schema: the first one, without the digest of its Parquet."""
    assert "samples_sha256" not in json.loads(record.read_text())
    result = from_record(record)
    again = from_record(write_record(result, tmp_path / "again"))
    assert again.info == result.info
    assert list(map(str, again.rows)) == list(map(str, result.rows))
    for one, other in zip(result.stages, again.stages, strict=True):
        pd.testing.assert_frame_equal(one.read_samples(), other.read_samples())
    written = (tmp_path / "again" / record.name).read_text()
    assert written.replace(f'"samples_sha256": "{json.loads(written)["samples_sha256"]}"', "") != written
    assert len(written.splitlines()) > 1000, "a record is read line by line in a review"
    assert write_record(again, tmp_path / "third").read_text() == written


def test_a_run_of_a_newer_harness_is_refused(tmp_path):
    run = store.RunFolder(tmp_path / "runs" / "a")
    run.update(status="complete", schema=2)
    assert "schema 2, expected 1 at most. Update harness" in load_all(tmp_path / "runs", None)[1][0]
    assert len(runs(tmp_path / "runs")) == 1
    with pytest.raises(UsageError, match="Update harness"):
        publish("a", tmp_path / "runs", tmp_path / "results")


def test_a_cache_that_cannot_be_written_costs_no_rank(record, tmp_path):
    (tmp_path / "cache").write_text("a file in the way")
    assert leaderboard(record.parent, cache=tmp_path / "cache", resamples=5) == leaderboard(record.parent, resamples=5)
