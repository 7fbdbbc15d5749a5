"""Image files of every mode come out as 8-bit grey or colour; bad ones are named."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from harness.data.decode import channels_of, image_header, read_image, to_size
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


RED = Image.new("RGB", (20, 10), (204, 51, 51))


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("rgba.png", RED.convert("RGBA")),
        ("cmyk.jpg", RED.convert("CMYK")),
        ("cmyk.tif", RED.convert("CMYK")),
        ("palette.png", RED.convert("P")),
        ("palette.gif", RED.convert("P")),
        ("colour.bmp", RED),
        ("colour.webp", RED),
    ],
)
def test_a_colour_is_the_same_in_every_kind_of_file(tmp_path, name, made):
    made.save(tmp_path / name)
    assert read_image(tmp_path / name, 3)[5, 5].tolist() == pytest.approx([204, 51, 51], abs=6)
    assert read_image(tmp_path / name, 1)[5, 5] == pytest.approx(97, abs=6)


def test_sixteen_bits_become_eight(tmp_path):
    deep = np.array([[0, 257, 25700, 65535]], np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    assert read_image(tmp_path / "deep.png", 1).tolist() == [[0, 1, 100, 255]]
    Image.fromarray(deep).save(tmp_path / "deep.tif")
    assert read_image(tmp_path / "deep.tif", 1).tolist() == [[0, 1, 100, 255]]


def test_twelve_bits_in_sixteen_are_refused_until_they_are_said(tmp_path):
    path = tmp_path / "twelve.png"
    Image.fromarray(np.array([[0, 273, 4095]], np.uint16)).save(path)
    with pytest.raises(UsageError, match=r"twelve\.png: its 16-bit values end at 4,095, .* nearly black.*bits=12"):
        read_image(path, 1)
    assert read_image(path, 1, bits=12).tolist() == [[0, 17, 255]]
    assert read_image(path, 1, bits=16).tolist() == [[0, 1, 15]]
    with pytest.raises(UsageError, match=r"value 4,095, expected less than 2\^10"):
        read_image(path, 1, bits=10)


def test_eight_bits_in_sixteen_are_taken_as_they_are(tmp_path):
    Image.fromarray(np.array([[0, 100, 255]], np.uint16)).save(tmp_path / "x.png")
    assert read_image(tmp_path / "x.png", 1).tolist() == [[0, 100, 255]]


def test_floating_point_values_are_refused(tmp_path):
    Image.fromarray(np.full((4, 4), 0.5, np.float32)).save(tmp_path / "x.tif")
    with pytest.raises(UsageError, match=r"floating-point values.*Convert it"):
        read_image(tmp_path / "x.tif", 1)


@pytest.mark.parametrize("name", ["x.gif", "x.png", "x.webp", "x.tif"])
def test_several_pictures_in_one_file_are_refused(tmp_path, name):
    first, *rest = (Image.fromarray(GREY // i).convert("RGB") for i in (1, 2, 3))
    first.save(tmp_path / name, save_all=True, append_images=rest)
    with pytest.raises(UsageError, match=r"it holds 3 pictures \(an animation, or pages\); expected one"):
        read_image(tmp_path / name, 1)


def test_of_a_jpeg_with_previews_the_image_is_taken(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "x.jpg", format="MPO", save_all=True,
                               append_images=[Image.new("L", (4, 4))])  # fmt: skip
    assert image_header(tmp_path / "x.jpg").kind == "MPO L"
    assert read_image(tmp_path / "x.jpg", 1).shape == (8, 8)


@pytest.mark.parametrize(("turn", "shape"), [(1, (8, 12)), (3, (8, 12)), (6, (12, 8)), (8, (12, 8))])
def test_an_image_stands_upright_only_where_that_is_asked_for(tmp_path, turn, shape):
    stored = np.arange(96, dtype=np.uint8).reshape(8, 12)
    exif = Image.Exif()
    exif[0x0112] = turn
    Image.fromarray(stored).save(tmp_path / "x.png", exif=exif)
    assert (read_image(tmp_path / "x.png", 1) == stored).all()
    upright = read_image(tmp_path / "x.png", 1, upright=True)
    assert upright.shape == shape
    turns = {1: 0, 3: 2, 6: -1, 8: 1}  # quarter turns against the clock
    assert (upright == np.rot90(stored, turns[turn])).all()
    assert image_header(tmp_path / "x.png").size == shape[::-1]


def png(width: int, height: int, data: bytes) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def other_format() -> bytes:
    place = io.BytesIO()
    Image.fromarray(GREY).save(place, format="PCX")
    return place.getvalue()


def text_bomb() -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "a" * 5_000_000, zip=True)
    place = io.BytesIO()
    Image.fromarray(GREY).save(place, format="PNG", pnginfo=info)
    return place.getvalue()


HOSTILE = {
    "zero-byte": (lambda: b"", "the file is empty"),
    "text": (lambda: b"image,label\na.png,cat\n", "cannot be decoded"),
    "html": (lambda: b"<!DOCTYPE html><title>404</title>", "cannot be decoded"),
    "a program": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "cannot be decoded"),
    "a format that is not read": (other_format, "cannot be decoded"),
    "zeros": (lambda: bytes(4096), "cannot be decoded"),
    "a bomb of pixels": (lambda: png(60_000, 60_000, zlib.compress(bytes(9))), "cannot be decoded.*decompression bomb"),
    "a bomb of text": (text_bomb, "cannot be decoded"),
    "no pixels": (lambda: png(0, 9, zlib.compress(b"")), "cannot be decoded"),
    "too few pixels": (lambda: png(64, 64, zlib.compress(bytes(100))), "cannot be decoded"),
    "not zlib": (lambda: png(8, 8, b"not zlib at all"), "cannot be decoded"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_is_no_image_is_one_error_that_names_it(tmp_path, what):
    make, message = HOSTILE[what]
    (tmp_path / "bad.png").write_bytes(make())
    with pytest.raises(UsageError, match=rf"(?s)bad\.png: .*{message}.*\. Fetch it again\."):
        read_image(tmp_path / "bad.png", 1)


def loop(path):
    path.symlink_to(path.name)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p.mkdir(), "expected an image, found something else"),
        (lambda p: os.mkfifo(p), "expected an image, found something else"),
        (lambda p: p.symlink_to("/dev/zero"), "expected an image, found something else"),
        (lambda p: p.symlink_to("nowhere"), "the image is missing"),
        (loop, "the image is missing"),
    ],
    ids=["folder", "pipe", "device", "broken link", "loop"],
)
def test_what_is_no_file_is_not_waited_for(tmp_path, make, message):
    make(tmp_path / "x.png")
    with pytest.raises(UsageError, match=rf"x\.png: {message}"):
        read_image(tmp_path / "x.png", 1)


def test_a_name_too_long_for_the_disk(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        read_image(tmp_path / f"{'a' * 300}.png", 1)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP"])
def test_whatever_is_changed_in_a_file_is_an_image_or_one_error(tmp_path, kind):
    place = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 24), np.uint8)).save(place, format=kind)
    whole, rng, refused = place.getvalue(), np.random.default_rng(1), []
    path = tmp_path / "x.img"
    for _ in range(150):
        changed = bytearray(whole)
        for at in rng.integers(0, len(whole), 4):
            changed[at] = rng.integers(0, 256)
        path.write_bytes(changed[: rng.integers(1, len(whole))] if rng.random() < 0.3 else changed)
        try:
            found = read_image(path, 3, upright=True)
        except UsageError as error:
            found, refused = None, [*refused, str(error)]
        assert found is None or found.ndim == 3
    assert len(refused) >= 10
    assert all(said.startswith(f"{path}: ") for said in refused)
