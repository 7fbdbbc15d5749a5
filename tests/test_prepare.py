"""`harness data prepare` and `data verify`: what they count, what they find, and that they share the decoding."""

import json
import re
import shutil
import tracemalloc
from pathlib import Path

import examples
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from harness import prepare
from harness.data import cache, workers
from harness.data import survey as surveying
from harness.data.index import Index
from harness.data.survey import Survey, duplicates

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
    real, asked = workers.parallel, []

    def parallel(work, jobs, count, workers, name):
        asked.append((work.__name__, count, workers))
        return real(work, jobs, count, 1, name)

    for module in (cache, surveying):
        monkeypatch.setattr(module, "parallel", parallel)
    prepare.prepare("pictures", root, (), None, (plugin,), workers=3, verify=True, quiet=True)
    prepare.verify("pictures", root, (), None, (plugin,), quiet=True)
    assert asked == [("_fill", 6, 3), ("_read_again", 6, 3), ("_look", 6, None)]


def test_equal_images_in_different_parts_are_a_problem_and_named(place):
    plugin, root = place
    for copy, of in (("20", "01"), ("06", "05"), ("22", "21")):  # train and test; train alone; test alone
        shutil.copyfile(root / "images" / f"{of}.png", root / "images" / f"{copy}.png")
    Image.open(root / "images" / "20.png").convert("RGBA").save(root / "images" / "20.png")  # other bytes, same pixels
    found = prepare.verify("pictures", root, (), None, (plugin,), workers=1, quiet=True)
    (problem,) = found.problems
    assert problem.startswith(
        "1 groups of images have the same pixels and are in different parts, the first: 01.png (train) = 20.png (test)"
    )
    assert found.entry["images with the pixels of another"] == 3
    assert found.entry["the same pixels in the same part"] == ["05.png (train) = 06.png (train)",
                                                               "21.png (test) = 22.png (test)"]  # fmt: skip
    assert found.entry["the same pixels with different labels"] == [
        "01.png (train) = 20.png (test)", "05.png (train) = 06.png (train)", "21.png (test) = 22.png (test)",
    ]  # fmt: skip


def test_images_that_only_look_alike_at_the_working_size_are_not_equal(place):
    plugin, root = place
    for name, value in (("01", 0), ("20", 255)):
        fine = np.zeros((64, 64), np.uint8)
        fine[5, 5] = value // 255  # lost when the image is made small
        Image.fromarray(fine).save(root / "images" / f"{name}.png")
    Image.fromarray(np.zeros((4, 16), np.uint8)).save(root / "images" / "02.png")
    Image.fromarray(np.zeros((16, 4), np.uint8)).save(root / "images" / "22.png")
    found = prepare.verify("pictures", root, (), None, (plugin,), workers=1, quiet=True)
    assert found.problems == []
    assert found.entry["images with the pixels of another"] == 0


def test_of_many_equal_images_three_are_named_and_one_of_another_part(place):
    plugin, root = place
    for i in range(1, 18):
        shutil.copyfile(root / "images" / "00.png", root / "images" / f"{i:02d}.png")
    found = prepare.verify("pictures", root, (), None, (plugin,), workers=1, quiet=True)
    assert found.entry["the same pixels in different parts"] == [
        "00.png (train) = 01.png (train) = 02.png (train) = 12.png (validation) and 14 more"
    ]


@pytest.mark.parametrize("workers", [1, 2])
def test_the_card_says_what_the_data_are(place, workers):
    plugin, root = place
    Image.fromarray(np.zeros((10, 30), np.uint8)).save(root / "images" / "23.png")
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(root / "images" / "22.png")
    found = prepare.verify("pictures", root, (), None, (plugin,), workers=workers, quiet=True)
    made = cache.open_cache(
        Path(prepare.prepare("pictures", root, (), None, (plugin,), workers=1, quiet=True).entry["cache"])
    )
    card = found.entry["card"]
    assert card["fingerprint"] == made.fingerprint
    assert card["manifest sha256"] == made.manifest_sha256
    assert card["parts"]["test"] == {"images": 8, "patients": 4}
    assert card["classes"]["third"] == {"positives": {"train": 4, "validation": 2, "test": 2}, "boxes": 0,
                                        "median box area": None}  # fmt: skip
    assert card["files"] == {"PNG L": 23, "PNG RGB": 1}
    assert (card["width"], card["height"]) == ({"min": 8, "median": 8, "max": 30}, {"min": 8, "median": 8, "max": 10})
    assert card["terms"] == "not stated"
    text = found.text()
    assert "pictures: Pictures of a folder, two of each patient." in text
    assert re.search(r"even +6 \(50\.0%\) +2 \(50\.0%\) +4 \(50\.0%\)", text)
    assert re.search(r"width +8 px, from 8 to 30", text)
    assert text.endswith("No problems found.")
    assert json.loads(json.dumps(found.entry)) == found.entry


def test_a_fingerprint_is_given_only_where_prepare_would_give_one(place):
    plugin, root = place
    (root / "images" / "13.png").write_bytes(b"junk")
    found = prepare.verify("pictures", root, (), None, (plugin,), workers=1, quiet=True)
    assert found.entry["card"]["fingerprint"].startswith("none: ")
    skipping = prepare.verify("pictures", root, ("skip_corrupt=true",), None, (plugin,), workers=1, quiet=True)
    made = prepare.prepare("pictures", root, ("skip_corrupt=true",), None, (plugin,), workers=1, quiet=True)
    assert skipping.entry["card"]["fingerprint"] == made.entry["fingerprint"]


def test_boxes_of_a_class_are_counted_with_their_median_area(tmp_path, harness):
    code, out, _ = harness("data", "verify", "folder", "--root", examples.folder(tmp_path), "--set", "name=mine", "--json",
                           "--workers", "1")  # fmt: skip
    assert code == 0
    card = json.loads(out)["card"]
    assert card["name"] == "folder:mine"
    assert card["terms"].startswith("Yours: ")
    assert card["classes"]["effusion"]["boxes"] == 8
    assert card["classes"]["effusion"]["median box area"] == round(30 * 12 / (40 * 32), 6)
    assert "0.2 of each class for tests" in card["split"]


def test_equal_images_among_very_many_are_found_in_little_memory():
    n = 300_000
    rng = np.random.default_rng(0)
    content = rng.integers(0, 256, (n, 16), np.uint8)
    content[[5, 250_000]] = content[7]
    samples = pd.DataFrame({"split": np.where(np.arange(n) < 200_000, "train", "test")})
    index = Index(samples, np.zeros((n, 1), np.uint8), ("a",))
    seen = Survey([], np.ones(n, bool), content, content, np.zeros((n, 2), np.int32), {})
    tracemalloc.start()
    found = duplicates(index, seen)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [g.tolist() for g in found.groups] == [[5, 7, 250_000]] == [g.tolist() for g in found.apart]
    assert (found.repeated, found.mislabelled) == (2, [])
    assert peak < 200 * n
