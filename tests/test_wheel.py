"""The wheel: built, installed into a clean environment, it shows every built-in and shadows nobody's `datasets`."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from support import REPOSITORY

from harness.plugins import catalogue


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    command = [
        sys.executable,
        "-m",
        "hatchling",
        "build",
        "-t",
        "wheel",
        "-d",
        str(out),
    ]  # no network, unlike `uv build`
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    (path,) = out.glob("*.whl")
    return path


def test_top_level_is_harness_alone(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {n.split("/")[0] for n in names if ".dist-info" not in n} == {"harness"}
    for folder in ("methods", "datasets", "reports", "reports/templates", "reports/assets"):
        ours = {p.name for p in (REPOSITORY / folder).iterdir() if p.is_file()}
        shipped = {n.rsplit("/", 1)[1] for n in names if n.startswith(f"harness/plugin_files/{folder}/")}
        assert ours, folder
        assert ours <= shipped, folder


def test_installed_it_lists_every_built_in_and_shadows_nothing(wheel, tmp_path):
    """Installed by unpacking, beside the packages of this environment but not this checkout."""
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    code = (
        "import sys; sys.path[:] = [p for p in sys.path if p not in ('', CHECKOUT)]; sys.path.insert(0, SITE)\n"
        "import importlib.util, harness\n"
        "from harness.plugins import catalogue\n"
        "assert harness.__file__.startswith(SITE), harness.__file__\n"
        "theirs = importlib.util.find_spec('datasets')\n"
        "assert theirs is None or 'harness' not in str(theirs.origin), theirs\n"
        "print('\\n'.join(sorted(f'{c.kind} {c.name} {SITE in str(c.file)}' for c in catalogue().components)))\n"
        "from harness.plugins import checkout_folder\n"
        "assert str(checkout_folder('reports')).startswith(SITE)\n"
        "from harness.report import literature, site\n"
        "assert literature.load(site.templates_folder())\n"
    )
    head = f"SITE = {str(site)!r}\nCHECKOUT = {str(REPOSITORY)!r}\n"
    done = subprocess.run([sys.executable, "-c", head + code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    expected = sorted(f"{c.kind} {c.name} True" for c in catalogue().components)
    assert done.stdout.split("\n")[:-1] == expected
