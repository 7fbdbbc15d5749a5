"""Settings: typed fields with a unit, a default and a source, and the rules by which `--set` replaces them."""

import dataclasses
import functools
import inspect
import sys
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from harness.errors import UsageError, closest


def setting(default: Any, *, unit: str = "", source: str = "", help: str = "") -> Any:
    """Declare a dataclass field with its unit, where its value comes from, and what it does."""
    return dataclasses.field(default=default, metadata={"unit": unit, "source": source, "help": help})


@dataclass(frozen=True)
class Setting:
    """One resolved setting of one component, as `harness show` prints it and run.json keeps it."""

    component: str  # "method robust_fgsm"
    name: str
    type: str
    value: Any
    default: Any
    unit: str
    source: str
    help: str
    set_by: str  # "default", "dataset", "evaluation", "config" or "--set"


def type_name(kind: Any) -> str:
    """Return a type as a person writes it: `int`, `float | None`, `'a' | 'b'`."""
    if get_origin(kind) is Literal:
        return " | ".join(repr(a) for a in get_args(kind))
    if isinstance(kind, type) and not get_args(kind):
        return kind.__name__
    return str(kind).replace("typing.", "").replace("NoneType", "None")


def parse(text: Any, kind: Any, name: str) -> Any:
    """Return `text` (from `--set`, TOML or a dataset's schedule) as a value of type `kind`.

    Raises `UsageError` when it is not one; a whole number passes for a float, a float never for an integer.
    """
    wrong = UsageError(f"{name}: expected {type_name(kind)}, got {text!r}. Give a value of that type.")
    origin = get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        options = [option for option in get_args(kind) if option is not types.NoneType]
        if len(options) < len(get_args(kind)) and (text is None or str(text).casefold() in ("none", "")):
            return None
        for option in options:
            try:
                return parse(text, option, name)
            except UsageError:
                continue
        raise wrong
    if origin is Literal:
        options = get_args(kind)
        for option in options:
            if str(text) == str(option):
                return option
        near = closest(str(text), map(str, options))
        raise UsageError(f"{name}: expected one of {', '.join(map(str, options))}; got {text!r}.{near}")
    if origin is tuple:
        item = get_args(kind)[0]
        parts = text.split(",") if isinstance(text, str) else list(text)
        return tuple(parse(p.strip() if isinstance(p, str) else p, item, name) for p in parts if p != "")
    if kind is bool:
        words = {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False}
        if str(text).casefold() not in words:
            raise wrong
        return words[str(text).casefold()]
    if kind in (int, float):
        if isinstance(text, bool):
            raise wrong
        try:
            value = kind(text)
        except (TypeError, ValueError):
            raise wrong from None
        if (kind is int and isinstance(text, float) and text != value) or value != value:
            raise wrong
        return value
    if kind is str:
        return str(text)
    raise TypeError(f"{name}: settings of type {type_name(kind)} are not supported")


@dataclass(frozen=True)
class _Field:
    name: str
    kind: Any
    default: Any
    metadata: Mapping[str, str]


def _hint(component: Any, field: dataclasses.Field[Any]) -> Any:
    """Return a field's type. Other annotations of the class stay unread: they may name types that are not imported."""
    if not isinstance(field.type, str):
        return field.type
    owner = next(c for c in component.__mro__ if field.name in inspect.get_annotations(c))
    return eval(field.type, vars(sys.modules[owner.__module__]))


def _declared(component: Any) -> dict[str, _Field]:
    """Return the settings of a component: the fields of a dataclass, the keyword defaults of a function."""
    if dataclasses.is_dataclass(component):
        fields = [f for f in dataclasses.fields(component) if f.init]
        return {f.name: _Field(f.name, _hint(component, f), f.default, f.metadata) for f in fields}
    if inspect.isfunction(component):
        hints = typing.get_type_hints(component)
        keywords = [
            p
            for p in inspect.signature(component).parameters.values()
            if p.kind is inspect.Parameter.KEYWORD_ONLY and p.default is not inspect.Parameter.empty
        ]
        bare = [p.name for p in keywords if p.name not in hints]
        if bare:
            raise UsageError(
                f"{component.__module__}.{component.__qualname__}: its keyword {bare[0]} has no type, so no setting "
                f"can be read for it. Annotate it: {bare[0]}: float = ..., say."
            )
        return {p.name: _Field(p.name, hints[p.name], p.default, {}) for p in keywords}
    return {}


def fields_of(component: Any) -> dict[str, Any]:
    """Return name -> type of the settings of a component; {} where it has none."""
    return {name: declared.kind for name, declared in _declared(component).items()}


def build(component: Any, label: str, *layers: tuple[str, Mapping[str, Any]]) -> tuple[Any, list[Setting]]:
    """Build a component from layers of overrides, later ones winning, each named (`dataset`, `--set`).

    Returns the instance (of a function: the function with its keywords bound) and its settings with the layer
    that set each one. Raises `UsageError` for unknown names and wrong types.
    """
    declared = _declared(component)
    values: dict[str, Any] = {}
    set_by: dict[str, str] = {}
    for layer, overrides in layers:
        for name, text in overrides.items():
            if name not in declared:
                known = ", ".join(declared) or "none"
                near = closest(name, declared)
                raise UsageError(f"{label} has no setting {name!r}.{near} Its settings: {known}.")
            values[name] = parse(text, declared[name].kind, f"{label}: {name}")
            set_by[name] = layer
    described = [
        Setting(
            component=label,
            name=name,
            type=type_name(field.kind),
            value=values.get(name, field.default),
            default=field.default,
            unit=field.metadata.get("unit", ""),
            source=field.metadata.get("source", ""),
            help=field.metadata.get("help", ""),
            set_by=set_by.get(name, "default"),
        )
        for name, field in declared.items()
    ]
    if inspect.isfunction(component):
        return functools.partial(component, **values), described
    return component(**values), described


def changed(settings: Iterable[Setting]) -> str:
    """Return the settings that the user changed, as text: `epsilon=0.01, share=0.25`."""
    return ", ".join(f"{s.name}={s.value}" for s in settings if s.set_by in ("config", "--set"))


def split_assignment(text: str, option: str = "--set") -> tuple[str, str]:
    """Split `name.field=value`, given by `option`; raises `UsageError` where there is no `=`."""
    name, found, value = text.partition("=")
    if not found or not name.strip():
        raise UsageError(f"{option} {text!r}: expected field=value or name.field=value. Put an = between them.")
    return name.strip(), value.strip()


def route(assignments: Iterable[str], components: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Give each `name.field=v` or `field=v` to the one selected component that it is meant for.

    `components` maps the name of each selected component to its class or function. A bare field must exist in
    exactly one.
    """
    routed: dict[str, dict[str, str]] = {name: {} for name in components}
    for text in assignments:
        target, value = split_assignment(text)
        owner, dot, field = target.rpartition(".")
        if dot:
            if owner not in components:
                known = ", ".join(components)
                raise UsageError(
                    f"--set {text!r}: {owner!r} is not part of this run.{closest(owner, components)} Selected: {known}."
                )
        else:
            owners = [name for name, cls in components.items() if field in fields_of(cls)]
            if len(owners) > 1:
                options = ", ".join(f"{o}.{field}" for o in owners)
                raise UsageError(f"--set {text!r}: several components have {field!r}. Say which: {options}.")
            if not owners:
                every = {f: name for name, cls in components.items() for f in fields_of(cls)}
                listing = ", ".join(f"{name}.{f}" for f, name in every.items())
                raise UsageError(
                    f"--set {text!r}: no selected component has a setting {field!r}.{closest(field, every)} "
                    f"Settings: {listing}."
                )
            owner = owners[0]
        routed[owner][field] = value
    return routed
