"""What the terminal shows of finished runs: a line per map, each number in its place, and none that is not there."""

import re
from pathlib import Path

import pytest

from harness.outcome import Outcome
from harness.record import Result, StageResult
from harness.rows import Row

COMMON = {"run_id": "r", "evaluation_key": "k", "dataset": "cifar10", "split": "test", "size": 32, "profile": "quick",
          "method": "baseline", "model": "m", "seed": 0, "n": 5, "higher_is_better": True}  # fmt: skip


def row(metric, value, *, explainer="", variant="", resolution=None, threshold=None, class_name="all"):
    evaluation = (
        "localisation" if metric == "localisation_accuracy" else "insertion_deletion" if explainer else "classification"
    )
    return Row(**COMMON, evaluation=evaluation, metric=metric, value=value, low=value - 0.01, high=value + 0.01,
               explainer=explainer, variant=variant, resolution=resolution, threshold=threshold,
               class_name=class_name)  # fmt: skip


def lines(*stages, explainers=("cam",)):
    found = [
        StageResult(f"s{i}", {"explainer": name, "reference": name == "centre", "created": str(i)}, rows, lambda: None)
        for i, (name, rows) in enumerate(stages)
    ]
    info = {"run_id": "r", "spec": {"method": "baseline", "seed": 0}, "task": "multiclass",
            "dataset": {"name": "cifar10", "size": 32, "counts": {"test": 10}}}  # fmt: skip
    text = Outcome([Result(info, found, Path("runs/r"), published=False)], Path("runs"), explainers).text()
    return [re.split(r"\s{2,}", line.strip()) for line in text.splitlines()]


def test_a_line_per_map_and_a_column_per_resolution():
    both = [row(m, v, explainer="cam", resolution=r) for r, m, v in
            ((8, "insertion", 0.5), (8, "deletion", 0.2), (32, "insertion", 0.7), (32, "deletion", float("nan")))]  # fmt: skip
    found = lines(
        ("", [row("accuracy", 0.9)]),
        ("cam", [row("localisation_accuracy", 0.4, explainer="cam", threshold=0.3, class_name="macro"), *both]),
        ("centre", [row("insertion", 0.3, explainer="centre", resolution=8)]),
        ("cam", [row("insertion", float("nan"), explainer="cam", resolution=32)]),
    )
    assert found[2] == ["baseline", "0", "0.900 [0.890, 0.910]"]
    head = next(line for line in found if "explainer" in line)
    assert head == ["method", "seed", "explainer", "IoU > 0.3 ↑", "insertion ↑ 8 x 8", "deletion ↓",
                    "insertion ↑ 32 x 32", "deletion ↓"]  # fmt: skip
    cam, centre = found[found.index(head) + 1 : found.index(head) + 3]
    assert cam[2:] == ["cam", "0.400 [0.390, 0.410]", "0.500 [0.490, 0.510]", "0.200 [0.190, 0.210]",
                       "0.700 [0.690, 0.710]", "n/a"], "a newer stage without a value hides none"  # fmt: skip
    assert centre[2:5] == ["(centre: reference)", "n/a", "0.300 [0.290, 0.310]"]


def test_attacked_images_have_a_line_of_their_own():
    rows = [row("insertion", v, explainer="cam", resolution=8, variant=name) for name, v in
            (("clean", 0.8), ("attacked", 0.3))]  # fmt: skip
    found = lines(("cam", rows))
    assert [line[2:4] for line in found if len(line) > 3 and line[2].startswith("cam")] == [
        ["cam attacked", "0.300 [0.290, 0.310]"], ["cam clean", "0.800 [0.790, 0.810]"]]  # fmt: skip


@pytest.mark.parametrize("rows", [[], [row("insertion", float("nan"), explainer="cam", resolution=8)]])
def test_maps_without_numbers_have_no_table(rows):
    assert not any("Explanations" in line for line in lines(("", [row("accuracy", 0.9)]), ("cam", rows)))
