"""Fixtures that several folders share: one thread, a private cache, tiny prepared phantoms and runs."""

import os
import shutil
import signal
import tempfile

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two threaded processes on two cores are 10-30 times slower

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock
from support import TINY


def pytest_configure() -> None:
    """Let Ctrl-C reach the processes of tests, wherever they were started.

    A shell starts what it puts into the background with SIGINT ignored, and so would be every process of a test.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with the most slow tests come first: a worker that takes one up last would keep the others waiting."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


@pytest.fixture(autouse=True, scope="session")
def _private_places(tmp_path_factory: pytest.TempPathFactory):
    places = pytest.MonkeyPatch()
    places.setenv("HARNESS_CACHE", str(tmp_path_factory.mktemp("cache")))
    places.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
    places.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("user-cache")))
    import torch

    torch.set_num_threads(1)
    yield
    places.undo()


@pytest.fixture(autouse=True)
def _fixed_seed():
    """Layers are initialised from torch's global state: the same in every test, whatever ran before it."""
    import torch

    torch.manual_seed(0)


@pytest.fixture
def harness(capsys) -> Callable[..., tuple[int, str, str]]:
    """Run the command line in this process: (exit status, stdout, stderr)."""
    from harness.cli import main

    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(a) for a in arguments])
        out, err = capsys.readouterr()
        code = ended.value.code
        return (code if isinstance(code, int) else 0 if code is None else 1), out, err

    return call


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], object]], Path]:
    """Have a folder filled by one of xdist's workers for all of them: once(name, fill). It is for reading only."""
    place = tmp_path_factory.getbasetemp()
    place = place.parent if "PYTEST_XDIST_WORKER" in os.environ else place

    def made(name: str, fill: Callable[[Path], object]) -> Path:
        folder = place / f"once-{name}"
        with FileLock(f"{folder}.lock"):
            if not folder.exists():
                unfinished = Path(tempfile.mkdtemp(dir=place))
                fill(unfinished)
                unfinished.rename(folder)
        return folder

    return made


@pytest.fixture(scope="session")
def _tiny_runs(once):
    def fill(runs_dir: Path) -> None:
        from harness.console import Reporter
        from harness.plan import RunSpec
        from harness.run import execute

        sets = (*TINY, "baseline.max_epochs=1")
        execute(RunSpec(method="robust_fgsm", dataset="phantom", sets=sets, device="cpu", runs_dir=runs_dir),
                Reporter(quiet=True))  # fmt: skip

    return once("tiny-runs", fill)


@pytest.fixture(scope="module")
def tiny_runs(_tiny_runs, tmp_path_factory: pytest.TempPathFactory):
    """Baseline and robust_fgsm on a tiny phantom, finished: (runs folder, results). A copy for each file of tests."""
    from harness.record import from_run
    from harness.store import RunFolder

    runs_dir = tmp_path_factory.mktemp("copied") / "runs"
    shutil.copytree(_tiny_runs, runs_dir)
    return runs_dir, [from_run(RunFolder(p)) for p in sorted(runs_dir.iterdir()) if (p / "run.json").exists()]
