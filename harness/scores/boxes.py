"""Ground-truth boxes as masks at the input's resolution."""

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor


def box_mask(boxes: ArrayLike | Tensor, size: int) -> Tensor:
    """Return the union of K boxes as a mask, (K,4) to (size,size) bool, on the CPU.

    A box is x0, y0, x1, y1 as fractions of the image from the top left. A pixel belongs to it if its centre does
    (left and top edges included, right and bottom ones not, so boxes that touch share no pixel). A box that covers
    no centre takes the pixel nearest to its own centre: every box has at least one pixel. Source: ours.
    """
    centres = (np.arange(size) + 0.5) / size
    mask = np.zeros((size, size), dtype=bool)
    for x0, y0, x1, y1 in np.asarray(boxes, dtype=np.float64).reshape(-1, 4):
        columns = (x0 <= centres) & (centres < x1)
        rows = (y0 <= centres) & (centres < y1)
        if columns.any() and rows.any():
            mask |= rows[:, None] & columns[None, :]
        else:
            row, column = (min(max(int((a + b) / 2 * size), 0), size - 1) for a, b in ((y0, y1), (x0, x1)))
            mask[row, column] = True
    return torch.from_numpy(mask)
