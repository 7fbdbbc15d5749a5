"""robustbench's networks (Croce et al. 2021, arXiv:2010.09670): built and loaded by its own code, from files here.

Its program unpickles the files and downloads those that are missing; here they are read without executing anything,
and nothing is downloaded.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from harness.errors import HarnessError, UsageError
from harness.models import checkpoint
from harness.robustbench_adapter import robustbench
from harness.zoo.external import External
from harness.zoo.files import WeightFiles, zoo_home
from harness.zoo.network import Network

ITS_FOLDER = Path("models")  # where robustbench itself keeps them, in the working directory


def network(name: str, parts: tuple[str, ...], files: tuple[str, ...], num_classes: int, size: int) -> Network:
    """Return the network of dataset, threat model and name, `files` being the ids of its files on Google Drive.

    Raises `UsageError` where it has none, because another library downloads its weights.
    """
    dataset, threat, own = parts
    if not files:
        raise UsageError(
            f"{name}: robustbench keeps no weight file of its own for it, timm or torchvision downloads one. Choose "
            f"another network (`harness list zoo`), one of zoo:torchvision/... say."
        )
    stem = f"{dataset}/{threat}/{own}.pt"
    names = (stem,) if len(files) == 1 else tuple(f"{stem}_m{i}.pt" for i in range(len(files)))
    links = ", ".join(f"https://drive.google.com/uc?id={i}" for i in files)

    def build() -> External:
        with _on_our_terms(name):
            tables = robustbench("robustbench.model_zoo").model_dicts
            enums = robustbench("robustbench.model_zoo.enums")
            entry = tables[enums.BenchmarkDataset(dataset)][enums.ThreatModel(threat)][own]
            return External(entry["model"](), num_classes=num_classes, size=size)

    def read(root: Path) -> dict[str, Tensor]:
        with _on_our_terms(name):
            net = robustbench().load_model(own, model_dir=root, dataset=dataset, threat_model=threat)
            return External(net, num_classes=num_classes, size=size).state_dict()

    weights = WeightFiles(
        network=name,
        roots=(zoo_home() / "robustbench", ITS_FOLDER),
        names=names,
        how_to_get=f"Download it from {links} (robustbench publishes no size and no checksum).",
        read=read,
    )
    return Network(name, own, num_classes, "robustbench, arXiv:2010.09670", build, weights)


@contextmanager
def _on_our_terms(name: str) -> Iterator[None]:
    """Let robustbench's code read files through ours and download nothing; its errors become one of ours."""
    utils, hub = robustbench(), torch.hub
    places: list[tuple[Any, str, Any]] = [
        (utils, "torch", SimpleNamespace(load=_load, device=torch.device, Tensor=Tensor, nn=nn)),
        (utils, "download_gdrive_new", _refuse),
        (hub, "load_state_dict_from_url", _refuse),
        (hub, "download_url_to_file", _refuse),
    ]
    before = [getattr(owner, attribute) for owner, attribute, _ in places]
    for owner, attribute, replacement in places:
        setattr(owner, attribute, replacement)
    try:
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")
            yield
    except HarnessError:
        raise
    except Exception as error:  # whatever its two hundred networks raise
        reason = " ".join(str(error).split())[:300]
        raise UsageError(
            f"{name}: robustbench could not build or load it ({type(error).__name__}: {reason}). Compare the file with "
            "the one that it publishes; some of its networks need a GPU."
        ) from error
    finally:
        for (owner, attribute, _), original in zip(places, before, strict=True):
            setattr(owner, attribute, original)


def _load(path: Any, map_location: Any = None) -> Any:
    return checkpoint.read_content(Path(path))


def _refuse(*arguments: Any, **_: Any) -> None:
    raise UsageError(f"robustbench asks to download {arguments[0] if arguments else 'a file'}: not done by itself.")
