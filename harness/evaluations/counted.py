"""How many images pass through a model, whoever it is handed to."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Counted(nn.Module):
    """A model that counts the images passed through it: `forwards` alone, `backwards` for a gradient as well."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model, self.training = model, model.training
        self.forwards = self.backwards = 0

    def forward(self, x: Tensor) -> Tensor:
        """Return the model's logits."""
        if torch.is_grad_enabled() and x.requires_grad:
            self.backwards += len(x)
        else:
            self.forwards += len(x)
        return self.model(x)
