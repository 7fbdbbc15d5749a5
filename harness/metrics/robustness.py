"""The table of smallest perturbations that `robustness` fills (protocol.md, 3)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.errors import UsageError
from harness.metrics.cells import Floats
from harness.metrics.tables import require
from harness.reading import understood

RMSE, PROBABILITY = "rmse:", "probability:"


@dataclass(frozen=True, eq=False)
class RobustnessTable:
    """Smallest RMSE at which each goal holds, of N images (multi-class) or N pairs (image, finding) (multi-label).

    0: the goal holds at the start. NaN: it could not be measured. `probability` holds, of pairs alone, that of the
    finding on the image moved against its label by PGD, by radius ("0": on the image as it is).
    """

    evaluation: ClassVar[str] = "robustness"

    ids: NDArray[Any]  # (N,) str
    clusters: NDArray[Any]  # (N,) str: the patient, else the image
    task: str  # "multiclass" or "multilabel"
    class_names: NDArray[Any]  # (N,) str: the true class, or the finding of the pair
    classes: tuple[str, ...]  # the classes that are scored
    attack: str  # the set of attacks, or their names
    naive: float  # accuracy of always naming the most frequent class; 1/2 of pairs, whose accuracy is balanced
    rmse: Mapping[str, Floats]  # goal -> (N,)
    positive: NDArray[np.bool_] | None = None  # (N,) of pairs: whether the finding is present
    probability: Mapping[str, Floats] = field(default_factory=dict)  # radius -> (N,)
    reasons: Mapping[str, str] = field(default_factory=dict)  # class, or "" for all -> why it has no value
    extra: Mapping[str, NDArray[Any]] = field(default_factory=dict)  # (N,) each: further columns of the frame

    def __post_init__(self) -> None:
        """Check shapes and ranges; raises `UsageError`."""
        name, n = "robustness table", len(self.ids)
        for column, values in {**self.rmse, **self.probability}.items():
            require(values.shape == (n,), name, f"{column} of shape {(n,)}", values.shape, "Give one per sample.")
        for goal, values in self.rmse.items():
            sound = (np.isnan(values) | ((values >= 0) & np.isfinite(values))).all()
            require(sound, name, f"finite RMSE of 0 or more for {goal}", "others", "Give NaN where there is none.")
        require(self.task != "multilabel" or self.positive is not None, name, "the sign of each pair", "none",
                "Give `positive`.")  # fmt: skip

    @classmethod
    @understood("samples", "they cannot be understood", "Evaluate the run again.")
    def from_frame(cls, frame: pd.DataFrame) -> Self:
        """Return the table of a frame as `to_frame` writes it; raises `UsageError` for missing columns."""
        columns = [str(c) for c in frame.columns]
        plain = ["id", "patient", "task", "class_name", "classes", "attack", "naive", "reasons"]
        lost = [c for c in plain if c not in columns]
        require(not lost and len(frame), "robustness frame", f"columns {', '.join(plain)} and some lines",
                f"no {', '.join(lost) or 'lines'}", "Evaluate the run again.")  # fmt: skip
        first = frame.iloc[0]

        def starting(prefix: str) -> dict[str, Floats]:
            return {c.removeprefix(prefix): frame[c].to_numpy(np.float64) for c in columns if c.startswith(prefix)}

        known = {*plain, "positive", *(c for c in columns if c.startswith((RMSE, PROBABILITY)))}
        return cls(
            ids=frame["id"].to_numpy(dtype=str),
            clusters=frame["patient"].to_numpy(dtype=str),
            task=str(first["task"]),
            class_names=frame["class_name"].to_numpy(dtype=str),
            classes=tuple(json.loads(str(first["classes"]))),
            attack=str(first["attack"]),
            naive=float(first["naive"]),
            rmse=starting(RMSE),
            positive=frame["positive"].to_numpy(dtype=bool) if "positive" in columns else None,
            probability=starting(PROBABILITY),
            reasons=json.loads(str(first["reasons"])),
            extra={c: frame[c].to_numpy() for c in columns if c not in known},
        )

    def to_frame(self) -> pd.DataFrame:
        """Return the frame that `from_frame` reads."""
        frame: dict[str, Any] = {"id": self.ids.astype(object), "patient": self.clusters.astype(object)}
        frame |= {"task": self.task, "class_name": self.class_names.astype(object)}
        frame |= {"classes": json.dumps(self.classes), "attack": self.attack, "naive": self.naive}
        frame |= {"reasons": json.dumps(dict(self.reasons))}
        frame |= {} if self.positive is None else {"positive": self.positive}
        frame |= {RMSE + goal: values for goal, values in self.rmse.items()}
        frame |= {PROBABILITY + name: values for name, values in self.probability.items()}
        return pd.DataFrame({**frame, **self.extra}, index=pd.RangeIndex(len(self.ids)))

    @property
    def conditions(self) -> tuple[dict[str, Any], ...]:
        """Return the one condition: the attacks."""
        return ({"attack": self.attack},)

    def parts(self) -> list[tuple[slice, Self]]:
        """Return the table itself: a perturbation is found for each image alone, whichever model it is of."""
        return [(slice(None), self)]

    @cached_property
    def members(self) -> list[NDArray[np.intp]]:
        """Return the positions of each class's pairs; of a multi-class table those of all images, once."""
        if self.task == "multiclass":
            return [np.arange(len(self.ids))]
        return [np.flatnonzero(self.class_names == c) for c in self.classes]

    def known(self, score: str) -> NDArray[np.bool_]:
        """Return which samples have the score, a goal or "probability", (N,); one that was not asked for: none."""
        if score == "probability":
            return np.all(
                [np.isfinite(p) for p in self.probability.values()] or [np.zeros(len(self.ids), bool)], axis=0
            )
        return np.isfinite(self.rmse[score]) if score in self.rmse else np.zeros(len(self.ids), bool)

    def counted(self, score: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return per class (one, multi-class) how many samples have the score and how many do not."""
        known = self.known(score)
        return np.array([known[m].sum() for m in self.members]), np.array([(~known[m]).sum() for m in self.members])

    def rests_on(self, kept: NDArray[np.bool_], score: str) -> int:
        """Return how many samples a value over these classes rests on."""
        return int(self.counted(score)[0][kept].sum())

    def lacking(self, need: str, score: str) -> list[str]:
        """Return per class (one, multi-class) why it cannot be scored, "" where nothing is lacking.

        A sample without a value makes its class missing: leaving it out would reward a failing attack.
        """
        if need not in ("finite", "asked"):
            raise UsageError(f"unknown need {need!r} of a robustness metric. Known: asked.")
        names = self.classes if self.task == "multilabel" else ("",)
        asked = score in self.rmse or (score == "probability" and bool(self.probability))
        found = []
        for name, members in zip(names, self.members, strict=True):
            lost = int((~self.known(score)[members]).sum()) if asked else 0
            unscored = f"{lost} of {len(members)} could not be scored: not a number, or never fooled" if lost else ""
            found.append(
                self.reasons.get(name, "")
                or ("" if asked else "not measured in this profile")
                or ("" if len(members) else "no samples")
                or unscored
            )
        return found
