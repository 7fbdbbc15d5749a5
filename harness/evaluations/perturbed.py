"""How samples in a fixed order are attacked, part by part, and what is said of the result (protocol.md, 3)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from harness.attacks.goals import Goal
from harness.attacks.sanity import faults
from harness.attacks.strongest import strongest, towards
from harness.evaluations.subject import Subject
from harness.types import Batch

CONTROLLED = 8  # images that are attacked without gradients as well
CLEARLY = 0.95  # a perturbation is clearly smaller than another below this share of it
LOOKED_AT = 16  # images that are looked at for faults before anything is attacked
OTHERS = 20  # images that one that no attack fooled is led towards
RESOLUTION = 0.03  # L2 below which Algorithm 1 errs by several percent (protocol.md, 3)
MANY = 0.02  # share of the images above which late successes are worth a note

Goals = Mapping[str, Callable[[NDArray[np.int64]], Goal]]  # name -> goal of some of the samples, by their numbers
More = Callable[[NDArray[np.int64], Batch], Mapping[str, NDArray[Any]]]


@dataclass(frozen=True, kw_only=True)
class Perturbed:
    """What images and pairs have in common: samples in a fixed order, goals, and attacks by name."""

    subject: Subject
    attacks: dict[str, Any]
    attack: str  # their name in rows
    control: dict[str, Any]  # attacks without gradients, which should find nothing smaller
    batch: int  # samples attacked at once: what an interrupted attack keeps

    def run(self, positions: NDArray[np.int64], goals: Goals, more: More) -> pd.DataFrame:
        """Return a line per sample: what each goal took. `goals` make the goal of rows; `more` adds columns."""
        return self.subject.in_parts(len(positions), self.batch, lambda rows: self._part(positions, rows, goals, more))

    def _part(self, positions: NDArray[np.int64], rows: NDArray[np.int64], goals: Goals, more: More) -> pd.DataFrame:
        batch = self.subject.feed(positions[rows]).batch(np.arange(len(rows)))
        finite = self.subject.logits(batch).isfinite().all(1).cpu().numpy()
        found: dict[str, NDArray[Any]] = {}
        for name, make in goals.items():
            columns: dict[str, NDArray[Any]] = {
                "rmse": np.full(len(rows), np.nan), "won": np.full(len(rows), "", object),
                "passes": np.zeros(len(rows), np.int64), "late": np.zeros(len(rows), bool),
            }  # fmt: skip
            each = {n: np.full(len(rows), np.nan) for n in self.attacks}
            for model, mine in self.subject.shares(positions[rows]):
                with self.subject.room:
                    best = strongest(model, batch.x[mine], make(rows[mine]), self.attacks)
                    columns["rmse"][mine] = best.rmse.double().cpu().numpy()
                    columns["won"][mine] = np.array([*best.names, ""], object)[best.winner.cpu().numpy()]
                    columns["passes"][mine] = best.passes.cpu().numpy()
                    columns["late"][mine] = best.late.cpu().numpy()
                    for n, values in zip(best.names, best.each.T.double().cpu().numpy(), strict=True):
                        each[n][mine] = values
            columns["rmse"] = np.where(finite, columns["rmse"], np.nan)
            found |= {f"{column}:{name}": values for column, values in columns.items()}
            found |= {f"rmse_of:{n}:{name}": values for n, values in each.items()}
        return pd.DataFrame({**found, **more(rows, batch)})

    def led(
        self,
        positions: NDArray[np.int64],
        frame: pd.DataFrame,
        goals: Goals,
        others: Callable[[int], NDArray[np.int64]],
    ) -> dict[str, int]:
        """Give samples that no attack fooled the distance towards another image; return how many there were per goal.

        `others(row)` are the positions of the other images of the set, at most 20 of which reach the goal are used.
        """
        never = {}
        for name, make in goals.items():
            values = frame[f"rmse:{name}"].to_numpy(np.float64).copy()
            rows = np.flatnonzero(np.isinf(values))
            never[name] = len(rows)
            for row in map(int, rows):
                values[row] = self._towards(positions[row], make(np.array([row])), others(row))
            frame[f"rmse:{name}"] = values
            frame[f"never:{name}"] = np.isin(np.arange(len(frame)), rows)
        return never

    def _towards(self, position: int, goal: Goal, others: NDArray[np.int64]) -> float:
        ((model, _),) = self.subject.shares(np.array([position]))
        x = self.subject.feed(np.array([position])).batch(np.arange(1)).x[0]
        held: list[torch.Tensor] = []
        for batch in self.subject.feed(others).batches(self.batch):
            several = goal[torch.zeros(len(batch), dtype=torch.long, device=x.device)]
            held.extend(batch.x[several.reached(self.subject.logits_of(model, batch))])
            if len(held) >= OTHERS:
                break
        found = float("nan")
        for _ in self.subject.room.parts(1 if held else 0):
            with self.subject.room:
                found = towards(model, x, goal, torch.stack(held[:OTHERS])).item()
        return found

    def flags(self, positions: NDArray[np.int64], goal: Callable[[NDArray[np.int64]], Goal]) -> list[str]:
        """Return what is wrong with the model, or may be, looking at the first images."""
        found: list[str] = []
        rows = np.arange(min(LOOKED_AT, len(positions)))
        x = self.subject.feed(positions[rows]).batch(rows).x
        for model, mine in self.subject.shares(positions[rows]):
            with self.subject.room:
                found += faults(model, x[mine], goal(rows[mine]), exclusive=self.subject.task.exclusive)
        return found

    def beaten(
        self, positions: NDArray[np.int64], frame: pd.DataFrame, name: str, goal: Callable[[Any], Goal]
    ) -> list[str]:
        """Return the note that an attack without gradients found less than those with them, on the first images."""
        rows = np.flatnonzero(frame[f"rmse:{name}"].to_numpy(np.float64) > 0)[:CONTROLLED]
        if not self.control or not len(rows):
            return []
        part = self.subject.kept("control", lambda: self._control(positions[rows], rows, goal))
        least = frame[f"rmse:{name}"].to_numpy(np.float64)[rows]
        found = (part.to_numpy(np.float64) < CLEARLY * least[:, None]).any()
        return ["a black-box attack beats the white-box ones"] if found else []

    def _control(self, positions: NDArray[np.int64], rows: NDArray[np.int64], goal: Callable[[Any], Goal]) -> Any:
        batch = self.subject.feed(positions).batch(np.arange(len(rows)))
        found = {n: np.full(len(rows), np.inf) for n in self.control}
        for model, mine in self.subject.shares(positions):
            with self.subject.room:
                for n, attack in self.control.items():
                    found[n][mine] = attack(model, batch.x[mine], goal(rows[mine])).rmse.double().cpu().numpy()
        return pd.DataFrame(found)

    def notes(self, frame: pd.DataFrame, goals: Sequence[str], never: Mapping[str, int]) -> list[str]:
        """Return the notes that the perturbations themselves give rise to."""
        found = []
        pixels = self.subject.prepared.images[0].size
        for name in goals:
            size = frame[f"rmse:{name}"].to_numpy(np.float64)
            attacked = size > 0
            if (frame[f"late:{name}"].to_numpy(bool) & attacked).sum() > MANY * max(1, attacked.sum()):
                found.append("minimum not reached before half of the steps")
            if (size[attacked] * pixels**0.5 < RESOLUTION).any():
                found.append("minima below the attacks' resolution")
            if never[name]:
                found.append("images never fooled")
        return found

    def facts(self, frame: pd.DataFrame, goals: Sequence[str], never: Mapping[str, int]) -> dict[str, Any]:
        """Return per goal: passes, which attack won how often, and how many images were never fooled."""
        found = {}
        for name in goals:
            passes = frame[f"passes:{name}"].to_numpy(np.int64)
            found[name] = {
                "images": len(frame),
                "at the start": int((frame[f"rmse:{name}"].to_numpy(np.float64) == 0).sum()),
                "passes, mean": round(float(passes.mean()), 1),
                "passes, maximum": int(passes.max()),
                "won": dict(sorted(Counter(w for w in frame[f"won:{name}"].tolist() if w).items())),
                "never fooled": never[name],
            }
        return found

    def passes(self, frame: pd.DataFrame, goals: Sequence[str]) -> dict[str, float]:
        """Return the passes per image over all goals; each counts as forward and backward."""
        return {
            "forward": 0.0,
            "backward": sum(float(frame[f"passes:{name}"].to_numpy(np.float64).mean()) for name in goals),
        }

    def extra(self, frame: pd.DataFrame) -> dict[str, NDArray[Any]]:
        """Return the columns of the frame that the table does not know."""
        return {str(c): frame[c].to_numpy() for c in frame.columns if not str(c).startswith(("rmse:", "probability:"))}
