"""Settings: parsing by type, routing of --set, layers."""

from dataclasses import dataclass
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.config import build, changed, fields_of, parse, route, setting
from harness.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Thing:
    size: int = setting(3, unit="px", source="somewhere")
    rate: float = setting(0.5)
    name: str | None = setting(None)
    mode: Literal["a", "b"] = setting("a")
    steps: tuple[int, ...] = setting(())
    on: bool = setting(False)


def function(*, needed: int, weights: str | None = None) -> int:
    return needed


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("3", int, 3), ("0.5", float, 0.5), (2, float, 2.0), ("true", bool, True), ("no", bool, False),
        ("none", str | None, None), ("x", str | None, "x"), ("b", Literal["a", "b"], "b"),
        ("170,195", tuple[int, ...], (170, 195)), ("", tuple[int, ...], ()), ((1, 2), tuple[int, ...], (1, 2)),
        ("3", int | None, 3),
    ],
)  # fmt: skip
def test_parse(text, kind, value):
    assert parse(text, kind, "x") == value


@pytest.mark.parametrize(
    ("text", "kind"),
    [("a", int), ("0.5", int), ("nan", float), ("maybe", bool), ("c", Literal["a", "b"]), ("1,x", tuple[int, ...]),
     ("x", int | None), (True, int)],
)  # fmt: skip
def test_parse_refuses(text, kind):
    with pytest.raises(UsageError, match="expected"):
        parse(text, kind, "the setting")


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_round_trip(value):
    assert parse(repr(value), float, "x") == value


def test_layers_and_who_set_what():
    made, settings = build(Thing, "thing", ("dataset", {"rate": 0.1, "size": 4}), ("--set", {"size": "5"}))
    by_name = {s.name: s for s in settings}
    assert (made.size, made.rate, made.mode) == (5, 0.1, "a")
    assert (by_name["size"].set_by, by_name["rate"].set_by, by_name["mode"].set_by) == ("--set", "dataset", "default")
    assert (by_name["size"].unit, by_name["size"].source, by_name["size"].default) == ("px", "somewhere", 3)
    assert changed(settings) == "size=5"


def test_functions_have_settings_too():
    assert list(fields_of(function)) == ["weights"]
    made, _ = build(function, "model function", ("--set", {"weights": "imagenet"}))
    assert made.keywords == {"weights": "imagenet"}


def test_a_keyword_without_a_type_is_one_error():
    def bare(*, depth=3):
        return depth

    with pytest.raises(UsageError, match="its keyword depth has no type"):
        fields_of(bare)


def test_unknown_setting_names_the_closest():
    with pytest.raises(UsageError, match="Did you mean 'rate'"):
        build(Thing, "thing", ("--set", {"rte": "1"}))


def test_route():
    parts = {"method": Thing, "model": function}
    assert route(["size=1", "model.weights=x", "method.rate=2"], parts) == {
        "method": {"size": "1", "rate": "2"}, "model": {"weights": "x"},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("size", "expected field=value"),
        ("=3", "expected field=value"),
        ("sise=3", "Did you mean 'size'"),
        ("metod.size=3", "Did you mean 'method'"),
        ("size=3", r"Say which: method\.size, dataset\.size"),
    ],
)
def test_route_refuses(text, message):
    parts = {"method": Thing, "dataset": Thing} if text == "size=3" else {"method": Thing}
    with pytest.raises(UsageError, match=message):
        route([text], parts)
