"""Versions of installed packages, without importing them: a trainer must describe itself in a moment."""

from __future__ import annotations

from importlib import metadata
from typing import List, Optional, Tuple


def installed(package: str) -> Optional[str]:
    """The version of a package; none where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def named(*packages: str) -> str:
    """Names and versions of those that are installed."""
    return ", ".join(f"{package} {installed(package)}" for package in packages if installed(package))


def at_least(package: str, *wanted: int) -> bool:
    """Whether a package is installed in this version or a later one."""
    return tuple(_numbers(installed(package) or "")) >= tuple(wanted)


def _numbers(version: str) -> List[int]:
    parts: Tuple[str, ...] = tuple(version.split(".")[:3])
    return [int("".join(filter(str.isdigit, part)) or 0) for part in parts]
