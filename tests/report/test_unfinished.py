import shlex

from harness.record import Result
from harness.report.unfinished import command, unfinished


def test_the_command_repeats_what_was_set_by_hand_and_quotes_it():
    info = {
        "spec": {"method": "m; rm -rf /", "dataset": "d", "seed": 0, "limit": None},
        "settings": [
            {"component": "method m", "name": "epsilon", "value": 0.1, "set_by": "--set"},
            {"component": "method m", "name": "epochs", "value": 3, "set_by": "dataset"},
        ],
    }
    assert shlex.split(command(info)) == [
        "harness", "run", "--method", "m; rm -rf /", "--dataset", "d", "--seed", "0", "--set", "m.epsilon=0.1",
    ]  # fmt: skip


def test_every_status_but_complete_is_listed_with_advice():
    states = ("complete", "failed", "running", "interrupted", "odd", None)
    results = [Result({"run_id": str(s), "status": s}, [], None, published=False) for s in states]
    found = unfinished(results, {str(s): "x.html" for s in states})
    assert [f["run_id"] for f in found] == ["None", "failed", "interrupted", "odd", "running"]
    assert all(f["advice"] and f["command"].startswith("harness run") for f in found)
