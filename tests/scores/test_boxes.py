"""Box masks: pixel centres, the smallest boxes, the union."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.scores.boxes import box_mask


def test_pixels_whose_centre_is_inside():
    mask = box_mask(np.array([[0.25, 0.5, 0.74, 1.0]]), 4)
    assert mask.dtype == torch.bool
    assert mask.int().tolist() == [[0, 0, 0, 0], [0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0]]
    assert box_mask(np.array([[0.0, 0.0, 1.0, 1.0]]), 5).all()
    assert not box_mask(np.zeros((0, 4)), 5).any()


def test_boxes_that_touch_on_a_centre_share_no_pixel():
    left, right = box_mask([[0, 0, 0.375, 1]], 4), box_mask([[0.375, 0, 1, 1]], 4)
    assert left.sum() == 4
    assert right.sum() == 12
    assert not (left & right).any()


def test_a_box_without_a_centre_takes_its_nearest_pixel():
    assert box_mask([[0.26, 0.76, 0.30, 0.80]], 4).nonzero().tolist() == [[3, 1]]
    assert box_mask([[0.999, 0.999, 1.0, 1.0]], 4).nonzero().tolist() == [[3, 3]]
    assert box_mask([[0.0, 0.0, 1e-6, 1e-6]], 4).nonzero().tolist() == [[0, 0]]
    assert box_mask([[0.26, 0.0, 0.30, 1.0]], 4).nonzero().tolist() == [[2, 1]]  # tall, but between two columns


def test_union_of_boxes():
    boxes = torch.tensor([[0.0, 0.0, 0.5, 0.5], [0.25, 0.25, 0.75, 0.75], [0.9, 0.9, 0.91, 0.91]])
    expected = torch.stack([box_mask(b[None], 8) for b in boxes]).any(0)
    assert torch.equal(box_mask(boxes, 8), expected)
    assert expected.sum() == 16 + 16 - 4 + 1


@given(st.lists(st.floats(0, 1), min_size=4, max_size=4), st.integers(1, 20))
def test_twin_pixel_by_pixel(corners, size):
    (x0, x1), (y0, y1) = sorted(corners[:2]), sorted(corners[2:])
    mask = box_mask([[x0, y0, x1, y1]], size)
    inside = [[x0 <= (j + 0.5) / size < x1 and y0 <= (i + 0.5) / size < y1 for j in range(size)] for i in range(size)]
    if any(map(any, inside)):
        assert mask.tolist() == inside
    else:
        ((row, column),) = mask.nonzero().tolist()
        distance = [abs((i + 0.5) / size - c) for i, c in ((row, (y0 + y1) / 2), (column, (x0 + x1) / 2))]
        assert max(distance) <= 0.5 / size + 1e-9
