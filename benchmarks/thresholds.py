"""All 256 thresholds in one pass against 256 passes: python benchmarks/thresholds.py [--pairs 984] [--size 224].

984 pairs at 224 px are ChestX-ray14's. One thread; time it on an idle machine.
"""

import argparse
import time

import torch
from torch import Tensor

from harness.scores.threshold_iou import counts


def passes(levels: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return what `counts` returns, threshold by threshold."""
    inside, region = [], []
    for t in range(256):
        above = levels >= t
        region.append(above.flatten(1).sum(1))
        inside.append((above & mask).flatten(1).sum(1))
    return torch.stack(inside, 1), torch.stack(region, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=984)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=32, help="pairs at once, for both")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rng = torch.Generator().manual_seed(0)
    shape = (options.pairs, options.size, options.size)
    levels = torch.randint(0, 256, shape, generator=rng, dtype=torch.uint8)
    mask = torch.zeros(shape, dtype=torch.bool)
    mask.fill_(False)  # touches the memory, which is otherwise mapped while the first function runs
    mask[:, options.size // 4 : options.size // 2, options.size // 3 : options.size // 2] = True
    found, seconds = {}, {}
    for name, function in (("one pass", counts), ("256 passes", passes)):
        start = time.perf_counter()
        parts = [function(a, b) for a, b in zip(levels.split(options.batch), mask.split(options.batch), strict=True)]
        seconds[name] = time.perf_counter() - start
        found[name] = [torch.cat(p) for p in zip(*parts, strict=True)]
        print(f"{name:>10}: {seconds[name]:8.3f} s for {options.pairs} pairs at {options.size} px")
    assert all(torch.equal(a, b) for a, b in zip(found["one pass"], found["256 passes"], strict=True))
    print(f"     ratio: {seconds['256 passes'] / seconds['one pass']:8.1f}, results equal")


if __name__ == "__main__":
    main()
