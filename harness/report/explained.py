"""The page of `harness explain`: one file and the pictures beside it, which opens from the file system."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from harness.report.site import claim, make_environment, templates_folder
from harness.store import write_bytes

MARKER = ".harness-explain"  # says that this folder may be rewritten
PICTURES = "pictures"


def begin(out: Path) -> None:
    """Take `out` for the page; `UsageError` where it holds something else, or there are no templates."""
    templates_folder()
    claim(out, MARKER, "harness explain")


def write(out: Path, entry: Mapping[str, Any], pictures: Mapping[str, bytes], arrays: bytes) -> Path:
    """Write the page of an entry, its pictures by name and its arrays (NPZ) into `out`, and return the page."""
    for name, content in pictures.items():
        write_bytes(out / PICTURES / name, content)
    for path in (out / PICTURES).iterdir():  # those of an earlier page
        if path.name not in pictures:
            path.unlink()
    write_bytes(out / "explanations.npz", arrays)
    folder = templates_folder()
    css = Markup((folder / "assets" / "report.css").read_text(encoding="utf-8"))
    text = make_environment(folder / "templates").get_template("explain.html.j2").render(css=css, root="", **entry)
    write_bytes(out / "index.html", text.encode("utf-8", "replace"))
    return out / "index.html"
