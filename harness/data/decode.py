"""Image files of any mode to uint8 arrays of one or three channels, and to the working size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from harness.errors import UsageError

SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N", "I")


def read_image(path: Path, channels: int) -> NDArray[np.uint8]:
    """Return an image file as (H,W) or (H,W,3) uint8, whatever mode it is stored in.

    16-bit greys are scaled to 8; colours become grey by Pillow's luma; transparency is dropped, palettes resolved.
    Raises `UsageError` naming the file when it is missing, empty or cannot be decoded.
    """
    try:
        if path.stat().st_size == 0:
            raise UsageError(f"{path}: expected an image, the file is empty. Fetch it again.")
        with Image.open(path) as picture:
            picture.load()
            if picture.mode in SIXTEEN_BIT:
                deep = np.asarray(picture).astype(np.int64)
                grey = (deep // 257 if deep.max(initial=0) > 255 else deep).clip(0, 255).astype(np.uint8)
                return grey if channels == 1 else np.repeat(grey[..., None], 3, axis=2)
            if picture.mode == "P":
                picture = picture.convert("RGBA" if "transparency" in picture.info else "RGB")
            return np.asarray(picture.convert("L" if channels == 1 else "RGB"))
    except UsageError:
        raise
    except FileNotFoundError:
        raise UsageError(f"{path}: the image is missing. Fetch it again, or leave its row out.") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UsageError(f"{path}: cannot be decoded as an image ({error}). Fetch it again.") from None


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
