"""How verdicts are shown: text, JSON, JUnit and annotations, with hostile names in them."""

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as xml

import pytest

from harness.gate import forms
from harness.gate.judge import FAILED, IGNORED, NEW, SAME, WORSE, Verdict
from harness.paired import scored
from harness.plugins import load_file
from harness.record import from_run

synthetic = load_file(Path(__file__).with_name("synthetic.py"))
HOSTILE = "<b>\x1b[31m\x00\n::error::100%, [red]x[/red]"


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory):
    record = from_run(synthetic.run(tmp_path_factory.mktemp("forms"), 0))
    place, (row, _) = next((p, c) for p, c in sorted(scored(record).items()) if p[1].metric == "auroc")
    hostile = (place[0], replace(place[1], class_name=HOSTILE))
    v = Verdict(record, place, WORSE, before=0.9, after=0.8, loss=0.1, tolerance=0.01, p=1e-5, mode="same weights",
                row=row)  # fmt: skip
    states = (replace(v, state=SAME, loss=0.0), replace(v, state=FAILED, place=None, row=None, note=HOSTILE),
              replace(v, state=IGNORED, note="why"), replace(v, state=NEW), replace(v, place=hostile))  # fmt: skip
    return [v, *states]


def test_the_text_names_what_is_bad_and_counts_everything(verdicts):
    text = forms.text(verdicts, 0.01, everything=False)
    assert "baseline on chestxray14, seed 0 · same weights: 2 worse, 1 failed, 1 same, 1 ignored, 1 new" in text
    assert "auroc" in text
    assert "0.9000" in text
    assert "0.1000" in text
    assert "The gate is closed." in text
    assert len(forms.text(verdicts, 0.01, everything=True)) > len(text)
    assert "The gate is open." in forms.text(verdicts[1:2], 0.01, everything=False)


def test_json_holds_every_verdict(verdicts):
    content = json.loads(forms.as_json(verdicts, 0.02))
    assert content["open"] is False
    assert content["alpha"] == 0.02
    assert content["counts"] == {"worse": 2, "failed": 1, "same": 1, "ignored": 1, "new": 1}
    assert content["verdicts"][0]["loss"] == 0.1
    assert content["verdicts"][2]["before"] == 0.9


def test_junit_is_xml_whatever_the_names_hold(verdicts):
    root = xml.fromstring(forms.junit(verdicts))
    (suite,) = root
    assert {k: suite.get(k) for k in ("tests", "failures", "errors", "skipped")} == {
        "tests": "6", "failures": "2", "errors": "1", "skipped": "2"
    }  # fmt: skip
    cases = list(suite)
    assert [next((c.tag for c in case), "") for case in cases] == [
        "failure",
        "",
        "error",
        "skipped",
        "skipped",
        "failure",
    ]
    assert cases[0][0].get("message").startswith("0.9000 -> 0.8000: worse by 0.1000, allowed 0.0100, p = 1e-05")


def test_annotations_are_one_line_each_and_cannot_be_broken_out_of(verdicts):
    lines = forms.github(verdicts)
    assert len(lines) == 3
    assert all(line.startswith("::error title=baseline on chestxray14%2C seed 0::") for line in lines)
    assert all("\n" not in line for line in lines)
    assert "%0A::error::100%25" in lines[1]
