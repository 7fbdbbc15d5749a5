"""What masks cost, against plain loops and closed forms."""

import math

import pytest
import torch

from harness.explainers.mask_smoothness import (
    Cost,
    area,
    bilateral,
    bilateral_of_the_program,
    edge_weights,
    edge_weights_of_the_program,
    total_variation,
)
from harness.masking import upsampled


def masks(height=4, width=5, n=2):
    return torch.rand(n, 1, height, width, generator=torch.Generator().manual_seed(0), dtype=torch.double)


def image(height, width, n=2):
    return torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(1), dtype=torch.double)


def test_area_is_the_share_taken_away():
    mask = torch.ones(2, 1, 4, 4)
    mask[1, 0, :2, :2] = 0
    mask[1, 0, 3, 3] = 0.5
    assert area(mask).tolist() == [0, 4.5 / 16]


@pytest.mark.parametrize("beta", [2.0, 3.0])
def test_total_variation_twin(beta):
    mask = masks()
    found = total_variation(mask, beta)
    for b in range(2):
        m = mask[b, 0].tolist()
        down = [abs(m[i + 1][j] - m[i][j]) ** beta for i in range(3) for j in range(5)]
        right = [abs(m[i][j + 1] - m[i][j]) ** beta for i in range(4) for j in range(4)]
        assert found[b].item() == pytest.approx(sum(down) / len(down) + sum(right) / len(right))


def test_bilateral_twin():
    x, mask, sigma = image(8, 10), masks(), 0.2
    found = bilateral(mask, edge_weights(x, sigma))
    for b in range(2):
        m, total = upsampled(mask, 8, 10)[b, 0], 0.0
        for i in range(8):
            for j in range(10):
                for di, dj in ((1, 0), (0, 1)):
                    if i + di < 8 and j + dj < 10:
                        change = sum((x[b, c, i + di, j + dj] - x[b, c, i, j]).item() ** 2 for c in range(3)) / 3
                        total += math.exp(-change / sigma**2) * (m[i + di, j + dj] - m[i, j]).item() ** 2
        assert found[b].item() == pytest.approx(total / 20)


def test_bilateral_of_the_program_twin():
    x, mask, sigma = image(4, 5), masks(), 0.2  # a cell per pixel: nothing is upsampled
    found = bilateral_of_the_program(mask, edge_weights_of_the_program(x, sigma))
    for b in range(2):
        m, down, right = mask[b, 0], [], []
        for i in range(4):
            for j in range(5):
                if i < 3:
                    change = sum((x[b, c, i + 1, j] - x[b, c, i, j]).item() for c in range(3)) / 3
                    down.append(math.exp(-(change**2) / sigma**2) * (m[i + 1, j] - m[i, j]).item() ** 2)
                if j < 4:
                    parts = [math.exp(-((x[b, c, i, j + 1] - x[b, c, i, j]).item() ** 2) / sigma**2) for c in range(3)]
                    right.append(sum(parts) / 3 * (m[i, j + 1] - m[i, j]).item() ** 2)
        both = sum(down) / len(down) + sum(right) / len(right)
        assert found[b].item() == pytest.approx(0.5 * (total_variation(mask)[b].item() + both))


def test_edges_of_the_image_excuse_edges_of_the_mask():
    flat, edge = torch.full((1, 3, 8, 8), 0.5), torch.full((1, 3, 8, 8), 0.5)
    edge[..., 4:] = 0.9
    mask = torch.ones(1, 1, 8, 8)
    mask[..., 4:] = 0
    assert bilateral(mask, edge_weights(flat, 0.02)).item() == pytest.approx(8 / 64)
    assert bilateral(mask, edge_weights(edge, 0.02)).item() == pytest.approx(0, abs=1e-12)


def test_on_a_flat_image_it_weighs_what_the_cells_do_whatever_the_image_s_size():
    mask = masks(7, 7, n=1)
    smooth = torch.nn.functional.avg_pool2d(mask, 3, 1, 1, count_include_pad=False)
    cells = total_variation(smooth).item()
    found = [bilateral(smooth, edge_weights(torch.zeros(1, 3, s, s).double(), 0.02)).item() for s in (28, 112, 224)]
    assert found == pytest.approx([found[-1]] * 3, rel=0.15)
    assert 0.4 * cells < found[-1] < cells


@pytest.mark.parametrize("size", [(1, 1), (1, 4), (4, 1)])
def test_masks_of_one_row_or_column(size):
    mask = masks(*size).requires_grad_(True)
    x = image(9, 7)
    for cost in (Cost(1, 20), Cost(1, 20, edge_weights(x, 0.1)),
                 Cost(1, 20, edge_weights_of_the_program(x, 0.1), program=True)):  # fmt: skip
        (gradient,) = torch.autograd.grad(cost(mask).sum(), mask)
        assert gradient.isfinite().all()
    if size == (1, 1):
        torch.testing.assert_close(Cost(1, 20)(mask), 1 - mask.flatten())


def test_the_cost_is_that_of_the_product_and_of_the_chosen_images():
    x, two = image(8, 8), torch.cat([masks(4, 4), masks(4, 4).flip(2)], 1)
    product = two[:, :1] * two[:, 1:]
    cost = Cost(0.5, 3.0, edge_weights(x, 0.3))
    torch.testing.assert_close(cost(two), 0.5 * area(product) + 3 * bilateral(product, edge_weights(x, 0.3)))
    torch.testing.assert_close(cost[torch.tensor([1])](two[1:]), cost(two)[1:])
