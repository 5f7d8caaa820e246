"""Holds the memory of a training to a limit on its growth per update."""

from __future__ import annotations

import re
from typing import Optional, Sequence

from . import command
from .recorder import Recording
from .testing import Trial

# As the command reads a limit. It is read here too, to refuse a wrong one before any test runs.
SLOPE = re.compile(r"\d+(\.\d+)?\s*(B|KiB|MiB|GiB|TiB)/step")
LANES = ("rss_bytes", "tracked_bytes", "device_in_use_bytes", "device_reserved_bytes")
# A slope needs points: live tensors are counted at so many first updates, whatever the time that the counting takes.
COUNTS = 100


def growth(max_slope: str, lanes: Optional[Sequence[str]] = None) -> Trial:
    """Memory may grow by `max_slope` per update, in every lane or in those named."""
    if not isinstance(max_slope, str) or SLOPE.fullmatch(max_slope) is None:
        raise ValueError(f'max_slope: {max_slope!r}, expected an amount in B, KiB, MiB, GiB or TiB per step, such as "64KiB/step"')
    if isinstance(lanes, str) or any(it not in LANES for it in lanes or ()):
        raise ValueError(f"lanes: {lanes!r}, expected a list with some of {', '.join(LANES)}")
    return Trial(
        "memory",
        "while the test function ran",
        lambda trace: Recording(lambda: open(trace, "w", encoding="utf-8"), {}, counts=COUNTS),
        lambda trace: command.gate(trace, max_slope, list(lanes or ())),
    )
