"""`harness check`: runs against published records, which numbers are worse, and the exit status of a gate."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from harness.draws import user_cache
from harness.errors import NothingMeasured, UsageError, closest
from harness.gate import forms
from harness.gate.identity import Identity, alike, identity, same_weights
from harness.gate.judge import BETTER, FAILED, WORSE, Verdict, judged, nearest
from harness.gate.spread import ENTRY
from harness.gate.tolerance import Tolerances, read
from harness.provenance import now
from harness.publish import publish
from harness.record import Result, load_all
from harness.store import write_bytes, write_together

REGRESSION, PARTIAL = 1, 4  # exit statuses
UPDATES = "updates"  # entry of a record: why it took the place of another, oldest first


@dataclass(frozen=True)
class Checked:
    """All verdicts, and what the command prints and leaves with."""

    verdicts: list[Verdict]
    tolerances: Tolerances
    everything: bool = False

    @property
    def exit_status(self) -> int:
        """Return 0 where the gate is open, 1 where a number is worse, 4 where one could not be compared."""
        states = {v.state for v in self.verdicts}
        return REGRESSION if WORSE in states else PARTIAL if FAILED in states else 0

    def text(self) -> str:
        """Return the table for a person, and what no rule of the tolerance file did."""
        unused = [f"tolerance rule {i} ({rule}) fits no number that was compared"
                  for i, rule in enumerate(self.tolerances.rules, 1)
                  if not any(v.row and rule.fits(v.row) for v in self.verdicts)]  # fmt: skip
        return "\n".join([forms.text(self.verdicts, self.tolerances.alpha, everything=self.everything), *unused])

    def json(self) -> str:
        """Return all verdicts for machines."""
        return forms.as_json(self.verdicts, self.tolerances.alpha)

    def annotations(self) -> list[str]:
        """Return lines that GitHub shows on a pull request; [] elsewhere."""
        return forms.github(self.verdicts) if os.environ.get("GITHUB_ACTIONS") == "true" else []


def check(
    baseline: Path,
    runs_dir: Path,
    *,
    tolerance: Path | None = None,
    methods: Sequence[str] = (),
    datasets: Sequence[str] = (),
    junit: Path | None = None,
    everything: bool = False,
) -> Checked:
    """Hold the runs of the store against the records of `baseline`, all of them or those of some methods and datasets.

    Raises `UsageError` for records or rules that cannot be read, `NothingMeasured` where nothing could be compared.
    """
    tolerances = read(tolerance)
    records = records_of(baseline, methods, datasets)
    runs = runs_of(runs_dir)
    pairs = [(record, alike(runs, identity(record))) for record in records]
    if not any(found for _, found in pairs):
        wanted = "; ".join(sorted({str(identity(r)) for r in records}))
        raise NothingMeasured(f"no run in {runs_dir} of what {baseline} has records of: {wanted}. Make the runs first.")
    checked = Checked(judged(pairs, tolerances, cache=user_cache()), tolerances, everything)
    if junit is not None:
        write_bytes(junit, forms.junit(checked.verdicts))
    return checked


def records_of(baseline: Path, methods: Sequence[str] = (), datasets: Sequence[str] = ()) -> list[Result]:
    """Return the records to compare with; a damaged one is an error: a gate must not pass over it."""
    if not baseline.is_dir():
        raise UsageError(f"--baseline {baseline}: expected a folder of records, nothing is there. See harness publish.")
    records, unreadable = load_all(None, baseline)
    if unreadable:
        raise UsageError("; ".join(unreadable))
    found = [r for r in records if r.rows]
    known = [identity(r) for r in found]
    _known("--method", methods, {i.method for i in known})
    _known("--dataset", datasets, {i.dataset for i in known})
    chosen = [r for r, i in zip(found, known, strict=True) if _wanted(i, methods, datasets)]
    if not chosen:
        raise NothingMeasured(f"no records in {baseline} to compare with. Publish a run first: harness publish RUN.")
    return chosen


def _known(option: str, names: Sequence[str], known: set[str]) -> None:
    for name in names:
        if name not in known:
            raise UsageError(f"{option} {name!r}: the baseline has no record of it.{closest(name, known)}")


def _wanted(found: Identity, methods: Sequence[str], datasets: Sequence[str]) -> bool:
    return (not methods or found.method in methods) and (not datasets or found.dataset in datasets)


def runs_of(runs_dir: Path) -> list[Result]:
    """Return the runs of the store that have numbers; those that cannot be read count as not made."""
    return [r for r in load_all(runs_dir, None)[0] if r.rows]


def update(checked: Checked, baseline: Path, runs_dir: Path, reason: str) -> list[Path]:
    """Put the runs in place of the records they were held against, each with the reason; return the records' files.

    A record that says how much training scatters is given the scatter of the runs, of which the store must then have
    five seeds. Raises `UsageError` where a record has no run, or a run may not be published; then nothing is replaced.
    """
    if not reason.strip():
        raise UsageError("--update: expected --reason with words that say why the numbers may change. Give one.")
    runs = runs_of(runs_dir)
    chosen: list[tuple[Result, Result, dict[str, Any]]] = []
    for group in forms.by_record(checked.verdicts):
        record = group[0].record
        found = alike(runs, identity(record))
        if not found:
            raise UsageError(f"--update: no run in {runs_dir} of {record.run_id}. Make it first, or leave it out.")
        run = next((r for r in found if same_weights(record, r)), nearest(record, found)[0])
        earlier = record.info.get(UPDATES) or []
        chosen.append((record, run, {UPDATES: [*earlier, _why(reason, record, group)]}))
    with TemporaryDirectory() as place:  # all of them may be published, or none is
        for record, run, note in chosen:
            publish(run.run_id, runs_dir, Path(place), spread=ENTRY in record.info, note=note)
        write_together({baseline / path.name: path.read_bytes() for path in sorted(Path(place).iterdir())})
    for record, run, _ in chosen:
        if record.run_id != run.run_id:
            for kind in (".json", ".parquet"):
                (baseline / f"{record.run_id}{kind}").unlink(missing_ok=True)
    return [baseline / f"{run.run_id}.json" for _, run, _ in chosen]


def _why(reason: str, record: Result, group: Sequence[Verdict]) -> dict[str, Any]:
    changed = [v for v in group if v.state in (WORSE, BETTER)]
    return {
        "reason": reason.strip(),
        "created": now(),
        "replaced": {"run_id": record.run_id, "git": (record.info.get("provenance") or {}).get("git")},
        "changed": [forms.entry(v) for v in changed],
    }
