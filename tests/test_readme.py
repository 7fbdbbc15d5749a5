"""The README's own examples: each code block is a file that works as written."""

import os
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from support import REPOSITORY, TINY

from harness.plugins import catalogue

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
SETS = [part for s in TINY if not s.startswith("insertion_deletion") for part in ("--set", s)]


@pytest.fixture
def blocks(tmp_path):
    """Write every Python block to the file that its first line names."""
    found = {}
    for code in re.findall(r"```python\n(.*?)```", README, flags=re.S):
        name = code.partition("\n")[0].removeprefix("# ")
        (tmp_path / name).write_text(code)
        found[name] = tmp_path / name
    assert set(found) == {"noise.py", "mine.py", "gradient_x_input.py"}
    return found


def test_the_method(harness, blocks, tmp_path):
    code, out, err = harness("run", "--plugin", blocks["noise.py"], "--method", "noise", "--dataset", "phantom", *SETS,
                             "--set", "sigma=0.1", "--evaluation", "classification", "--evaluation", "localisation",
                             "--explainer", "cam", "--runs-dir", tmp_path / "runs", "--device", "cpu")  # fmt: skip
    assert code == 0, err
    assert "noise" in out


def test_the_explainer(harness, blocks, tiny_runs):
    runs_dir, (baseline, _) = tiny_runs
    code, out, err = harness("evaluate", baseline.run_id, "--plugin", blocks["gradient_x_input.py"], "--explainer",
                             "gradient_x_input", "--runs-dir", runs_dir, "--device", "cpu")  # fmt: skip
    assert code == 0, err
    assert "gradient_x_input" in out


def test_the_dataset(harness, blocks, tmp_path):
    folder = tmp_path / "mine"
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    n = 120
    split = np.where(np.arange(n) < 40, "train", np.where(np.arange(n) < 60, "validation", "test"))
    table = pd.DataFrame({"file": [f"{i}.png" for i in range(n)], "patient": range(n), "split": split,
                          "effusion": np.arange(n) % 2, "nodule": np.arange(n) % 3 == 0})  # fmt: skip
    table.to_csv(folder / "labels.csv", index=False)
    for name in table["file"]:
        Image.fromarray(rng.integers(0, 256, (40, 40), np.uint8)).save(folder / "images" / name)
    code, out, err = harness("run", "--plugin", blocks["mine.py"], "--method", "baseline", "--dataset", "mine", "--root",
                             tmp_path, "--set", "mine.size=32", "--set", "max_epochs=1",
                             "--set", "insertion_deletion.images=4", "--runs-dir", tmp_path / "runs",
                             "--device", "cpu")  # fmt: skip
    assert code == 0, err
    assert "localisation: the dataset has no boxes" in out


def test_the_conformance_suite_finds_a_plugin_elsewhere(blocks):
    code = "import sys; sys.path.insert(0, 'tests'); import test_conformance as t; print([c.name for c in t.FOUND.of('method')])"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True,
                          env={**os.environ, "HARNESS_TEST_PLUGINS": str(blocks["noise.py"])})  # fmt: skip
    assert "noise" in done.stdout, done.stderr


def test_every_command_that_it_names_exists():
    from harness.cli import main

    commands = set(re.findall(r"\bharness (run|report|evaluate|show|list|publish|data \w+)\b", README))
    for command in commands:
        group, name = main, command
        if command.startswith("data "):
            group, name = main.commands["data"], command.removeprefix("data ")
        assert name in group.commands


def test_every_file_that_it_names_exists():
    for path in re.findall(r"\]\((docs/[^)]+)\)", README):
        assert (REPOSITORY / path).exists()


def test_names_in_the_tables_exist():
    names = {c.name for c in catalogue().components}
    assert {"robust_fgsm", "phantom", "chestxray14", "cifar10"} <= names
