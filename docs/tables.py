"""Tables of a page that are computed from published records: written by a command, checked in CI."""

import hashlib
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import harness

ENGINE = Path(harness.__file__).parent


def markdown(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; all columns but the first to the right."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, rule, *lines)) + "\n"


def write_or_check(page: Path, tables: Mapping[str, Callable[[], str]], records: Iterable[Path]) -> None:
    """Write the tables of a page, or with --check in the command leave with status 1 where they are of something else.

    Each stands between `<!-- table: NAME -->` and `<!-- end -->`; the text around them is not touched. The page's stamp
    is a digest of what they are made from: the records, the literature, the page's script and the code of the metrics.
    """
    script = page.with_suffix(".py")
    stamp = f"<!-- tables made by docs/{script.name} from {_digest(script, records)} -->"
    text = page.read_text(encoding="utf-8")
    if "--check" in sys.argv:
        if stamp not in text:
            sys.exit(f"stale: {page.name}. Run `python docs/{script.name}` and commit.")
        print("up to date")
        return
    text = re.sub(r"<!-- tables made by .*? -->", stamp, text)
    for name, make in tables.items():
        block = re.compile(rf"(<!-- table: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        if not block.search(text):
            sys.exit(f"{page.name} has no place for the table {name!r}.")
        content = make()
        text = block.sub(lambda m, content=content: f"{m[1]}\n{content}\n{m[2]}", text)
        print(name, flush=True)
    page.write_text(text, encoding="utf-8")


def _digest(script: Path, records: Iterable[Path]) -> str:
    files = [path.with_suffix(kind) for path in sorted(records) for kind in (".json", ".parquet")]
    files += [script.parents[1] / "reports" / "literature.csv", script, Path(__file__)]
    files += [ENGINE / "stats.py", ENGINE / "compare.py", *sorted((ENGINE / "metrics").glob("*.py"))]
    return hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()[:16]
