"""Every metric in one sentence, with its unit and direction, read from what the metrics are registered with."""

from __future__ import annotations

import re
from typing import Any

from harness.metrics.cells import registration
from harness.metrics.summary import builtin
from harness.report.registered import spoken

SHAPE = re.compile(r",? ?\(R,(?:[^()]|\([^()]*\))*\)")  # of the returned array: of no use to a reader


def glossary() -> list[dict[str, Any]]:
    """Return the metrics by evaluation, in the order of the boards' columns."""
    found: dict[str, list[dict[str, Any]]] = {}
    for metric in builtin():
        own = registration(metric)
        sentence = spoken(SHAPE.sub("", (metric.__doc__ or "").partition("\n")[0]).strip())
        found.setdefault(own["evaluation"], []).append(
            {"name": own["name"], "sentence": sentence, "unit": own.get("unit", ""), "higher": own["higher_is_better"],
             "source": own.get("source", "")})  # fmt: skip
    return [{"evaluation": e, "metrics": m} for e, m in found.items()]
