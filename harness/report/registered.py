"""What is registered, as far as it can be read without importing anything: words for the pages, never numbers."""

from __future__ import annotations

import ast
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import UsageError
from harness.plugins import Catalogue, Component, catalogue


@dataclass(frozen=True)
class Registered:
    """The components that can be named where the report is made, and what could not be read."""

    found: Catalogue
    problems: list[str] = field(default_factory=list)

    @staticmethod
    def here() -> Registered:
        """Read the built-ins and the plug-in folders; a file that cannot be read costs its words, not the report."""
        try:
            return Registered(catalogue())
        except UsageError as error:
            return Registered(Catalogue(()), [str(error)])

    def get(self, kind: str, name: str) -> Component | None:
        """Return a component; None where nothing of that name is registered here."""
        return next((c for c in self.found.components if (c.kind, c.name) == (kind, name)), None)


def doc(component: Component) -> str:
    """Return the docstring of a component as one paragraph per blank line."""
    owner, _ = _class(component)
    text = (ast.get_docstring(owner) or "") if owner else ""
    return spoken("\n\n".join(" ".join(part.split()) for part in text.split("\n\n")))


def spoken(text: str) -> str:
    """Return a sentence of a docstring without the marks of code."""
    return text.replace("`", "")


def text(component: Component, attribute: str) -> str:
    """Return a class attribute that is a text, its own or of a base class in the same file; "" where there is none."""
    owner, module = _class(component)
    constants = _constants(module)
    classes = {n.name: n for n in module.body if isinstance(n, ast.ClassDef)}
    while owner is not None:
        for node in owner.body:
            value = _assigned(node, attribute)
            if value is not None:
                return _said(value, constants)
        bases = [b.id for b in owner.bases if isinstance(b, ast.Name) and b.id in classes]
        owner = classes[bases[0]] if bases else None
    return ""


def _class(component: Component) -> tuple[ast.ClassDef | None, ast.Module]:
    module = _parsed(component.file)
    found = (n for n in module.body if isinstance(n, ast.ClassDef) and n.name == component.object_name)
    return next(found, None), module


def _parsed(path: Path) -> ast.Module:
    return _tree(path.read_text(encoding="utf-8"))


@functools.lru_cache(maxsize=1024)
def _tree(text: str) -> ast.Module:
    return ast.parse(text)


def _assigned(node: ast.stmt, name: str) -> ast.expr | None:
    if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets):
        return node.value
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == name:
        return node.value
    return None


def _constants(module: ast.Module) -> dict[str, str]:
    """Return the file's constants that are texts or numbers, as texts."""
    found = {}
    for node in module.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            found |= {t.id: str(node.value.value) for t in node.targets if isinstance(t, ast.Name)}
    return found


def _said(value: ast.expr, constants: Mapping[str, str]) -> str:
    """Return the text of an expression: a literal, or one with the file's constants in it; "" for anything else."""
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        return value.value
    if isinstance(value, ast.JoinedStr):
        return "".join(_said(part, constants) for part in value.values)
    if isinstance(value, ast.FormattedValue) and isinstance(value.value, ast.Name):
        return constants.get(value.value.id, "…")
    return ""
