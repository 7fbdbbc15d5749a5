"""Burnt-in text: found where it was drawn, not where there is none, and gone when it is blanked."""

import numpy as np
import pytest
from examples import radiograph
from PIL import Image, ImageDraw, ImageFont

from harness.data.text import blanked, text_boxes

SIDE = 512


def chest(seed: int = 0, side: int = SIDE) -> Image.Image:
    return Image.fromarray(np.rint(220 * radiograph(np.random.default_rng(seed), side)).astype(np.uint8))


def written(
    text: str, at: tuple[int, int], *, size: int = 24, ink: int = 255, image: Image.Image | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return a radiograph with a text, and where its ink is."""
    picture, mask = image or chest(), Image.new("L", (SIDE, SIDE))
    for canvas, fill in ((picture, ink), (mask, 255)):
        ImageDraw.Draw(canvas).text(at, text, fill=fill, font=ImageFont.load_default(size))
    return np.asarray(picture), np.asarray(mask) > 127


def inside(boxes: np.ndarray, side: int = SIDE) -> np.ndarray:
    found = np.zeros((side, side), bool)
    for x0, y0, x1, y1 in np.rint(boxes * side).astype(int):
        found[y0:y1, x0:x1] = True
    return found


@pytest.mark.parametrize("seed", range(5))
def test_a_radiograph_without_text_has_none(seed):
    assert text_boxes(np.asarray(chest(seed))).shape == (0, 4)


@pytest.mark.parametrize("size", [12, 18, 24, 40])
@pytest.mark.parametrize("ink", [255, 0])
@pytest.mark.parametrize("at", [(20, 15), (150, 240), (300, 470)], ids=["corner", "middle", "bottom"])
def test_a_word_is_found_wherever_it_stands(size, ink, at):
    image, mask = written("PORTABLE", (at[0], min(at[1], SIDE - size - 8)), size=size, ink=ink)
    found = inside(text_boxes(image))
    assert (mask & found).sum() >= 0.9 * mask.sum()
    assert found.sum() < 4 * size * (np.ptp(np.nonzero(mask)[1]) + size)


def test_a_letter_alone_is_found_near_an_edge_only():
    near, mask = written("L", (470, 30), size=40)
    assert (mask & inside(text_boxes(near))).sum() >= 0.9 * mask.sum()
    middle, _ = written("L", (250, 250), size=40)
    assert len(text_boxes(middle)) == 0


def test_text_that_runs_down_the_side():
    across, mask = written("PORTABLE", (60, 15))
    down, turned = np.rot90(across), np.rot90(mask)
    assert (turned & inside(text_boxes(down))).sum() >= 0.9 * mask.sum()


def test_two_texts_are_two_boxes_from_top_to_bottom():
    image, _ = written("PORTABLE", (300, 460))
    image, _ = written("AP 13:45", (20, 20), image=Image.fromarray(image))
    boxes = text_boxes(image)
    assert len(boxes) == 2
    assert boxes[0, 3] < 0.2 < 0.8 < boxes[1, 1]
    assert (boxes >= 0).all()
    assert (boxes <= 1).all()


def test_wires_and_bright_discs_are_no_text():
    picture = chest()
    draw = ImageDraw.Draw(picture)
    draw.line([(100, 60), (400, 380)], fill=255, width=3)
    draw.arc([80, 80, 420, 420], 20, 140, fill=255, width=3)
    draw.ellipse([200, 200, 290, 290], fill=230)
    assert len(text_boxes(np.asarray(picture))) == 0


def test_a_large_image_is_searched_at_a_smaller_size():
    image, _ = written("PORTABLE", (20, 15))
    large = np.asarray(Image.fromarray(image).resize((2048, 2048), Image.Resampling.BICUBIC))
    (one,), (other,) = text_boxes(image), text_boxes(large)
    assert one == pytest.approx(other, abs=0.01)


def test_colour_and_grey_say_the_same():
    image, _ = written("PORTABLE", (20, 15))
    assert (text_boxes(np.repeat(image[..., None], 3, axis=2)) == text_boxes(image)).all()


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (200, 3)])
def test_tiny_images(shape):
    assert text_boxes(np.full(shape, 90, np.uint8)).shape == (0, 4)


def test_blanked_text_is_gone_and_the_rest_is_untouched():
    clean = np.asarray(chest())
    image, mask = written("PORTABLE", (20, 15))
    boxes = text_boxes(image)
    result = blanked(image, boxes)
    assert (result[~inside(boxes)] == image[~inside(boxes)]).mean() > 0.999, "boxes are rounded outwards"
    assert np.abs(result[mask].astype(int) - clean[mask]).mean() < 10
    assert len(text_boxes(result)) == 0
    assert (blanked(image, np.zeros((0, 4))) == image).all()


def test_a_filled_box_is_the_harmonic_function_of_its_frame():
    """Of a plane whose grey levels are linear, the filling is that plane again, up to rounding and the ends."""
    y, x = np.mgrid[0:60, 0:80]
    plane = (60 + x + y).astype(np.uint8)
    result = blanked(plane, np.array([[20 / 80, 15 / 60, 60 / 80, 45 / 60]]))
    assert np.abs(result.astype(int) - plane).max() <= 2
    relaxed = plane.astype(float)  # the slow way: every pixel is the mean of its four neighbours
    relaxed[15:45, 20:60] = 0
    for _ in range(6000):
        inner = relaxed[14:46, 19:61]
        inner[1:-1, 1:-1] = 0.25 * (inner[:-2, 1:-1] + inner[2:, 1:-1] + inner[1:-1, :-2] + inner[1:-1, 2:])
    assert np.abs(result[15:45, 20:60] - relaxed[15:45, 20:60]).max() <= 2


def test_boxes_at_the_edge_over_each_other_and_over_everything():
    image = np.asarray(chest()).copy()
    image[:40, :90] = 255
    result = blanked(image, np.array([[0, 0, 0.1, 0.08], [0.05, 0.0, 90 / SIDE, 40 / SIDE]]))
    assert result[:40, :90].max() < 220
    assert (blanked(image, np.array([[0.0, 0.0, 1.0, 1.0]])) == np.median(image)).mean() > 0.99
    colour = np.stack([image, image // 2, image // 4], axis=2)
    assert (blanked(colour, np.array([[0.2, 0.2, 0.3, 0.3]])).reshape(-1, 3)[0] == colour.reshape(-1, 3)[0]).all()
