"""nih_star: ResNet-50 with plain 7x7 maps, and the interpretation whose last stage is not downsampled."""

import pytest
import torch

from harness.models.resnet import resnet50
from harness.plan import RunSpec, make

KNOWN = {"num_classes": 3, "channels": 1, "mean": (0.5,), "std": (0.2,)}


def test_it_stands_for_resnet50_and_its_stride_can_be_set():
    plain = make(RunSpec(method="nih_star", dataset="phantom"))
    kept = make(RunSpec(method="nih_star", dataset="phantom", sets=("last_stride=1",)))
    assert plain.model.component.name == kept.model.component.name == "resnet50"
    assert (plain.model.changed, kept.model.changed) == ("", "last_stride=1")
    assert plain.model.key() != kept.model.key()


@pytest.fixture
def pair():
    torch.manual_seed(0)
    plain = resnet50(**KNOWN).eval()
    kept = resnet50(**KNOWN, last_stride=1).eval()
    kept.load_state_dict(plain.state_dict())
    return plain, kept


def test_maps_are_7x7_and_14x14_at_224(pair):
    x = torch.rand(1, 1, 224, 224)
    with torch.no_grad():
        shapes = [m.features(m.normalise(x)).shape[1:] for m in pair]
    assert shapes == [(2048, 7, 7), (2048, 14, 14)]
    assert all(m.exact_cam for m in pair)


def test_the_first_block_of_the_last_stage_is_the_same_function_on_a_finer_grid(pair):
    """Subsampled by two, its output is that of the downsampled network."""
    plain, kept = (m.features.get_submodule("layer4.0") for m in pair)
    x = torch.randn(2, 1024, 8, 8)
    with torch.no_grad():
        assert torch.allclose(kept(x)[:, :, ::2, ::2], plain(x), atol=1e-5)
