"""Several gloo processes on a CPU train what one process trains, method by method; what cannot be shared is refused."""

from pathlib import Path

import pytest
import several
import torch

from harness import together
from harness.errors import UsageError

pytestmark = pytest.mark.slow

TOLERANCE = 2e-5  # of the largest weight: float32, three epochs
JUMPS = 1e-2  # where a step is no continuous function: an attack turns round, the gradient of a ReLU jumps
JUMPING = ("lipschitz", "l2min", "teacher")
SECONDS = 600


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return several.work(tmp_path_factory.mktemp("alone"))


def results(count: int, place: Path) -> list[dict]:
    processes = several.start(count, [several.__file__, str(place)])
    assert several.finish(processes, SECONDS) == [0] * count
    return [torch.load(place / f"{rank}.pt", weights_only=False) for rank in range(count)]


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    return results(2, tmp_path_factory.mktemp("two"))


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    return results(3, tmp_path_factory.mktemp("three"))


def same(name: str, one: dict, other: dict) -> None:
    """Fail where two trainings differ by more than rounding."""
    tolerance = JUMPS if any(word in name for word in JUMPING) else TOLERANCE
    for kind in ("weights", "last", "memory"):
        assert one[kind].keys() == other[kind].keys()
        floats = {k: v for k, v in one[kind].items() if v.is_floating_point()}
        scale = max((float(v.abs().max()) for v in floats.values()), default=0) or 1
        apart = {k: float((v - other[kind][k]).abs().max()) / scale for k, v in floats.items()}
        assert max(apart.values(), default=0) <= tolerance, (kind, apart)
    losses = [[(h["train_loss"], h["validation_loss"]) for h in found["history"]] for found in (one, other)]
    assert losses[1][0] == pytest.approx(losses[0][0], rel=tolerance / 10), "of the first epoch"
    assert losses[1][-1] == pytest.approx(losses[0][-1], rel=tolerance), "of the last epoch"


ALL = [*map(several.label, several.cases()), *several.OTHERS]
FEW = [*map(several.label, filter(several.few, several.cases())), *several.OTHERS]


@pytest.mark.parametrize("name", ALL)
def test_two_processes_give_the_weights_of_one(alone, two, name):
    same(name, alone["fits"][name], two[0]["fits"][name])
    start, end = several.network().state_dict(), alone["fits"][name]["last"]
    assert max(float((end[k] - v).abs().max()) for k, v in start.items()) > 100 * TOLERANCE, "it has learned"
    assert (alone["fits"][name]["processes"], two[0]["fits"][name]["processes"]) == (1, 2)


@pytest.mark.parametrize("name", FEW)
def test_three_processes_give_the_weights_of_one(alone, three, name):
    """Of the last batch, of one image, two of them have none."""
    same(name, alone["fits"][name], three[0]["fits"][name])


def test_all_processes_have_the_same_weights_bit_for_bit(two, three):
    for group in (two, three):
        for name, first in group[0]["fits"].items():
            for other in group[1:]:
                weights = other["fits"][name]["weights"]
                assert all(torch.equal(v, weights[k]) for k, v in first["weights"].items()), name


@pytest.mark.parametrize("count", [7, 6, 3, 2])
def test_gradients_of_gradients_are_exact(alone, two, three, count):
    for group in (two, three):
        for rank, found in enumerate(group):
            for a, b in zip(alone["gradients"][count], found["gradients"][count], strict=True):
                assert float((a - b).abs().max()) <= 1e-11 * max(1.0, float(a.abs().max())), rank


@pytest.mark.parametrize(
    ("name", "why"),
    [("mixing", "mixes images"), ("depth", "draws"), ("keeping", "keeps what it sees"), ("hooking", "without hooks")],
)
def test_what_cannot_be_shared_is_refused(two, three, name, why):
    for found in (*two, *three):
        assert why in found["refused"][name]
        assert "in one process" in found["refused"][name]


def test_alone_nothing_is_refused(tmp_path):
    assert several.refused(tmp_path) == dict.fromkeys(("mixing", "depth", "keeping", "hooking"), "")


@pytest.mark.parametrize(
    "environment",
    [{"WORLD_SIZE": "2"}, {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}, {"WORLD_SIZE": "many"}],
    ids=lambda e: " ".join(e),
)
def test_half_an_environment_is_an_error(monkeypatch, environment):
    for name in together.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=r"WORLD_SIZE=.*got .*Start with torchrun"):
        together.world()
