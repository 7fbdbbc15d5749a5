"""Feeding: order, augmentation and placement follow from the seed alone."""

import threading
import time
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch

from harness.data import batches
from harness.data.batches import Feed, ahead, augment, epoch_order, feed, on_device
from harness.data.cache import Prepared
from harness.data.index import Index
from harness.device import Compute, resolve
from harness.tasks import MultiLabel


def made(n: int = 10) -> Feed:
    import pandas as pd

    images = np.random.default_rng(0).integers(0, 256, (n, 1, 8, 8), np.uint8)
    samples = pd.DataFrame({"id": [str(i) for i in range(n)], "patient": "p", "split": "train"})
    labels = np.eye(n, 3, dtype=np.uint8)
    prepared = Prepared(None, Index(samples, labels, ("a", "b", "c")), images, "f")  # pyright: ignore
    return feed(prepared, np.array([1, 4, 7, 2]), MultiLabel(), resolve("cpu"))


def test_batches_hold_the_right_images():
    found = made()
    (first, second) = found.batches(3)
    assert (len(first), len(second)) == (3, 1)
    assert first.index.tolist() == [1, 4, 7]
    assert torch.equal(first.x.mul(255).round().to(torch.uint8).contiguous(), torch.from_numpy(found.images[[1, 4, 7]]))
    assert first.y.tolist()[0] == [0, 1, 0]
    assert first.x.dtype == torch.float32
    assert 0 <= first.x.min() <= first.x.max() <= 1


def mapped(tmp_path, *, n: int = 300, channels: int = 3) -> Feed:
    """A feed from a read-only memory map of which every second image is missing in the part."""
    np.save(tmp_path / "images.npy", np.random.default_rng(1).integers(0, 256, (n, channels, 8, 8), np.uint8))
    images = np.load(tmp_path / "images.npy", mmap_mode="r")
    positions = np.concatenate([np.arange(0, 100), np.arange(100, n, 2)])
    return Feed(images, torch.arange(len(positions)), positions, resolve("cpu"))


def orders(found: Feed) -> list[np.ndarray]:
    shuffled = epoch_order(len(found), 0, 0)
    return [np.arange(64), np.arange(64, 128), *np.array_split(shuffled, 7), np.arange(3), np.array([5])]


@pytest.mark.parametrize("channels", [1, 3])
def test_every_way_of_feeding_gives_the_same_bytes(tmp_path, channels):
    """Images of the memory map, held on the device, or read ahead (not page-locked on a CPU): all alike."""
    plain = mapped(tmp_path, channels=channels)
    held = replace(plain, images=on_device(plain.images, plain.positions, torch.device("cpu")))
    ways = {
        "map": plain.stream(orders(plain)),
        "held": held.stream(orders(plain)),
        "ahead": ahead(plain, orders(plain), pinned=False),
    }
    for chosen, *found in zip(orders(plain), *ways.values(), strict=True):
        wanted = np.asarray(plain.images)[plain.positions[chosen]].astype(np.float32) / np.float32(255)
        for name, batch in zip(ways, found, strict=True):
            assert np.array_equal(batch.x.numpy(), wanted), name
            assert batch.x.is_contiguous(memory_format=torch.channels_last), name
            assert batch.y.tolist() == chosen.tolist(), name
            assert batch.index.tolist() == plain.positions[chosen].tolist(), name
            rng = torch.Generator().manual_seed(3)
            moved = augment(batch.x, "pad_crop_flip", rng)
            assert torch.equal(moved, augment(torch.from_numpy(wanted), "pad_crop_flip", rng.manual_seed(3))), name


def test_consecutive_images_are_the_maps_own_bytes_until_they_are_floats(tmp_path):
    plain = mapped(tmp_path)
    start = plain.images.__array_interface__["data"][0]
    assert batches._taken(plain.images, np.arange(7, 20)).data_ptr() == start + 7 * plain.images[0].size
    assert batches._taken(plain.images, np.array([7, 9])).data_ptr() != start + 7 * plain.images[0].size
    before = np.array(plain.images)
    plain.batch(np.arange(50)).x.zero_()
    assert (before == plain.images).all()


def test_batches_that_were_read_ahead_stay_what_they_are(tmp_path):
    plain = mapped(tmp_path)
    kept = list(ahead(plain, orders(plain) * 4, pinned=False))  # more than there are buffers
    for chosen, batch in zip(orders(plain) * 4, kept, strict=True):
        assert torch.equal(batch.x, plain.batch(chosen).x)


def test_reading_ahead_stays_a_few_batches_ahead_and_ends_with_its_reader(tmp_path, monkeypatch):
    plain, taken = mapped(tmp_path), []
    real = np.take
    monkeypatch.setattr(batches.np, "take", lambda *a, **k: (taken.append(1), real(*a, **k))[1])
    threads = threading.active_count()
    reading = ahead(plain, [np.arange(4)] * 100, pinned=False)
    next(reading)
    time.sleep(0.2)
    assert 1 < len(taken) <= batches.BUFFERS
    reading.close()
    assert threading.active_count() == threads
    assert len(taken) <= batches.BUFFERS + 1


def test_an_error_while_reading_ahead_reaches_the_reader(tmp_path):
    plain = mapped(tmp_path)
    broken = replace(plain, positions=np.array(["x"] * len(plain)))
    with pytest.raises((TypeError, ValueError)):
        list(ahead(broken, [np.arange(4)], pinned=False))


@pytest.mark.parametrize(
    ("kind", "held", "reads_ahead"), [("cuda", False, True), ("cuda", True, False), ("cpu", False, False)]
)
def test_images_are_read_ahead_for_a_gpu_that_does_not_hold_them(tmp_path, monkeypatch, kind, held, reads_ahead):
    """The choice alone: what it does on a GPU needs one."""
    plain = mapped(tmp_path)
    images = torch.from_numpy(np.array(plain.images)) if held else plain.images
    asked = []

    def read(found, choices, *, pinned):
        asked.append(pinned)
        yield from choices

    monkeypatch.setattr(batches, "ahead", read)
    monkeypatch.setattr(Feed, "batch", lambda _, chosen: chosen)
    found = replace(plain, images=images, compute=Compute(torch.device(kind), "fp32"))
    assert [len(b) for b in found.stream([np.arange(3), np.arange(2)])] == [3, 2]
    assert asked == [True] * reads_ahead


def test_images_go_to_the_device_in_parts(monkeypatch):
    monkeypatch.setattr(batches, "PART_BYTES", 16 * 32 * 32)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (1500, 1, 32, 32), np.uint8)
    positions = rng.permutation(1500)[:1003]
    tracemalloc.start()
    found = on_device(images, positions, torch.device("cpu"))
    peak = tracemalloc.get_traced_memory()[1]  # numpy's memory, not torch's
    tracemalloc.stop()
    assert (found.numpy() == images[positions]).all()
    assert peak < images.nbytes / 8


def test_order_is_a_permutation_of_seed_and_epoch():
    assert sorted(epoch_order(50, 0, 3)) == list(range(50))
    assert (epoch_order(50, 0, 3) == epoch_order(50, 0, 3)).all()
    assert (epoch_order(50, 0, 3) != epoch_order(50, 0, 4)).any()
    assert (epoch_order(50, 0, 3) != epoch_order(50, 1, 3)).any()


def test_flip_flips_half_and_nothing_else():
    x = torch.rand(200, 1, 6, 6)
    y = augment(x, "flip", torch.Generator().manual_seed(0))
    same = torch.tensor([torch.equal(a, b) for a, b in zip(x, y, strict=True)])
    flipped = torch.tensor([torch.equal(a.flip(2), b) for a, b in zip(x, y, strict=True)])
    assert (same ^ flipped).all()
    assert 60 < flipped.sum() < 140


def test_crop_is_a_window_of_the_padded_image():
    x = torch.rand(20, 3, 8, 8)
    y = augment(x, "pad_crop_flip", torch.Generator().manual_seed(0))
    assert y.shape == x.shape
    for image, found in zip(x, y, strict=True):
        candidates = []
        for source in (image, image.flip(2)):
            padded = torch.nn.functional.pad(source[None], (4, 4, 4, 4), mode="replicate")[0]
            candidates += [padded[:, i : i + 8, j : j + 8] for i in range(9) for j in range(9)]
        assert any(torch.equal(found, c) for c in candidates)
    assert augment(x, "none", torch.Generator()) is x
