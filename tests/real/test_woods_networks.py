"""The authors' four published networks (Woods 2019), loaded without executing anything of theirs."""

import pytest
import torch
from woods_networks import ROOT, network, network_of

from harness.errors import UsageError
from harness.plugins import catalogue

pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(not ROOT.is_dir(), reason="HARNESS_DATA has no woods2019: the authors' networks are not here"),
]
ACCURACY = {"standard": 0.9384, "adv-train": 0.8643, "all": 0.6790, "robust": 0.6758}  # on all 10,000 test images


@pytest.mark.parametrize("name", ACCURACY)
def test_their_networks_classify_as_published(name):
    """The first 1,000 of the authors' order: within four standard errors of the accuracy on all of them."""
    data = catalogue().load("dataset", "cifar10")()
    from harness.data.roots import find_root

    root = find_root(data, "cifar10")
    index = data.index(root)
    test = index.of_split("test")[torch.randperm(10_000, generator=torch.Generator().manual_seed(1776))[:1000].numpy()]
    rows = index.samples.iloc[test].to_dict("records")
    images = torch.stack([torch.from_numpy(data.read(row, root)) for row in rows]).permute(0, 3, 1, 2) / 255
    target = torch.from_numpy(index.labels[test].argmax(1))
    with torch.no_grad():
        logits = torch.cat([network_of(name)(part) for part in images.split(250)])
    share = (logits.argmax(1) == target).double().mean().item()
    published = ACCURACY[name]
    assert abs(share - published) < 4 * (published * (1 - published) / 1000) ** 0.5


@pytest.mark.parametrize(("name", "half_huber"), [("all", False), ("standard", True)])
def test_weights_of_the_other_activation_are_refused(name, half_huber):
    """Read into the wrong network they would classify, and every number would be wrong."""
    with pytest.raises(UsageError, match=r"belong to another architecture.*\.d\b"):
        network(name, half_huber=half_huber)
