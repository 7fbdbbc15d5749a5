"""Rules of the tolerance file: which applies, and one clear error for what is not understood."""

import math

import pytest

from harness.errors import UsageError
from harness.gate.tolerance import ALPHA, RELATIVE, read
from harness.rows import Row

ROW = Row(run_id="r", evaluation="classification", evaluation_key="k", metric="auroc", dataset="phantom", split="test",
          size=32, profile="quick", method="baseline", model="m", seed=0, class_name="macro", value=0.8, n=9,
          higher_is_better=True)  # fmt: skip


def rules(tmp_path, text):
    path = tmp_path / "t.toml"
    path.write_text(text)
    return read(path)


def of(tolerances, **changes):
    from dataclasses import replace

    return tolerances.of(replace(ROW, **changes))


def test_without_a_file_one_per_cent():
    found = read(None)
    assert found.alpha == ALPHA
    assert found.of(ROW).at(0.8) == pytest.approx(0.8 * RELATIVE)
    assert found.of(ROW).at(-0.8) == pytest.approx(0.8 * RELATIVE)
    assert found.of(ROW).retrained is None


def test_later_rules_win_field_by_field(tmp_path):
    found = rules(tmp_path, """
        alpha = 0.05
        [[tolerance]]
        absolute = 0.02
        relative = 0
        [[tolerance]]
        metric = "au*"
        class = "Hernia"
        dataset = "phantom"
        absolute = 0.5
        [[tolerance]]
        explainer = "cam"
        ignore = "too small"
    """)  # fmt: skip
    assert found.alpha == 0.05
    assert of(found).at(0.8) == 0.02
    assert of(found, class_name="Hernia").at(0.8) == 0.5
    assert of(found, class_name="Hernia", dataset="other").at(0.8) == 0.02
    assert of(found, class_name="Hernia", metric="ece").at(0.8) == 0.02
    assert of(found, explainer="cam").ignore == "too small"
    assert of(found).ignore == ""


def test_the_larger_of_absolute_and_relative_counts(tmp_path):
    found = rules(tmp_path, "[[tolerance]]\nabsolute = 0.01\nrelative = 0.1\n")
    assert found.of(ROW).at(0.5) == pytest.approx(0.05)
    assert found.of(ROW).at(0.05) == pytest.approx(0.01)


def test_single_classes_are_gated_where_a_rule_gives_one(tmp_path):
    from dataclasses import replace

    found = rules(tmp_path, '[[tolerance]]\nclass = "Mass"\nmetric = "auroc"\nabsolute = 0.1\n')
    assert found.gates(ROW)
    assert found.gates(replace(ROW, class_name="all"))
    assert found.gates(replace(ROW, class_name="Mass"))
    assert not found.gates(replace(ROW, class_name="Hernia"))
    assert not found.gates(replace(ROW, class_name="Mass", metric="ece"))
    assert not read(None).gates(replace(ROW, class_name="Mass"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[tolerance]\n", "not valid TOML"),
        ("[tolerance]\nabsolute = 1\n", "two brackets"),
        ("tolerance = 3\n", "two brackets"),
        ("[[rule]]\nabsolute = 1\n", "got 'rule'"),
        ("[[tolerance]]\nabsolut = 1\n", "Did you mean 'absolute'"),
        ('[[tolerance]]\nmetric = "auroc"\n', "it sets nothing"),
        ('[[tolerance]]\nmetric = "aurok"\nabsolute = 1\n', "Did you mean 'auroc'"),
        ("[[tolerance]]\nmetric = 3\nabsolute = 1\n", "expected text for metric"),
        ("[[tolerance]]\nabsolute = -0.1\n", "0 or more"),
        ("[[tolerance]]\nabsolute = true\n", "0 or more"),
        ("[[tolerance]]\nrelative = nan\n", "0 or more"),
        ("[[tolerance]]\nrelative = inf\n", "0 or more"),
        ("[[tolerance]]\nignore = true\n", "Say why"),
        ('[[tolerance]]\nignore = " "\n', "Say why"),
        ("alpha = 0\n", "let every regression pass"),
        ("alpha = 0.9\n", "at most 0.5"),
    ],
)
def test_what_is_not_understood_is_named(tmp_path, text, message):
    with pytest.raises(UsageError, match=message):
        rules(tmp_path, text)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        read(tmp_path / "none.toml")
    assert math.isclose(RELATIVE, 0.01)
