"""COCO 2017 and ImageNet at their full numbers of photos and annotations: seconds, memory and counts of every command.

    HARNESS_DATA=FOLDER OMP_NUM_THREADS=1 python benchmarks/full_size_photos.py [coco] [imagenet] [--folder NEW]

Written are the official layouts with 1,000 small JPEGs under many names (hard links): for COCO 118,287 + 5,000 photos
and an instances_train2017.json of 860,001 annotations with polygons, about 470 MB; for ImageNet 1,281,167 + 50,000
photos and the devkit, whose list of wnids is read from imagenet_sample/synsets.txt under HARNESS_DATA. Both are
prepared, verified and scored (untrained weights, resnet44) at --size, each command a process of its own. It exits with
1 where a label, a box or an image is not what was written, or where a process holds more anonymous memory than its
bound (benchmarks/measuring.py). Needs 8 GB of disk.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from measuring import Measuring, write_weights
from numpy.typing import NDArray
from PIL import Image
from scipy.io import savemat

from harness.data.cache import Prepared, open_cache
from harness.data.decode import read_image, to_size
from harness.data.roots import find_root
from harness.plugins import catalogue

BOUND = 1.5  # GB
SEEDS, PIXELS = 1000, 32  # different photos, and their side
PHOTOS, ANNOTATIONS = {"train2017": 118_287, "val2017": 5000}, {"train2017": 860_001, "val2017": 36_781}
EMPTY = {"train2017": 1021, "val2017": 48}  # photos without instances
CATEGORY_IDS = tuple(i for i in range(1, 91) if i not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83))
JSON_BYTES = 470e6  # of instances_train2017.json
CROWDS = 0.012  # of the annotations
TRAIN, VAL, CLASSES = 1_281_167, 50_000, 1000
PIXELS_EVERY = 97  # images between two whose pixels are compared
MODEL = "resnet44"


@dataclass
class Benchmark(Measuring):
    """One of the two datasets."""

    dataset: str
    size: int
    options: tuple[str, ...]
    photos: list[Path]  # the different ones

    @property
    def root(self) -> Path:
        """Return the folder of the dataset."""
        return self.folder / self.dataset

    def data(self, command: str, status: int = 0) -> dict[str, Any]:
        """Run `harness data` and return its report."""
        words = ("data", *command.split(), self.dataset, "--root", str(self.root), "--size", str(self.size), "--json")
        return json.loads(self.call(f"`data {command} {self.dataset}`", BOUND, *words, status=status))

    def run(self, classes: int, name: str, *options: str) -> dict[str, Any]:
        """Run `harness run` with untrained weights and return what it says."""
        weights = self.folder / f"{self.dataset}.safetensors"
        write_weights(weights, self.dataset, classes, MODEL)
        words = (
            "run", "--method", "baseline", "--model", MODEL, "--dataset", self.dataset, "--root", str(self.root),
            "--set", f"{self.dataset}.size={self.size}", "--checkpoint", str(weights), "--device", "cpu",
            "--runs-dir", str(self.folder / "runs"), "--json", *options, *self.options,
        )  # fmt: skip
        return json.loads(self.call(name, BOUND, *words))[0]


def write_photos(folder: Path) -> list[Path]:
    """Write the different photos: 4 x 4 fields of random colour each."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    paths = [folder / f"{i}.jpg" for i in range(SEEDS)]
    for path in paths:
        fields = rng.integers(0, 256, (4, 4, 3), np.uint8)
        Image.fromarray(fields.repeat(PIXELS // 4, 0).repeat(PIXELS // 4, 1)).save(path, quality=90)
    return paths


@dataclass(frozen=True, eq=False)
class Written:
    """The annotations of one part of COCO as they were written: photo k has the id first + k."""

    first: int
    photo: NDArray[np.int64]  # (m,)
    category: NDArray[np.int64]  # (m,) place among the ids
    crowd: NDArray[np.bool_]

    def labels(self, photos: int) -> NDArray[np.uint8]:
        """Return which categories are in which photo, (photos,80)."""
        found = np.zeros((photos, len(CATEGORY_IDS)), np.uint8)
        found[self.photo, self.category] = 1
        return found

    def boxes(self) -> int:
        """Return how many boxes there are without those of a photo and category that have a crowd."""
        pair = self.photo * len(CATEGORY_IDS) + self.category
        return int((~np.isin(pair, pair[self.crowd])).sum())


def write_coco(root: Path, photos: list[Path]) -> dict[str, Written]:
    """Write both parts of COCO 2017 and return their annotations."""
    (root / "annotations").mkdir(parents=True)
    found = {}
    for part, first in (("train2017", 200_000), ("val2017", 100_000)):
        (root / part).mkdir()
        for k in range(PHOTOS[part]):
            os.link(photos[k % SEEDS], root / part / f"{first + k:012d}.jpg")
        found[part] = annotations(part, first)
        write_instances(root / "annotations" / f"instances_{part}.json", part, found[part])
    return found


def annotations(part: str, first: int) -> Written:
    """Return the annotations of a part: every photo but the last has one, the others lie anywhere among them."""
    rng = np.random.default_rng(first)
    count, full = ANNOTATIONS[part], PHOTOS[part] - EMPTY[part]
    photo = np.sort(np.concatenate([np.arange(full), rng.integers(0, full, count - full)]))
    share = 1 / np.arange(1, len(CATEGORY_IDS) + 1)
    category = rng.choice(len(CATEGORY_IDS), count, p=share / share.sum())
    return Written(first, photo, category, rng.random(count) < CROWDS)


def write_instances(path: Path, part: str, written: Written) -> None:
    """Write an instances_*.json as COCO's are laid out, about 500 bytes an annotation, most of them polygons."""
    rng = np.random.default_rng(1)
    polygons = [
        "[[" + ",".join(f"{v:.2f}" for v in rng.random(2 * rng.integers(8, 46)) * 600) + "]]" for _ in range(997)
    ]
    with path.open("w") as file:
        file.write('{"info": {"description": "COCO 2017 Dataset","year": 2017},"licenses": [{"id": 1,"name": "by"}],')
        file.write('"images": [')
        for k in range(PHOTOS[part]):
            name = f"{written.first + k:012d}.jpg"
            url = f"http://images.cocodataset.org/{part}/{name}"
            flickr = "http://farm9.staticflickr.com/8186/8119368305_4e622c8349_z.jpg"
            file.write(
                "," * (k > 0) + f'{{"license": 3,"file_name": "{name}","coco_url": "{url}","height": 480,"width": 640,'
                f'"date_captured": "2013-11-14 11:18:45","flickr_url": "{flickr}","id": {written.first + k}}}'
            )
        file.write('],"annotations": [')
        box = rng.random((len(written.photo), 4)) * (320, 240, 310, 230) + (0, 0, 4, 4)
        for i, (photo, category, crowd) in enumerate(zip(written.photo, written.category, written.crowd, strict=True)):
            x, y, w, h = box[i]
            shape = f'{{"counts": {json.dumps([7] * 900)},"size": [480,640]}}' if crowd else polygons[i % 997]
            file.write("," * (i > 0) + f'{{"segmentation": {shape},"area": {w * h / 2:.14f},"iscrowd": {int(crowd)},'
                       f'"image_id": {written.first + photo},"bbox": [{x:.2f},{y:.2f},{w:.2f},{h:.2f}],'
                       f'"category_id": {CATEGORY_IDS[category]},"id": {1_000_000 + i}}}')  # fmt: skip
        categories = [{"supercategory": "thing", "id": c, "name": f"thing {c}"} for c in CATEGORY_IDS]
        file.write(f'],"categories": {json.dumps(categories)}}}')


def write_imagenet(root: Path, photos: list[Path], wnids: list[str]) -> NDArray[np.int64]:
    """Write ILSVRC2012, every photo of class c the same; return the classes of the validation photos, (50000,)."""
    for c, wnid in enumerate(wnids):
        folder = root / "train" / wnid
        folder.mkdir(parents=True)
        for i in range(TRAIN // CLASSES + (c < TRAIN % CLASSES)):
            os.link(photos[c], folder / f"{wnid}_{i}.JPEG")
    truth = np.random.default_rng(2).permutation(VAL) % CLASSES
    (root / "val").mkdir()
    for k, c in enumerate(truth, 1):
        os.link(photos[c], root / "val" / f"ILSVRC2012_val_{k:08d}.JPEG")
    data = root / "ILSVRC2012_devkit_t12" / "data"
    data.mkdir(parents=True)
    ids = np.random.default_rng(3).permutation(CLASSES) + 1
    table = np.zeros((CLASSES, 1), [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("num_children", "O")])
    for c, wnid in enumerate(wnids):
        table[c, 0] = (int(ids[c]), wnid, wnid, 0)
    savemat(data / "meta.mat", {"synsets": table})
    (data / "ILSVRC2012_validation_ground_truth.txt").write_text("".join(f"{ids[c]}\n" for c in truth))
    return truth


def check_prepared(bench: Benchmark, entry: dict[str, Any], counts: dict[str, int]) -> Prepared:
    """Compare the counts that prepare reports with those that were written; return the cache."""
    bench.expect(f"{bench.dataset}: images of each part", entry["images"], counts)
    bench.expect(f"{bench.dataset}: patients on two sides", entry["patients on two sides"], 0)
    return open_cache(Path(entry["cache"]))


def check_pixels(bench: Benchmark, prepared: Prepared, photo: NDArray[np.int64]) -> None:
    """Compare images of the cache with the photos that their rows stand for, `photo` (N,) of the different ones."""
    seen = [to_size(read_image(path, 3), bench.size) for path in bench.photos]
    rows = range(0, len(prepared), PIXELS_EVERY)
    other = [i for i in rows if not np.array_equal(prepared.images[i], seen[photo[i]])]
    bench.expect(f"{bench.dataset}: images that are not those of their rows", len(other), 0)


def check_verified(bench: Benchmark) -> None:
    """Verify, and compare what is reported with what was written: every photo many times, in all parts."""
    entry = bench.data("verify", status=2)
    bench.expect(f"{bench.dataset}: unreadable images", entry["missing or corrupt images"], [])
    words = f"{SEEDS} groups of images have the same pixels and are in different parts"
    bench.expect(f"{bench.dataset}: problems", [p.partition(",")[0] for p in entry["problems"]], [words])
    bench.expect(f"{bench.dataset}: stray boxes", entry["boxes whose class is not among the image's labels"], 0)


def coco(bench: Benchmark) -> None:
    """Write, prepare, verify and score COCO."""
    written = write_coco(bench.root, bench.photos)
    size = (bench.root / "annotations" / "instances_train2017.json").stat().st_size
    print(f"instances_train2017.json: {size / 1e6:.0f} MB", file=sys.stderr)
    bench.expect("coco: size of instances_train2017.json", 0.9 < size / JSON_BYTES < 1.1, True)
    counts = {"train": PHOTOS["train2017"] - 5000, "validation": 5000, "test": PHOTOS["val2017"]}
    prepared = check_prepared(bench, bench.data("prepare"), counts)
    labels = np.concatenate([written[part].labels(n) for part, n in PHOTOS.items()])
    bench.expect("coco: labels as written", np.array_equal(prepared.index.labels, labels), True)
    bench.expect("coco: boxes", len(prepared.index.boxes), written["val2017"].boxes())
    check_pixels(bench, prepared, np.concatenate([np.arange(n) % SEEDS for n in PHOTOS.values()]))
    check_verified(bench)
    found = bench.run(
        len(CATEGORY_IDS), "`run` of 5,000 x 80, 1,000 resamples", "--evaluation", "classification",
    )  # fmt: skip
    bench.expect("coco: rows", {r["metric"] for r in found["rows"]} >= {"auroc", "average_precision"}, True)
    found = bench.run(
        len(CATEGORY_IDS), "`run` of all pairs, cam, 1,000 resamples", "--evaluation", "localisation", "--explainer",
        "cam",
    )  # fmt: skip
    pairs = {r["n"] for r in found["rows"] if r["metric"] == "pointing_game" and r["class_name"] == "macro"}
    bench.expect("coco: pairs", pairs, {len(prepared.index.boxes.drop_duplicates(["id", "class_name"]))})


def imagenet(bench: Benchmark) -> None:
    """Write, prepare, verify and score ImageNet."""
    sample = find_root(catalogue().load("dataset", "imagenet_sample")(), "imagenet_sample")
    truth = write_imagenet(bench.root, bench.photos, (sample / "synsets.txt").read_text().split())
    counts = {"train": TRAIN - 10_000, "validation": 10_000, "test": VAL}
    prepared = check_prepared(bench, bench.data("prepare"), counts)
    numbers = np.repeat(np.arange(CLASSES), [TRAIN // CLASSES + (c < TRAIN % CLASSES) for c in range(CLASSES)])
    numbers = np.concatenate([numbers, truth])
    rows = range(0, len(prepared), 10_000)
    same = all((prepared.index.labels[i : i + 10_000].argmax(1) == numbers[i : i + 10_000]).all() for i in rows)
    bench.expect("imagenet: labels as written", same, True)
    check_pixels(bench, prepared, numbers)
    check_verified(bench)
    name = " ".join([f"`run` of {VAL:,} x {CLASSES:,}", *bench.options[1::2]])
    found = bench.run(CLASSES, name, "--evaluation", "classification")
    accuracy = [r["n"] for r in found["rows"] if r["metric"] == "accuracy"]
    bench.expect("imagenet: accuracy of n photos", accuracy, [VAL])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("datasets", nargs="*", default=["coco", "imagenet"], metavar="dataset", help="coco, imagenet")
    parser.add_argument("--folder", type=Path, help="new folder to keep everything in; default: a temporary one")
    parser.add_argument("--size", type=int, default=32, help="side of the images as prepared and scored")
    parser.add_argument("--set", action="append", default=[], dest="sets", help="of the runs, as of `harness run`")
    options = parser.parse_args()
    if options.folder and options.folder.exists():
        parser.error(f"{options.folder} exists: a cache in there would be found built")
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary) / "full").resolve()
        photos = write_photos(folder / "photos")
        sets = tuple(word for s in options.sets for word in ("--set", s))
        whole = Measuring(folder)
        for name in options.datasets:
            bench = Benchmark(folder, name, options.size, sets, photos)
            began = time.perf_counter()
            {"coco": coco, "imagenet": imagenet}[name](bench)
            print(f"{name}: {time.perf_counter() - began:.0f} s in all", file=sys.stderr)
            whole.measured += bench.measured
            whole.wrong += bench.wrong
    whole.finish(f"{' and '.join(options.datasets)} at {options.size} px")


if __name__ == "__main__":
    main()
