"""Runs held against each other on the same samples: paired differences, several seeds together (protocol.md, 0)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness import stats
from harness.errors import UsageError
from harness.metrics.cells import NOWHERE, Metric, cells, registration
from harness.metrics.summary import TABLES, builtin, joint
from harness.record import Result, StageResult, newest


@dataclass(frozen=True)
class Scores:
    """Some metrics of one method, explained by one explainer: values and replicates of each of its S seeds."""

    cells: list[dict[str, Any]]  # K: metric, attack, resolution, radius, variant, threshold, class_name
    values: stats.Floats  # (S,K)
    draws: stats.Floats  # (S,R,K)
    seeds: tuple[int, ...]
    samples: frozenset[tuple[str, str]]  # (sample, cluster): only equal ones can be paired

    def estimate(self) -> stats.Estimate:
        """Return the mean over the seeds with its interval, (K,)."""
        return stats.summarise(*stats.over_seeds(self.values, self.draws))

    def minus(self, other: Scores) -> tuple[stats.Estimate, stats.Floats]:
        """Return the paired difference self - other with its interval, and its two-sided p-values, (K,).

        Clusters and seeds are drawn alike in both. Raises `UsageError` for other seeds, samples or metrics.
        """
        if self.seeds != other.seeds:
            raise UsageError(f"runs of the seeds {self.seeds} and {other.seeds} cannot be paired. Give the same seeds.")
        if self.samples != other.samples:
            raise UsageError(
                f"runs over {len(self.samples)} and {len(other.samples)} samples, {len(self.samples & other.samples)} "
                "in common, cannot be paired. Compare runs on the same split."
            )
        if self.cells != other.cells:
            raise UsageError("the runs were scored by different metrics. Evaluate them with one version of harness.")
        (value_a, draws_a), (value_b, draws_b) = (stats.over_seeds(s.values, s.draws) for s in (self, other))
        found = stats.summarise(value_a - value_b, draws_a - draws_b)
        return found, stats.normal_p(found.value, found.standard_error)

    def at(
        self, metric: str, class_name: str, threshold: float | None = None, variant: str = "", **condition: Any
    ) -> int:
        """Return the number k of one value; `condition` is its attack, resolution or radius. `UsageError`: none."""
        wanted = {"metric": metric, "variant": variant, "threshold": threshold, "class_name": class_name}
        try:
            return self.cells.index({**NOWHERE, **condition, **wanted})
        except ValueError:
            raise UsageError(
                f"no {metric} of {class_name} at threshold {threshold}, variant {variant!r}, {condition}."
            ) from None


def stage_of(result: Result, evaluation: str, explainer: str = "") -> StageResult:
    """Return a result's newest whole stage of an evaluation; `UsageError` where there is none."""
    found = [
        s
        for s in newest(result.stages)
        if (s.info["evaluation"], s.info["explainer"]) == (evaluation, explainer) and not s.partial
    ]
    if not found:
        what = f"{evaluation} of {explainer}" if explainer else evaluation
        raise UsageError(f"run {result.run_id} has no {what}. Add it by `harness evaluate`.")
    return found[-1]


def scores(
    results: Sequence[Result],
    evaluation: str,
    explainer: str = "",
    metrics: Sequence[str] = (),
    *,
    resamples: int = stats.RESAMPLES,
) -> Scores:
    """Return the scores of one method's seeds. `metrics` names those wanted; () means all of the evaluation.

    Raises `UsageError` for no results, unknown metrics, seeds that scored different samples, a missing stage.
    """
    if not results:
        raise UsageError("no runs to take scores from. Give at least one.")
    ordered = sorted(results, key=lambda r: (r.info["spec"]["seed"], r.run_id))
    for what, found in _identity(ordered).items():
        if len(set(found)) != (len(ordered) if what == "seed" else 1):
            raise UsageError(
                f"runs of {', '.join(map(str, found))} ({what}) are not seeds of one method. Give runs that differ in "
                "their seed alone."
            )
    table_type = TABLES[evaluation]
    tables = [table_type.from_frame(stage_of(r, evaluation, explainer).read_samples()) for r in ordered]
    kinds = [frozenset(zip(t.ids.tolist(), t.clusters.tolist(), strict=True)) for t in tables]
    if len(set(kinds)) > 1:
        raise UsageError(f"the seeds of {ordered[0].info['spec']['method']} scored different samples.")
    chosen = [m for m in builtin() if _fits(m, evaluation, tables[0].task, metrics)]
    lost = set(metrics) - {registration(m)["name"] for m in chosen}
    if lost:
        raise UsageError(f"{evaluation} has no metric {', '.join(sorted(lost))}. `harness list metrics` shows all.")
    statistic = joint(chosen)
    return Scores(
        cells=[{"metric": registration(m)["name"], **cell} for m in chosen for cell in cells(tables[0], m)],
        values=np.stack([stats.point(statistic, t, len(t.clusters)) for t in tables]),
        draws=np.stack([stats.replicates(statistic, t, t.clusters, resamples=resamples) for t in tables]),
        seeds=tuple(int(r.info["spec"]["seed"]) for r in ordered),
        samples=kinds[0],
    )


def _identity(results: Sequence[Result]) -> dict[str, list[Any]]:
    """Return what seeds of one method have in common, and the seeds themselves."""
    return {
        "seed": [r.info["spec"]["seed"] for r in results],
        "method": [r.info["spec"]["method"] for r in results],
        "settings": [next((row.settings for row in r.rows), "") for r in results],
        "model": [r.info["spec"]["model"] for r in results],
        "precision of training": [r.info["provenance"]["precision"] for r in results],
        "data": [r.info["dataset"]["fingerprint"] for r in results],
    }


def _fits(metric: Metric, evaluation: str, task: str, wanted: Sequence[str]) -> bool:
    options = registration(metric)
    named = not wanted or options["name"] in wanted
    return named and options["evaluation"] == evaluation and (not task or task in options.get("tasks", (task,)))
