"""The page of the benchmarks: what the numbers give, nothing else; and one part of them end to end."""

import copy
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
TABLE = {
    "title": "Every path",
    "says": "A sentence.",
    "judged": "ratio",
    "columns": {"path": ["text", ""], "time": ["s", "of one"], "ratio": ["ratio", "over the bare passes"]},
    "rows": [
        {"path": "slow|er", "time": 12.34, "ratio": [1.201, 1.1, 1.31], "target": ["most", 1.15]},
        {"path": "fast", "time": 0.0123, "ratio": [1.149, 1.0, 1.3], "target": ["most", 1.15]},
        {"path": "loop", "time": 1234.5, "ratio": 0.951, "target": ["least", 0.95]},
        {"path": "free", "time": None, "ratio": None},
    ],
}
PART = {"title": "Part", "says": "What it is.", "date": "2026-11-26", "machine": "a processor, 2 cores", "took": 61.4,
        "versions": {"torch": "2.0"}, "command": "python all.py", "quick": False, "tables": [TABLE]}  # fmt: skip


@pytest.fixture(scope="module")
def page():
    sys.path.insert(0, str(BENCHMARKS))
    yield importlib.import_module("page")
    sys.path.remove(str(BENCHMARKS))


def call(script: str, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, str(BENCHMARKS / script), *arguments], capture_output=True, text=True)


def test_the_page_of_the_project_is_what_its_numbers_give():
    done = call("page.py", "--check")
    assert done.returncode == 0, done.stderr


def test_a_page_that_was_edited_is_stale(page, tmp_path, monkeypatch):
    monkeypatch.setattr(page, "MEASURED", tmp_path)
    monkeypatch.setattr(page, "PAGE", tmp_path / "benchmarks.md")
    (tmp_path / "metrics.json").write_text(json.dumps(PART))
    for arguments in ((), ("--check",)):
        monkeypatch.setattr(sys, "argv", ["page.py", *arguments])
        page.main()
    (tmp_path / "benchmarks.md").write_text((tmp_path / "benchmarks.md").read_text().replace("1.20", "1.10"))
    with pytest.raises(SystemExit, match="stale"):
        page.main()


def test_numbers_targets_and_misses(page):
    text = page.page({"metrics": PART})
    assert "| slow\\|er | 12.3 | **1.20 (1.10 to 1.31)** | at most 1.15 |" in text
    assert "| fast | 0.012 | 1.15 (1.00 to 1.30) | at most 1.15 |" in text
    assert "| loop | 1,234 | 0.95 | at least 0.95 |" in text
    assert "| free |  |  |  |" in text
    assert "2 of 3 targets are met; missed:\n\n- Part, slow\\|er: ratio **1.20 (1.10 to 1.31)**, at most 1.15\n" in text
    assert "*time*: of one; *ratio*: over the bare passes." in text
    assert "Machine: a processor, 2 cores." in text
    assert "`suite`, only where it is named" in text
    assert "--quick" not in text


def test_all_met_says_so_and_another_machine_is_named(page):
    good = copy.deepcopy(PART)
    del good["tables"][0]["rows"][0]
    text = page.page({"metrics": good, "store": good | {"machine": "another", "quick": True}})
    assert "4 of 4 targets are met.\n" in text
    assert "| `store` (quick) | 2026-11-26 | 61 | another; torch 2.0 |" in text
    assert "measured with `--quick`" in text


def damaged(**changes):
    part = copy.deepcopy(PART)
    for key, value in changes.items():
        (part if key in part else part["tables"][0] if key in TABLE else part["tables"][0]["rows"][0])[key] = value
    return json.dumps(part)


DAMAGE = {
    "no JSON": "{",
    "empty": "",
    "a list": "[]",
    "no tables": json.dumps({k: v for k, v in PART.items() if k != "tables"}),
    "no date": json.dumps({k: v for k, v in PART.items() if k != "date"}),
    "a kind that is not known": damaged(columns={"path": ["colour", ""]}),
    "a column without values": damaged(columns={"path": ["text", ""], "size": ["count", ""]}),
    "a text in place of a number": damaged(ratio="fast"),
    "a number in place of a text": damaged(path=3),
    "two numbers": damaged(ratio=[1.0, 2.0]),
    "a target of neither side": damaged(target=["about", 1.0]),
    "a target of no column": damaged(judged=""),
}


@pytest.mark.parametrize("content", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_part_is_named_with_the_remedy(page, tmp_path, content):
    (tmp_path / "store.json").write_text(content)
    with pytest.raises(SystemExit, match=r"store.json: expected a part .* --only store"):
        page.read(tmp_path)


def test_quick_keeps_nothing_of_the_project():
    done = call("all.py", "--quick")
    assert done.returncode == 2
    assert "--into" in done.stderr


def test_one_part_end_to_end_and_the_other_is_left_as_it_was(tmp_path):
    (tmp_path / "store.json").write_text(json.dumps(PART))
    done = call("all.py", "--quick", "--only", "metrics", "--into", str(tmp_path))
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "metrics.json").read_text())
    assert found["quick"]
    assert {row["metric"] for row in found["tables"][0]["rows"]} >= {"auroc", "attack_ara", "f1 of single classes"}
    assert json.loads((tmp_path / "store.json").read_text()) == PART
    text = (tmp_path / "benchmarks.md").read_text()
    assert "| `metrics` (quick) |" in text
    assert "| slow\\|er |" in text


def test_a_part_that_fails_is_left_as_it_was(page, tmp_path, monkeypatch, capsys):
    sys.path.insert(0, str(BENCHMARKS))
    every = importlib.import_module("all")
    monkeypatch.setattr(every.subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 1, "", ""))
    (tmp_path / "metrics.json").write_text(json.dumps(PART))
    assert not every.measure("metrics", True, tmp_path)
    assert json.loads((tmp_path / "metrics.json").read_text()) == PART
    assert "metrics failed" in capsys.readouterr().err


def test_growth_is_of_the_time_of_one_more(page):
    turns = importlib.import_module("paths.turns")
    clock = iter([0, 1, 0, 4, 0, 1, 0, 4])  # seconds of two sizes, in two rounds
    table = turns.Table("t", {"what": ("text", ""), "size": ("count", ""), **turns.GROWTH})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(turns.time, "perf_counter", lambda: next(clock))
        turns.scaled(table, "path", (10, 20), lambda size: lambda: None, 2)
    assert [row["time"] for row in table.rows] == [1, 4]
    assert [row["per unit"] for row in table.rows] == [None, [2, 2, 2]]


def test_an_explainer_that_does_not_fit_is_measured_on_fewer_images(page, monkeypatch):
    import torch

    part = importlib.import_module("paths.gpu_explainers")
    room, asked = 3, []

    def explained(call, model, x, y, precision, quick, again):
        if call == "wrong":
            raise RuntimeError("shapes do not match")
        asked.append((call, len(x), precision))
        if len(x) > (0 if call == "huge" else room):
            raise (torch.OutOfMemoryError("CUDA out of memory") if precision == "fp32"
                   else RuntimeError("CUDA error: out of memory"))  # fmt: skip
        return type("E", (), {"heat": torch.rand(len(x), 4, 4), "forwards": 1, "backwards": 1}), 10.0

    monkeypatch.setattr(part, "explained", explained)
    monkeypatch.setattr(part, "made", lambda name, **_: name)
    monkeypatch.setattr(part.gpu, "compute", lambda *_: importlib.import_module("harness.device").resolve("cpu"))
    table = part.Table("t", dict.fromkeys(
        ("network", "explainer", "images", "forward", "both", "fp32", "bf16", "gain", "rank", "top"), ("text", "")
    ))  # fmt: skip
    x, y = torch.rand(16, 3, 4, 4), torch.zeros(16, dtype=torch.long)
    part.rows(table, "n", torch.nn.Identity(), x, y, {n: (13, {}) for n in ("first", "huge", "last")}, quick=False)
    assert [(r["explainer"], r["images"]) for r in table.rows] == [("first", 3), ("last", 3)]
    assert [n for call, n, p in asked if call == "first"] == [13, 6, 3, 3]
    assert [n for call, n, p in asked if call == "huge"] == [13, 6, 3, 1]
    with pytest.raises(RuntimeError, match="shapes"):
        part.rows(table, "n", torch.nn.Identity(), x, y, {"wrong": (4, {})}, quick=False)
