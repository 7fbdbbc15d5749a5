"""Columns of text for a terminal: the same as rich lays them out."""

import numpy as np
import pytest
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.grid import grid

WORDS = [
    "a",
    "name-of-a-run",
    "classification,",
    "insertion_deletion-saliency,",
    "x" * 90,
    "Röntgen",
    "胸部X線",
    "two\nlines",
]


def rich(head, rows, width: int, whole: int) -> str:
    console = Console(width=width, highlight=False)
    shown = Table(box=None)
    for i, name in enumerate(head):
        shown.add_column(name, overflow="fold", no_wrap=i == whole)
    for row in rows:
        shown.add_row(*map(Text, row))
    with console.capture() as captured:
        console.print(shown)
    return captured.get().rstrip()


def drawn(seed: int, words: list[str]) -> list[list[str]]:
    rng = np.random.default_rng(seed)
    texts = [[" ".join(rng.choice(words, size=rng.integers(0, 7 if c else 2))) for c in range(4)] for _ in range(12)]
    return [[row[0].replace(" ", "-")[:20].replace("\n", ""), *row[1:]] for row in texts]


@pytest.mark.parametrize("width", [80, 120, 200, 4000])
@pytest.mark.parametrize("words", [WORDS[:4], WORDS[:5], WORDS], ids=["plain", "long words", "wide and lines"])
@pytest.mark.parametrize("seed", range(4))
def test_a_grid_is_richs_table(seed, words, width):
    head, rows = ["name", "status", "evaluations", "message"], drawn(seed, words)
    ours = [line.rstrip() for line in grid(head, rows, width).rstrip().split("\n")]
    assert ours == [line.rstrip() for line in rich(head, rows, width, 0).split("\n")]


def test_the_whole_column_is_never_folded():
    text = grid(["name", "says"], [["n" * 60, "word " * 30]], 80)
    assert "n" * 60 in text
    assert max(map(len, text.split("\n"))) <= 80
