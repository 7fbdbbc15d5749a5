"""What run.json, stage.json, a gallery and a history look like: the types of what harness reads in them.

A shape is a type, a tuple of types, `[shape]` for a list, `Each(shape)` for an object of any keys, or an object of
known keys; `object` is checked by another reader. A key may be missing, its text or number null, where it is not
`Whole`; one that no shape names is kept as it is. What a command cannot do without, it asks for by `need`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from harness.errors import UsageError

LONGEST = 20_000  # characters of one text: a name, a note, settings, the message of an error


@dataclass(frozen=True)
class Each:
    """An object whose keys are names of the data (classes, packages, counts), all of one shape."""

    shape: Any


@dataclass(frozen=True)
class Whole:
    """An object all of whose keys are there and not null."""

    shape: dict[str, Any]


NUMBER = (int, float)
NONE = type(None)
KINDS = {str: "a text", int: "a whole number", float: "a number", bool: "true or false", list: "a list", NONE: "null"}
PLAIN = (str, int, float, bool)
VALUE = (*PLAIN, list)
SETTING = {"component": str, "name": str, "type": str, "value": VALUE, "default": VALUE, "unit": str, "source": str,
           "help": str, "set_by": str}  # fmt: skip
GIT = {"sha": str, "dirty": bool}
FIT = {"key": str, "epochs": int, "best_epoch": int, "best_validation_loss": NUMBER, "stopped": str,
       "images_per_second": NUMBER, "seconds": NUMBER, "weights_sha256": str, "device": str,
       "processes": int}  # fmt: skip
RUN = {
    "schema": int, "run_id": str, "status": str, "message": str,
    "spec": {"method": str, "dataset": str, "seed": int, "explainers": [str], "evaluations": [str], "sets": [str],
             "model": str, "checkpoint": str, "precision": str, "profile": str, "batch_size": int, "limit": int,
             "plugins": [str]},
    "settings": [SETTING],
    "start_from": str,
    "classes": [str],
    "task": str,
    "dataset": {"name": str, "settings": str, "size": int, "fingerprint": str, "counts": Each(int),
                "folds": [Each(int)], "positives": Each(Each(int)), "notes": [str], "corrupt": list,
                "manifest_sha256": str},
    "fit": {**FIT, "folds": [FIT]},
    "provenance": {"created": str, "git": GIT, "python": str, "platform": str, "packages": Each(str), "device": str,
                   "precision": str},
    "missing_evaluations": Each(str),
}  # fmt: skip
ATTACKED = Whole({"images": int, "at the start": int, "passes, mean": NUMBER, "passes, maximum": NUMBER,
                  "won": Each(int), "never fooled": int})  # fmt: skip
STAGE = {
    "evaluation": str, "explainer": str, "reference": bool, "key": str, "settings": [SETTING], "seconds": NUMBER,
    "passes": Each(NUMBER), "device": str, "precision": str, "created": str, "git": GIT,
    "facts": {"adv": ATTACKED, "btr": ATTACKED, "flip": ATTACKED, "stages": [str]},
}  # fmt: skip
TOP = [[(str, int, float)]]
REACHED = {"probability": NUMBER, "rmse": NUMBER, "top": TOP}
GALLERY = [
    {"id": str, "class_name": str, "own": str, "order": int, "why": str, "variant": str, "probability": NUMBER,
     "positive": bool, "scores": Each((*NUMBER, NONE)), "boxes": [list], "top": TOP,
     "curves": [Each((int, float, bool, list, NONE))], "explanations": Each(REACHED), "rho": NUMBER,
     "amplification": NUMBER}
]  # fmt: skip
HISTORY = [Each((*PLAIN, NONE))]
WHOLE = ("run_id", "status", "spec.method", "spec.dataset", "spec.seed", "spec.model", "spec.sets", "spec.profile",
         "settings", "classes", "task", "dataset.name", "dataset.size", "dataset.fingerprint", "dataset.counts",
         "fit.key", "provenance.git", "provenance.precision")  # fmt: skip
WHOLE_STAGE = ("evaluation", "key", "settings", "device", "created", "git")


def check(value: Any, shape: Any, place: str, advice: str) -> Any:
    """Return `value`, of `shape`; `UsageError` says where in `place` it is not."""
    _check(value, shape, place, "", advice)
    return value


def need(value: Mapping[str, Any], names: Iterable[str], place: str, advice: str) -> None:
    """Raise `UsageError` where one of `names` (`spec.method`) is missing or null."""
    for name in names:
        found: Any = value
        for part in name.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
        if found is None:
            raise UsageError(f"{place}: expected {name}, it is missing. {advice}")


def _check(value: Any, shape: Any, place: str, where: str, advice: str) -> None:
    if shape is object:
        return
    if expected := _fits(value, shape):
        raise UsageError(f"{place}: expected {expected}{where and f' as {where}'}, got {_short(value)}. {advice}")
    if isinstance(value, str) and len(value) > LONGEST:
        told = f"a text of at most {LONGEST:,} characters{where and f' as {where}'}, got {len(value):,}"
        raise UsageError(f"{place}: expected {told}. {advice}")
    if isinstance(value, list):
        inner = shape[0] if isinstance(shape, list) else None
        for i, x in enumerate(value):
            if inner is not None or isinstance(x, str | list | dict):
                _check(x, inner, place, f"{where}[{i}]", advice)
    elif isinstance(value, dict):
        inner_shapes = shape.shape if isinstance(shape, Whole) else shape
        if isinstance(shape, Whole) and (lost := sorted(shape.shape.keys() - value.keys())):
            raise UsageError(f"{place}: expected {where}.{lost[0]}, it is missing. {advice}")
        for key, x in value.items():
            if len(key) > LONGEST:
                _check(key, str, place, f"a key of {where or 'it'}", advice)
            inner = inner_shapes.get(key) if isinstance(inner_shapes, dict) else None
            if isinstance(shape, Each):
                _check(x, shape.shape, place, f"{where}.{key}", advice)
            elif x is not None or isinstance(shape, Whole) or isinstance(inner, dict | list | Each | Whole):
                _check(x, inner, place, f"{where}.{key}" if where else key, advice)


def _fits(value: Any, shape: Any) -> str:
    """Return what was expected where `value` itself, not what is in it, does not fit; "" where it does."""
    if shape is None:
        return ""
    if isinstance(shape, list):
        return "" if isinstance(value, list) else "a list"
    if isinstance(shape, dict | Each | Whole):
        return "" if isinstance(value, dict) else "an object"
    kinds = shape if isinstance(shape, tuple) else (shape,)
    if isinstance(value, kinds) and (not isinstance(value, bool) or bool in kinds):
        return ""
    return " or ".join(KINDS[k] for k in kinds if not (k is int and float in kinds))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
