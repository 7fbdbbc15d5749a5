"""A network that this project neither trained nor defined, on real CIFAR-10."""

import os

import pytest

from harness.console import Reporter
from harness.data.roots import find_root
from harness.errors import UsageError
from harness.plan import RunSpec
from harness.plugins import catalogue
from harness.run import execute

pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif("HARNESS_DATA" not in os.environ, reason="HARNESS_DATA is not set: no real data here"),
]


def test_the_packaged_network_on_cifar10(tmp_path):
    """Far above chance, so classes and channels are in its order; not robust, so AutoAttack fools it everywhere."""
    try:
        find_root(catalogue().load("dataset", "cifar10")(), "cifar10")
    except UsageError as error:
        pytest.skip(str(error).splitlines()[0])
    sets = ("autoattack.images=4", "autoattack.l2=none", "autoattack.resamples=20", "classification.resamples=20")
    spec = RunSpec(method="zoo:pyautoattack/resnet18", dataset="cifar10", sets=sets, limit=200, device="cpu",
                   evaluations=("classification", "autoattack"), runs_dir=tmp_path)  # fmt: skip
    rows = {(r.metric, r.variant, r.class_name): r.value for r in execute(spec, Reporter(quiet=True))[-1].rows}
    assert rows["accuracy", "", "all"] > 0.9
    assert rows["autoattack_accuracy", "linf", "all"] == 0.0
