"""Every registered component is tested by being found: adding a file adds its tests."""

import inspect
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from examples import EXAMPLE_SETTINGS, EXAMPLES

from harness.config import build, fields_of
from harness.console import Reporter
from harness.data.batches import feed
from harness.data.cache import DatasetSpec, prepare
from harness.data.index import problems
from harness.data.roots import find_root
from harness.device import resolve
from harness.errors import UsageError
from harness.fit.loop import train
from harness.models.classifier import Classifier
from harness.plan import STANDARD_EVALUATIONS
from harness.plugins import Component, catalogue
from harness.recipe import Supervised
from harness.run import evaluate
from harness.tasks import MultiClass, MultiLabel

FOUND = catalogue(os.environ.get("HARNESS_TEST_PLUGINS", "").split())


def of(kind: str):
    return pytest.mark.parametrize("component", FOUND.of(kind), ids=lambda c: c.name)


@pytest.mark.parametrize("component", FOUND.components, ids=lambda c: f"{c.kind}-{c.name}")
def test_component(component: Component):
    thing = component.load()
    assert component.summary
    assert thing.__harness__[component.kind]["name"] == component.name
    assert component.source, "say where it comes from"
    assert fields_of(thing) is not None


@pytest.mark.parametrize("component", FOUND.components, ids=lambda c: f"{c.kind}-{c.name}")
def test_every_setting_says_its_source_or_what_it_does(component: Component):
    thing = component.load()
    if inspect.isfunction(thing):
        return  # keywords of a function are explained in its docstring
    _, settings = build(thing, component.name)
    assert [s.name for s in settings if not (s.source or s.help)] == []


@of("dataset")
def test_dataset(component: Component, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    thing = component.load()
    settings = {**getattr(thing, "smoke", {}), **EXAMPLE_SETTINGS.get(component.name, {})}
    root = EXAMPLES[component.name](tmp_path) if component.name in EXAMPLES else None
    data, resolved = build(thing, component.name, ("smoke", settings))
    try:
        place = find_root(data, component.name, root)
    except UsageError:
        pytest.skip(f"{component.name}: no example and no files under HARNESS_DATA")
    index = data.index(place)
    assert problems(index, data.task, data.splits) == []
    assert data.index(place).digest() == index.digest(), "the index must repeat"
    assert all(len(index.of_split(s)) for s in data.splits)
    assert data.fingerprint(index, None)
    FOUND.find("model", data.default_model)
    training = set(fields_of(Supervised))
    assert set(data.schedule) <= training, "schedule names settings of Supervised"
    if data.needs_root:
        assert data.how_to_get
        assert data.folders
    spec = DatasetSpec(component.name, tuple((s.name, s.value) for s in resolved), FOUND.paths)
    prepared = prepare(spec, place, component.identity(), workers=1)
    assert prepared.images.shape == (len(index), data.channels, data.size, data.size)
    assert prepared.images.std() > 1, "the images are not empty"
    again = prepare(spec, place, component.identity(), workers=1)
    assert again.fingerprint == prepared.fingerprint
    again = data.read(index.samples.iloc[0].to_dict(), place)
    assert (again == data.read(index.samples.iloc[0].to_dict(), place)).all()


class TinyNet(Classifier):
    def __init__(self, classes: int):
        from harness.models.classifier import GlobalAverageLinear, Normalise

        features = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3, stride=2, padding=1), torch.nn.BatchNorm2d(4),
                                       torch.nn.ReLU())  # fmt: skip
        super().__init__(Normalise((0.5,), (0.25,)), features, GlobalAverageLinear(4, classes), num_classes=classes)


@pytest.mark.parametrize("task", [MultiLabel(), MultiClass()], ids=lambda t: t.name)
@of("method")
def test_method_trains(component: Component, task, tmp_path: Path):
    import pandas as pd

    from harness.data.cache import Prepared
    from harness.data.index import Index

    thing = component.load()
    method, _ = build(thing, component.name, ("smoke", getattr(thing, "smoke", {})))
    rng = np.random.default_rng(0)
    labels = np.eye(3, dtype=np.uint8)[rng.integers(0, 3, 16)]
    images = rng.integers(0, 256, (16, 1, 16, 16), np.uint8)
    names = [str(i) for i in range(16)]
    samples = pd.DataFrame({"id": names, "patient": names, "split": ["train"] * 12 + ["validation"] * 4})
    prepared = Prepared(tmp_path, Index(samples, labels, ("a", "b", "c")), images, "f")
    compute = resolve("cpu")
    parts = [feed(prepared, prepared.index.of_split(s), task, compute) for s in ("train", "validation")]
    weights = []
    for place in ("one", "two"):
        torch.manual_seed(0)
        model = TinyNet(3)
        before = [p.clone() for p in model.parameters()]
        result = train(method, model, task, *parts, compute=compute, seed=0, folder=tmp_path / place,
                       names=lambda i: [str(j) for j in i.tolist()])  # fmt: skip
        assert np.isfinite(result.best_validation_loss)
        assert any(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
        weights.append(torch.cat([p.flatten() for p in model.parameters()]))
    assert torch.equal(*weights), "training must repeat bit for bit on a CPU"


@of("method")
def test_perturbed_images_stay_in_range(component: Component):
    from harness.types import Batch

    method = component.load()()
    x = torch.rand(8, 1, 16, 16)
    x[:4] = x[:4].round()  # at both ends of the range
    batch = Batch(x, torch.eye(3)[torch.arange(8) % 3], torch.arange(8))
    moved = method.perturb(TinyNet(3), batch, MultiLabel(), torch.Generator().manual_seed(0))
    assert moved.x.shape == x.shape
    assert moved.x.min() >= 0
    assert moved.x.max() <= 1
    assert torch.equal(moved.y, batch.y)
    assert torch.equal(batch.x, x), "the batch that was given is unchanged"


@of("model")
def test_model(component: Component):
    torch.manual_seed(0)
    model = component.load()(num_classes=5, channels=1, mean=(0.5,), std=(0.25,))
    assert isinstance(model, Classifier)
    model.eval()
    with torch.no_grad():
        assert model(torch.rand(2, 1, 64, 64)).shape == (2, 5)
    assert not any(getattr(m, "inplace", False) for m in model.modules())
    assert "weights" in inspect.signature(component.load()).parameters


def hooks_of(model: torch.nn.Module) -> int:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(len(getattr(m, kind)) for m in model.modules() for kind in kinds)


@of("explainer")
def test_explainer(component: Component):
    explainer = component.load()()
    torch.manual_seed(0)
    model = TinyNet(3).eval().requires_grad_(False)
    x, target, seeds = torch.rand(5, 1, 16, 16), torch.tensor([0, 1, 2, 0, 1]), torch.arange(5)
    kept = x.clone()
    found = explainer(model, x, target, seeds=seeds)
    assert found.heat.ndim == 3
    assert len(found.heat) == 5
    assert torch.isfinite(found.heat).all()
    assert found.forwards >= 0
    assert found.backwards >= 0
    assert torch.equal(x, kept)
    assert not model.training
    assert hooks_of(model) == 0
    assert not found.heat.requires_grad
    again = explainer(model, x[2:4], target[2:4], seeds=seeds[2:4])
    assert torch.allclose(again.heat, found.heat[2:4], atol=1e-5), "an image's map must not depend on its batch"
    with torch.no_grad():
        assert torch.allclose(explainer(model, x, target, seeds=seeds).heat, found.heat, atol=1e-6)


@pytest.fixture(scope="module")
def evaluated(tiny_runs, tmp_path_factory):
    """Return a copy of the first tiny run that also has, on four samples, what is evaluated by name only."""
    runs_dir = tmp_path_factory.mktemp("by-name")
    _, (first, *_) = tiny_runs
    shutil.copytree(first.source, runs_dir / first.run_id)
    names = tuple(c.name for c in FOUND.of("evaluation") if c.name not in STANDARD_EVALUATIONS)
    return evaluate(first.run_id, {"evaluations": names, "limit": 4}, runs_dir, Reporter(quiet=True))


@pytest.mark.slow
@of("evaluation")
def test_evaluation(component: Component, evaluated):
    made = component.load()()
    stages = [s for s in evaluated.stages if s.info["evaluation"] == component.name]
    if reason := evaluated.info["missing_evaluations"].get(component.name):
        pytest.skip(f"not for the example: {reason}")
    assert stages
    for stage in stages:
        small = type(made)(resamples=50)
        rows = small.summarise(stage.read_samples())
        stored = [(r.metric, r.class_name, r.threshold, r.variant, repr(r.value)) for r in stage.rows]
        again = [
            (r["metric"], r["class_name"], r.get("threshold"), r.get("variant", ""), repr(r["value"])) for r in rows
        ]
        assert stored == again, "rows must follow from the stored samples alone"
