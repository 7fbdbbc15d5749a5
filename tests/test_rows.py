"""Rows: JSON there and back, the published schema, hostile values, and the text of a number."""

import dataclasses
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from harness.errors import UsageError
from harness.rows import Row, cell, from_json, json_schema

ROW = Row(
    run_id="baseline-phantom-s0-abc", evaluation="localisation", evaluation_key="k", metric="localisation_accuracy",
    dataset="phantom", split="test", size=64, profile="quick", method="baseline", model="resnet", seed=0,
    class_name="Mass", threshold=0.1, value=0.5, low=0.25, high=0.75, n=98, n_missing=2,
    reason="2 of 100 could not be scored",
    higher_is_better=True, flags=("partial",),
)  # fmt: skip
VALIDATOR = Draft202012Validator(json_schema())

finite = st.floats(allow_nan=False, allow_infinity=False)
numbers = st.none() | finite
rows = st.builds(
    Row,
    run_id=st.text(), evaluation=st.text(), evaluation_key=st.text(), metric=st.text(), dataset=st.text(),
    dataset_settings=st.text(), split=st.text(), size=st.integers(), profile=st.text(), evaluation_settings=st.text(),
    method=st.text(), model=st.text(), settings=st.text(), seed=st.integers(), explainer=st.text(),
    explainer_settings=st.text(), attack=st.text(), variant=st.text(), class_name=st.text(), threshold=numbers, resolution=st.none() | st.integers(), radius=numbers,
    value=st.just(math.nan) | finite, low=st.just(math.nan) | finite, high=st.just(math.nan) | finite,
    n=st.integers(), n_missing=st.integers(), reason=st.text(), unit=st.text(), higher_is_better=st.booleans(),
    flags=st.lists(st.text()).map(tuple), schema_version=st.just(2), protocol_version=st.just(1),
)  # fmt: skip


def same(a, b):
    pairs = zip(dataclasses.astuple(a), dataclasses.astuple(b), strict=True)
    return all(x == y or (x != x and y != y) for x, y in pairs)


def test_the_schema_itself_is_valid():
    Draft202012Validator.check_schema(json_schema())


@given(rows)
def test_every_row_survives_json_bit_by_bit_and_fits_the_schema(row):
    text = json.dumps(row.to_json(), allow_nan=False)
    VALIDATOR.validate(json.loads(text))
    again = from_json(json.loads(text))
    assert same(again, row)
    assert [type(v) for v in dataclasses.astuple(again)] == [type(v) for v in dataclasses.astuple(row)]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_becomes_null_and_comes_back_as_missing(value):
    record = dataclasses.replace(ROW, value=value, low=value, high=value).to_json()
    VALIDATOR.validate(record)
    assert record["value"] is record["low"] is record["high"] is None
    assert math.isnan(from_json(record).value)


def test_missing_is_not_zero():
    assert dataclasses.replace(ROW, value=0.0).to_json()["value"] == 0.0
    assert from_json(ROW.to_json() | {"value": None}).value != 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"value": "0.5"}, "'value' holds '0.5'"),
        ({"value": True}, "'value' holds True"),
        ({"value": [0.5]}, "'value'"),
        ({"n": 9.5}, "'n' holds 9.5, expected integer"),
        ({"n": True}, "'n' holds True"),
        ({"n": None}, "'n' holds None"),
        ({"metric": 3}, "'metric' holds 3"),
        ({"metric": None}, "'metric' holds None"),
        ({"higher_is_better": 1}, "'higher_is_better' holds 1"),
        ({"threshold": "0.1"}, "'threshold'"),
        ({"resolution": 7.5}, "'resolution'"),
        ({"flags": "partial"}, "'flags' holds 'partial'"),
        ({"flags": [1]}, "'flags'"),
        ({"invented": 1}, "unknown fields invented"),
    ],
)
def test_a_hostile_record_is_refused_by_the_reader_and_by_the_schema(change, message):
    record = ROW.to_json() | change
    with pytest.raises(UsageError, match=message.replace("[", r"\[")):
        from_json(record)
    assert not VALIDATOR.is_valid(record)


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(Row) if f.default is dataclasses.MISSING])
def test_a_record_without_a_field_is_refused(field):
    record = ROW.to_json()
    del record[field]
    with pytest.raises(UsageError, match=f"no field '{field}'"):
        from_json(record)
    assert not VALIDATOR.is_valid(record)


def test_a_whole_number_passes_for_a_float():
    row = from_json(ROW.to_json() | {"value": 1})
    assert row.value == 1.0
    assert isinstance(row.value, float)


def test_a_whole_number_that_no_float_holds_is_refused():
    with pytest.raises(UsageError, match=r"'value' holds 1000.*beyond a number of 64 bits"):
        from_json(ROW.to_json() | {"value": 10**400})


def test_every_field_is_described():
    assert all(p["description"] for p in json_schema()["properties"].values())


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ((0.6123, 0.59, 0.6341), "0.612 [0.590, 0.634]"),
        ((0.5,), "0.500"),
        ((0.5, 0.4, math.nan), "0.500"),
        ((math.nan,), "n/a"),
        ((math.nan, 0.1, 0.2), "n/a"),
        ((math.inf, 0.1, 0.2), "n/a"),
        ((0.0, -0.25, 0.25), "0.000 [-0.250, 0.250]"),
        ((12.3456, 12.0, 13.0, 1), "12.3 [12.0, 13.0]"),
    ],
)
def test_the_text_of_a_number(numbers, text):
    assert cell(*numbers) == text
