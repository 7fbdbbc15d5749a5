"""robust_fgsm: half of each batch moves one signed step, clipped; the rest stays."""

import pytest
import torch

from harness.models.classifier import Classifier, GlobalAverageLinear, Normalise
from harness.plugins import catalogue
from harness.tasks import MultiLabel
from harness.types import Batch

RobustFGSM = catalogue().load("method", "robust_fgsm")


@pytest.fixture
def linear() -> Classifier:
    """A model whose logits are linear in the image's mean: the gradient's sign is known everywhere."""
    model = Classifier(Normalise((0.0,), (1.0,)), torch.nn.Identity(), GlobalAverageLinear(1, 1), num_classes=1)
    torch.nn.init.constant_(model.head.weight, 1.0)
    torch.nn.init.constant_(model.head.bias, 0.0)
    return model


@pytest.mark.parametrize(("share", "count"), [(0.5, 5), (0.0, 0), (1.0, 10), (0.3, 3)])
def test_that_share_of_the_images_moves_by_epsilon_against_its_label(linear, share, count):
    x = torch.rand(10, 1, 4, 4) * 0.8 + 0.1
    y = (torch.arange(10) % 2).float()[:, None]
    method = RobustFGSM(epsilon=0.02, share=share)
    moved = method.perturb(linear, Batch(x, y, torch.arange(10)), MultiLabel(), torch.Generator().manual_seed(0)).x
    changed = (moved != x).flatten(1).any(1)
    assert int(changed.sum()) == count
    # the loss of a positive falls with the image, that of a negative rises: FGSM goes the other way
    expected = torch.where(y[:, :, None, None] == 1, -0.02, 0.02).expand_as(x)
    assert torch.allclose((moved - x)[changed], expected[changed], atol=1e-6)


def test_the_choice_follows_from_the_generator(linear):
    x, y = torch.rand(20, 1, 4, 4), (torch.arange(20) % 2).float()[:, None]
    method = RobustFGSM()

    def chosen(seed: int) -> list[bool]:
        batch = Batch(x, y, torch.arange(20))
        moved = method.perturb(linear, batch, MultiLabel(), torch.Generator().manual_seed(seed)).x
        return (moved != x).flatten(1).any(1).tolist()

    assert chosen(0) == chosen(0) != chosen(1)


def test_the_paper_s_settings():
    method = RobustFGSM()
    values = (method.start_from, method.epsilon, method.share, method.learning_rate, method.momentum, method.batch_size)
    assert values == ("baseline", 0.005, 0.5, 0.01, 0.9, 32)
    assert (method.weight_decay, method.augment) == (0.0, "none")
