"""Suites: from a TOML file to runs, one after the other and several at once; what is there, what failed, what is left."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import torch
from logged import LOGGED, Log
from support import REPOSITORY

from harness.console import Reporter
from harness.errors import UsageError
from harness.executors.cluster import places, share_of
from harness.executors.graph import Node, graph
from harness.executors.local import placed, startable, threads_of, unmade
from harness.executors.sharing import Sharing
from harness.plan import make
from harness.shards import offer
from harness.stages import prepare_data
from harness.standing import read_store
from harness.store import RunFolder
from harness.suite import read

ALL = """
[all]
dataset = "phantom"
explainers = ["cam"]
evaluations = ["classification"]
[all.set]
baseline.max_epochs = 1
classification.resamples = 20
phantom = { size = 32, n_train = 48, n_validation = 16, n_test = 60 }
"""
TWO = (
    'title = "tiny"\n'
    + ALL
    + """
[[runs]]
method = "baseline"
seeds = [0, 1]
[[runs]]
method = "robust_fgsm"
set = { max_epochs = 1 }
"""
)
MACHINE = {"root": None, "device": "cpu", "runs_dir": Path("runs"), "plugins": (), "batch_size": None}


def written(tmp_path, text, name="s.toml"):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_every_seed_and_swept_value_is_a_run_and_settings_of_all_are_kept(tmp_path):
    suite = read(written(tmp_path, ALL + """
        [[runs]]
        method = "robust_fgsm"
        seeds = [3, 4]
        set = { share = 0.5, "phantom.n_test" = 70 }
        sweep = { epsilon = [0.001, 0.01] }"""), MACHINE)  # fmt: skip
    assert [(s.seed, s.sets[-1]) for s in suite.specs] == [
        (3, "epsilon=0.001"), (4, "epsilon=0.001"), (3, "epsilon=0.01"), (4, "epsilon=0.01"),
    ]  # fmt: skip
    assert {"phantom.size=32", "phantom.n_test=70", "share=0.5", "baseline.max_epochs=1"} < set(suite.specs[0].sets)
    assert suite.specs[0].evaluations == ("classification",)
    assert suite.specs[0].device == "cpu"


def test_a_swept_list_is_one_value(tmp_path):
    suite = read(written(tmp_path, ALL + """
        [[runs]]
        method = "baseline"
        sweep = { "insertion_deletion.resolutions" = [[7, 28], [224], 14, 14] }"""), MACHINE)  # fmt: skip
    name = "insertion_deletion.resolutions"
    assert [s.sets[-1] for s in suite.specs] == [f"{name}=7,28", f"{name}=224", f"{name}=14"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "at least one [[runs]]"),
        ("title = [1]\n[[runs]]\nmethod = 'baseline'", "title: expected text, got [1]"),
        ("[[runs]]\ndataset = 'phantom'", "run 1: expected a method"),
        ("[[runs]]\nmethod = 'baseline'", "run 1: expected a dataset"),
        (
            "[all]\nmethods = 'x'\n[[runs]]\nmethod = 'baseline'",
            "[all]: unknown entry 'methods'. Did you mean 'method'",
        ),
        ("run = 1", "unknown entry 'run'"),
        ("runs = 3", "at least one [[runs]]"),
        (
            "[[runs]]\nmethod = 'baseline'\ndataset = 'phantom'\nseeds = 1",
            "seeds = 1; expected a list of whole numbers",
        ),
        ("[[runs]]\nmethod = 'baseline'\ndataset = 'phantom'\nseeds = [true]", "seeds = [True]"),
        ("[[runs]]\nmethod = 'baseline'\ndataset = 'phantom'\nexplainers = 'cam'", "expected a list of names"),
        ("[[runs]]\nmethod = 'baseline'\ndataset = 'phantom'\nset = 'x=1'", "expected a table of settings"),
        ("[[runs]]\nmethod = 'baseline'\ndataset = 'phantom'\nprofile = 'fast'", "expected quick or paper"),
        ("[[runs]]\nmethod = 'baseline'\ndataset = 'phantom'\nlimit = 0", "expected a whole number of samples"),
        ("[[runs]]\nmethod = 'baseline'\ndataset = 'phantom'\ncheckpoint = '$NOT_THERE/x.pt'", "variable is not set"),
        (
            "[[runs]]\nmethod = 'baseline'\ndataset = 'phantom'\nsweep = { epsilon = [] }",
            "sweep of epsilon: expected a list of values, got []",
        ),
        (
            "[[runs]]\nmethod = 'baseline'\ndataset = 'phantom'\nsweep = { epsilon = 1 }",
            "expected a list of values, got 1",
        ),
        (
            "[[runs]]\nmethod = 'baseline'\ndataset = 'phantom'\nsweep = { x = [[[1]]] }",
            "x: expected a value or a list",
        ),
        ("[[runs]]\nmethod = 'baseline'\ndataset = 'phantom'\nset = { x = [[1]] }", "x: expected a value or a list"),
        ("[[runs]", "not valid TOML"),
    ],
)
def test_a_wrong_file_is_one_error_that_says_where(tmp_path, text, said):
    with pytest.raises(UsageError) as error:
        read(written(tmp_path, text), MACHINE)
    assert said in str(error.value)


def test_a_setting_that_is_none_is_said_before_anything_is_trained(harness, tmp_path):
    file = written(tmp_path, TWO.replace("max_epochs = 1 }", "max_epoch = 1 }"))
    code, _, err = harness("suite", "run", file, "--runs-dir", tmp_path / "runs")
    assert code == 2
    assert "max_epoch" in err
    assert not (tmp_path / "runs").exists()


def test_what_others_start_from_comes_first_and_once(tmp_path):
    nodes = graph(read(written(tmp_path, TWO), MACHINE).specs)
    assert [(n.spec.method, n.spec.seed, n.needs, n.asked) for n in nodes] == [
        ("baseline", 0, None, True), ("baseline", 1, None, True), ("robust_fgsm", 0, 0, True),
    ]  # fmt: skip
    alone = graph(read(written(tmp_path, TWO), MACHINE).specs[2:])
    assert [(n.spec.method, n.asked) for n in alone] == [("baseline", False), ("robust_fgsm", True)]


ONE_FIT = (
    ALL
    + """
[[runs]]
method = "baseline"
explainers = ["cam"]
[[runs]]
method = "baseline"
explainers = ["saliency"]
precision = "fp32"
[[runs]]
method = "robust_fgsm"
explainers = ["gradcam"]
set = { max_epochs = 1 }
"""
)


def test_runs_that_work_in_one_folder_are_not_made_at_once(tmp_path):
    nodes = graph(read(written(tmp_path, ONE_FIT), MACHINE).specs)
    assert [(n.spec.method, n.needs) for n in nodes] == [
        ("baseline", None), ("baseline", None), ("baseline", None), ("robust_fgsm", 2),
    ]  # fmt: skip
    assert [n.number for n in startable(nodes, {}, [], 4)] == [0]
    assert startable(nodes[1:], {}, nodes[:1], 4) == []
    assert startable(nodes[:1], {2}, nodes[3:], 4) == [], "robust_fgsm comes to the folder of baseline"
    assert startable(nodes[3:], {2}, nodes[:1], 4) == []
    others = graph(read(written(tmp_path, ONE_FIT.replace("precision", "seeds = [1]\nprecision")), MACHINE).specs)
    assert [n.number for n in startable(others, {}, [], 4)] == [0, 1], "another seed has another folder"


def test_two_that_start_from_one_run_are_made_at_once(tmp_path):
    text = TWO + '[[runs]]\nmethod = "robust_fgsm"\nset = { max_epochs = 2 }\n'
    nodes = graph(read(written(tmp_path, text), MACHINE).specs)
    assert [n.number for n in startable(nodes[1:], {0}, [], 4)] == [1, 2, 3]


def test_runs_of_one_folder_succeed_with_several_jobs(harness, tmp_path):
    file, runs = written(tmp_path, ONE_FIT), tmp_path / "runs"
    code, out, err = harness("suite", "run", file, "--runs-dir", runs, "--device", "cpu", "--jobs", 2)
    assert code == 0, out + err
    assert len(list(runs.glob("*/fit/model.safetensors"))) == 2


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_suite_is_made_and_its_second_call_makes_nothing(harness, tmp_path, jobs):
    file, runs = written(tmp_path, TWO), tmp_path / "runs"
    places = ("--runs-dir", runs, "--device", "cpu")
    code, out, _ = harness("suite", "status", file, *places, "--json")
    assert code == 0
    assert [r["complete"] for r in json.loads(out)["runs"]] == [False] * 3
    assert not runs.exists(), "status writes nothing"
    code, out, err = harness("suite", "run", file, *places, "--jobs", jobs)
    assert code == 0, out + err
    assert "All 3 runs are complete." in out
    made = {p: p.stat().st_mtime_ns for p in runs.glob("*/fit/model.safetensors")}
    assert len(made) == 3
    code, out, err = harness("suite", "run", file, *places, "--jobs", jobs, "--json")
    assert code == 0, err
    assert all(r["complete"] and r["evaluations"] == ["classification"] for r in json.loads(out)["runs"])
    assert {p: p.stat().st_mtime_ns for p in runs.glob("*/fit/model.safetensors")} == made


@pytest.mark.slow
@pytest.mark.parametrize("fails", [False, True])
def test_a_slot_without_a_run_assists_the_one_that_is_made(tmp_path, fails):
    """It makes parts, and its failure is said once and costs the run nothing."""
    plugin, log = tmp_path / "logged.py", Log(tmp_path)
    plugin.write_text(LOGGED)
    text = ALL.replace('["cam"]', '["logged"]').replace('["classification"]', '["localisation"]')
    text = text.replace("classification.resamples = 20", "localisation = { resamples = 20, batch = 2 }")
    file = written(tmp_path, text + '[[runs]]\nmethod = "baseline"\n')
    command = [sys.executable, "-m", "harness", "suite", "run", str(file), "--runs-dir", str(tmp_path / "runs"),
               "--device", "cpu", "--plugin", str(plugin), "--jobs", "2"]  # fmt: skip
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=False,
                          env=log.environment(0.2, wait=True, fail=fails))  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("an idle worker joins its evaluations") == 1
    assert done.stderr.count("goes on without its assistant, which failed: ValueError: it broke") == fails
    by = Counter(pid for word, pid, _ in log.lines() if word == "done")
    assert len(by) == (1 if fails else 2), log.lines()
    assert max(Counter(log.named("done")).values()) == 1


def test_what_is_missing_is_named_and_its_time_is_known_from_a_run_alike(harness, tmp_path):
    file, runs = written(tmp_path, TWO), tmp_path / "runs"
    places = ("--runs-dir", runs, "--device", "cpu")
    assert harness("suite", "run", written(tmp_path, TWO.replace("[0, 1]", "[0]"), "first.toml"), *places)[0] == 0
    _, out, _ = harness("suite", "status", file, *places, "--json")
    found = {(r["method"], r["seed"]): r for r in json.loads(out)["runs"]}
    assert found["baseline", 0]["complete"]
    assert found["robust_fgsm", 0]["complete"]
    other = found["baseline", 1]
    assert not other["complete"]
    assert other["missing"] == ["classification"]
    assert other["seconds_left"] > 0, "seed 0 tells how long seed 1 should take"
    more = written(tmp_path, TWO.replace('"classification"]', '"classification", "localisation"]'), "more.toml")
    _, out, _ = harness("suite", "status", more, *places)
    assert "1 of 2 evaluations" in out or "1 of 5 evaluations" in out, out
    assert "?" in out, "nobody knows how long localisation takes"


BROKEN = '''
from dataclasses import dataclass
from harness.api import Supervised, method

@method("broken", source="a test")
@dataclass(frozen=True, kw_only=True)
class Broken(Supervised):
    """Fails at its first step."""

    def loss(self, *arguments, **more):
        {fails}

@method("after", source="a test")
@dataclass(frozen=True, kw_only=True)
class After(Supervised):
    """Starts from what fails."""

    start_from: str | None = "broken"
'''


@pytest.mark.parametrize(
    ("jobs", "fails", "said"),
    [(1, "raise ValueError('it broke')", "it broke"), (2, "import os; os._exit(9)", "its process ended by itself")],
)
def test_a_failed_run_costs_itself_and_what_starts_from_it(harness, tmp_path, jobs, fails, said):
    plugin = tmp_path / "broken.py"
    plugin.write_text(BROKEN.format(fails=fails))
    file = written(tmp_path, ALL.replace("baseline.max_epochs = 1\n", "") + """
        [[runs]]
        method = "after"
        [[runs]]
        method = "baseline"
        set = { max_epochs = 1 }""")  # fmt: skip
    code, out, _ = harness("suite", "run", file, "--runs-dir", tmp_path / "runs", "--device", "cpu",
                           "--plugin", plugin, "--jobs", jobs, "--json")  # fmt: skip
    assert code == 4
    found = {r["method"]: r for r in json.loads(out)["runs"]}
    assert said in found["broken"]["error"]
    assert found["after"]["error"].startswith("not made: broken, seed 0")
    assert found["baseline"]["complete"]
    assert found["baseline"]["error"] == ""


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_chain_that_fails_at_its_start_ends(tmp_path, jobs):
    """Nothing runs any more when the last ones turn out not to be made: that is the end, not a wait for ever.

    Nor is an error that is longer than what a pipe takes at once.
    """
    plugin = tmp_path / "broken.py"
    plugin.write_text(BROKEN.format(fails="raise ValueError('it broke' + 'x' * 100_000)"))
    file = written(tmp_path, ALL.replace("baseline.max_epochs = 1\n", "") + '[[runs]]\nmethod = "after"\n')
    command = [sys.executable, "-m", "harness", "suite", "run", str(file), "--runs-dir", str(tmp_path / "runs"),
               "--device", "cpu", "--plugin", str(plugin), "--jobs", str(jobs), "--json"]  # fmt: skip
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 4, done.stderr
    found = {r["method"]: r["error"] for r in json.loads(done.stdout)["runs"]}
    assert "it broke" in found["broken"]
    assert found["after"].startswith("not made: broken, seed 0")


def test_ctrl_c_stops_every_process_and_what_was_done_is_kept(tmp_path):
    slow = TWO.replace("set = { max_epochs = 1 }", "set = { max_epochs = 500, patience = 500 }").replace(
        "seeds = [0, 1]", "seeds = [0]"
    )
    file, runs = written(tmp_path, slow), tmp_path / "runs"
    command = [sys.executable, "-m", "harness", "suite", "run", str(file), "--runs-dir", str(runs), "--device", "cpu",
               "--jobs", "2"]  # fmt: skip
    process = subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True, start_new_session=True,
                               env={**os.environ, "OMP_NUM_THREADS": "1"})  # fmt: skip
    began = time.monotonic()
    while not list(runs.glob("robust_fgsm-*/fit/resume.pt")) and time.monotonic() - began < 300:
        assert process.poll() is None, process.stderr and process.stderr.read()
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    status = {p.parent.name.split("-")[0]: json.loads(p.read_text())["status"] for p in runs.glob("*/run.json")}
    assert status == {"baseline": "complete", "robust_fgsm": "interrupted"}


SLOW = '''
import os, time
from dataclasses import dataclass
from pathlib import Path
from harness.api import Supervised, method

@method("slow", source="a test")
@dataclass(frozen=True, kw_only=True)
class Slow(Supervised):
    """Says which process trains it, and takes its time while a file is there."""

    def loss(self, *arguments, **more):
        with open(os.environ["SLOW"] + ".log", "a") as log:
            print(os.getpid(), file=log)
        while Path(os.environ["SLOW"]).exists():
            time.sleep(0.05)
        return super().loss(*arguments, **more)
'''


def works(pid):
    """Return whether a process is there, and not only its exit status that nobody has asked for."""
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_the_runs_end_with_a_command_that_is_killed_and_the_next_one_goes_on(tmp_path):
    plugin, slow, log, runs = (tmp_path / name for name in ("slow.py", "slow", "slow.log", "runs"))
    plugin.write_text(SLOW)
    slow.touch()
    file = written(tmp_path, ALL.replace("baseline.max_epochs", "slow.max_epochs") + """
        [[runs]]
        method = "slow"
        seeds = [0, 1]""")  # fmt: skip
    command = [sys.executable, "-m", "harness", "suite", "run", str(file), "--runs-dir", str(runs), "--device", "cpu",
               "--plugin", str(plugin), "--jobs", "2"]  # fmt: skip
    environment = {**os.environ, "SLOW": str(slow)}
    process = subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.DEVNULL, text=True, env=environment)
    began, pids = time.monotonic(), set()
    while len(pids) < 2 and time.monotonic() - began < 200:
        assert process.poll() is None
        pids = set(map(int, log.read_text().split())) if log.exists() else set()
        time.sleep(0.1)
    process.kill()
    process.wait()
    began = time.monotonic()
    while any(map(works, pids)) and time.monotonic() - began < 20:
        time.sleep(0.1)
    left = [pid for pid in pids if works(pid)]
    slow.unlink()  # what is left, if anything is, comes to its end as well
    assert len(pids) == 2
    assert left == []
    assert {json.loads(p.read_text())["status"] for p in runs.glob("*/run.json")} == {"interrupted"}
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=False,
                          env=environment)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "All 2 runs are complete." in done.stdout


def test_the_suites_of_the_project_can_be_planned():
    for file in sorted((REPOSITORY / "suites").glob("*.toml")):
        suite = read(file, MACHINE)
        assert suite.title, file
        assert suite.source, file
        assert suite.specs, file


def test_slots_take_turns_with_the_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [placed("auto", slot) for slot in range(3)] == ["cuda:0", "cuda:1", "cuda:0"]
    assert placed("cuda:1", 0) == "cuda:1"
    assert placed("cpu", 1) == "cpu"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert placed("auto", 1) == "auto"


def test_a_process_knows_its_threads_before_torch_is_loaded():
    """OpenMP reads OMP_NUM_THREADS as it is loaded: what `alone` is in must not load it."""
    code = "import sys, harness.executors.local; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_processes_share_the_cores_that_this_one_may_use(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 4, 5, 6}, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert threads_of(2) == 7
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert [threads_of(jobs) for jobs in (1, 2, 8)] == [4, 2, 1]
    monkeypatch.delattr(os, "sched_getaffinity")
    assert threads_of(2) == 32


@pytest.mark.parametrize(
    ("gpus", "jobs", "share"),
    [(0, 4, 0.0), (1, 1, 1.0), (4, 2, 1.0), (2, 4, 0.5), (2, 3, 0.5), (4, 6, 0.5), (1, 7, 0.1428)],
)
def test_as_many_tasks_as_jobs_find_room_on_the_gpus(gpus, jobs, share):
    assert share_of(gpus, jobs) == share
    assert gpus == 0 or gpus * int(1 / share) >= jobs


def test_workers_are_told_where_things_lie_whatever_their_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARNESS_DATA", "data")
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HARNESS_ZOO", "")
    assert places() == {"HARNESS_DATA": str(tmp_path / "data"), "HARNESS_CACHE": str(tmp_path / "cache")}


def test_a_run_on_a_device_that_is_not_here_has_its_name_here(monkeypatch, tmp_path):
    """So the machine of a command of Ray, without a GPU, knows the runs of workers that have one."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    spec = read(written(tmp_path, TWO), MACHINE | {"runs_dir": tmp_path / "runs"}).specs[0]
    prepare_data(make(spec), Reporter(quiet=True))
    there = dataclasses.replace(spec, device="cuda", precision="bf16")
    found = read_store(spec).standing(there)
    assert found.why == ""
    assert found.run_id != read_store(spec).standing(spec).run_id
    folder = RunFolder(tmp_path / "runs" / found.run_id)
    folder.folder.mkdir(parents=True)
    offer(folder, {"classification": "key"})
    helped = []
    chosen = Sharing(lambda _, what: helped.append(what)).choose([Node(0, there, None, True)], [])
    assert chosen is not None
    assert chosen[1] == found.run_id


def test_a_run_whose_start_is_not_there_yet_is_not_lost(tmp_path):
    spec = read(written(tmp_path, TWO), MACHINE).specs[0]
    assert unmade(Node(1, spec, 0, True), {}) is None
