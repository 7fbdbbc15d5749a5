"""Bootstrap replicates of a run's columns, computed from its per-sample scores and kept between reports."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache as remembered
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import platformdirs

from harness import stats
from harness.columns import MISSING, ColumnKey
from harness.errors import UsageError
from harness.metrics import cells as layout
from harness.metrics.summary import TABLES, builtin, joint
from harness.record import StageResult
from harness.store import write_bytes

AGREEMENT = 5e-4  # a stored value further than this from its own samples is not theirs


@dataclass(frozen=True)
class Draws:
    """One run's statistic: its value, its bootstrap replicates (R,), and which samples they rest on."""

    value: float
    replicates: stats.Floats
    samples: str  # digest of sample, class and cluster: only equal ones can be paired


def draws_of(
    stage: StageResult, keys: Iterable[ColumnKey], cache: Path | None = None, resamples: int = stats.RESAMPLES
) -> dict[ColumnKey, Draws]:
    """Return the replicates of a stage's columns.

    Columns whose metric is not one of harness's own are left out: a plug-in's file may need torch, which the report
    never loads. Raises `UsageError` for samples that are damaged or of another version.
    """
    table_type = TABLES.get(str(stage.info.get("evaluation", "")))
    wanted = {k for k in keys if k.metric in _metrics()}
    if table_type is None or not wanted:
        return {}
    frame = stage.read_samples()
    table = table_type.from_frame(frame)
    content, samples = _content(frame), _samples(frame)
    found: dict[ColumnKey, Draws] = {}
    metrics = [_metrics()[name] for name in sorted({k.metric for k in wanted})]
    places = [(layout.registration(m)["name"], *_place(c)) for m in metrics for c in layout.cells(table, m)]
    at = {place: i for i, place in enumerate(places)}
    columns = {k: at[p] for k in wanted if (p := (k.metric, *_key_place(k))) in at}
    if columns:
        with np.errstate(
            over="ignore", invalid="ignore"
        ):  # damaged samples: no warning, the value is not the stored one
            values, replicates = _kept(metrics, table, content, cache, resamples)
        for key, i in columns.items():
            found[key] = Draws(float(values[i]), replicates[:, i], samples)
    return found


def user_cache() -> Path:
    """Return the user's folder for replicates: any report finds what another one computed."""
    return Path(platformdirs.user_cache_dir("harness")) / "report"


@remembered
def _metrics() -> dict[str, layout.Metric]:
    return {layout.registration(m)["name"]: m for m in builtin()}


def _place(cell: Mapping[str, Any]) -> tuple[Any, ...]:
    numbers = (MISSING if cell[name] is None else cell[name] for name in ("threshold", "resolution", "radius"))
    return cell["attack"], cell["variant"], cell["class_name"], *numbers


def _key_place(key: ColumnKey) -> tuple[Any, ...]:
    return key.attack, key.variant, key.class_name, key.threshold, key.resolution, key.radius


def _kept(
    metrics: list[layout.Metric], table: layout.Table, content: str, cache: Path | None, resamples: int
) -> tuple[Any, Any]:
    """Return the point values (K,) and replicates (R,K) of all metrics together, from the cache where it has them."""
    name = "-".join([content, *(layout.registration(m)["name"] for m in metrics)])
    statistic = joint(metrics)
    path = None
    if cache is not None:
        path = cache / f"{hashlib.sha256(f'{name}-{resamples}-{_code()}'.encode()).hexdigest()[:32]}.npy"
        try:
            stored = np.load(path)
            return stored[0], stored[1:]
        except (OSError, ValueError, EOFError):
            pass  # not there, or cut off by a full disk: computed again
    values = stats.point(statistic, table, len(table.clusters))
    replicates = stats.replicates(statistic, table, table.clusters, resamples=resamples)
    if path is not None:
        with suppress(UsageError):  # a full or read-only cache folder costs time, never a rank
            write_bytes(path, _npy(np.concatenate([values[None], replicates])))
    return values, replicates


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


@remembered
def _code() -> str:
    """Return a digest of all code that a replicate depends on, and of numpy's version."""
    files = [Path(stats.__file__), *sorted(Path(layout.__file__).parent.glob("*.py"))]
    return hashlib.sha256(b"".join(f.read_bytes() for f in files) + np.__version__.encode()).hexdigest()


def _content(frame: pd.DataFrame) -> str:
    """Return a digest of all that a frame holds."""
    h = hashlib.sha256("\0".join(map(str, frame.columns)).encode())
    for name in frame.columns:
        values = frame[name].to_numpy()
        if values.dtype != object:
            h.update(values.tobytes())
        elif len(values) and isinstance(values[0], np.ndarray | list):
            h.update(np.concatenate([np.asarray(x) for x in values]).tobytes())
        else:
            h.update("\0".join(map(str, values)).encode("utf-8", "surrogatepass"))
    return h.hexdigest()


def _samples(frame: pd.DataFrame) -> str:
    """Return a digest of which samples a frame holds, whatever their order."""
    named = [frame[c].astype(str) for c in ("id", "class_name", "patient") if c in frame]
    lines = sorted("\0".join(one) for one in zip(*named, strict=True))
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()
