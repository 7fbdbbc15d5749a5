"""Image files of every mode come out as 8-bit grey or colour; bad ones are named."""

import numpy as np
import pytest
from PIL import Image

from harness.data.decode import channels_of, read_image, to_size
from harness.errors import UsageError

GREY = np.arange(64, dtype=np.uint8).reshape(8, 8) * 3


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "I;16"])
def test_every_mode_gives_the_same_grey(tmp_path, mode):
    path = tmp_path / "x.png"
    if mode == "I;16":
        Image.fromarray(GREY.astype(np.uint16) * 257).save(path)
    else:
        Image.fromarray(GREY).convert(mode).save(path)
    found = read_image(path, 1)
    assert found.shape == (8, 8)
    assert np.abs(found.astype(int) - GREY).max() <= 1
    assert read_image(path, 3).shape == (8, 8, 3)


def test_one_bit_images(tmp_path):
    Image.fromarray(GREY > 90).save(tmp_path / "x.png")
    assert set(np.unique(read_image(tmp_path / "x.png", 1))) == {0, 255}


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "is empty"), (b"not an image", "cannot be decoded"), (None, "is missing")]
)
def test_bad_files_are_named(tmp_path, content, message):
    path = tmp_path / "bad.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=rf"bad\.png.*{message}"):
        read_image(path, 1)


def test_a_truncated_png_is_named(tmp_path):
    path = tmp_path / "cut.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UsageError, match=r"cut\.png.*cannot be decoded"):
        read_image(path, 1)


def test_resizing_keeps_the_mean_and_antialiases():
    image = np.kron(np.indices((32, 32)).sum(0) % 2, np.ones((2, 2))).astype(np.uint8) * 255  # fine checkerboard
    small = to_size(image, 8)
    assert small.shape == (1, 8, 8)
    assert np.abs(small.astype(int) - 127).max() <= 3
    assert to_size(GREY, 8) is not None
    assert (to_size(GREY, 8)[0] == GREY).all()


def test_wrong_arrays_are_refused():
    with pytest.raises(UsageError, match="expected uint8"):
        channels_of(np.zeros((3, 8, 8), np.float32))
