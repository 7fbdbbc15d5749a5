"""Commands that read stored rows, and the help, work where torch cannot be imported."""

import subprocess
import sys

import pytest

BLOCK = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in ('torch', 'torchvision', 'captum'):
            raise ImportError(name + ' is blocked')
sys.meta_path.insert(0, Blocked())
from harness.cli import main
main(sys.argv[1:])
"""


def blocked(*arguments: str, cwd=None) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", BLOCK, *arguments], capture_output=True, text=True, cwd=cwd)


@pytest.mark.parametrize(
    "arguments",
    [("--help",), ("run", "--help"), *(("list", k) for k in ("methods", "datasets", "models", "metrics", "runs"))],
    ids=" ".join,
)
def test_without_torch(arguments):
    done = blocked(*arguments)
    assert done.returncode == 0, done.stderr


def test_report_and_publish_without_torch(tiny_runs, tmp_path):
    runs_dir, results = tiny_runs
    place = ["--runs-dir", str(runs_dir)]
    published = blocked("publish", results[0].run_id, *place, "--to", str(tmp_path / "results"), "--allow-dirty")
    assert published.returncode == 0, published.stderr
    out = ["--out", str(tmp_path / "site"), "--leaderboard", str(tmp_path / "leaderboard.md")]
    report = blocked("report", *place, "--results", str(tmp_path / "results"), *out)
    assert report.returncode == 0, report.stderr
    assert (tmp_path / "site" / "index.html").exists()
    assert "baseline" in (tmp_path / "leaderboard.md").read_text()


def test_compare_and_the_verdict_of_a_rerun_without_torch(tiny_runs, tmp_path):
    runs_dir, results = tiny_runs
    place = ["--runs-dir", str(runs_dir), "--results", str(tmp_path), "--out", str(tmp_path / "page")]
    done = blocked("compare", *(r.run_id for r in results), *place)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "page" / "index.html").exists()
    code = BLOCK.replace("from harness.cli import main\nmain(sys.argv[1:])", "import harness.verdict, harness.recorded")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_block_blocks():
    assert blocked("show", "model", "resnet50").returncode != 0


def test_help_loads_nothing_heavy():
    code = "import sys, harness.cli; print([m for m in ('torch', 'pandas', 'numpy', 'rich') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
