"""Prepare: complete or absent, resumable, once for two, and honest about corrupt files."""

import dataclasses
import os
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.data import cache, workers
from harness.data.cache import DatasetSpec, prepare, verify_pixels
from harness.data.survey import survey
from harness.errors import UsageError
from harness.plugins import catalogue

PLUGIN = '''
from dataclasses import dataclass
from pathlib import Path
import numpy as np
import pandas as pd
from harness.api import Dataset, Index, MultiLabel, dataset, setting

@dataset("pictures", source="test")
@dataclass(frozen=True, kw_only=True)
class Pictures(Dataset):
    """Pictures of a folder."""
    size: int = setting(8)
    task = MultiLabel()
    default_model = "resnet44"
    folders = ("pictures",)

    def index(self, root):
        paths = sorted(p.name for p in root.glob("*.png"))
        n = len(paths)
        split = ["train" if i % 4 < 2 else "validation" if i % 4 == 2 else "test" for i in range(n)]
        samples = pd.DataFrame({"id": paths, "patient": paths, "split": split, "path": paths})
        labels = np.stack([np.arange(n) % 2 == 0, np.arange(n) % 2 == 1], 1).astype(np.uint8)
        return Index(samples, labels, ("even", "odd"))
'''


@pytest.fixture
def place(tmp_path, monkeypatch) -> tuple[DatasetSpec, Path, dict]:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "CHUNK_BYTES", 64)
    monkeypatch.setattr(cache, "CHUNK_IMAGES", 8)
    monkeypatch.setattr(workers, "START", 0.0)  # other processes start, however little there is to do
    plugin = tmp_path / "pictures.py"
    plugin.write_text(PLUGIN)
    root = tmp_path / "pictures"
    root.mkdir()
    rng = np.random.default_rng(0)
    for i in range(40):
        Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)).save(root / f"{i:02d}.png")
    identity = catalogue([plugin]).find("dataset", "pictures").identity()
    return DatasetSpec("pictures", (("size", 8), ("skip_corrupt", False)), (str(plugin),)), root, identity


def pixels(root: Path, name: str) -> np.ndarray:
    return np.asarray(Image.open(root / name))


@pytest.mark.parametrize("processes", [1, 2])
def test_every_image_lands_in_its_place(place, processes):
    spec, root, identity = place
    found = prepare(spec, root, identity, workers=processes)
    for i in (0, 7, 8, 39):
        assert (found.images[i, 0] == pixels(root, f"{i:02d}.png")).all()
    assert verify_pixels(spec, root, found) == []


def test_a_second_prepare_reads_nothing(place, monkeypatch):
    spec, root, identity = place
    first = prepare(spec, root, identity, workers=1)
    monkeypatch.setattr(cache, "_fill", lambda *_: pytest.fail("an image was read again"))
    assert prepare(spec, root, identity, workers=1).fingerprint == first.fingerprint


def test_a_killed_prepare_goes_on_where_it_was(place, monkeypatch):
    spec, root, identity = place
    undisturbed = prepare(spec, root, identity, workers=1)
    expected = np.array(undisturbed.images)
    for path in sorted(undisturbed.folder.iterdir()):
        path.unlink()
    undisturbed.folder.rmdir()
    real, calls = cache._fill, []

    def fill(*arguments):
        calls.append(arguments[3][0])
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(cache, "_fill", fill)
    with pytest.raises(KeyboardInterrupt):
        prepare(spec, root, identity, workers=1)
    assert not undisturbed.folder.exists()
    found = prepare(spec, root, identity, workers=1)
    assert calls == [0, 8, 16, 16, 24, 32]
    assert (found.images == expected).all()
    assert found.fingerprint == undisturbed.fingerprint


def test_two_that_start_at_once_do_the_work_once(place, monkeypatch):
    spec, root, identity = place
    spec.make()  # Python 3.11 cannot parse source in two threads at once
    real, calls = cache._fill, []
    monkeypatch.setattr(cache, "_fill", lambda *a: (calls.append(a[3][0]), real(*a))[1])
    threads = [threading.Thread(target=prepare, args=(spec, root, identity), kwargs={"workers": 1}) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(calls) == [0, 8, 16, 24, 32]


@pytest.mark.parametrize("content", [b"", b"junk"])
def test_a_corrupt_image_is_named(place, content):
    spec, root, identity = place
    (root / "13.png").write_bytes(content)
    with pytest.raises(UsageError, match=r"13\.png"):
        prepare(spec, root, identity, workers=1)
    problems = survey(spec, root, spec.make().index(root)).broken
    assert len(problems) == 1
    assert "13.png" in problems[0]


def test_skip_corrupt_goes_on_and_counts(place):
    spec, root, identity = place
    (root / "13.png").write_bytes(b"junk")
    skipping = dataclasses.replace(spec, settings=(("size", 8), ("skip_corrupt", True)))
    found = prepare(skipping, root, identity, workers=1)
    assert len(found) == 39
    assert len(found.corrupt) == 1
    assert "13.png" in found.corrupt[0]
    assert "13.png" not in set(found.index.samples["id"])
    assert (found.images[13, 0] == pixels(root, "14.png")).all()


def test_settings_plugin_bytes_and_files_have_caches_of_their_own(place):
    spec, root, identity = place
    first = prepare(spec, root, identity, workers=1)
    other_size = dataclasses.replace(spec, settings=(("size", 4), ("skip_corrupt", False)))
    assert prepare(other_size, root, identity, workers=1).images.shape[-1] == 4
    assert prepare(spec, root, {**identity, "sha256": "changed"}, workers=1).folder != first.folder
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(root / "00.png")
    changed = prepare(spec, root, identity, workers=1)
    assert changed.fingerprint != first.fingerprint


def test_verify_sees_a_changed_cache(place):
    spec, root, identity = place
    found = prepare(spec, root, identity, workers=1)
    images = np.load(found.folder / "images.npy", mmap_mode="r+")
    images[5] ^= 1
    images.flush()
    assert verify_pixels(spec, root, found) == ["05.png"]


@pytest.mark.parametrize("processes", [1, 2])
def test_bad_images_are_named_in_table_order_whichever_worker_finds_them(place, processes):
    spec, root, identity = place
    found = prepare(spec, root, identity, workers=1)
    for name in ("39", "01", "17"):
        (root / f"{name}.png").write_bytes(b"junk")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(root / "08.png")
    seen = []
    wrong = verify_pixels(spec, root, found, workers=processes, progress=lambda done, of: seen.append((done, of)))
    assert wrong == ["01.png", "08.png", "17.png", "39.png"]
    assert seen == [(done, 40) for done in (8, 16, 24, 32, 40)]
    problems = survey(spec, root, found.index, workers=processes).broken
    assert [p.partition(":")[0] for p in problems] == ["01.png", "17.png", "39.png"]


def test_rows_are_handed_out_only_when_a_worker_is_about_to_need_them(monkeypatch):
    made = []
    jobs = ((made.append(i) or i,) for i in range(-100, 0))
    monkeypatch.setattr(workers, "START", 0.0)
    results = workers.parallel(abs, jobs, 100, 2, "mine")
    first = next(results)
    second = next(results)
    assert len(made) == 1 + workers.AHEAD + 1  # done here, handed out, done here
    assert sorted([first, second, *results]) == list(range(1, 101))
    assert len(made) == 100


def test_leaving_images_out_does_not_load_them_all(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2000, 1, 32, 32), np.uint8)
    np.save(tmp_path / "images.npy", images)
    kept = rng.random(2000) < 0.9
    tracemalloc.start()
    target = cache._copy_kept(tmp_path / "images.npy", kept, 50)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < images.nbytes / 8
    found = np.load(target, mmap_mode="r")
    assert found.dtype == np.uint8
    assert (found == images[kept]).all()


@pytest.mark.parametrize("mended", [False, True])
def test_a_prepare_killed_after_leaving_images_out_goes_on(place, monkeypatch, mended):
    spec, root, identity = place
    good, times = (root / "13.png").read_bytes(), (root / "13.png").stat()

    def write(content: bytes) -> None:  # as large and as old as before: the cache lies where it lay
        (root / "13.png").write_bytes(content)
        os.utime(root / "13.png", ns=(times.st_atime_ns, times.st_mtime_ns))

    write(bytes(len(good)))
    skipping = dataclasses.replace(spec, settings=(("size", 8), ("skip_corrupt", True)))
    with monkeypatch.context() as patch:
        patch.setattr(cache, "write_json", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            prepare(skipping, root, identity, workers=1)
    if mended:
        write(good)
    found = prepare(skipping, root, identity, workers=1)
    names = found.index.samples["id"]
    assert len(found) == 39 + mended
    assert all((found.images[i, 0] == pixels(root, name)).all() for i, name in enumerate(names))
    assert sorted(p.name for p in found.folder.iterdir()) == [
        "boxes.parquet", "images.npy", "labels.npy", "manifest.csv", "meta.json", "samples.parquet",
        "shortcuts.parquet",
    ]  # fmt: skip


def test_too_little_disk_is_said_before_anything_is_written(place, monkeypatch):
    spec, root, identity = place
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda _: type("usage", (), {"free": 100})())
    with pytest.raises(UsageError, match=r"needs 0\.00 GB.*are free"):
        prepare(spec, root, identity, workers=1)


def test_a_damaged_cache_is_named(place):
    spec, root, identity = place
    found = prepare(spec, root, identity, workers=1)
    (found.folder / "labels.npy").write_bytes(b"x")
    with pytest.raises(UsageError, match="damaged"):
        prepare(spec, root, identity, workers=1)
