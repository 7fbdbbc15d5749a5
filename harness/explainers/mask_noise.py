"""The noise that keeps a mask from fooling the network (Khorram 2021), from each image's own seed."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from harness.device import sent

MIX = 0x9E3779B97F4A7C15  # an odd number far from a power of two: the seeds of an image's draws lie far apart
MASK = (1 << 63) - 1


@dataclass(frozen=True)
class Noise:
    """Gaussian noise of standard deviation `sd` for B images: new in every draw or, with a bank, the same in all.

    The bank (S,B,C,H,W) has one image of noise per point, which all terms share.
    """

    seeds: Tensor  # (B,) long, on the CPU
    sd: float
    bank: Tensor | None = None

    def renewed(self, number: int, points: int, like: Tensor) -> Noise:
        """Return noise with the `number`-th bank of each image's, for images `like` (B,C,H,W)."""
        if self.sd == 0:
            return self
        size = (points, *like.shape[1:])
        bank = torch.stack([self.sd * torch.randn(size, generator=generator(s, number)) for s in self.seeds], 1)
        return replace(self, bank=sent(bank, like.device).to(like))

    def __getitem__(self, rows: Tensor) -> Noise:
        """Return the noise of some of the images."""
        return replace(self, seeds=self.seeds[rows.cpu()], bank=None if self.bank is None else self.bank[:, rows])

    def added(self, images: Tensor, looks: list[tuple[int, int]], draw: int) -> Tensor:
        """Return images (c,B,C,H,W) of c looks (term, point) with the noise of one draw added."""
        if self.sd == 0:
            return images
        if self.bank is not None:
            return images + torch.stack([self.bank[point - 1] for _, point in looks])
        size = images.shape[2:]
        drawn = [
            torch.stack([torch.randn(size, generator=generator(s, draw, term, point)) for s in self.seeds])
            for term, point in looks
        ]
        return images + self.sd * sent(torch.stack(drawn), images.device).to(images)


def generator(seed: Tensor, *purpose: int) -> torch.Generator:
    """Return a generator of one image's seed and a purpose."""
    number = int(seed)
    for part in purpose:
        number = (number * MIX + part + 1) & MASK
    return torch.Generator().manual_seed(number)
