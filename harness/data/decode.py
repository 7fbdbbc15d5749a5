"""Image files of any mode to uint8 arrays of one or three channels, and to the working size."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from harness.errors import UsageError
from harness.reading import understood

SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N", "I")
FORMATS = ("PNG", "JPEG", "JPEG2000", "TIFF", "BMP", "DIB", "GIF", "WEBP", "PPM")  # none that runs a program
FIRST_OF_MANY = ("MPO",)  # a kind of JPEG: the first picture is the image, the others are previews of it
ORIENTATION = 0x0112  # EXIF
QUARTER_TURNS = (5, 6, 7, 8)
TWELVE_BITS = 2**12  # values of a 16-bit file that end below are taken for 12 bits, and so refused


@dataclass(frozen=True)
class Header:
    """What an image file says of itself; nothing is decoded for it. `size` is upright, as viewers show it."""

    kind: str  # format and mode: "PNG L", "JPEG RGB"
    size: tuple[int, int]  # width and height, px


def image_header(path: Path) -> Header:
    """Return the header of an image file. Raises `UsageError` as `read_image` does."""
    with _opened(path) as picture:
        width, height = picture.size
        turned = picture.getexif().get(ORIENTATION) in QUARTER_TURNS
        return Header(f"{picture.format} {picture.mode}", (height, width) if turned else (width, height))


def read_image(path: Path, channels: int, *, upright: bool = False, bits: int | None = None) -> NDArray[np.uint8]:
    """Return an image file as (H,W) or (H,W,3) uint8, whatever mode it is stored in.

    16-bit greys are scaled to 8, from `bits` bits where they are said to use no more; values up to 255 are taken as
    they are. Colours become grey by Pillow's luma; transparency is dropped, palettes are resolved. `upright` turns the
    image as its EXIF orientation says.

    Raises `UsageError` naming the file when it is missing, empty, no image, or cannot be decoded; when it holds several
    pictures (an animation, pages) or floating-point values; and for 16-bit values that end where 12 bits do while
    `bits` is not given: such an image would be nearly black.
    """
    with _opened(path) as picture:
        picture.load()
        found = picture
        if upright and picture.getexif().get(ORIENTATION, 1) != 1:
            found = ImageOps.exif_transpose(picture)
        if found.mode in SIXTEEN_BIT:
            grey = _eight_bits(np.asarray(found).astype(np.int64), bits, path)
            return grey if channels == 1 else np.repeat(grey[..., None], 3, axis=2)
        if found.mode == "F":
            raise UsageError(
                f"{path}: it holds floating-point values, whose black and white are not known; expected whole numbers "
                "of 8 or 16 bits. Convert it."
            )
        if found.mode == "P":
            found = found.convert("RGBA" if "transparency" in found.info else "RGB")
        return np.asarray(found.convert("L" if channels == 1 else "RGB"))


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Open an image file, checked for what would be understood wrongly; any error in it is a `UsageError`."""
    try:
        if not path.is_file():
            if path.exists():
                raise UsageError(f"{path}: expected an image, found something else. Take it out.")
            raise UsageError(f"{path}: the image is missing. Fetch it again, or leave its row out.")
        size = path.stat().st_size
    except (OSError, ValueError) as error:  # a loop of links, a name too long for the file system
        said = getattr(error, "strerror", None) or error
        raise UsageError(f"{path}: the image cannot be read ({said}). Fetch it again, or leave its row out.") from None
    if size == 0:
        raise UsageError(f"{path}: expected an image, the file is empty. Fetch it again.")
    with understood(str(path), "cannot be decoded as an image", "Fetch it again."), warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # from twice its size on it is an error
        with Image.open(path, formats=FORMATS) as picture:
            if getattr(picture, "is_animated", False) and picture.format not in FIRST_OF_MANY:
                count = getattr(picture, "n_frames", 2)
                raise UsageError(
                    f"{path}: it holds {count} pictures (an animation, or pages); expected one. Save the one that is "
                    "meant as a file of its own."
                )
            yield picture


def _eight_bits(deep: NDArray[np.int64], bits: int | None, path: Path) -> NDArray[np.uint8]:
    """Return greys of up to 16 bits as 8 bits; `UsageError` where how many bits they use must be said, or is wrong."""
    largest = int(deep.max(initial=0))
    if bits is None and 255 < largest < TWELVE_BITS:
        raise UsageError(
            f"{path}: its 16-bit values end at {largest:,}, expected up to 65,535: it would be nearly black. Rescale "
            "it, or say how many of the bits are used, where the dataset has a setting for it (bits=12; 16 to take it "
            "as it is)."
        )
    if bits is not None and largest >= 2**bits:
        raise UsageError(f"{path}: it has the value {largest:,}, expected less than 2^{bits}. Say bits=16.")
    scaled = deep if bits is None and largest <= 255 else deep * 255 // (2 ** (bits or 16) - 1)
    return scaled.clip(0, 255).astype(np.uint8)


def to_size(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Return (C,size,size) uint8: the whole image, resized with antialiased bilinear filtering, no crop."""
    if image.shape[:2] != (size, size):
        image = np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR, reducing_gap=3.0))
    return image[None] if image.ndim == 2 else np.ascontiguousarray(image.transpose(2, 0, 1))


def channels_of(image: NDArray[np.uint8]) -> int:
    """Return 1 for (H,W), 3 for (H,W,3); raise `UsageError` for anything else."""
    if image.dtype == np.uint8 and (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)):
        return 1 if image.ndim == 2 else 3
    raise UsageError(f"read() gave {image.dtype} {image.shape}; expected uint8 (H,W) or (H,W,3).")
