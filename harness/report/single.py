"""A report in one file: every page, script, style and picture of the folder, shown one page at a time.

The address after `?` names the page and what comes after `#` is the page's own, as in the folder: so every link, the
back button and a view that was sent to somebody work as they do there. Each page is loaded anew, its scripts see
nothing of another's. Nothing is asked of the network, and nothing of the file system but this file.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path

import jinja2

from harness.errors import UsageError
from harness.store import write_bytes

TEXTS = (".html", ".js", ".css")
PICTURES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp"}


def bundle(folder: Path, environment: jinja2.Environment, router: Path, out: Path) -> int:
    """Write the report of `folder` as one file `out`, return its size in bytes; the same folder gives the same bytes.

    `router` is the script that shows the pages. Raises `UsageError` where `out` is a folder, or is not named .html.
    """
    refuse(out)
    files = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".")):
        name = path.relative_to(folder).as_posix()
        if path.suffix in TEXTS:
            files.append({"name": name, "content": literal(path.read_text(encoding="utf-8"))})
        elif path.suffix in PICTURES:
            data = base64.b64encode(path.read_bytes()).decode("ascii")
            files.append({"name": name, "content": literal(f"data:{PICTURES[path.suffix]};base64,{data}")})
    script = router.read_text(encoding="utf-8")
    text = environment.get_template("single.html.j2").render(files=files, router=script)
    content = text.encode("utf-8", "replace")
    write_bytes(out, content)
    return len(content)


def refuse(out: Path) -> None:
    """Raise `UsageError` where the file cannot be written there."""
    if out.suffix.lower() not in (".html", ".htm") or out.is_dir():
        raise UsageError(
            f"--out {out}: expected the name of a file that ends in .html, since --single-file writes one file. Give "
            "such a name, or leave --single-file out for a folder."
        )


def literal(text: str) -> str:
    """Return a text as JSON that no HTML parser takes for the end of a script, or for anything but text."""
    return json.dumps(text).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
