"""Blurring and blending, against closed forms and torch's own convolution."""

import pytest
import torch
from torch import nn

from harness.masking import blend, blurred, probability, upsampled
from harness.models.classifier import Classifier, Normalise


@pytest.mark.parametrize(("side", "kernel"), [(224, 51), (112, 25), (96, 21), (32, 7), (4, 1), (1, 1)])
def test_the_blur_is_in_proportion_to_the_image(side, kernel):
    x = torch.zeros(1, 1, side, side)
    x[0, 0, side // 2, side // 2] = 1
    found = blurred(x)[0, 0]
    assert ((found[side // 2] > 0).sum(), (found[:, side // 2] > 0).sum()) == (kernel, kernel)
    weights = torch.exp(-0.5 * ((torch.arange(kernel) - kernel // 2) / (50 * side / 224)) ** 2)
    weights /= weights.sum()
    reach = slice(side // 2 - kernel // 2, side // 2 + kernel // 2 + 1)
    torch.testing.assert_close(found[reach, reach], weights[:, None] * weights)
    torch.testing.assert_close(blurred(torch.full((1, 3, side, side), 0.3)), torch.full((1, 3, side, side), 0.3))


def test_sides_of_their_own():
    assert blurred(torch.rand(2, 3, 10, 37)).shape == (2, 3, 10, 37)


def test_a_mask_shows_the_image_and_hides_it():
    x, baseline = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    mask = upsampled(torch.tensor([[[[1.0, 0.0]]]]).repeat(2, 1, 2, 1), 8, 8)
    assert torch.equal(mask[0, 0, 0, :2], torch.ones(2))
    shown = blend(x, baseline, mask)
    assert torch.equal(shown[..., :2], x[..., :2])
    assert torch.equal(shown[..., -2:], baseline[..., -2:])
    torch.testing.assert_close(shown, x * mask + baseline * (1 - mask))


def test_probability_is_the_tasks():
    model = Classifier(Normalise((0.0,), (1.0,)), nn.Identity(), nn.Flatten(), num_classes=4)
    x, target = torch.randn(3, 1, 2, 2), torch.tensor([0, 3, 1])
    logits = x.flatten(1)
    model.exclusive = True
    torch.testing.assert_close(probability(model, x, target), logits.softmax(1)[torch.arange(3), target])
    model.exclusive = False
    torch.testing.assert_close(probability(model, x, target), logits.sigmoid()[torch.arange(3), target])
