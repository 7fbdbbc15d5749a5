"""Memory that does not suffice: parts come again, smaller, and nothing but rounding changes, in every evaluation."""

import dataclasses
import json
import shutil

import numpy as np
import pandas as pd
import pytest
import subjects
import torch
from test_golden import MASKS, data, network
from tiny_network import TINY_NETWORK

from harness.console import Reporter
from harness.device import memory_advice
from harness.errors import HarnessError
from harness.evaluations.autoattack import AutoAttack
from harness.evaluations.explained_maps import explain
from harness.evaluations.robust_accuracy import RobustAccuracy
from harness.evaluations.robustness import Robustness
from harness.memory import Memory, at_once
from harness.models.classifier import Normalise
from harness.plan import RunSpec
from harness.plugins import catalogue
from harness.run import evaluate, execute
from harness.tasks import MultiClass
from harness.types import Batch

ROOM = 3  # images that fit
RTOL, ATOL = 1e-3, 1e-4  # what a convolution of another batch size may change, after the steps of an attack


@pytest.fixture
def little_room(monkeypatch):
    """Let every network run out of memory above ROOM images; returns the sizes that it was shown."""
    seen: list[int] = []
    plain = Normalise.forward

    def forward(self, x):
        seen.append(len(x))
        if len(x) > ROOM:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return plain(self, x)

    def limit() -> list[int]:
        monkeypatch.setattr(Normalise, "forward", forward)
        return seen

    return limit


class Notes(Reporter):
    def __init__(self):
        super().__init__(quiet=True)
        self.notes: list[str] = []

    def note(self, text):
        self.notes.append(text)


# ---- the memory itself -----------------------------------------------------------------------------------------------


def worked(memory: Memory, count: int, room: int, inside: int = 1) -> list[int]:
    """Work through `count` images where `room` fit, each part in batches of at least `inside`; return what was done."""
    done: list[int] = []
    for part in memory.parts(count):
        with memory:
            size = max(len(range(count)[part]), at_once(inside))
            if size > room:
                raise torch.OutOfMemoryError("CUDA out of memory")
            done += range(count)[part]
    return done


@pytest.mark.parametrize("count", [0, 1, 2, 7, 20, 33])
@pytest.mark.parametrize("room", [1, 2, 3, 20, 100])
@pytest.mark.parametrize("inside", [1, 32])
def test_every_image_is_worked_on_once(count, room, inside):
    memory = Memory()
    assert worked(memory, count, room, inside) == list(range(count))
    assert memory.most is None or room / 2 < memory.most <= room or memory.most == 1


def test_it_starts_from_the_largest_and_keeps_what_fits():
    notes: list[str] = []
    memory = Memory(note=notes.append)
    assert worked(memory, 20, 20) == list(range(20))
    assert memory.most is None
    worked(memory, 20, 6)
    assert memory.most == 5
    worked(memory, 40, 6)
    assert memory.most == 5
    assert notes == ["20 images at once do not fit in the memory: 5 from here on (--batch-size 5 saves trying)"]


def test_one_image_that_does_not_fit_is_the_error():
    memory = Memory()
    with pytest.raises(HarnessError, match=r"a single image .*\. Try a smaller image size, or --device cpu"):
        worked(memory, 20, 0)
    assert memory.most == 1


def test_what_is_inside_a_part_shrinks_where_one_image_has_many_batches():
    memory = Memory()
    assert worked(memory, 1, 5, inside=32) == [0]
    assert memory.most == 4


def test_a_bound_of_the_user_is_kept_and_running_out_of_it_an_error():
    with pytest.raises(torch.OutOfMemoryError):
        worked(Memory(8, fixed=True), 20, 7)
    assert worked(Memory(8, fixed=True), 20, 8) == list(range(20))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: 9 GB"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"),
    ],
)
def test_errors_that_mean_it(error):
    memory, sizes = Memory(), []
    for part in memory.parts(4):
        with memory:
            sizes.append(part.stop - part.start)
            if sizes == [4]:
                raise error
    assert sizes == [4, 2, 2]
    with pytest.raises(HarnessError, match="Try --batch-size 2, a smaller image size"), memory_advice(4):
        raise error


@pytest.mark.parametrize("error", [RuntimeError("shapes do not match"), ValueError("x"), KeyboardInterrupt()])
def test_other_errors_pass(error):
    memory = Memory()

    def work() -> None:
        for _ in memory.parts(4):
            with memory:
                raise error

    with pytest.raises(type(error)):
        work()
    assert memory.most is None


def test_parts_inside_parts_leave_the_outer_ones_as_they_are():
    memory, outer = Memory(), []
    for part in memory.parts(8):
        with memory:
            assert worked(memory, 4, 100) == [0, 1, 2, 3]
            if part.stop - part.start > 4:
                raise torch.OutOfMemoryError("CUDA out of memory")
            outer += range(8)[part]
    assert outer == list(range(8))
    assert memory.most == 4


def test_tensors_of_the_part_that_failed_are_let_go():
    import weakref

    held: list[weakref.ref] = []

    def work(size: int) -> None:
        kept = torch.zeros(size)
        held.append(weakref.ref(kept))
        if size > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    memory = Memory()
    for part in memory.parts(4):
        if held:
            assert held[0]() is None
        with memory:
            work(part.stop - part.start)
    assert len(held) == 3


# ---- every explainer -------------------------------------------------------------------------------------------------

EXPLAINERS = [c.name for c in catalogue().of("explainer")]
FEW = {
    "adversarial": {"steps": 4}, "rise": {"masks": 60}, "lime": {"samples": 60}, "smoothgrad": {"samples": 10},
    "integrated_gradients": {"steps": 8}, "mask": {"iterations": 5}, "occlusion": {"cells": 4},
    **{name: {**MASKS[name], "iterations": 3, "points": 5} for name in MASKS},
}  # fmt: skip


@pytest.mark.parametrize("name", EXPLAINERS)
def test_every_explainer(name, little_room):
    made = dataclasses.replace(subjects.subject(subjects.linear(subjects.weights(3))), models=(network().eval(),))
    images, labels = data(20)
    batch = Batch(images / 255, torch.from_numpy(labels), torch.arange(20))
    explainer = catalogue().load("explainer", name)(**FEW.get(name, {}))
    whole = explain(made, explainer, batch, batch.y)
    seen = little_room()
    parted = explain(made, explainer, batch, batch.y)
    torch.testing.assert_close(parted.heat, whole.heat, rtol=RTOL, atol=ATOL, equal_nan=True)
    assert parted.forwards + parted.backwards == pytest.approx(whole.forwards + whole.backwards)
    if seen:
        assert made.memory.most is not None
        assert ROOM / 2 < made.memory.most <= ROOM
        refused = [size for size in seen if size > ROOM]
        assert len(refused) <= 6, "what did not fit was tried again and again"


# ---- every evaluation ------------------------------------------------------------------------------------------------

SETS = (
    "phantom_shortcut.size=32", "n_train=48", "n_validation=60", "n_test=240", "baseline.max_epochs=1",
    "classification.resamples=5",
)  # fmt: skip
FASTER = {
    "robustness": ("robustness.pairs=3",), "randomisation": ("randomisation.draws=2",),
    "adversarial_explanations": ("explain.steps=4",),
}  # fmt: skip
MULTICLASS = {"autoattack", "robust_accuracy"}
EVALUATIONS = tuple(c.name for c in catalogue().of("evaluation") if c.name not in MULTICLASS)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of which nothing is scored but the classes: (folder of the runs, run, plug-in)."""
    place = tmp_path_factory.mktemp("memory")
    plugin = place / "tiny.py"
    plugin.write_text(TINY_NETWORK)
    spec = RunSpec(
        method="baseline", dataset="phantom_shortcut", model="tiny", sets=SETS, device="cpu", runs_dir=place / "runs",
        plugins=(str(plugin),), evaluations=("classification",), limit=20,
    )  # fmt: skip
    (result,) = execute(spec, Reporter(quiet=True))
    shutil.rmtree(result.source / "evaluations")
    return place, result.run_id, plugin


def scored(trained, tmp_path, name: str, reporter: Reporter, **changes) -> tuple[pd.DataFrame, list[dict]]:
    """Return the samples and rows of one evaluation, of a copy of the run."""
    place, run, plugin = trained
    shutil.copytree(place / "runs", tmp_path / "runs")
    asked = {"evaluations": (name,), "explainers": ("saliency", "cam"), "plugins": (str(plugin),), **changes}
    asked["sets"] = (*FASTER.get(name, ()), f"{name}.resamples=5")
    result = evaluate(run, asked, tmp_path / "runs", reporter)
    (stage, *_) = [s for s in result.stages if s.info["explainer"] in ("", "cam")]
    folder = next((result.source / "evaluations").glob(f"{name}{'-cam' if stage.info['explainer'] else ''}-*"))
    return pd.read_parquet(folder / "samples.parquet"), json.loads((folder / "rows.json").read_text())


def assert_same(a: pd.DataFrame, b: pd.DataFrame) -> None:
    assert list(a.columns) == list(b.columns)
    for column in a.columns:
        one, two = a[column], b[column]
        if one.dtype == object or not pd.api.types.is_numeric_dtype(one):
            for i, j in zip(one, two, strict=True):
                if isinstance(i, np.ndarray):
                    assert np.abs(i.astype(float) - j.astype(float)).max(initial=0) <= 16, column
                else:
                    assert i == j, column
        else:
            np.testing.assert_allclose(one.to_numpy(float), two.to_numpy(float), rtol=RTOL, atol=ATOL, err_msg=column)


@pytest.mark.parametrize("name", EVALUATIONS)
def test_every_evaluation(name, trained, tmp_path, little_room):
    whole, rows = scored(trained, tmp_path / "a", name, Reporter(quiet=True))
    seen, reporter = little_room(), Notes()
    parted, again = scored(trained, tmp_path / "b", name, reporter)
    assert max(seen) > ROOM, "the evaluation never asked for more than fits"
    assert_same(whole, parted)
    for a, b in zip(rows, again, strict=True):
        if a["value"] is None or b["value"] is None:
            assert a["value"] is b["value"], a["metric"]
        else:
            assert a["value"] == pytest.approx(b["value"], rel=RTOL, abs=ATOL), a["metric"]
    said = [n for n in reporter.notes if "do not fit" in n]
    assert len(said) == 1
    assert "from here on" in said[0]


def test_a_bound_of_the_user_that_does_not_fit_names_a_smaller_one(trained, tmp_path, little_room):
    little_room()
    with pytest.raises(HarnessError, match=r"with 8 images at once .*Try --batch-size 4"):
        scored(trained, tmp_path, "classification", Reporter(quiet=True), batch_size=8)


def test_one_image_that_does_not_fit_ends_the_run(trained, tmp_path, monkeypatch):
    def forward(self, x):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Normalise, "forward", forward)
    with pytest.raises(HarnessError, match=r"with a single image .*Try a smaller image size"):
        scored(trained, tmp_path, "classification", Reporter(quiet=True))


@pytest.mark.parametrize(
    "made",
    [
        RobustAccuracy(images=20, resamples=5, linf=(0.02,), l2=(0.02,)),
        AutoAttack(images=20, resamples=5, linf=0.03, l2=0.3, version="apgd"),
        Robustness(images=20, resamples=5, batch=7),
    ],
    ids=lambda e: type(e).__name__,
)
def test_evaluations_of_one_label(made, little_room):
    subject = dataclasses.replace(
        subjects.subject(subjects.linear(subjects.weights(3, scale=0.05)), task=MultiClass()), memory=Memory()
    )
    attacks = {n: catalogue().load("attack", n) for n in ("pgd", "deepfool", "ddn")}
    mine = attacks if not isinstance(made, RobustAccuracy) else {"pgd": attacks["pgd"]}
    mine = {n: a for n, a in mine.items() if n != "pgd"} if isinstance(made, Robustness) else mine
    subject = dataclasses.replace(subject, attacks=mine)
    whole = made.score(subject).samples
    seen = little_room()
    parted = made.score(dataclasses.replace(subject, memory=Memory())).samples
    assert max(seen) > ROOM
    assert_same(whole, parted)


def test_images_that_no_attack_fools_are_led_to_another_class_in_parts(little_room):
    subject = dataclasses.replace(
        subjects.subject(subjects.linear(subjects.weights(3, scale=0.05))), attacks={"deepfool": _nothing}
    )
    made = Robustness(images=20, resamples=5, attacks=("deepfool",), black_box="none")
    whole = made.score(subject).samples
    little_room()
    parted = made.score(dataclasses.replace(subject, memory=Memory())).samples
    assert_same(whole, parted)
    assert whole["never:adv"].all()


def _nothing(model, x, goal):
    """An attack that finds nothing."""
    from harness.attacks.minimal import Found

    with torch.no_grad():
        model(x)
    none = torch.zeros(len(x), dtype=torch.long)
    return Found(torch.zeros_like(x), torch.full((len(x),), torch.inf), none + 1, none - 1, none == 0)


_nothing.__harness__ = {"attack": {"finds": "minimal"}}
