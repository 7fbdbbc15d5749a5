"""The arrows of the design: a module imports only from its own band downwards, and plug-ins only from harness.api."""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

import harness
from harness.plugins import catalogue

PACKAGE = Path(harness.__file__).parent
ROOT = PACKAGE.parent

BANDS = [
    {
        "errors",
        "rows",
        "columns",
        "config",
        "rng",
        "plugins",
        "stats",
        "store",
        "record",
        "provenance",
        "console",
        "metrics",
        "draws",
        "paired",
        "reading",
        "shapes",
        "shards",
        "visible",
        "grid",
        "named",
        "conditions",
        "changes",
        "recorded",
        "terms",
        "parent",
    },
    {"types", "tasks", "device", "together", "recipe", "masking", "memory", "robustbench_adapter"},
    {"data", "models", "zoo", "attacks", "explainers", "scores", "regularisers"},
    {"fit", "evaluations", "api"},
    {
        "stages",
        "plan",
        "prepare",
        "chosen",
        "fetch",
        "report",
        "gate",
        "publish",
        "check",
        "listing",
        "run_index",
        "trained",
        "compare",
        "explain",
        "outcome",
        "comparison",
        "verdict",
        "card",
    },
    {"standing"},
    {"assist"},
    {"attend"},
    {"run"},
    {"commands", "pages", "contrast", "rerun"},
    {"suite", "executors"},
    {"conduct"},
    {"cli"},
    {"__main__"},
]
LEVEL = {name: level for level, names in enumerate(BANDS) for name in names}
TORCH_FREE = {
    *BANDS[0],
    "report",
    "gate",
    "publish",
    "check",
    "compare",
    "listing",
    "run_index",
    "outcome",
    "pages",
    "commands",
    "cli",
    "comparison",
    "contrast",
    "verdict",
    "rerun",
}
SIBLINGS = BANDS[2]
WEIGHTS = {"imagenet"}  # what torchvision's weights are called, as well as a dataset
NAMED_EXCEPTIONS = {("zoo", "models"), ("explainers/adversarial.py", "attacks")}  # a band or one file


def modules() -> list[Path]:
    return sorted(p for p in PACKAGE.rglob("*.py") if "plugin_files" not in p.parts)


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@functools.cache
def names_of(*kinds: str) -> frozenset[str]:
    """Return the names of all components of these kinds: reading them takes longer than any test here."""
    found = catalogue()
    return frozenset(c.name for kind in kinds for c in found.of(kind))


def imports(path: Path, *, top_only: bool = False) -> Iterator[str]:
    tree = parsed(path)
    nodes = tree.body if top_only else list(ast.walk(tree))
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in nodes:
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [f"{node.module}.{a.name}" for a in node.names] if node.module == "harness" else [node.module]
            yield from names


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_arrows_point_downwards(path: Path):
    mine = part_of(path)
    if mine == "__init__":
        return
    assert mine in LEVEL, f"{mine} has no band: add it to BANDS and to the design"
    for name in imports(path):
        parts = name.split(".")
        if parts[0] != "harness" or len(parts) < 2 or parts[1].startswith("__"):
            continue
        theirs = parts[1]
        assert theirs != "api", f"{path}: nothing in harness imports harness.api"
        assert LEVEL[theirs] <= LEVEL[mine], f"{path}: {mine} imports {theirs}, which lies above it"
        if mine in SIBLINGS and theirs in SIBLINGS:
            named = {(mine, theirs), (str(path.relative_to(PACKAGE)), theirs)} & NAMED_EXCEPTIONS
            assert mine == theirs or named, f"{path}: siblings never import each other"


@pytest.mark.parametrize("path", [p for p in modules() if part_of(p) in TORCH_FREE], ids=lambda p: p.name)
def test_no_torch_at_import(path: Path):
    heavy = {n.split(".")[0] for n in imports(path, top_only=True)} & {"torch", "torchvision", "captum", "foolbox"}
    assert not heavy


@pytest.mark.parametrize(
    "path", sorted([*ROOT.glob("methods/*.py"), *ROOT.glob("datasets/*.py")]), ids=lambda p: p.name
)
def test_plugin_files_import_harness_api_alone(path: Path):
    ours = [n for n in imports(path) if n.split(".")[0] == "harness"]
    assert set(ours) == {"harness.api"}


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_special_case_for_a_method_or_a_dataset(path: Path):
    names = names_of("method", "dataset") - (WEIGHTS if part_of(path) == "models" else set())
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Compare):
            constants = {n.value for n in ast.walk(node) if isinstance(n, ast.Constant)}
            assert not constants & names, f"{path}, line {node.lineno}"


def test_plugin_folders_are_no_packages():
    assert not (ROOT / "methods" / "__init__.py").exists()
    assert not (ROOT / "datasets" / "__init__.py").exists()
