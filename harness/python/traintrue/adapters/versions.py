"""Versions of installed packages, without importing them: `describe` must answer at once."""

from __future__ import annotations

from importlib import metadata
from typing import List, Optional


def installed(package: str) -> Optional[str]:
    """The version of a package; None if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def named(*packages: str) -> str:
    """Names and versions of the packages that are installed."""
    return ", ".join(f"{package} {installed(package)}" for package in packages if installed(package))


def at_least(package: str, *wanted: int) -> bool:
    """Whether a package is installed in this version or a later one."""
    return _numbers(installed(package) or "") >= list(wanted)


def _numbers(version: str) -> List[int]:
    # A release candidate such as 5.0.0rc1 reads as 5.0.1, which is on the right side of every release compared here.
    return [int("".join(filter(str.isdigit, part)) or 0) for part in version.split(".")[:3]]
