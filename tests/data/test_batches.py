"""Feeding: order, augmentation and placement follow from the seed alone."""

import tracemalloc

import numpy as np
import torch

from harness.data import batches
from harness.data.batches import Feed, augment, epoch_order, feed, on_device
from harness.data.cache import Prepared
from harness.data.index import Index
from harness.device import resolve
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
