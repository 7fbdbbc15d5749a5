"""From a spec to a plan: who starts from whom, and who set what."""

import dataclasses

import pytest

from harness.errors import UsageError
from harness.plan import RunSpec, make

SPEC = RunSpec(method="robust_fgsm", dataset="phantom")


def with_sets(*sets: str) -> RunSpec:
    return dataclasses.replace(SPEC, sets=sets)


def test_robust_fgsm_starts_from_baseline():
    plan = make(SPEC)
    assert plan.before is not None
    assert (plan.spec.method, plan.before.spec.method, plan.before.before) == ("robust_fgsm", "baseline", None)


def test_start_from_can_be_replaced_or_removed(tmp_path):
    assert make(with_sets("start_from=none")).before is None
    plugin = tmp_path / "other.py"
    plugin.write_text(
        "from dataclasses import dataclass\nfrom harness.api import Supervised, method\n"
        "@method('other', source='test')\n@dataclass(frozen=True, kw_only=True)\nclass Other(Supervised):\n"
        "    '''Another start.'''\n"
    )
    plan = make(dataclasses.replace(with_sets("robust_fgsm.start_from=other"), plugins=(str(plugin),)))
    assert plan.before is not None
    assert plan.before.spec.method == "other"


def test_a_circle_is_refused():
    with pytest.raises(UsageError, match="robust_fgsm -> baseline -> robust_fgsm"):
        make(with_sets("baseline.start_from=robust_fgsm"))


def test_the_dataset_s_schedule_and_its_continuation():
    plan = make(SPEC)
    assert plan.before is not None
    assert (plan.before.recipe.max_epochs, plan.recipe.max_epochs) == (4, 2)
    assert make(with_sets("start_from=none")).recipe.max_epochs == 4
    assert make(with_sets("max_epochs=9")).recipe.max_epochs == 9
    assert make(with_sets("max_epochs=9")).before.recipe.max_epochs == 4  # pyright: ignore


def test_what_the_user_set_can_be_given_again():
    plan = make(with_sets("epsilon=0.01", "phantom.size=64"))
    again = make(with_sets(*plan.assignments()))
    assert plan.assignments() == ["robust_fgsm.epsilon=0.01", "phantom.size=64"]
    assert again.settings() == plan.settings()


def test_a_checkpoint_needs_no_start(tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"x")
    assert make(dataclasses.replace(SPEC, checkpoint=path)).before is None


def test_an_evaluation_that_compares_explainers_gets_the_run_s_but_no_reference():
    names = ("agreement", "randomisation")
    plan = make(RunSpec(method="baseline", dataset="phantom", evaluations=names, explainers=("gradcam", "cam")))
    assert list(plan.explainers_of(plan.evaluations["agreement"])) == ["gradcam", "cam"]
    assert plan.explainers_of(plan.evaluations["randomisation"]) == {}
    assert {"random_map", "centre"} <= set(plan.explainers)
