"""Networks whose weights are drawn anew, stage by stage from the head (Adebayo et al. 2018, arXiv:1810.03292, 3.1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from harness.rng import seed_for

Stage = tuple[str, tuple[nn.Module, ...]]


def stages(model: nn.Module) -> list[Stage]:
    """Return name and modules of each stage that has weights, the head first, the layer next to the image last.

    Of a network with `features` and `head`: the head, and the children of the features. Of another library's network:
    its children. The last stage also holds whatever no other one does, so that all of them are the whole network; the
    normalisation of the input is data, not weights, and belongs to none.
    """
    parts = _children(model)
    names = [name for name in parts if name != "head"]
    while len(names) == 1 and (inner := _children(parts[names[0]])):
        parts = {**inner, **({"head": parts["head"]} if "head" in parts else {})}
        names = [name for name in inner if name != "head"]
    order = [*(["head"] if "head" in parts else []), *reversed(names)]
    found: list[Stage] = [(name, (parts[name],)) for name in order]
    known = {id(p) for _, modules in found for m in modules for p in m.parameters()}
    loose = [p for p in model.parameters() if id(p) not in known]  # a class token, say
    if loose:
        name, modules = found.pop() if found else ("weights", ())
        found.append((name, (*modules, nn.ParameterList(loose))))
    return found


def _children(module: nn.Module) -> dict[str, nn.Module]:
    return {name: m for name, m in module.named_children() if any(True for _ in m.parameters())}


@torch.no_grad()
def randomise(modules: Sequence[nn.Module], *purpose: object) -> None:
    """Draw the weights of modules anew and forget their normalisation statistics, in place, on their own device.

    Every layer initialises itself as its library does (`reset_parameters`); a weight that none of them changes is
    shuffled within itself. Weights follow from `purpose` alone, not from the device. Not the builder's own scheme: a
    ResNet of Woods 2019 starts with branches of zeros, which would say nothing.
    """
    seed = seed_for(0, "randomise", *purpose)
    shuffle = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # not torch.manual_seed: it would set that of GPUs as well
        for top in modules:
            device = next(top.parameters()).device
            top.cpu()  # random numbers of a GPU are others
            before = {name: p.clone() for name, p in top.named_parameters()}
            for module in top.modules():
                if callable(reset := getattr(module, "reset_parameters", None)):
                    reset()
            for name, p in top.named_parameters():
                if torch.equal(p, before[name]):
                    p.copy_(p.flatten()[torch.randperm(p.numel(), generator=shuffle)].view_as(p))
            top.to(device)
