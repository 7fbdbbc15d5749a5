"""Randomness is an argument: one generator per purpose, derived from the run's seed and a name.

Adding an explainer or an evaluation therefore never changes the numbers that another one draws.
"""

import hashlib

import numpy as np


def seed_for(seed: int, *purpose: object) -> int:
    """Return a 63-bit seed for `purpose` (strings and integers), stable over platforms and versions.

    >>> seed_for(0, "fit", 3) == seed_for(0, "fit", 3) != seed_for(0, "fit", 4)
    True
    """
    text = "\x1f".join([str(int(seed)), *map(str, purpose)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def rng_for(seed: int, *purpose: object) -> np.random.Generator:
    """Return a numpy generator for `purpose`."""
    return np.random.default_rng(seed_for(seed, *purpose))


def torch_rng_for(seed: int, *purpose: object, device: object = "cpu"):
    """Return a `torch.Generator` on `device` for `purpose`."""
    import torch

    return torch.Generator(device=str(device)).manual_seed(seed_for(seed, *purpose))
