"""Which runs are the same thing made again: all that a user chose but the seed, and nothing that code decides."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from harness.errors import UsageError
from harness.record import Result, weights


@dataclass(frozen=True, order=True)
class Identity:
    """What a record and a run of it have in common, whatever the code, the weights and the data's content."""

    method: str
    settings: str
    model: str
    dataset: str
    dataset_settings: str
    size: int

    def __str__(self) -> str:
        """Return the method, what was set of it, and the dataset."""
        changed = f" ({self.settings})" if self.settings else ""
        data = f"{self.dataset} ({self.dataset_settings})" if self.dataset_settings else self.dataset
        return f"{self.method}{changed} on {data}"


def identity(result: Result) -> Identity:
    """Return the identity of a run or record; raises `UsageError` for one without rows."""
    row = next(iter(result.rows), None)
    if row is None:
        raise UsageError(f"{result.source}: it has no numbers. Evaluate the run, or remove it.")
    return Identity(row.method, row.settings, row.model, row.dataset, row.dataset_settings, row.size)


def seed(result: Result) -> int:
    """Return the seed of a result that has rows."""
    return next(iter(result.rows)).seed


def same_weights(one: Result, other: Result) -> bool:
    """Return whether both are known to have the same weights."""
    return bool(weights(one)) and weights(one) == weights(other)


def alike(results: Iterable[Result], wanted: Identity) -> list[Result]:
    """Return the results of an identity, one of each seed, by seed: of several the newest."""
    found: dict[int, Result] = {}
    mine = [r for r in results if r.rows and identity(r) == wanted]
    for result in sorted(mine, key=lambda r: (str((r.info.get("provenance") or {}).get("created", "")), r.run_id)):
        found[seed(result)] = result
    return [found[s] for s in sorted(found)]
