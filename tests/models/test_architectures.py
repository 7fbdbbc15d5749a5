"""The architectures, against torchvision and against their definitions in plain function calls."""

import urllib.error

import pytest
import torch
import torchvision
from torch import nn
from torch.nn.functional import batch_norm, conv2d, relu

from harness.errors import UsageError
from harness.models.checkpoint import save
from harness.models.classifier import Classifier, GlobalAverageLinear, Normalise
from harness.models.densenet import densenet121, densenet121_2block
from harness.models.resnet import resnet50
from harness.models.woods import PreActivationBlock, resnet18_preact, resnet44

torch.set_num_threads(1)
RGB = {"channels": 3, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
GREY = {"channels": 1, "mean": (0.5,), "std": (0.25,)}
EVERY = [densenet121_2block, densenet121, resnet50, resnet44, resnet18_preact]


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def shaken(model, seed=0):
    """The model with normalisation statistics that a mistake would not survive."""
    rng = torch.Generator().manual_seed(seed)
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            for tensor, low, high in ((m.running_mean, -0.5, 0.5), (m.running_var, 0.5, 2.0)):
                tensor.copy_(torch.rand(tensor.shape, generator=rng) * (high - low) + low)
            with torch.no_grad():
                m.bias.copy_(torch.rand(m.bias.shape, generator=rng) - 0.5)
    return model.eval()


@pytest.fixture(scope="module")
def torchvision_densenet(tmp_path_factory):
    net = shaken(torchvision.models.densenet121(weights=None))
    path = tmp_path_factory.mktemp("weights") / "densenet.pt"
    torch.save(net.state_dict(), path)
    return net, str(path)


def test_densenet121_is_torchvisions(torchvision_densenet):
    net, path = torchvision_densenet
    model = densenet121(num_classes=1000, weights=path, **RGB).eval()
    x = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(model(x), net(model.normalise(x)), rtol=1e-5, atol=1e-5)
    assert parameters(model) == 7_978_856  # torchvision's documentation


def test_resnet50_is_torchvisions(tmp_path):
    net = shaken(torchvision.models.resnet50(weights=None))
    torch.save(net.state_dict(), tmp_path / "resnet.pt")
    model = resnet50(num_classes=1000, weights=str(tmp_path / "resnet.pt"), **RGB).eval()
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(model(x), net(model.normalise(x)), rtol=1e-5, atol=1e-5)
    assert parameters(model) == 25_557_032  # torchvision's documentation


def test_two_block_densenet_is_the_whole_one_up_to_transition_2(torchvision_densenet):
    net, path = torchvision_densenet
    model = densenet121_2block(num_classes=14, weights=path, **RGB).eval()
    x = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        features = model.features(x)
        inner = net.features
        for name in ("conv0", "norm0", "relu0", "pool0", "denseblock1", "transition1", "denseblock2"):
            x = getattr(inner, name)(x)
        expected = relu(inner.transition2.norm(x))
    assert features.shape == (1, 512, 28, 28)
    torch.testing.assert_close(features, expected, rtol=1e-5, atol=1e-5)


def test_grey_kernel_is_the_sum_over_rgb(torchvision_densenet):
    net, path = torchvision_densenet
    model = densenet121_2block(num_classes=2, weights=path, **GREY).eval()
    grey = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = net.features.conv0(grey.expand(1, 3, 32, 32))
        torch.testing.assert_close(model.features.conv0(grey), expected, rtol=1e-5, atol=1e-5)
    assert model.normalise.mean.flatten().tolist() == [0.5]


def test_head_for_other_classes_is_drawn_anew(torchvision_densenet):
    net, path = torchvision_densenet
    same = densenet121(num_classes=1000, weights=path, **RGB)
    other = densenet121(num_classes=14, weights=path, **RGB)
    assert torch.equal(same.head.weight, net.classifier.weight)
    assert other.head.weight.shape == (14, 1024)
    assert torch.equal(other.features.conv0.weight, net.features.conv0.weight)


def test_own_weights_as_a_start_keep_the_models_normalisation(tmp_path):
    first = resnet44(num_classes=1, channels=1, mean=(0.1,), std=(0.9,))
    save(first, tmp_path / "first.safetensors")
    model = resnet44(num_classes=1, weights=str(tmp_path / "first.safetensors"), **GREY)
    assert torch.equal(model.features.stem.weight, first.features.stem.weight)
    assert torch.equal(model.head.weight, first.head.weight)
    assert model.normalise.mean.flatten().tolist() == [0.5]


def test_weights_of_another_architecture_are_refused(torchvision_densenet):
    with pytest.raises(UsageError, match=r"another architecture.*features\.conv1\.weight.*--model"):
        resnet50(num_classes=1000, weights=torchvision_densenet[1], **RGB)


def test_imagenet_weights_with_the_old_dotted_names(torchvision_densenet, monkeypatch):
    net, _ = torchvision_densenet
    dotted = {}
    for k, v in net.state_dict().items():
        for part in ("norm", "conv"):
            for i in "12":
                k = k.replace(f".{part}{i}.", f".{part}.{i}.") if "denselayer" in k else k
        dotted[k] = v
    assert "features.denseblock1.denselayer1.norm.1.weight" in dotted
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *a, **k: dotted)
    model = densenet121(num_classes=1000, weights="imagenet", **RGB)
    last = "features.denseblock4.denselayer16.conv2.weight"
    assert torch.equal(model.state_dict()[last], net.state_dict()[last])


def test_imagenet_weights_without_a_network_say_where_the_file_goes(monkeypatch):
    def fail(*args, **kwargs):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fail)
    with pytest.raises(UsageError, match=r"resnet50-.*\.pth at .*checkpoints.*no network.*FILE"):
        resnet50(num_classes=10, weights="imagenet", **RGB)
    with pytest.raises(UsageError, match="torchvision has none"):
        resnet44(num_classes=10, weights="imagenet", **RGB)


def test_resnet44_has_the_shapes_of_the_authors_checkpoints():
    model = resnet44(num_classes=10, **RGB)
    assert parameters(model) == 681_626  # counted in the four published files
    state = {k: tuple(v.shape) for k, v in model.state_dict().items()}
    assert state["features.stem.weight"] == (16, 3, 3, 3)
    assert state["features.stage2.0.shortcut.weight"] == (32, 16, 3, 3)
    assert state["features.stage3.0.main.0.weight"] == (64, 32, 3, 3)
    assert [k for k in state if "shortcut" in k] == [f"features.stage{i}.0.shortcut.weight" for i in (2, 3)]
    assert sum(k.endswith("main.3.weight") for k in state) == 3 * 7
    assert model.features(torch.rand(1, 3, 32, 32)).shape == (1, 64, 8, 8)


def test_resnet44_starts_as_its_shortcuts():
    model = resnet44(num_classes=10, **RGB)
    assert all(m.main[3].weight.count_nonzero() == 0 for m in model.modules() if isinstance(m, PreActivationBlock))
    bound = (6 / (16 * 9)) ** 0.5  # kaiming_uniform: gain sqrt(2), fan-in 16*3*3
    weight = model.features.stage1[0].main[0].weight
    assert bound * 0.98 < weight.abs().max() <= bound


@pytest.mark.parametrize(("inputs", "outputs", "stride"), [(4, 4, 1), (4, 6, 2)])
def test_pre_activation_block_twin(inputs, outputs, stride):
    block = shaken(PreActivationBlock(inputs, outputs, stride))
    x = torch.randn(2, inputs, 8, 8, generator=torch.Generator().manual_seed(1))

    def active(bn, z):
        return relu(batch_norm(z, bn.running_mean, bn.running_var, bn.weight, bn.bias))

    with torch.no_grad():
        a = active(block.pre[0], x)
        z = active(block.main[1], conv2d(a, block.main[0].weight, stride=stride, padding=1))
        shortcut = x if stride == 1 else conv2d(a, block.shortcut.weight, stride=stride, padding=1)
        expected = conv2d(z, block.main[3].weight, padding=1) + shortcut
        torch.testing.assert_close(block(x), expected)


def test_resnet18_preact_has_four_stages_of_two():
    model = resnet18_preact(num_classes=10, **RGB)
    assert sum(isinstance(m, PreActivationBlock) for m in model.modules()) == 8
    with torch.no_grad():
        assert model.features(torch.rand(1, 3, 224, 224)).shape == (1, 512, 7, 7)


@pytest.mark.parametrize("build", EVERY, ids=lambda b: b.__name__)
def test_every_architecture_keeps_the_contract(build):
    model = build(num_classes=5, **GREY).eval()
    assert (model.exact_cam, model.channels, model.num_classes) == (True, 1, 5)
    assert not any(getattr(m, "inplace", False) for m in model.modules())
    assert sum(isinstance(m, nn.ReLU) for m in model.features.modules()) > 1
    x = torch.rand(2, 1, 64, 64, requires_grad=True)
    logits = model(x)
    assert logits.shape == (2, 5)
    (gradient,) = torch.autograd.grad(logits.sum(), x)
    assert gradient.abs().max() > 0
    assert torch.equal(model.features(model.normalise(x)).relu(), model.features(model.normalise(x)))


def test_normalise_by_hand_and_wrong_channels():
    normalise = Normalise((0.5, 0.25), (0.25, 0.5))
    x = torch.full((1, 2, 1, 1), 1.0)
    assert normalise(x).flatten().tolist() == [2.0, 1.5]
    with pytest.raises(UsageError, match=r"\(B,2,H,W\), got \(1, 1, 4, 4\)"):
        normalise(torch.rand(1, 1, 4, 4))
    with pytest.raises(UsageError, match="one positive std per channel"):
        Normalise((0.5,), (0.0,))


def test_head_is_average_then_linear():
    head = GlobalAverageLinear(3, 2)
    features = torch.rand(2, 3, 4, 5)
    expected = features.flatten(2).sum(2) / 20 @ head.weight.T + head.bias
    torch.testing.assert_close(head(features), expected)
    plain = nn.Sequential(nn.Flatten(), nn.Linear(3, 2))
    assert not Classifier(Normalise((0.5,), (1.0,)), nn.Identity(), plain, num_classes=2).exact_cam
