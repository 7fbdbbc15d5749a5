"""Records and runs of one thing in several seeds, of known numbers, without a model."""

from dataclasses import replace
from pathlib import Path

from support import REPOSITORY

from harness.plugins import load_file
from harness.record import Result, from_run, write_record

fixtures = load_file(REPOSITORY / "tests" / "report" / "fixtures.py")


def run(runs_dir: Path, seed: int, *, skill: float = 1.0, noise: int | None = None, weights: str = "", **options):
    """Write a run of `baseline` whose classification is of this skill; `noise` moves its scores, default its seed."""
    tables = {
        "classification": fixtures.classification(skill, 100 + (seed if noise is None else noise)),
        "cam": fixtures.localisation(0.4 * skill, 100 + (seed if noise is None else noise)),
        "centre": fixtures.reference(0),
    }
    made = fixtures.write_run(runs_dir, 0, method="baseline", seed=seed, run_id=options.pop("run_id", f"b-s{seed}"),
                              tables=tables, pictures=False, **options)  # fmt: skip
    info = made.info
    made.update(
        fit={**info["fit"], "weights_sha256": weights or f"{seed:064d}"},
        provenance={**info["provenance"], "precision": "fp32"},
        spec={**info["spec"], "sets": []},
    )
    return made


def record(folder: Path, made, **info) -> Path:
    """Write the record of a run, with more entries in what it says of the run."""
    result: Result = from_run(made)
    return write_record(replace(result, info={**result.info, **info}), folder)
