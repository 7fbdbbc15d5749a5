"""`harness data prepare` and `data verify`: what they count, what they find, and that they share the decoding."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness import prepare
from harness.data import cache

PLUGIN = '''
from dataclasses import dataclass
import numpy as np
import pandas as pd
from harness.api import Dataset, Index, MultiLabel, dataset, setting

@dataset("pictures", source="test")
@dataclass(frozen=True, kw_only=True)
class Pictures(Dataset):
    """Pictures of a folder, two of each patient."""
    size: int = setting(8)
    task = MultiLabel()
    default_model = "resnet44"
    folders = ("pictures",)

    def index(self, root):
        ids = [f"{i:02d}.png" for i in range(24)]
        samples = pd.DataFrame({"id": ids, "patient": [f"p{i // 2}" for i in range(24)]})
        samples["path"] = [f"images/{name}" for name in ids]
        samples["split"] = ["train"] * 12 + ["validation"] * 4 + ["test"] * 8
        labels = np.stack([np.arange(24) % 2 == 0, np.arange(24) % 3 == 0], 1).astype(np.uint8)
        return Index(samples, labels, ("even", "third"))
'''
COUNTS = {
    "images": {"train": 12, "validation": 4, "test": 8},
    "patients": {"train": 6, "validation": 2, "test": 4},
    "positives": {"even": 12, "third": 8},
}


@pytest.fixture
def place(tmp_path, monkeypatch) -> tuple[Path, Path]:
    """A plug-in and its root, read in chunks of four images."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "CHUNK_BYTES", 64)
    monkeypatch.setattr(cache, "CHUNK_IMAGES", 4)
    plugin, root = tmp_path / "pictures.py", tmp_path / "pictures"
    plugin.write_text(PLUGIN)
    (root / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(24):
        Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)).save(root / "images" / f"{i:02d}.png")
    return plugin, root


def test_prepare_counts_and_verify_finds_nothing(place):
    plugin, root = place
    made = prepare.prepare("pictures", root, (), None, (plugin,), workers=1, verify=True, quiet=True)
    assert {k: made.entry[k] for k in COUNTS} == COUNTS
    assert made.entry["differing from the files"] == []
    seen = prepare.verify("pictures", root, (), None, (plugin,), quiet=True)
    assert {k: seen.entry[k] for k in COUNTS} == COUNTS
    assert seen.problems == []


def test_verify_names_every_bad_image_in_order(place):
    plugin, root = place
    for name in ("21", "02"):
        (root / "images" / f"{name}.png").write_bytes(b"junk")
    (root / "images" / "11.png").unlink()
    found = prepare.verify("pictures", root, (), None, (plugin,), quiet=True)
    assert [p.partition(":")[0] for p in found.entry["missing or corrupt images"]] == ["02.png", "11.png", "21.png"]
    (problem,) = found.problems
    assert problem.startswith("3 images are missing or corrupt, the first: 02.png")


def test_prepare_with_verify_names_what_changed_since(place):
    plugin, root = place
    prepare.prepare("pictures", root, (), None, (plugin,), workers=1, quiet=True)
    shutil.copyfile(root / "images" / "05.png", root / "images" / "06.png")
    found = prepare.prepare("pictures", root, (), None, (plugin,), workers=1, verify=True, quiet=True)
    assert found.entry["differing from the files"] == ["06.png"]
    assert "1 images differ from their files" in found.problems[0]


def test_all_of_them_decode_with_as_many_processes_as_asked_for(place, monkeypatch):
    plugin, root = place
    real, asked = cache._parallel, []

    def parallel(work, jobs, count, workers, name):
        asked.append((work.__name__, count, workers))
        return real(work, jobs, count, 1, name)

    monkeypatch.setattr(cache, "_parallel", parallel)
    prepare.prepare("pictures", root, (), None, (plugin,), workers=3, verify=True, quiet=True)
    prepare.verify("pictures", root, (), None, (plugin,), quiet=True)
    assert asked == [("_fill", 6, 3), ("_read_again", 6, 3), ("_look", 6, None)]
