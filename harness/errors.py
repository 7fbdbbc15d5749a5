"""Errors a user can act on. Each message has three parts: what was expected, what came, what to do.

The command line prints the message alone and leaves with `exit_status`; anything else is a bug and keeps its
traceback.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class HarnessError(Exception):
    """The work failed, or only part of it was done (exit status 4)."""

    exit_status = 4


class NothingToScoreError(HarnessError):
    """An evaluation has found that this run cannot be scored by it; the message says why. The run goes on without."""


class UsageError(HarnessError):
    """The command or its input is wrong (exit status 2)."""

    exit_status = 2


class NothingMeasured(HarnessError):
    """There was nothing to compare or to measure (exit status 3)."""

    exit_status = 3


def closest(name: str, known: Iterable[str]) -> str:
    """Return ` Did you mean 'x' or 'y'?` for a mistyped name, or the empty string.

    >>> closest("robust_fgms", ["baseline", "robust_fgsm"])
    " Did you mean 'robust_fgsm'?"
    """
    folded = {candidate.casefold(): candidate for candidate in known}
    near = get_close_matches(name.casefold(), folded, n=3, cutoff=0.5)
    return f" Did you mean {' or '.join(repr(folded[n]) for n in near)}?" if near else ""


def unknown(kind: str, name: str, known: Iterable[str], advice: str = "") -> UsageError:
    """Return the error for a name that is not registered; it names the closest ones, then all of them."""
    names = sorted(known)
    listing = ", ".join(names) if names else "none"
    return UsageError(f"unknown {kind} {name!r}.{closest(name, names)} Known: {listing}. {advice}".rstrip())
