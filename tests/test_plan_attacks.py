"""Which attacks an evaluation brings into a plan, and who set them."""

import dataclasses

import pytest

from harness.errors import UsageError
from harness.plan import RunSpec, make

SPEC = RunSpec(method="baseline", dataset="phantom", evaluations=("robustness",))


def planned(*sets: str, **more):
    return make(dataclasses.replace(SPEC, sets=sets, **more))


def test_the_profile_s_attacks_are_parts_of_the_plan():
    assert sorted(planned().attacks) == ["ddn", "deepfool", "pgd"]
    paper = planned(profile="paper")
    assert sorted(paper.attacks) == ["algorithm1", "ddn", "deepfool", "foolbox_boundary", "pgd"]
    found = {s.name: (s.value, s.set_by) for s in paper.attacks["algorithm1"].settings}
    assert found["variant"] == ("code", "evaluation")
    assert found["clip"] == (True, "evaluation")
    assert paper.assignments() == []


def test_attacks_are_chosen_and_set_by_name():
    plan = planned("robustness.attacks=algorithm1", "algorithm1.steps=9")
    assert plan.attacks["algorithm1"].made.keywords == {"steps": 9}
    assert plan.attacks["algorithm1"].changed == "steps=9"
    again = planned(*plan.assignments())
    assert again.settings() == plan.settings()


def test_an_attack_s_settings_are_part_of_the_key():
    plans = planned(), planned("ddn.steps=9")
    keys = [[p.key() for p in plan.attacks_of(plan.evaluations["robustness"]).values()] for plan in plans]
    assert keys[0] != keys[1]


def test_without_an_evaluation_that_attacks_there_are_none():
    assert make(dataclasses.replace(SPEC, evaluations=("classification",))).attacks == {}


@pytest.mark.parametrize(
    ("sets", "message"),
    [(("algorithm1.steps=9",), r"algorithm1 is not used here. Used: ddn, deepfool, pgd"),
     (("robustness.attacks=depfool",), r"Did you mean 'deepfool'"),
     (("ddn.step=9",), r"no setting 'step'.*Did you mean 'steps'"),
     (("ddn.steps=many",), r"steps: expected int")],
)  # fmt: skip
def test_what_cannot_be_is_refused(sets, message):
    with pytest.raises(UsageError, match=message):
        planned(*sets)
