"""Writes `memory` events: the memory of this process by lane (resident size, device allocator, live tensors)."""

from __future__ import annotations

import os
import time
from typing import Any, Dict

from .trace import Writer

# Counting live tensors visits every object of the process. It may use this share of the processor time; but a slope needs
# more than one point, so that the first few counts are always made, however short the run is.
SHARE, ALWAYS = 1 / 200, 4


class Memory:
    """The memory of one run. The recorder and the adapters share it, so that their lanes are the same."""

    def __init__(self, writer: Writer, tensors: Any, always: int = ALWAYS) -> None:
        self._writer, self._tensors, self._always = writer, tensors, always
        self._started, self._spent, self._counts = time.process_time(), 0.0, 0

    def write(self, at: str, step: int, *, count: bool = False, **measured: int) -> None:
        """Writes the lanes at a boundary. `count` adds live tensors; `measured` are lanes that the caller read itself."""
        lanes = {**_process_lanes(), **self._tensors.device_lanes(), **measured}
        if count:
            lanes.update(self._tensor_lanes())
        self._writer.event("memory", at=at, step=step, lanes=lanes)

    def _tensor_lanes(self) -> Dict[str, int]:
        """Live tensors and their bytes; empty while another count would exceed the share of processor time."""
        now = time.process_time()
        if self._counts >= self._always and self._spent > SHARE * (now - self._started):
            return {}
        count, held = self._tensors.alive()
        self._counts += 1
        self._spent += time.process_time() - now
        return {"tracked_tensors": count, "tracked_bytes": held}


def _process_lanes() -> Dict[str, int]:
    """The resident size; empty on systems without /proc."""
    try:
        with open("/proc/self/statm", encoding="ascii") as statm:
            pages = int(statm.read().split()[1])
    except (OSError, ValueError, IndexError):
        return {}
    return {"rss_bytes": pages * os.sysconf("SC_PAGE_SIZE")}
