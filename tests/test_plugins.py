"""The catalogue: what is found, in which order, and what is refused."""

import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.plugins import KINDS, catalogue, checkout_folder, load_file

METHOD = '''
from dataclasses import dataclass
from harness.api import Supervised, method, setting

@method("{name}", source="here")
@dataclass(frozen=True, kw_only=True)
class Mine(Supervised):
    """A method of my own."""
    strength: float = setting(2.0, unit="px", source="me")
'''


@pytest.fixture
def plugin(tmp_path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(METHOD.format(name="mine"))
    return path


def test_built_ins_are_found_without_importing_anything():
    code = (
        "import sys; from harness.plugins import catalogue; c = catalogue(); "
        "print(len(c.components), [m for m in ('torch', 'numpy', 'pandas') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    count, _, loaded = out.partition(" ")
    assert int(count) > 20
    assert loaded.strip() == "[]"


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_component_with_summary(kind):
    found = catalogue().of(kind)
    assert found
    assert all(c.summary and c.version >= 1 for c in found)


def test_plugin_by_file_and_by_folder(plugin):
    for place in (plugin, plugin.parent):
        component = catalogue([place]).find("method", "mine")
        assert component.module is None
        made = component.load()()
        assert made.strength == 2.0


def test_a_plugin_is_loaded_by_path_not_by_name(plugin):
    catalogue([plugin]).load("method", "mine")
    assert "mine" not in sys.modules


def test_changed_bytes_change_identity_and_are_loaded_anew(plugin):
    before = catalogue([plugin]).find("method", "mine")
    first = before.load()
    identity = before.identity()
    plugin.write_text(plugin.read_text().replace("2.0", "3.0"))
    assert before.identity() != identity
    assert catalogue([plugin]).load("method", "mine")().strength == 3.0
    assert first().strength == 2.0


def test_unknown_name_names_the_closest():
    with pytest.raises(UsageError, match="Did you mean 'robust_fgsm'"):
        catalogue().find("method", "robust_fgms")


def test_a_name_registered_twice_is_refused(plugin):
    plugin.write_text(METHOD.format(name="baseline"))
    with pytest.raises(UsageError, match=r"registered twice: .*mine\.py.*baseline\.py|registered twice"):
        catalogue([plugin])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def broken(:", "not valid Python"),
        ('NAME = "x"\n@method(NAME)\nclass A: ...\n', "literal"),
        ("@method()\nclass A: ...\n", "one name"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, text, message):
    path = tmp_path / "bad.py"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        catalogue([path])


def test_a_file_that_fails_to_import_says_so(tmp_path):
    path = tmp_path / "bad.py"
    path.write_text("import no_such_module_anywhere\n")
    with pytest.raises(UsageError, match=r"does not load: ModuleNotFoundError"):
        load_file(path)


def test_missing_path():
    with pytest.raises(UsageError, match="nothing is there"):
        catalogue(["/no/such/file.py"])


def test_entry_points(tmp_path, monkeypatch, plugin):
    """A third-party package names a folder of plug-ins; it is found without importing the package."""
    package = tmp_path / "site" / "their_package"
    (package / "plugs").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "plugs" / "theirs.py").write_text(METHOD.format(name="theirs"))
    info = tmp_path / "site" / "their_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[harness.plugins]\ntheirs = their_package.plugs\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert catalogue().find("method", "theirs").file.name == "theirs.py"


def test_the_working_directory_s_checkout_comes_first(tmp_path):
    checkout = tmp_path / "checkout"
    (checkout / "methods").mkdir(parents=True)
    (checkout / "pyproject.toml").write_text('[project]\nname = "harness"\n')
    inside = checkout / "deep" / "below"
    inside.mkdir(parents=True)
    assert checkout_folder("methods", inside) == checkout / "methods"
    assert checkout_folder("methods", tmp_path) != checkout / "methods"
