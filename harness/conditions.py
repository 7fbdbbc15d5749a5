"""What a result was made of and under which conditions, as texts: what two results share, and in what they differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.record import Result

UNKNOWN = "not known"


def subject(result: Result) -> dict[str, str]:
    """Return what a result is of: method, settings, architecture, seed, dataset, weights, commit."""
    spec, fit, data = (part(result.info, name) for name in ("spec", "fit", "dataset"))
    loaded = f", from {fit['loaded']}" if fit.get("loaded") else ""
    return {
        "method": text(spec.get("method")),
        "settings": next((row.settings for row in result.rows), "") or "the defaults",
        "model": text(spec.get("model")),
        "seed": text(spec.get("seed")),
        "started from": text(result.info.get("start_from") or "nothing"),
        "dataset": " · ".join(filter(None, (text(data.get("name")), str(data.get("settings") or "")))),
        "weights": ", ".join(w[:12] for w in weights(result)) + loaded if weights(result) else UNKNOWN,
        "commit": commit(part(part(result.info, "provenance"), "git")),
        "kept as": "published record" if result.published else "run, with its pictures",
    }


def conditions(result: Result) -> dict[str, str]:
    """Return under which conditions a result was made: data, profile, device, number format, versions."""
    known, data = part(result.info, "provenance"), part(result.info, "dataset")
    stages = [s.info for s in result.stages]
    found = {
        "data fingerprint": text(data.get("fingerprint"))[:12],
        "size": f"{text(data.get('size'))} px",
        "profile": text(part(result.info, "spec").get("profile")),
        "protocol": text(sorted({row.protocol_version for row in result.rows})),
        "device of training": text(part(result.info, "fit").get("device") or known.get("device")),
        "device of scoring": text(sorted({str(i.get("device")) for i in stages})),
        "precision of training": text(known.get("precision")),
        "commits of scoring": text(sorted({commit(part(i, "git")) for i in stages})),
        "python": text(known.get("python")),
        "platform": text(known.get("platform")),
    }
    return found | {name: text(version) for name, version in sorted(part(known, "packages").items())}


def differing(a: Mapping[str, str], b: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """Return name and both texts of everything in which two descriptions differ, in their order."""
    names = dict.fromkeys([*a, *b])
    return [(n, a.get(n, UNKNOWN), b.get(n, UNKNOWN)) for n in names if a.get(n, UNKNOWN) != b.get(n, UNKNOWN)]


def weights(result: Result) -> list[str]:
    """Return the checksum of the weights, of each fold; [] where one is not known."""
    fit = part(result.info, "fit")
    found = [one.get("weights_sha256") for one in fit.get("folds") or [fit] if isinstance(one, Mapping)]
    return [str(x) for x in found] if found and all(found) else []


def commit(git: Mapping[str, Any]) -> str:
    """Return a commit as text, shortened, with a note where its files had been changed."""
    sha = text(git.get("sha"))[:12] if git.get("sha") else "of an installed harness"
    return sha + (", with changes" if git.get("dirty") else "")


def part(info: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a table within a run's or stage's info; an empty one where there is none."""
    found = info.get(name)
    return found if isinstance(found, Mapping) else {}


def text(value: Any) -> str:
    """Return a stored value as text."""
    if value is None or value == "":
        return UNKNOWN
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
