"""What can be named: methods, datasets, models, explainers, attacks, scores, metrics and evaluations.

A component registers itself with a decorator whose arguments are literals:

    @method("robust_fgsm", source="arXiv:1905.03767, 3.4")

The catalogue reads those decorators from the syntax tree, for built-ins as for plug-in files, so listing imports
nothing. Plug-in files are loaded by path, never by name: an installed top-level package `datasets` would shadow
Hugging Face's.
"""

import ast
import functools
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from harness.errors import UsageError, unknown

Kind = Literal["method", "dataset", "model", "explainer", "attack", "score", "metric", "evaluation"]
KINDS: tuple[Kind, ...] = get_args(Kind)
PLUGIN_FOLDERS = ("methods", "datasets")
BUILTIN_FOLDERS = ("models", "explainers", "attacks", "scores", "metrics", "evaluations")
PACKAGE = Path(__file__).parent

C = TypeVar("C")


def _registration(kind: Kind) -> Callable[..., Callable[[C], C]]:
    def register(name: str, *, source: str = "", version: int = 1, **options: Any) -> Callable[[C], C]:
        def mark(thing: C) -> C:
            marks = dict(vars(thing).get("__harness__", {}))
            marks[kind] = {"name": name, "source": source, "version": version, **options}
            thing.__harness__ = marks  # type: ignore[attr-defined]
            return thing

        return mark

    register.__doc__ = f"Register a {kind} under `name`; all arguments must be literals."
    return register


method = _registration("method")
dataset = _registration("dataset")
model = _registration("model")
explainer = _registration("explainer")
attack = _registration("attack")
score = _registration("score")
metric = _registration("metric")
evaluation = _registration("evaluation")


@dataclass(frozen=True)
class Component:
    """One registered name, as far as it can be known without importing its file."""

    kind: Kind
    name: str
    summary: str  # first line of the docstring
    source: str
    version: int
    file: Path
    object_name: str
    line: int
    module: str | None  # importable name of a built-in; None for a plug-in file, which is loaded by path
    options: dict[str, Any] = field(default_factory=dict)

    def identity(self) -> dict[str, Any]:
        """Return what a stage key keeps of a component: its version, and for a plug-in the bytes of its file."""
        known: dict[str, Any] = {"name": self.name, "version": self.version}
        if self.module is None:
            known["sha256"] = hashlib.sha256(self.file.read_bytes()).hexdigest()
        return known

    def load(self) -> Any:
        """Import the file and return the registered object."""
        if self.module is not None:
            return getattr(importlib.import_module(self.module), self.object_name)
        return getattr(load_file(self.file), self.object_name)


def load_file(path: Path) -> Any:
    """Import a Python file by path under a private module name; the same bytes are executed once per process."""
    path = path.resolve()
    digest = hashlib.sha256(str(path).encode() + path.read_bytes()).hexdigest()[:12]
    name = f"harness_plugin_{digest}_{path.stem}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up by name
    try:
        spec.loader.exec_module(module)
    except UsageError:
        sys.modules.pop(name, None)
        raise
    except Exception as error:
        sys.modules.pop(name, None)
        raise UsageError(
            f"plug-in {path} does not load: {type(error).__name__}: {error}. Mend the file, or leave it out."
        ) from error
    return module


def checkout_folder(name: str, cwd: Path | None = None) -> Path | None:
    """Return folder `name` (methods, datasets, reports) of the checkout the user stands in, else the shipped copy.

    The checkout is the nearest folder upwards of the working directory whose pyproject.toml names this project.
    An installed package carries copies in harness/plugin_files; an editable install has none, and falls back to
    the checkout it was installed from.
    """
    here = (cwd or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if _is_checkout(folder):
            return folder / name
    shipped = PACKAGE / "plugin_files" / name
    if shipped.is_dir():
        return shipped
    return PACKAGE.parent / name if _is_checkout(PACKAGE.parent) else None


def _is_checkout(folder: Path) -> bool:
    project = folder / "pyproject.toml"
    return project.is_file() and 'name = "harness"' in project.read_text(encoding="utf-8", errors="replace")


def _entry_point_paths() -> Iterator[Path]:
    for point in entry_points(group="harness.plugins"):
        package, *rest = point.module.split(".")
        spec = importlib.util.find_spec(package)  # a top-level name: found without being imported
        for root in (spec.submodule_search_locations or []) if spec else []:
            target = Path(root, *rest)
            for candidate in (target, target.with_suffix(".py")):
                if candidate.exists():
                    yield candidate
                    break


def _python_files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(p for p in path.glob("*.py") if not p.name.startswith("_"))
    return [path]


def _scan(path: Path, module: str | None) -> tuple[Component, ...]:
    try:
        return _written(path.read_text(encoding="utf-8"), path, module)
    except (SyntaxError, UnicodeDecodeError) as error:
        raise UsageError(f"plug-in {path} is not valid Python: {error}. Mend the file, or leave it out.") from None


@functools.lru_cache(maxsize=1024)
def _written(text: str, path: Path, module: str | None) -> tuple[Component, ...]:
    """Return the components of a file, once for each text: a run asks for the catalogue several times."""
    found = []
    for node in ast.parse(text, filename=str(path)).body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef):
            continue
        for call in node.decorator_list:
            if not isinstance(call, ast.Call):
                continue
            kind = getattr(call.func, "id", getattr(call.func, "attr", None))
            if kind not in KINDS:
                continue
            try:
                arguments = [ast.literal_eval(a) for a in call.args]
                options = {k.arg: ast.literal_eval(k.value) for k in call.keywords if k.arg}
                (name,) = arguments
            except (ValueError, TypeError):
                raise UsageError(
                    f"{path}, line {call.lineno}: @{kind} takes one name and literal keyword arguments, because "
                    f"they are read without importing the file. Write them out."
                ) from None
            summary = (ast.get_docstring(node) or "").partition("\n")[0]
            found.append(
                Component(
                    kind=kind,
                    name=name,
                    summary=summary,
                    source=options.pop("source", ""),
                    version=options.pop("version", 1),
                    file=path,
                    object_name=node.name,
                    line=node.lineno,
                    module=module,
                    options=options,
                )
            )
    return tuple(found)


@dataclass(frozen=True)
class Catalogue:
    """All components that can be named, and the plug-in paths that were added to the built-in ones."""

    components: tuple[Component, ...]
    paths: tuple[str, ...] = ()

    def of(self, kind: str) -> list[Component]:
        """Return the components of one kind, by name."""
        return sorted((c for c in self.components if c.kind == kind), key=lambda c: c.name)

    def find(self, kind: str, name: str) -> Component:
        """Return one component; raises `UsageError` naming the closest ones."""
        for component in self.components:
            if component.kind == kind and component.name == name:
                return component
        raise unknown(kind, name, (c.name for c in self.of(kind)), "A plug-in of your own is named by --plugin FILE.")

    def load(self, kind: str, name: str) -> Any:
        """Return the registered object itself."""
        return self.find(kind, name).load()


def catalogue(paths: Sequence[str | Path] = (), cwd: Path | None = None) -> Catalogue:
    """Read every decorator: built-ins, `paths` (`--plugin`), the plug-in folders, entry points.

    Raises `UsageError` for a path that does not exist, a file that does not parse, and a name registered twice.
    """
    found: dict[tuple[str, str], Component] = {}
    scanned: set[Path] = set()

    def add(files: Iterable[Path], package: str | None = None) -> None:
        for file in files:
            if file.resolve() in scanned:
                continue
            scanned.add(file.resolve())
            module = f"{package}.{file.stem}" if package else None
            for component in _scan(file, module):
                other = found.setdefault((component.kind, component.name), component)
                if other is not component:
                    raise UsageError(
                        f"{component.kind} {component.name!r} is registered twice: {other.file}:{other.line} and "
                        f"{component.file}:{component.line}. Rename one of them."
                    )

    for folder in BUILTIN_FOLDERS:
        add(_python_files(PACKAGE / folder), f"harness.{folder}")
    for path in map(Path, paths):
        if not path.exists():
            raise UsageError(f"--plugin {path}: expected a Python file or a folder of them; nothing is there.")
        add(_python_files(path))
    for folder in PLUGIN_FOLDERS:
        place = checkout_folder(folder, cwd)
        add(_python_files(place) if place and place.is_dir() else [])
    for path in _entry_point_paths():
        add(_python_files(path))
    return Catalogue(tuple(found.values()), tuple(str(Path(p).resolve()) for p in paths))
