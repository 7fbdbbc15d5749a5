"""Weights to and from files. Nothing in a checkpoint is executed, and a damaged or foreign file is named as such."""

import hashlib
import os
import pickle
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from harness.errors import UsageError

WRAPPERS = ("state_dict", "model", "model_state_dict", "model_params")
OPTIONAL = re.compile(r"(^normalise\.|num_batches_tracked$)")  # absent from other libraries' and from old files
MENTIONED = 20  # functions or classes that a pickle may name
SHOWN = 3  # names per kind of disagreement in an error


def read_state(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file or a torch state dict, on the CPU.

    Files are told apart by content. {"state_dict": ...} and {"model": ...} are unwrapped and the `module.` of
    DataParallel is stripped. A pickle may mention functions beside its tensors (those of Woods 2019 do): they are
    not looked up, and one that it wants called is refused. Raises `UsageError` for that, for a missing, empty or
    truncated file, and for a web page saved as weights.
    """
    return _tensors(read_content(path), Path(path))


def read_content(path: Path) -> object:
    """Return what a file of weights holds, wrappers and all: for libraries that unwrap it themselves.

    As `read_state`, but that a pickle may hold more than tensors by name.
    """
    path = Path(path)
    start = beginning(path)
    if start[8:9] == b"{" or path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError, ValueError) as error:
            raise _damaged(path, error) from None
    return _read_pickle(path)


def beginning(path: Path) -> bytes:
    """Return the first bytes of a file of weights; `UsageError` for none, an empty one, a web page, an LFS pointer."""
    if not path.is_file():
        raise UsageError(f"{path}: expected a file of weights, found {'a folder' if path.is_dir() else 'nothing'}.")
    with path.open("rb") as file:
        start = file.read(512)
    if not start:
        raise UsageError(f"{path}: expected weights, the file is empty. Copy or download it again.")
    text = start.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise UsageError(f"{path}: expected weights, got a downloaded page (HTML). Download the file behind the page.")
    if text.startswith(b"version https://git-lfs"):
        raise UsageError(f"{path}: expected weights, got a Git LFS pointer. Fetch the file itself (git lfs pull).")
    return start


def load_into(model: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Load `state` (of file `path`) into the model; every weight must be there, fit, and be finite.

    Names of another library are translated by the model's `foreign_names`. Only the normalisation and the batch
    counters may be absent. Raises `UsageError` with the first names that disagree; the model is then unchanged.
    """
    target = model.state_dict()
    state = translate(state, getattr(model, "foreign_names", ()))
    if (offset := state.pop("normalise.offset", None)) is not None:  # mean and std of Woods 2019, one above the other
        state |= {f"normalise.{name}": row.view(-1, 1, 1) for name, row in zip(("mean", "std"), offset, strict=True)}
    state = {k: v.flatten(1) if _is_linear(v, target.get(k)) else v for k, v in state.items()}
    missing = [k for k in target if k not in state and not OPTIONAL.search(k)]
    unexpected = [k for k in state if k not in target]
    misfit = [
        f"{k} {tuple(state[k].shape)} instead of {tuple(target[k].shape)}"
        for k in target
        if k in state and state[k].shape != target[k].shape
    ]
    found = [
        f"{len(names)} {kind} ({', '.join(names[:SHOWN])}{', ...' if len(names) > SHOWN else ''})"
        for kind, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", misfit))
        if names
    ]
    if found:
        raise UsageError(
            f"{path}: the weights belong to another architecture or number of classes: {'; '.join(found)}. "
            f"Check --model and the dataset."
        )
    broken = [k for k, v in state.items() if v.is_floating_point() and not bool(torch.isfinite(v).all())]
    if broken:
        raise UsageError(
            f"{path}: expected finite weights, got NaN or infinity in {len(broken)} tensors, the first is {broken[0]}. "
            f"Training diverged or the file is damaged: use an earlier checkpoint."
        )
    model.load_state_dict(state, strict=False)


def _is_linear(value: Tensor, target: Tensor | None) -> bool:
    """Return whether a 1x1 convolution stands where the model has a linear layer: the same function of a pooled map."""
    return target is not None and target.ndim == 2 and value.ndim == 4 and value.shape[2:] == (1, 1)


def translate(state: dict[str, Tensor], names: Sequence[tuple[str, str]]) -> dict[str, Tensor]:
    """Return `state` with every (regular expression, replacement) of `names` applied to its names, in order."""

    def ours(key: str) -> str:
        for pattern, replacement in names:
            key = re.sub(pattern, replacement, key)
        return key

    return {ours(k): v for k, v in state.items()}


def save(model: nn.Module, path: Path) -> None:
    """Write the model's weights as safetensors: complete or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    # Copies: safetensors refuses memory that two names share, and wants plain strides (not channels_last).
    state = {k: v.detach().cpu().clone(memory_format=torch.contiguous_format) for k, v in model.state_dict().items()}
    try:
        save_file(state, temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def digest(path: Path) -> str:
    """Return the sha256 of a file, as hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _Called(Exception):
    """A pickle wants something called that is not among what torch allows."""


def _mention(name: str) -> Any:
    """Return what stands for a function or class that a pickle names: nothing of that name is imported or run."""

    def refuse(*_: object, **__: object) -> None:
        raise _Called(name)

    return refuse


def _read_pickle(path: Path) -> object:
    mentioned: dict[str, Any] = {}
    while True:
        known = [(stand_in, name) for name, stand_in in mentioned.items()]
        try:
            with torch.serialization.safe_globals(known):  # pyright: ignore[reportArgumentType]
                return torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            found = re.search(r"GLOBAL ([\w.]+\w)", str(error))  # torch's words for "the pickle asks for this object"
            if found is None and not mentioned:
                raise _damaged(path, error) from None
            if found is None or found[1] in mentioned or len(mentioned) == MENTIONED:
                raise _refused(path, found[1] if found else [*mentioned][-1]) from None
            mentioned[found[1]] = _mention(found[1])
        except _Called as error:
            raise _refused(path, str(error)) from None
        except Exception as error:  # foreign bytes, read as a pickle, raise almost anything
            raise _damaged(path, error) from None


def _refused(path: Path, name: str) -> UsageError:
    return UsageError(
        f"{path}: expected tensors alone, got a pickle that asks for {name}; loading it would execute "
        f"code. Save the state dict, or convert the file to safetensors where you trust it."
    )


def _damaged(path: Path, error: Exception) -> UsageError:
    reason = (str(error).strip().splitlines() or [""])[0].partition(". ")[0][:120] or type(error).__name__
    return UsageError(
        f"{path}: expected safetensors or a torch state dict, got a truncated or foreign file ({reason}). "
        f"Compare its size with the source's and copy it again."
    )


def _tensors(state: object, path: Path) -> dict[str, Tensor]:
    while isinstance(state, dict):
        inner = next((state[k] for k in WRAPPERS if isinstance(state.get(k), dict)), None)
        if inner is None:
            break
        state = inner
    if not isinstance(state, dict) or not state:
        raise UsageError(f"{path}: expected a dict of tensors by name, got {type(state).__name__}. Save a state dict.")
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise UsageError(
                f"{path}: expected tensors by name, got {name!r}: {type(value).__name__}. "
                f"Save model.state_dict() alone."
            )
    stripped = all(k.startswith("module.") for k in state)
    return {k.removeprefix("module.") if stripped else k: v.detach() for k, v in state.items()}
