"""On what terms datasets may be used, and who says so: reports/datasets.csv, for the report and the dataset card."""

from __future__ import annotations

from pathlib import Path

from harness.errors import UsageError
from harness.reading import read_rows

FILE = "datasets.csv"
COLUMNS = ("dataset", "terms", "source")
NOT_STATED = "not stated"
MEND = "Mend the line, or restore the file."


def terms(folder: Path) -> dict[str, dict[str, str]]:
    """Return dataset -> its terms of use and where they are said, from the report's folder; {} without the file.

    Raises `UsageError` for a file that is not a table of these columns.
    """
    path = folder / FILE
    if not path.exists():
        return {}
    lines = read_rows(path, MEND)
    if not lines or tuple(lines[0][1]) != COLUMNS:
        raise UsageError(f"{path}: expected the columns {', '.join(COLUMNS)}. {MEND}")
    found = {}
    for number, fields in lines[1:]:
        if len(fields) != len(COLUMNS) or fields[0] in found:
            raise UsageError(f"{path}, line {number}: expected the three fields of a dataset not yet named. {MEND}")
        found[fields[0]] = {"terms": fields[1], "terms_source": fields[2]}
    return found


def registered(name: str) -> str:
    """Return the registered name of a dataset as rows call it: own data add theirs after a colon.

    >>> registered("folder:mychests"), registered("cifar10")
    ('folder', 'cifar10')
    """
    return name.partition(":")[0]
