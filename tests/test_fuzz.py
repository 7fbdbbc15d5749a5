"""Readers of files that others wrote, over damage of every kind: a right result or one clear error, never a traceback.

Real and synthetic records and runs are cut up at places that hypothesis chooses. `HARNESS_FUZZ=50` runs so many times
the examples, each time others; without it they are the same in every run.
"""

import copy
import functools
import json
import os
import shutil
from pathlib import Path

import examples
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from support import REPOSITORY

from harness.commands import read_config
from harness.config import route, split_assignment
from harness.errors import HarnessError, UsageError
from harness.listing import runs as listed
from harness.listing import table as listing_table
from harness.plugins import load_file
from harness.publish import publish
from harness.reading import read_json
from harness.record import from_record, load_all
from harness.report import literature, site
from harness.report.markdown import leaderboard
from harness.rows import from_json
from harness.store import RunFolder, find_run
from harness.visible import HIDDEN

TIMES = int(os.environ.get("HARNESS_FUZZ", "0"))
RECORDS = Path(__file__).parent / "records"
SCRIPT = "<script>alert(1)</script>"
HUGE = [2**62, -(2**62), 10**400, 1e308, -1e308, 5e-324, -0.0, -1, 0]
TEXTS = ["", " ", SCRIPT, "../../x", "/etc/passwd", "C:\\x", "a\0b", "\x1b[31mred\x1b[0m", "\u202egpj.exe", "\ud800", "\r\n|x",
         "'\";--", "{{ 7 * 7 }}", "[red]x[/blue]", "%s%n", "a" * 30_000, "macro", "all", "complete", "cam", "0.5", "=1+1"]  # fmt: skip
OTHERS = [None, True, False, float("nan"), float("inf"), [], {}, [[]], {"a": {}}, [None], [SCRIPT], {SCRIPT: SCRIPT},
          functools.reduce(lambda inner, _: [inner], range(100), [])]  # fmt: skip
VALUES = st.sampled_from([*HUGE, *TEXTS, *OTHERS]) | st.text(max_size=8) | st.integers() | st.floats()
COLUMNS = [None, "text", SCRIPT, "\ud83d\ude00", 1, -1, 300, 1e308, float("nan"), float("inf"), True, [1, 2], [], [0.5] * 256,
           {"a": 1}, b"\xff", "[" * 2000, '["a"]', '{"a": 1}', "null", np.datetime64("2026-01-01")]  # fmt: skip


def fuzzed(count: int):
    """Return the settings of a test with so many examples, the same ones in every run."""
    return settings(
        max_examples=count * (TIMES or 1), derandomize=not TIMES, deadline=None, database=None,
        suppress_health_check=list(HealthCheck), phases=[Phase.generate],  # to make an example smaller takes minutes
    )  # fmt: skip


def place(draw, document):
    """Return a container of the document and a key in it, reached by a walk from the top."""
    parent, key = None, None
    while isinstance(document, dict | list) and document and (parent is None or draw(st.integers(0, 5))):
        keys = sorted(document) if isinstance(document, dict) else range(len(document))
        parent, key = document, draw(st.sampled_from(keys))
        document = parent[key]
    return parent, key


def operate(draw, document) -> None:
    """Delete, replace, rename, move or double something in a JSON document."""
    parent, key = place(draw, document)
    if parent is None:
        return
    what = draw(st.sampled_from(["delete", "replace", "replace", "replace", "retype", "copy", "rename"]))
    if what == "delete":
        del parent[key]
    elif what == "replace":
        parent[key] = copy.deepcopy(draw(VALUES))  # the next example is given the same one
    elif what == "retype":
        value = parent[key]
        parent[key] = draw(st.sampled_from([str(value)[:100], [value], {"x": value}, bool(value), None]))
    elif what == "copy":
        other, name = place(draw, document)
        other[name] = json.loads(json.dumps(parent[key]))
    elif isinstance(parent, dict):
        parent[draw(st.sampled_from(TEXTS) | st.text(max_size=5))] = parent.pop(key)
    else:
        parent.append(parent[key])


@st.composite
def cut(draw, document: str) -> bytes:
    """Return JSON, operated on up to four times, and now and then its bytes as well."""
    content = json.loads(document)
    for _ in range(draw(st.integers(1, 4))):
        operate(draw, content)
    text = json.dumps(content, indent=1).encode()
    return draw(bent(text)) if draw(st.integers(0, 9)) == 0 else text


@st.composite
def bent(draw, content: bytes) -> bytes:
    """Return bytes with some changed, cut off, or written twice."""
    found = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(found) - 1, 0)))
        what = draw(st.sampled_from(["flip", "cut", "double", "insert"]))
        if what == "flip" and found:
            found[at] ^= 1 << draw(st.integers(0, 7))
        elif what == "cut":
            del found[at:]
        elif what == "double":
            found[at:at] = found[at : at + 200]
        else:
            found[at:at] = draw(
                st.binary(max_size=6) | st.sampled_from([b"NaN", b"1e400", b"\0", b'"', b"\n", b",", b"\xff"])
            )
    return bytes(found)


@st.composite
def frames(draw, frame: pd.DataFrame) -> pd.DataFrame:
    """Return samples of which some columns are gone, renamed, or hold something else."""
    found = frame.copy()
    for _ in range(draw(st.integers(1, 3))):
        name = draw(st.sampled_from(list(found.columns) or ["id"]))
        what = draw(st.sampled_from(["drop", "rename", "fill", "fill", "some", "type", "rows", "shuffle"]))
        value = draw(st.sampled_from(COLUMNS))
        if what == "drop":
            found = found.drop(columns=name, errors="ignore")
        elif what == "rename":
            found = found.rename(
                columns={name: draw(st.sampled_from(["id", "x|y", "a|b=c|d", SCRIPT, "label:x", "rmse:z"]))}
            )
        elif what == "fill":
            found[name] = pd.Series([value] * len(found), index=found.index, dtype=object).infer_objects()
        elif what == "some" and len(found) and name in found:
            column = found[name].astype(object)
            column.iloc[draw(st.integers(0, len(found) - 1))] = value
            found[name] = column
        elif what == "type" and name in found:
            found[name] = found[name].map(str)
        elif what == "rows":
            found = (
                pd.concat([found] * draw(st.integers(0, 2)), ignore_index=True)
                if draw(st.booleans())
                else found.head(1)
            )
        elif name in found:
            found[name] = found[name].to_numpy()[::-1]
    return found


def parquet(draw, frame: pd.DataFrame) -> bytes | None:
    """Return the Parquet of a frame, or None where pyarrow has no type for it."""
    import io

    buffer = io.BytesIO()
    try:
        draw(frames(frame)).to_parquet(buffer, index=False)
    except Exception:
        return None
    return buffer.getvalue()


@pytest.fixture(scope="module", autouse=True)
def _fast():
    """Templates are compiled once, and the 5 MB of plotly stay where they are: pages are looked at as text."""
    import plotly.offline

    patch = pytest.MonkeyPatch()
    patch.setattr(site, "make_environment", functools.cache(site.make_environment))
    patch.setattr(plotly.offline, "get_plotlyjs", lambda: "")
    patch.setattr(os, "fsync", lambda _: None)
    yield
    patch.undo()


def pages_hold(folder: Path) -> None:
    """Assert that no page holds a tag or a hidden character of a name."""
    for page in folder.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert SCRIPT not in text, page.name
        assert not set(HIDDEN.findall(text)) - {"\n", "\t"}, page.name
        assert "NaN" not in text.partition('type="application/json"')[2], page.name


def look_at(base: Path, out: Path) -> None:
    """Read runs and results of `base` in every way there is, into `out`; nothing else of it may change."""
    runs, results = base / "runs", base / "results"
    before = tree(base)
    found, problems = load_all(runs, results)
    if runs.is_dir():
        assert listing_table(listed(runs))
    summary = site.build(runs, results, out, cache=False, resamples=5)
    assert summary.runs + summary.records == len(found)
    assert set(problems) <= set(summary.unreadable)
    pages_hold(out)
    leaderboard(results, resamples=5).encode()
    assert tree(base) == before


def tree(folder: Path) -> dict[str, int]:
    return {str(p): p.lstat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def synthetic():
    return load_file(Path(__file__).parent / "report" / "fixtures.py")


@pytest.fixture(scope="module")
def masked():
    return load_file(Path(__file__).parent / "report" / "test_insertion_deletion.py")


@pytest.fixture(scope="module")
def corpora(synthetic, masked, tmp_path_factory) -> list[Path]:
    """Return folders of runs: each holds every kind of evaluation that a report shows, of two runs."""
    base = tmp_path_factory.mktemp("fuzz")
    made = {
        "plain": {"classification": synthetic.classification(1.0), "cam": synthetic.localisation(0.4)},
        "attacked": {"classification": synthetic.classification(1.0), "robustness": synthetic.attacked(0.1)},
        "findings": {"robustness": synthetic.attacked_findings(0.003)},
        "masked": {"cam": masked.table(0.5, 1), "random_map": masked.table(0.1, 9)},
        "trusted": {"classification": synthetic.classification(1.0)},
        "swept": {"classification": synthetic.classification(1.0)},
    }
    for name, tables in made.items():
        runs = base / name / "runs"
        for number in (0, 1):
            run = synthetic.write_run(
                runs, number, tables=tables, resamples=5, seed=0, run_id=f"{name}-{number}",
                pictures=name != "masked", facts={g: synthetic.FACTS for g in ("adv", "btr", "flip")},
            )  # fmt: skip
            if name == "masked":
                masked.pictures(next((run.folder / "evaluations").glob("insertion_deletion-cam-*")))
            if name == "trusted":
                synthetic.trust(run, number)
                synthetic.explain(run, number)
            if name == "swept":
                run.update(start_from="swept-0" if number else None)
    return [base / name for name in made]


@pytest.mark.slow
@fuzzed(60)
@given(data=st.data())
def test_runs(corpora, tmp_path_factory, data):
    """Any file of a run damaged: the report names it or shows it as text, and the run beside it is there."""
    base = data.draw(st.sampled_from(corpora))
    work = tmp_path_factory.getbasetemp() / "fuzzed-runs"
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(base, work / "in")
    files = sorted(
        p for p in (work / "in" / "runs" / f"{base.name}-1").rglob("*") if p.suffix in (".json", ".jsonl", ".parquet")
    )
    path = data.draw(st.sampled_from(files))
    if path.suffix == ".parquet" and data.draw(st.booleans()):
        content = parquet(data.draw, pd.read_parquet(path))
        if content is None:
            return
        path.write_bytes(content)
    elif path.suffix == ".json" and data.draw(st.integers(0, 9)):
        path.write_bytes(data.draw(cut(path.read_text())))
    else:
        path.write_bytes(data.draw(bent(path.read_bytes())))
    look_at(work / "in", work / "out")
    assert f"{base.name}-0" in {r.run_id for r in load_all(work / "in" / "runs", None)[0]}
    try:
        publish(f"{base.name}-1", work / "in" / "runs", work / "published")
    except HarnessError:
        assert not (work / "published").exists()


@pytest.mark.slow
@fuzzed(60)
@given(data=st.data())
def test_records(tmp_path_factory, data):
    """A published record damaged: left out with a note, or read for what it is."""
    (source,) = RECORDS.glob("*.json")
    work = tmp_path_factory.getbasetemp() / "fuzzed-records"
    shutil.rmtree(work, ignore_errors=True)
    results = work / "in" / "results"
    shutil.copytree(RECORDS, results)
    path, samples = results / source.name, results / source.with_suffix(".parquet").name
    what = data.draw(st.sampled_from(["json", "json", "json", "frame", "bytes"]))
    if what == "json":
        path.write_bytes(data.draw(cut(small(source))))
    elif what == "frame":
        content = parquet(data.draw, pd.read_parquet(samples))
        if content is None:
            return
        samples.write_bytes(content)
    else:
        chosen = data.draw(st.sampled_from([path, samples]))
        chosen.write_bytes(data.draw(bent(chosen.read_bytes())))
    said = path.stem
    try:
        said = from_record(path).run_id
    except UsageError as error:
        said = str(error)
    assert path.stem in said
    look_at(work / "in", work / "out")


@functools.cache
def small(path: Path) -> str:
    """Return a record with few of its rows, so that walks through it get everywhere."""
    content = json.loads(path.read_text())
    for stage in content["stages"]:
        stage["rows"] = stage["rows"][:: max(len(stage["rows"]) // 12, 1)]
    return json.dumps(content)


@fuzzed(300)
@given(data=st.data())
def test_rows(data):
    (source,) = RECORDS.glob("*.json")
    row = json.loads(small(source))["stages"][0]["rows"][0]
    for _ in range(data.draw(st.integers(1, 3))):
        operate(data.draw, row)
    try:
        found = from_json(row)
    except UsageError:
        return
    assert from_json(found.to_json()).to_json() == found.to_json()


@fuzzed(300)
@given(content=st.binary(max_size=60) | st.text(max_size=60).map(lambda t: t.encode("utf-8", "surrogatepass"))
       | VALUES.map(lambda v: json.dumps(v).encode()))  # fmt: skip
def test_json(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "fuzzed.json"
    path.write_bytes(content)
    try:
        found = read_json(path)
    except UsageError as error:
        found = str(error).partition(str(path))[1]
        assert found
    json.dumps(found, allow_nan=False, ensure_ascii=False).encode()


TOML = b"""[set]
epsilon = 0.01
"baseline.max_epochs" = 3
[set.localisation]
resamples = 50
thresholds = [0.1, 0.5]
"""


@fuzzed(300)
@given(content=bent(TOML) | st.text(max_size=40).map(lambda t: f"[set]\nx = {t}\n".encode("utf-8", "surrogatepass")))
def test_toml(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "fuzzed.toml"
    path.write_bytes(content)
    try:
        assignments = read_config(path)
        route(assignments, {})
    except UsageError:
        return
    assert all(split_assignment(text) for text in assignments)


@fuzzed(150)
@given(data=st.data())
def test_literature(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp() / "fuzzed-literature"
    folder.mkdir(exist_ok=True)
    lines = (REPOSITORY / "reports" / literature.FILE).read_bytes().splitlines(keepends=True)
    content = data.draw(bent(b"".join(lines[:8])))
    (folder / literature.FILE).write_bytes(content)
    try:
        found = literature.load(folder)
    except UsageError:
        return
    for row in found:
        assert np.isfinite(row.value)
    for system in {(r.dataset, r.metric) for r in found}:
        assert [s.facts() for s in literature.systems(found, *system)]


@pytest.fixture(scope="module")
def chest(tmp_path_factory):
    """Return the folder of a tiny ChestX-ray14 and its dataset."""
    from harness.plugins import catalogue

    folder = examples.chestxray14(tmp_path_factory.mktemp("chest"))
    return folder, catalogue(()).load("dataset", "chestxray14")()


@fuzzed(150)
@given(data=st.data())
def test_chestxray14(chest, data):
    folder, dataset = chest
    path = data.draw(st.sampled_from(sorted(p for p in folder.iterdir() if p.suffix in (".csv", ".txt"))))
    whole = path.read_bytes()
    try:
        path.write_bytes(data.draw(bent(whole)))
        dataset.index(folder)
    except UsageError:
        pass
    finally:
        path.write_bytes(whole)


@fuzzed(200)
@given(name=st.sampled_from([*TEXTS, "../../etc", "a" * 5000, "."]) | st.text(max_size=20))
def test_names_of_runs(tmp_path_factory, name):
    folder = tmp_path_factory.getbasetemp() / "fuzzed-names"
    RunFolder(folder / "baseline-phantom-s0-aa").update(status="complete")
    try:
        found = find_run(folder, name)
    except UsageError:
        return
    assert found.run_id.startswith(name)
