"""Memory of this process, by lane."""

from __future__ import annotations

import os
import time
from typing import Any, Dict

# Counting tensors goes through every object of the process: it may take this share of the processor's time. A slope needs
# more than one count, however short the run is.
SHARE, LEAST = 1 / 200, 4


def process_lanes() -> Dict[str, int]:
    """The resident size; nothing where the system does not tell."""
    try:
        with open("/proc/self/statm", encoding="ascii") as statm:
            pages = int(statm.read().split()[1])
    except (OSError, ValueError, IndexError):
        return {}
    return {"rss_bytes": pages * os.sysconf("SC_PAGE_SIZE")}


class Counting:
    """Counts the tensors that are alive, no oftener than its share of the time allows."""

    def __init__(self, tensors: Any) -> None:
        self._tensors = tensors
        self._begun, self._spent, self._counted = time.process_time(), 0.0, 0

    def lanes(self) -> Dict[str, int]:
        """Tensors and their bytes; nothing where it is too early to count again."""
        now = time.process_time()
        if self._counted >= LEAST and self._spent > SHARE * (now - self._begun):
            return {}
        count, held = self._tensors.alive()
        self._counted += 1
        self._spent += time.process_time() - now
        return {"tracked_tensors": count, "tracked_bytes": held}
