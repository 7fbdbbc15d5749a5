"""Where a number comes from: code, versions, machine."""

from __future__ import annotations

import functools
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import harness

PACKAGES = (
    "harness",
    "torch",
    "torchvision",
    "numpy",
    "pandas",
    "captum",
    "foolbox",
    "robustbench",
    "pyautoattack",
    "timm",
    "efficientnet_lite_pytorch",
    "pillow",
    "pyarrow",
    "safetensors",
)


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=Path(harness.__file__).parent, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


@functools.cache
def git_state() -> dict[str, Any]:
    """Return commit and cleanliness of the checkout that harness runs from; None where it is installed."""
    tracked = _git("ls-files", "--error-unmatch", "__init__.py") is not None  # else: installed inside another checkout
    sha = _git("rev-parse", "HEAD") if tracked else None
    return {"sha": sha, "dirty": bool(_git("status", "--porcelain")) if sha else None}


def collect() -> dict[str, Any]:
    """Return git state, package versions and machine, as run.json keeps them. Paths and host names stay out."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "created": now(),
        "git": git_state(),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "packages": versions,
    }


def now() -> str:
    """Return the time in UTC, to the second, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")
