"""chexnet: the whole DenseNet-121 and the unweighted cross-entropy, in training and in validation."""

import pytest
import torch

from harness.plan import RunSpec, make
from harness.plugins import catalogue
from harness.tasks import MultiClass, MultiLabel

CheXNet = catalogue().load("method", "chexnet")


def planned(method: str, **more):
    return make(RunSpec(method=method, dataset="phantom", **more))


def test_the_loss_is_the_plain_binary_cross_entropy_summed_over_classes():
    torch.manual_seed(0)
    logits, y = torch.randn(8, 5), (torch.rand(8, 5) < 0.2).float()
    p = logits.sigmoid()
    by_hand = -(y * p.log() + (1 - y) * (1 - p).log()).sum(1).mean()
    assert CheXNet().objective(logits, y, MultiLabel()) == pytest.approx(float(by_hand), rel=1e-5)
    weighted = catalogue().load("method", "baseline")().objective(logits, y, MultiLabel())
    assert float(weighted) > 1.2 * float(by_hand), "eq. 1 weighs the positives"


def test_for_single_classes_it_is_the_cross_entropy():
    logits, y = torch.randn(8, 5), torch.arange(8) % 5
    expected = torch.nn.functional.cross_entropy(logits, y)
    assert CheXNet().objective(logits, y, MultiClass()) == pytest.approx(float(expected))


def test_it_stands_for_its_architecture_unless_another_is_asked_for():
    assert planned("chexnet").model.component.name == "densenet121"
    assert planned("baseline").model.component.name == "densenet121_2block"
    assert planned("chexnet", model="densenet121_2block").model.component.name == "densenet121_2block"


def test_a_method_that_starts_from_it_keeps_its_architecture():
    plan = planned("robust_fgsm", sets=("start_from=chexnet",))
    assert plan.before is not None
    assert plan.before.spec.method == "chexnet"
    assert {plan.model.component.name, plan.before.model.component.name} == {"densenet121"}


def test_trained_as_all_their_experiments():
    method = CheXNet()
    values = (method.learning_rate, method.momentum, method.batch_size, method.weight_decay, method.augment)
    assert values == (0.01, 0.9, 32, 0.0, "none")
