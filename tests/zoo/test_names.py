"""What `zoo:...` names, and which network a name means."""

import subprocess
import sys

import pytest

from harness.errors import UsageError
from harness.zoo.names import every, find, robustbench_entries


def test_robustbench_s_tables_are_read_as_robustbench_reads_them():
    """Its own tables, imported, are the oracle for those read from the source."""
    from harness.robustbench_adapter import robustbench

    theirs = {
        (d.value, t.value, name): entry["gdrive_id"]
        for d, threats in robustbench("robustbench.model_zoo").model_dicts.items()
        for t, table in threats.items()
        for name, entry in table.items()
    }
    ours = {e.parts: e.files for e in robustbench_entries()}
    assert len(ours) == 206
    assert ours.keys() == theirs.keys()
    for parts, ids in theirs.items():
        assert ours[parts] == (tuple(ids) if isinstance(ids, list) else (ids,) if ids else ()), parts


def test_names_are_read_without_torch():
    code = (
        "import sys; from harness.zoo.names import efficientnet_lite_entries, robustbench_entries, pyautoattack_entries\n"
        "assert robustbench_entries() and pyautoattack_entries() and efficientnet_lite_entries()\n"
        "print([m for m in ('torch', 'robustbench', 'timm') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize(
    ("name", "dataset", "full"),
    [
        ("zoo:robustbench/Carmon2019Unlabeled", "phantom", "zoo:robustbench/cifar10/Linf/Carmon2019Unlabeled"),
        ("zoo:robustbench/Linf/Carmon2019Unlabeled", "mine", "zoo:robustbench/cifar10/Linf/Carmon2019Unlabeled"),
        ("zoo:robustbench/L2/Standard", "cifar10", "zoo:robustbench/cifar10/L2/Standard"),
        ("zoo:robustbench/Linf/Rice2020Overfitting", "cifar100", "zoo:robustbench/cifar100/Linf/Rice2020Overfitting"),
        ("zoo:robustbench/imagenet/Linf/Wong2020Fast", "cifar10", "zoo:robustbench/imagenet/Linf/Wong2020Fast"),
        ("zoo:torchvision/resnet50", "imagenet", "zoo:torchvision/resnet50/IMAGENET1K_V1"),
        ("zoo:torchvision/resnet50/IMAGENET1K_V2", "imagenet", "zoo:torchvision/resnet50/IMAGENET1K_V2"),
        ("zoo:pyautoattack/resnet18", "cifar10", "zoo:pyautoattack/resnet18"),
    ],
)
def test_short_names(name, dataset, full):
    assert find(name, dataset).name == full


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("zoo:robustbnch/x", r"unknown zoo 'robustbnch'.*Did you mean 'robustbench'\?"),
        ("zoo:robustbench/Carmon2019Unlabelled", "Did you mean 'Carmon2019Unlabeled'"),
        ("zoo:robustbench/cifar10/L2/Carmon2019Unlabeled", "unknown network"),
        ("zoo:robustbench/Linf", "unknown network"),
        ("zoo:robustbench", "unknown network"),
        ("zoo:", "unknown zoo ''"),
        ("zoo:torchvision/resnet51", "Did you mean 'resnet"),
        ("zoo:torchvision/fasterrcnn_resnet50_fpn", "unknown network"),
        ("zoo:robustbench/Rice2020Overfitting", r"the name of 3 networks.*cifar10/L2/Rice.*cifar100/Linf/Rice"),
        ("zoo:robustbench/imagenet/Linf/Standard_R50", "no weight file of its own"),
    ],
)
def test_names_that_are_not_clear(name, match):
    with pytest.raises(UsageError, match=match):
        find(name, "phantom")


def test_the_list(harness):
    names = [entry["name"] for entry in every()]
    assert len(set(names)) == len(names) > 300
    assert {
        "zoo:pyautoattack/resnet18",
        "zoo:torchvision/densenet121/IMAGENET1K_V1",
        "zoo:efficientnet_lite/efficientnet_lite0",
    } < set(names)
    code, out, _ = harness("list", "zoo")
    assert code == 0
    assert "zoo:robustbench/cifar10/Linf/Carmon2019Unlabeled" in out
    assert "harness list zoo" in harness("list", "methods")[1]
    assert "harness list zoo" not in harness("list", "methods", "--json")[1]
