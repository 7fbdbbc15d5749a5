"""Weights that a model starts from: a file, or torchvision's ImageNet weights."""

import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torchvision.models import WeightsEnum

from harness.errors import UsageError
from harness.models.checkpoint import load_into, read_state, translate
from harness.models.classifier import Classifier

State = dict[str, Tensor]


def initialise(
    model: Classifier,
    weights: str | None,
    *,
    imagenet: WeightsEnum | None,
    first: str,
    adapt: Callable[[State], State] = lambda state: state,
) -> Classifier:
    """Load `weights` into the model as a start for training: None, "imagenet" or a file; returns the model.

    `adapt` changes the state dict, its names already ours, before it is loaded. The model keeps its
    random head where the file has none or one for another number of classes. RGB kernels of the first convolution (the
    parameter `first`) are summed over RGB for grey images. That is timm's rule; it is approximate, because the
    kernels were trained behind a normalisation per channel. The normalisation stays the model's own.
    Raises `UsageError` where the weights cannot be had or do not fit.
    """
    if weights is None:
        return model
    if weights == "imagenet":
        state, path = _imagenet(imagenet)
    else:
        path = Path(weights).expanduser()
        state = read_state(path)
    state = adapt(translate(state, model.foreign_names))
    own = model.state_dict()
    kernel = state.get(first)
    if kernel is not None and kernel.ndim == 4 and kernel.shape[1] == 3 and model.channels == 1:
        state[first] = kernel.sum(1, keepdim=True)
    for name in (k for k in own if k.startswith(("normalise.", "head."))):
        if name.startswith("normalise.") or name not in state or len(state[name]) != model.num_classes:
            state[name] = own[name]
    load_into(model, state, path)
    return model


def _imagenet(imagenet: WeightsEnum | None) -> tuple[State, Path]:
    if imagenet is None:
        raise UsageError("weights imagenet: torchvision has none for this architecture. Give a FILE, or none.")
    path = Path(torch.hub.get_dir(), "checkpoints", imagenet.url.rpartition("/")[2])
    try:
        return dict(imagenet.get_state_dict(progress=sys.stderr.isatty(), check_hash=True)), path
    except Exception as error:  # the network's, the disk's and the hash check's errors have no common parent
        raise UsageError(
            f"weights imagenet: expected {path.name} at {path}, could not download it there "
            f"({type(error).__name__}: {str(error)[:160]}). "
            f"Put the file (from {imagenet.url}) there, or give any FILE with these weights."
        ) from error
