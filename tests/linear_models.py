"""Linear models, on which the smallest perturbation is known in closed form."""

import pytest
import torch
from torch import nn

PIXELS = 3 * 8 * 8


def linear(classes: int, scale: float = 1.0) -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, classes))
    with torch.no_grad():
        model[1].weight.mul_(scale)
    return model


def images(n: int = 12) -> torch.Tensor:
    return 0.5 + 0.05 * (torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(1)) - 0.5)


def at_distance(model: nn.Sequential, x: torch.Tensor, l2: float) -> tuple[nn.Sequential, torch.Tensor]:
    """Return the two-class model with its boundary `l2` from the mean image, and the class of each image."""
    w = model[1].weight.detach()
    direction = (w[0] - w[1]) / (w[0] - w[1]).norm()
    with torch.no_grad():
        margin = (x.mean(0).flatten() @ (w[0] - w[1])) - l2 * (w[0] - w[1]).norm()
        model[1].bias.copy_(torch.tensor([-float(margin), 0.0]))
    assert direction.norm() == pytest.approx(1)
    return model, model(x).argmax(1)


def distances(model: nn.Sequential, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return the L2 distance of each image to the nearest boundary with another class."""
    w, b = model[1].weight.detach(), model[1].bias.detach()
    logits = x.flatten(1) @ w.T + b
    gap = logits.gather(1, y[:, None]) - logits
    norm = (w[y][:, None] - w[None]).norm(dim=2)
    return torch.where(norm > 0, gap / norm, torch.inf).min(1).values


def l2_of(found) -> torch.Tensor:
    return found.rmse * PIXELS**0.5
