"""What plug-in files may import, and all they may import from harness.

Names are resolved on first use, so that a dataset file loads without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_HOME = {
    "attack": "harness.plugins",
    "dataset": "harness.plugins",
    "evaluation": "harness.plugins",
    "explainer": "harness.plugins",
    "method": "harness.plugins",
    "metric": "harness.plugins",
    "model": "harness.plugins",
    "score": "harness.plugins",
    "setting": "harness.config",
    "HarnessError": "harness.errors",
    "UsageError": "harness.errors",
    "closest": "harness.errors",
    "rng_for": "harness.rng",
    "seed_for": "harness.rng",
    "Dataset": "harness.data.dataset",
    "Download": "harness.data.downloads",
    "Index": "harness.data.index",
    "crossfit": "harness.data.index",
    "one_hot": "harness.data.index",
    "split_by_patient": "harness.data.index",
    "stratified_part": "harness.data.index",
    "image_header": "harness.data.decode",
    "read_image": "harness.data.decode",
    "read_members": "harness.reading",
    "text_boxes": "harness.data.text",
    "blanked": "harness.data.text",
    "read_rows": "harness.reading",
    "files_in": "harness.data.files",
    "digest_of": "harness.data.files",
    "against": "harness.data.files",
    "MultiClass": "harness.tasks",
    "MultiLabel": "harness.tasks",
    "Task": "harness.tasks",
    "Batch": "harness.types",
    "Explanation": "harness.types",
    "Supervised": "harness.recipe",
    "fgsm": "harness.attacks.fgsm",
    "choose": "harness.attacks.fgsm",
    "l2": "harness.attacks.adversaries",
    "l2_min": "harness.attacks.adversaries",
    "linf": "harness.attacks.adversaries",
    "noise": "harness.attacks.adversaries",
    "AdaptiveStrength": "harness.regularisers.lipschitz",
    "draw": "harness.regularisers.lipschitz",
    "double_backward": "harness.regularisers.double_backward",
    "gradient_penalty": "harness.regularisers.lipschitz",
    "with_half_huber": "harness.models.activations",
    "Classifier": "harness.models.classifier",
    "GlobalAverageLinear": "harness.models.classifier",
    "Normalise": "harness.models.classifier",
}

__all__ = sorted(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]

if TYPE_CHECKING:
    from harness.attacks.adversaries import l2 as l2
    from harness.attacks.adversaries import l2_min as l2_min
    from harness.attacks.adversaries import linf as linf
    from harness.attacks.adversaries import noise as noise
    from harness.attacks.fgsm import choose as choose
    from harness.attacks.fgsm import fgsm as fgsm
    from harness.config import setting as setting
    from harness.data.dataset import Dataset as Dataset
    from harness.data.decode import image_header as image_header
    from harness.data.decode import read_image as read_image
    from harness.data.downloads import Download as Download
    from harness.data.files import against as against
    from harness.data.files import digest_of as digest_of
    from harness.data.files import files_in as files_in
    from harness.data.index import Index as Index
    from harness.data.index import crossfit as crossfit
    from harness.data.index import one_hot as one_hot
    from harness.data.index import split_by_patient as split_by_patient
    from harness.data.index import stratified_part as stratified_part
    from harness.data.text import blanked as blanked
    from harness.data.text import text_boxes as text_boxes
    from harness.errors import HarnessError as HarnessError
    from harness.errors import UsageError as UsageError
    from harness.errors import closest as closest
    from harness.models.activations import with_half_huber as with_half_huber
    from harness.models.classifier import Classifier as Classifier
    from harness.models.classifier import GlobalAverageLinear as GlobalAverageLinear
    from harness.models.classifier import Normalise as Normalise
    from harness.plugins import attack as attack
    from harness.plugins import dataset as dataset
    from harness.plugins import evaluation as evaluation
    from harness.plugins import explainer as explainer
    from harness.plugins import method as method
    from harness.plugins import metric as metric
    from harness.plugins import model as model
    from harness.plugins import score as score
    from harness.reading import read_members as read_members
    from harness.reading import read_rows as read_rows
    from harness.recipe import Supervised as Supervised
    from harness.regularisers.double_backward import double_backward as double_backward
    from harness.regularisers.lipschitz import AdaptiveStrength as AdaptiveStrength
    from harness.regularisers.lipschitz import draw as draw
    from harness.regularisers.lipschitz import gradient_penalty as gradient_penalty
    from harness.rng import rng_for as rng_for
    from harness.rng import seed_for as seed_for
    from harness.tasks import MultiClass as MultiClass
    from harness.tasks import MultiLabel as MultiLabel
    from harness.tasks import Task as Task
    from harness.types import Batch as Batch
    from harness.types import Explanation as Explanation


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"harness.api has no {name!r}; it offers {', '.join(__all__)}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value
