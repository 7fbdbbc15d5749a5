"""The row: one number of one run, with its interval and all that is needed to know what it means.

The fields are listed here once; the published JSON Schema (docs/row.schema.json) is generated from them.
"""

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.errors import UsageError

SCHEMA_VERSION = 2  # 1 had no explainer_settings
PROTOCOL_VERSION = 1
LONGEST = 20_000  # characters of a field that holds text
HUGE = 1e9  # from here on a number is shown as its digits and its power of ten

NOTES: dict[str, str] = {
    "partial": "only a part of the samples was scored (--limit): shown, never ranked or published",
    "subset": "a subset of the dataset's images",
    "trained on official test images": "a cross-fitted run: each image is scored by a model that did not see it",
    "training images of test patients left out": "patients in both published lists: they are tested, not learned from",
    "beyond rho": "an adversarial explanation whose RMSE exceeds rho, as the authors' program allows",
    "loaded": "the weights were loaded from a file, not trained here",
    "adversarial loss not falling": "steps down the gradient do not lower the mean margin: attacks may be misled",
    "a black-box attack beats the white-box ones": "gradients may be masked: the figures are too high",
    "minimum not reached before half of the steps": "every attack reached some image late or not at all",
    "minima below the attacks' resolution": "some smallest perturbations have an L2 length below 0.03",
    "images never fooled": "some images have the distance to another image instead: an upper bound",
}
INVALID: dict[str, str] = {
    "random output": "the model answers the same image differently: never ranked or published",
    "zero or NaN gradients": "on more than half of the images looked at: attacks have nothing to follow",
    "probabilities instead of logits": "the model's outputs lie in [0,1]: attacks need logits",
}


def _f(description: str, **options: Any) -> Any:
    return field(metadata={"description": description}, **options)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a results table. A number that does not exist is NaN and carries its `reason`, never 0."""

    run_id: str = _f("the run: <method>-<dataset>-s<seed>-<fit key>")
    evaluation: str = _f("name of the evaluation")
    evaluation_key: str = _f("key of the stage that wrote the row: settings, inputs, code versions")
    metric: str = _f("name of the metric whose value the row holds")
    dataset: str = _f("name of the dataset")
    dataset_settings: str = _f("settings of the dataset that differ from its defaults, as text", default="")
    split: str = _f("split that was scored")
    size: int = _f("side of the square input, in pixels")
    profile: str = _f("evaluation sizes: quick or paper; never mixed in ranks")
    evaluation_settings: str = _f("settings of the evaluation that differ from its defaults, as text", default="")
    method: str = _f("name of the method")
    model: str = _f("name of the architecture")
    settings: str = _f("settings of the method that differ from its defaults, as text", default="")
    seed: int = _f("seed of the run")
    explainer: str = _f("name of the explainer; empty where none is involved", default="")
    explainer_settings: str = _f("settings of the explainer that differ from its defaults, as text", default="")
    attack: str = _f("name of the attack; empty where none is involved", default="")
    variant: str = _f("variant or mode of the metric; empty for the protocol's default", default="")
    class_name: str = _f("class, or `macro` (mean over the classes that could be scored), or `all`", default="all")
    threshold: float | None = _f("T(IoU), where the metric has one", default=None)
    resolution: int | None = _f("side of the grid of explanation cells, where the metric has one", default=None)
    radius: float | None = _f(
        "perturbation radius in [0,1] pixels, where the metric has one: RMSE; with variant linf, of any pixel",
        default=None,
    )
    value: float = _f("the number; null where it could not be measured")
    low: float = _f("lower end of the 95 % interval", default=math.nan)
    high: float = _f("upper end of the 95 % interval", default=math.nan)
    n: int = _f("samples the value rests on")
    n_missing: int = _f("samples, or classes for a macro mean, that could not be scored", default=0)
    reason: str = _f("why the value or its interval is missing", default="")
    unit: str = _f("unit of the value", default="")
    higher_is_better: bool = _f("direction of the metric")
    flags: tuple[str, ...] = _f("notes and faults, listed in harness.rows", default=())
    schema_version: int = _f("version of this list of fields", default=SCHEMA_VERSION)
    protocol_version: int = _f("version of the definitions of the metrics", default=PROTOCOL_VERSION)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values: NaN becomes null, full precision is kept."""
        return {k: _jsonable(v) for k, v in dataclasses.asdict(self).items()}


def _jsonable(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return list(value) if isinstance(value, tuple) else value


def rows_of(records: Any, place: str) -> list[Row]:
    """Return the rows of a JSON list; the `UsageError` of a damaged one names `place` and the row's number."""
    if not isinstance(records, list):
        raise UsageError(f"{place}: expected a list of rows, got {_short(records)}. Evaluate the run again.")
    found = []
    for number, record in enumerate(records, 1):
        try:
            found.append(from_json(record))
        except UsageError as error:
            raise UsageError(f"{place}, row {number}: {error}") from None
    return found


def from_json(record: Mapping[str, Any]) -> Row:
    """Return a row from its JSON; raises `UsageError` naming a missing, unknown, mistyped or overlong field."""
    if not isinstance(record, Mapping):
        raise UsageError(f"a row is {_short(record)}, expected an object. Regenerate it.")
    version = record.get("schema_version", SCHEMA_VERSION)
    if _matches(version, int) and version > SCHEMA_VERSION:
        raise UsageError(f"a row has schema version {version}, expected {SCHEMA_VERSION} at most. Update harness.")
    hints, plain = _hints(), _plain()
    values: dict[str, Any] = {}
    for f in _fields():
        if (kind := type(record.get(f.name, plain))) in plain[f.name]:  # nearly all: thousands of runs are read so
            values[f.name] = value = record[f.name]
            if kind is not str or len(value) <= LONGEST:
                continue
        if f.name not in record:
            if f.default is dataclasses.MISSING:
                raise UsageError(f"a row has no field {f.name!r}. Regenerate it with this version of harness.")
            continue
        value = record[f.name]
        kind = hints[f.name]
        if kind is float:
            value = math.nan if value is None else value
        if f.name == "flags" and isinstance(value, list):
            value = tuple(value)
        if not _matches(value, kind):
            raise UsageError(f"a row's field {f.name!r} holds {_short(value)}, expected {_json_type(kind)['type']}.")
        if isinstance(value, str | tuple) and sum(map(len, value)) > LONGEST:
            raise UsageError(f"a row's field {f.name!r} is longer than {LONGEST:,} characters. Shorten the name.")
        try:
            values[f.name] = float(typing.cast(float, value)) if kind is float else value
        except OverflowError:
            raise UsageError(f"a row's field {f.name!r} holds {_short(value)}, beyond a number of 64 bits.") from None
    extra = sorted(set(record) - set(values))
    if extra:
        raise UsageError(
            f"a row has unknown fields {', '.join(extra):.200}. It was written by another version of harness."
        )
    return Row(**values)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."


@functools.cache
def _fields() -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(Row)


@functools.cache
def _plain() -> dict[str, set[type]]:
    """Return by field the types whose values are taken as they are, if they are no longer than allowed."""
    kinds = {k: typing.get_args(h) if isinstance(h, types.UnionType) else (h,) for k, h in _hints().items()}
    return {name: {k for k in each if k in (str, int, float, bool, types.NoneType)} for name, each in kinds.items()}


@functools.cache
def _hints() -> dict[str, Any]:
    return typing.get_type_hints(Row)


def _matches(value: Any, kind: Any) -> bool:
    if isinstance(kind, types.UnionType):
        return any(_matches(value, option) for option in typing.get_args(kind))
    if kind is types.NoneType:
        return value is None
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if typing.get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(isinstance(v, str) for v in value)
    return isinstance(value, kind)


def _json_type(kind: Any) -> dict[str, Any]:
    if isinstance(kind, types.UnionType):
        names: list[str] = []
        for option in typing.get_args(kind):
            name = _json_type(option)["type"]
            names += [n for n in ([name] if isinstance(name, str) else name) if n not in names]
        return {"type": names}
    if typing.get_origin(kind) is tuple:
        return {"type": "array", "items": {"type": "string"}}
    single: dict[Any, Any] = {
        float: ["number", "null"],
        int: "integer",
        str: "string",
        bool: "boolean",
        types.NoneType: "null",
    }
    return {"type": single[kind]}


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of one row."""
    hints = typing.get_type_hints(Row)
    properties = {
        f.name: {**_json_type(hints[f.name]), "description": f.metadata["description"]} for f in dataclasses.fields(Row)
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "harness row",
        "type": "object",
        "properties": properties,
        "required": [f.name for f in dataclasses.fields(Row)],
        "additionalProperties": False,
    }


def cell(value: float, low: float = math.nan, high: float = math.nan, digits: int = 3) -> str:
    """Return the one text of a number, for the terminal, leaderboard.md and HTML alike.

    >>> cell(0.6123, 0.59, 0.6341), cell(0.5), cell(math.nan)
    ('0.612 [0.590, 0.634]', '0.500', 'n/a')
    """
    if not math.isfinite(value):
        return "n/a"
    if max(abs(x) for x in (value, low, high) if math.isfinite(x)) >= HUGE:
        bounds = f" [{low:.{digits}g}, {high:.{digits}g}]" if math.isfinite(low) and math.isfinite(high) else ""
        return f"{value:.{digits}g}{bounds}"
    interval = f" [{low:.{digits}f}, {high:.{digits}f}]" if math.isfinite(low) and math.isfinite(high) else ""
    return f"{value:.{digits}f}{interval}"
