import pytest

from harness.report.names import chart_text, file_stem, file_stems, markdown_text


@pytest.mark.parametrize("name", ["../../x", "a/b", "a\\b", "<script>", "", ".", "..", ".hidden", "x" * 300, "nul", "COM1.txt", "a b", "ü", "-x", "a\nb"])  # fmt: skip
def test_hostile_names_become_plain_file_names(name):
    stem = file_stem(name)
    assert stem.replace("-", "").replace("_", "").isalnum()
    assert stem.isascii()
    assert len(stem) <= 120
    assert stem.casefold() not in ("nul", "com1")


def test_ordinary_run_ids_are_kept():
    assert file_stem("robust_fgsm-phantom-s0-1a2b.c") == "robust_fgsm-phantom-s0-1a2b.c"


def test_no_two_names_share_a_file_on_any_file_system():
    names = ["a", "A", "a/b", "a.b/", "a-b", "a?b", "../a", "a\ud800"]
    stems = file_stems(names)
    assert len({s.casefold() for s in stems.values()}) == len(names)
    assert file_stems(reversed(names)) == stems


def test_a_markdown_cell_stays_one_cell():
    text = markdown_text("a|b\n<script>x</script> [y](http://z) `c` *d* \\|")
    assert "\n" not in text
    assert "<" not in text
    assert all(text[i - 1] == "\\" for i, c in enumerate(text) if c in "|[]`*")


def test_plotly_is_given_text():
    assert chart_text("<a href=x>&") == "&lt;a href=x&gt;&amp;"
