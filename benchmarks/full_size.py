"""The whole pipeline at the size of the complete ChestX-ray14: seconds, memory and counts of every command.

    HARNESS_DATA=FOLDER OMP_NUM_THREADS=1 python benchmarks/full_size.py [--folder NEW] [--size 224] [--scored 32]

Needs the four official label files under HARNESS_DATA (or --root), not the images, and 7 GB of disk. It draws 112,120
small radiographs from their names, in the official layout; prepares and verifies them at --size, where the images are
ten times what a process may hold; scores untrained weights at --scored on the 25,596 x 14 of the test list and on all
984 pairs; renders the report; scores a few images at --size; and prepares the cross-fitted split. Each command is a
process of its own. It exits with 1 where a count is wrong, where an image or a score is not that of its row, or where
a process holds more anonymous memory than its bound (benchmarks/measuring.py).
"""

import argparse
import csv
import hashlib
import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from measuring import Measuring, write_weights
from numpy.typing import NDArray
from PIL import Image

from harness.data.cache import Prepared, open_cache
from harness.data.decode import to_size
from harness.data.roots import find_root
from harness.plugins import catalogue

DATASET = "chestxray14"
FILES = ("Data_Entry_2017_v2020.csv", "BBox_List_2017.csv", "train_val_list.txt", "test_list.txt")
FOLDERS = (4999, *[10_000] * 10, 7121)  # images in images_001 ... images_012
IMAGES, TRAINING, TEST, PATIENTS, TEST_PATIENTS, CLASSES, FOLDS = 112_120, 86_524, 25_596, 30_805, 2797, 14, 5
PAIRS, BOXED = 984, 880
RGBA_EVERY = 216  # about 519 of the official files have four channels
EXPLAINERS = ("cam", "saliency")
FEW = 64  # images, and pairs, that are scored at the full size of the images
READS, SCORES, ACTIVATES = 0.5, 1.5, 6.0  # GB: bound of a process that reads data; of one that also scores and
# resamples 25,596 x 14; of one whose batches of 64 images, or of 32 with gradients, are of 224 px, however many follow
PIXELS_EVERY, SCORES_EVERY = 29, 400  # images between two whose pixels, or scores, are computed again here
TOLERANCE = 1e-4  # of a probability, in another batch; images differ by far more, which is checked as well


@dataclass
class Benchmark(Measuring):
    """Where everything lies, what was measured, and what was wrong."""

    pixels: int  # side of the images as written
    size: int  # as most commands prepare them
    scored: int  # as all of the test list is scored

    def data(self, command: str, size: int, *options: str) -> dict[str, Any]:
        """Run `harness data` and return its report."""
        name = f"`{' '.join(['data', command, *options])}`, {size} px"
        words = ("data", *command.split(), DATASET, "--root", str(self.root), "--size", str(size), "--json", *options)
        return json.loads(self.call(name, READS, *words))

    def run(self, name: str, bound: float, size: int, runs: str, *options: str) -> dict[str, Any]:
        """Run `harness run` with untrained weights and return what it says."""
        words = (
            "run", "--method", "baseline", "--dataset", DATASET, "--root", str(self.root),
            "--set", f"{DATASET}.size={size}", "--checkpoint", str(self.weights), "--device", "cpu",
            "--evaluation", "classification", "--evaluation", "localisation",
            *(word for explainer in EXPLAINERS for word in ("--explainer", explainer)),
            "--runs-dir", str(self.folder / runs), "--json", *options,
        )  # fmt: skip
        return json.loads(self.call(f"{name}, {size} px", bound, *words))[0]

    @property
    def root(self) -> Path:
        """Return the folder of the dataset."""
        return self.folder / "ChestX-ray14"

    @property
    def weights(self) -> Path:
        """Return the file of the untrained weights."""
        return self.folder / "untrained.safetensors"


def drawn(name: str, pixels: int) -> NDArray[np.uint8]:
    """Return the radiograph called `name`, (pixels,pixels): 4 x 4 fields of random grey, different for every name."""
    fields = np.frombuffer(hashlib.sha256(name.encode()).digest()[:16], np.uint8).reshape(4, 4)
    return fields.repeat(pixels // 4, 0).repeat(pixels // 4, 1)


def write_tree(source: Path, root: Path, pixels: int) -> None:
    """Write the label files and all images in the official layout."""
    root.mkdir(parents=True)
    for name in FILES:
        shutil.copyfile(source / name, root / name)
    with (root / FILES[0]).open(newline="", encoding="utf-8") as file:
        names = [line[0] for line in csv.reader(file)][1:]
    start = 0
    for number, count in enumerate(FOLDERS, 1):
        folder = root / f"images_{number:03d}" / "images"
        folder.mkdir(parents=True)
        for i, name in enumerate(names[start : start + count], start):
            image = Image.fromarray(drawn(name, pixels))
            (image if i % RGBA_EVERY else image.convert("RGBA")).save(folder / name, compress_level=1)
        start += count


def check_counts(bench: Benchmark, name: str, entry: dict[str, Any]) -> None:
    """Compare what prepare or verify report with the official counts."""
    images, patients = entry["images"], entry["patients"]
    models = sum(part.startswith("test") for part in images)
    bench.expect(f"{name}: images of each model", sum(images.values()), models * IMAGES)
    bench.expect(f"{name}: boxes and boxed images", (entry["boxes"], entry["boxed images"]), (PAIRS, BOXED))
    bench.expect(f"{name}: patients of each model", sum(patients.values()), models * PATIENTS)
    bench.expect(f"{name}: patients on two sides", entry["patients on two sides"], 0)
    if entry["notes"] == []:
        bench.expect(f"{name}: official lists", (images["train"] + images["validation"], images["test"]),
                     (TRAINING, TEST))  # fmt: skip
        bench.expect(f"{name}: test patients", patients["test"], TEST_PATIENTS)
    else:
        bench.expect(f"{name}: notes", entry["notes"], ["trained on official test images"])


def check_verified(bench: Benchmark, name: str, entry: dict[str, Any]) -> None:
    """Compare what `data verify` reports with what was written."""
    check_counts(bench, name, entry)
    bench.expect(f"{name}: unreadable images", entry["missing or corrupt images"], [])
    bench.expect(f"{name}: problems", entry["problems"], [])
    bench.expect(f"{name}: checksums", entry["checksums"], dict.fromkeys(sorted(FILES), "as published"))


def check_pixels(bench: Benchmark, name: str, entry: dict[str, Any], size: int) -> Prepared:
    """Compare images of the cache with those that their ids stand for; return the cache."""
    prepared = open_cache(Path(entry["cache"]))
    bench.expect(f"{name}: rows", (len(prepared), prepared.index.labels.shape), (IMAGES, (IMAGES, CLASSES)))
    ids = prepared.index.samples["id"].to_numpy(str)
    other = [
        i
        for i in range(0, len(ids), PIXELS_EVERY)
        if not np.array_equal(prepared.images[i], to_size(drawn(ids[i], bench.pixels), size))
    ]
    bench.expect(f"{name}: images that are not those of their rows", len(other), 0)
    return prepared


def check_folds(bench: Benchmark, prepared: Prepared) -> None:
    """Check that every image is scored by one of five models that saw none of its patient."""
    samples, index = prepared.index.samples, prepared.index
    bench.expect("cross-fitted: models", index.folds, FOLDS)
    bench.expect("cross-fitted: images scored once", len(set(index.scored()[0].tolist())), IMAGES)
    sides = [(samples[c] == "test").groupby(samples["patient"]).nunique().max() for c in index.split_columns]
    bench.expect("cross-fitted: sides of a patient", sides, [1] * FOLDS)


def check_run(bench: Benchmark, run: dict[str, Any], model: torch.nn.Module) -> None:
    """Check the rows of the run, and some of its scores against those computed here."""
    rows, folder = run["rows"], bench.folder / "runs" / run["run"]["run_id"] / "evaluations"
    bench.expect("run: official lists", run["run"]["dataset"]["counts"]["test"], TEST)
    auroc = [r for r in rows if r["metric"] == "auroc" and r["class_name"] != "macro" and not r["variant"]]
    bench.expect("run: AUROC of n images", Counter(r["n"] for r in auroc), Counter({TEST: CLASSES}))
    bench.expect("run: AUROC without a value", [r["class_name"] for r in auroc if r["low"] is None], [])
    stages = {path.name.rpartition("-")[0]: pd.read_parquet(path / "samples.parquet") for path in folder.iterdir()}
    for explainer in EXPLAINERS:
        frame = stages[f"localisation-{explainer}"]
        bench.expect(f"run: pairs of {explainer}", (len(frame), frame["id"].nunique()), (PAIRS, BOXED))
    whole = stages["classification"]
    bench.expect("run: scored images", (len(whole), whole["patient"].nunique()), (TEST, TEST_PATIENTS))
    some = whole.iloc[::SCORES_EVERY]
    images = np.stack([to_size(drawn(name, bench.pixels), bench.scored) for name in some["id"]])
    with torch.no_grad():
        wanted = torch.sigmoid(model(torch.from_numpy(images).float() / 255)).double().numpy()
    found = some[[c for c in some if c.startswith("probability:")]].to_numpy()
    bench.expect("run: scores that are not those of their rows", int((abs(found - wanted) > TOLERANCE).sum()), 0)
    bench.expect("run: images that score alike", bool((wanted.std(0) > 10 * TOLERANCE).all()), True)


def steps(bench: Benchmark) -> None:
    """Carry out, measure and check every command."""
    for size in (bench.size, bench.scored):
        entry = bench.data("prepare", size)
        check_counts(bench, f"official, {size} px", entry)
        check_pixels(bench, f"official, {size} px", entry, size)
    again = bench.data("prepare --verify", bench.scored)
    bench.expect("images that differ from their files", again["differing from the files"], [])
    check_verified(bench, "official, verify", bench.data("verify", bench.size))
    model = write_weights(bench.weights, DATASET, CLASSES)
    name = f"`run` of {TEST:,} x {CLASSES} and {PAIRS} pairs, cam and saliency, 1,000 resamples"
    check_run(bench, bench.run(name, SCORES, bench.scored, "runs"), model)
    bench.call("`report` of that run", READS, "report", "--runs-dir", str(bench.folder / "runs"),
               "--results", str(bench.folder / "results"), "--out", str(bench.folder / "site"),
               "--leaderboard", str(bench.folder / "leaderboard.md"))  # fmt: skip
    bench.expect("report: a page", (bench.folder / "site" / "index.html").exists(), True)
    few = bench.run(f"`run --limit {FEW}`", ACTIVATES, bench.size, "few", "--limit", str(FEW))
    bench.expect("run --limit: a note", all("partial" in row["flags"] for row in few["rows"]), True)
    cross_fitted = ("--set", "split=cross_fitted")
    entry = bench.data("prepare", bench.scored, *cross_fitted)
    check_counts(bench, "cross-fitted", entry)
    check_folds(bench, check_pixels(bench, "cross-fitted", entry, bench.scored))
    check_verified(bench, "cross-fitted, verify", bench.data("verify", bench.scored, *cross_fitted))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", type=Path, help="folder with the official label files; default: HARNESS_DATA")
    parser.add_argument("--folder", type=Path, help="new folder to keep everything in; default: a temporary one")
    parser.add_argument("--pixels", type=int, default=32, help="side of the images as written, a multiple of 4")
    parser.add_argument("--size", type=int, default=224, help="side of the images as prepared and verified")
    parser.add_argument("--scored", type=int, default=32, help="side of the images as all of them are scored")
    options = parser.parse_args()
    source = find_root(catalogue().load("dataset", DATASET)(), DATASET, options.root)
    if options.folder and options.folder.exists():
        parser.error(f"{options.folder} exists: a cache in there would be found built")
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary) / "full").resolve()
        bench = Benchmark(folder, options.pixels, options.size, options.scored)
        began = time.perf_counter()
        write_tree(source, bench.root, options.pixels)
        print(f"{IMAGES:,} files written in {time.perf_counter() - began:.0f} s", file=sys.stderr)
        steps(bench)
    bench.finish(f"{IMAGES:,} files of {options.pixels} px")


if __name__ == "__main__":
    main()
