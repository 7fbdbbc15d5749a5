"""Weights drawn anew: nothing of the trained ones is left, the rest of the process notices nothing."""

import copy

import pytest
import torch
from torch import nn

from harness.models.classifier import Classifier, GlobalAverageLinear, Normalise
from harness.models.densenet import densenet121_2block
from harness.models.randomised import randomise, stages
from harness.models.woods import resnet44

STATISTICS = {"num_classes": 4, "channels": 1, "mean": (0.4,), "std": (0.2,)}


def trained(model: nn.Module) -> nn.Module:
    """Give every weight and statistic a value that no initialisation has."""
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(3.0 + torch.randn_like(p))
        for name, b in model.named_buffers():
            if "running" in name:
                b.copy_(torch.rand_like(b) + 7.0)
    return model.eval().requires_grad_(False)


@pytest.mark.parametrize("build", [densenet121_2block, resnet44])
def test_all_stages_are_the_whole_network_but_for_the_normalisation_of_the_input(build):
    model = trained(build(**STATISTICS))
    found = stages(model)
    assert found[0][0] == "head"
    assert found[-1][0] in ("conv0", "stem"), "the layer next to the image is the last"
    inside = [id(p) for _, modules in found for m in modules for p in m.parameters()]
    assert sorted(inside) == sorted(id(p) for p in model.parameters()), "every weight once"
    before = copy.deepcopy(model)
    for name, modules in found:
        randomise(modules, 0, name)
    for (name, p), old in zip(model.named_parameters(), before.parameters(), strict=True):
        assert not torch.equal(p, old), name
        if p.numel() > 200 and p.std() > 0:
            assert abs(torch.corrcoef(torch.stack([p.flatten(), old.flatten()]))[0, 1]) < 0.4, name
    for name, b in model.named_buffers():
        if name.endswith("running_mean"):
            assert (b == 0).all()
        if name.endswith("running_var"):
            assert (b == 1).all()
    assert torch.equal(model.normalise.mean, before.normalise.mean)
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())
    assert torch.isfinite(model(torch.rand(2, 1, 32, 32))).all()


def test_a_stage_is_drawn_alone():
    model = trained(densenet121_2block(**STATISTICS))
    before = copy.deepcopy(model)
    name, modules = stages(model)[0]
    randomise(modules, 0, name)
    assert not torch.equal(model.head.weight, before.head.weight)
    assert all(torch.equal(a, b) for a, b in zip(model.features.state_dict().values(),
                                                 before.features.state_dict().values(), strict=True))  # fmt: skip


def test_weights_follow_from_the_purpose_and_other_random_numbers_do_not():
    drawn = []
    for purpose in ((0, "head"), (0, "head"), (1, "head")):
        model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))
        state = torch.random.get_rng_state()
        randomise([model], *purpose)
        assert torch.equal(state, torch.random.get_rng_state())
        drawn.append(model[0].weight)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


class Token(Classifier):
    """A network of another library's kind: weights of its own that no layer initialises, and a nested body."""

    def __init__(self):
        nn.Module.__init__(self)
        self.normalise = Normalise((0.5,), (0.25,))
        self.net = nn.Module()
        self.net.token = nn.Parameter(torch.arange(10.0))
        self.net.body = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())
        self.net.head = nn.Linear(2, 3)


def test_weights_that_no_layer_initialises_are_shuffled():
    model = Token()
    found = stages(model)
    assert [name for name, _ in found] == ["head", "0"]
    randomise(found[0][1], 0)
    assert torch.equal(model.net.token, torch.arange(10.0)), "the last stage holds it"
    randomise(found[1][1], 0)
    assert not torch.equal(model.net.token, torch.arange(10.0))
    assert torch.equal(model.net.token.sort().values, torch.arange(10.0))


def test_a_weight_that_a_reset_does_not_reach_is_shuffled():
    layer = nn.utils.parametrizations.weight_norm(nn.Conv2d(2, 3, 3))
    before = layer.weight.clone()
    randomise([layer], 0)
    assert not torch.allclose(layer.weight, before)


def test_features_without_weights():
    model = Classifier(Normalise((0.5,), (0.25,)), nn.AvgPool2d(2), GlobalAverageLinear(1, 3), num_classes=3)
    assert [name for name, _ in stages(model)] == ["head"]
