"""JSON that is read a member at a time: the same content as at once, in bounded memory, and one error where damaged."""

import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import reading
from harness.errors import UsageError
from harness.reading import read_members

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("ab\"\\]},é\n"), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("members") / "file.json"


def in_blocks(size, path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "BLOCK", size)
        return list(read_members(path))


@given(content=st.dictionaries(st.text(), VALUES, max_size=5), indent=st.sampled_from([None, 1]), ascii_=st.booleans(),
       block=st.integers(1, 40))  # fmt: skip
def test_the_same_as_at_once(path, content, indent, ascii_, block):
    path.write_text(json.dumps(content, indent=indent, ensure_ascii=ascii_), encoding="utf-8")
    wanted = [(name, member) for name, value in content.items() if isinstance(value, list) for member in value]
    assert in_blocks(block, path) == in_blocks(2**20, path) == wanted


NUMBERS = ("-0", "1.25", "12e3", "1E+2", "-1.5e-3", "0.0", "9223372036854775807")


@pytest.mark.parametrize("block", [1, 2, 3, 5, 7])
def test_a_number_is_not_cut_where_a_block_ends(path, block):
    path.write_text(f'{{"a": [{", ".join(NUMBERS)}]}}')
    assert in_blocks(block, path) == [("a", json.loads(n)) for n in NUMBERS]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected '{', found 'its end: it is truncated'"),
        ("[1]", "expected '{', found '['"),
        ("{", "Expecting value"),
        ('{"a"', "expected ':'"),
        ('{"a":[1', "expected ']', found 'its end: it is truncated'"),
        ('{"a":[1]', "expected '}', found 'its end: it is truncated'"),
        ('{"a":[{"b":"x', "Unterminated string"),
        ('{"a":[1,]}', "Expecting value before ']}'"),
        ('{"a":[1 2]}', "expected ']', found '2'"),
        ('{"a":[1]} {}', "more text after its end: '{'"),
        ("{1:[1]}", "1 is no name, or given twice"),
        ('{"a":[1],"a":[2]}', "'a' is no name, or given twice"),
        ('{"a":[{"b":1,"b":2}]}', "'b' is given twice"),
        ('{"a":[NaN]}', "NaN is no JSON"),
        ('{"a":[1e999]}', "1e999 is beyond a number of 64 bits"),
        ('{"a":1e999}', "1e999 is beyond a number of 64 bits"),
        ('{"a":[9223372036854775808]}', "beyond a number of 64 bits"),
        ('{"a":["\\ud800"]}', "not UTF-8 text"),
        ('{"a":[' + "[" * 60 + "]" * 60 + "]}", "more than 40 deep"),
        ('{"a":[' + "[" * 100_000, "recursion"),
    ],
)
@pytest.mark.parametrize("block", [1, 2**20])
def test_damage(path, text, message, block):
    path.write_text(text)
    if block == 1 and len(text) > 1000:
        block = 1000
    with pytest.raises(UsageError) as error:
        in_blocks(block, path)
    assert str(error.value).startswith(f"{path}: cannot be read (")
    assert message in str(error.value)


@pytest.mark.parametrize("content", [b'{"a":["\xff"]}', '{"a":["x"]}'.encode("utf-16"), b'{"a":["x'], ids=repr)
def test_other_encodings_and_half_a_file(path, content):
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"not UTF-8 text|Unterminated"):
        list(read_members(path))


def test_a_missing_file(tmp_path):
    with pytest.raises(UsageError, match=r"nowhere\.json: cannot be read \(No such file or directory\)\. Fetch it\."):
        list(read_members(tmp_path / "nowhere.json", "Fetch it."))


def test_one_member_beyond_the_bound(path, monkeypatch):
    monkeypatch.setattr(reading, "MEMBER", 1000)
    path.write_text('{"a":["' + "x" * 5000 + '"]}')
    with pytest.raises(UsageError, match="a value of more than 1,000 characters"):
        in_blocks(100, path)


def test_memory_does_not_grow_with_the_file(path):
    member = json.dumps({"segmentation": [[1.25] * 60], "id": 1})
    path.write_text('{"annotations":[' + ",".join([member] * 40_000) + "]}")
    size = path.stat().st_size
    tracemalloc.start()
    count = sum(1 for _ in read_members(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 40_000
    assert size > 14e6
    assert peak < 6e6
