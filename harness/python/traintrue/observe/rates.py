"""The rates that the declared schedule gives for each update of an optimizer."""

from __future__ import annotations

import weakref
from typing import Any, Dict, List, Optional

from ..trace import number


class Rates:
    """A declared schedule; None where there is none."""

    def __init__(self, schedule: Optional[Any]) -> None:
        self._schedule = schedule
        self.words: Optional[str] = None if schedule is None else schedule.words
        # By optimizer: the rates that its groups were made with, and its updates so far.
        self._peaks: "weakref.WeakKeyDictionary[Any, List[float]]" = weakref.WeakKeyDictionary()
        self._updates: "weakref.WeakKeyDictionary[Any, int]" = weakref.WeakKeyDictionary()

    def optimizer_made(self, optimizer: Any) -> None:
        """Keeps the rates that the optimizer has now: a loop may set others before its first update."""
        if self._schedule is not None:
            self._peaks[optimizer] = [_peak(group) for group in optimizer.param_groups]

    def of(self, optimizer: Any, applied: bool) -> Optional[List[Any]]:
        """What the schedule gives for the update that the optimizer makes now, one rate per group that has parameters."""
        if self._schedule is None:
            return None
        groups, peaks = optimizer.param_groups, self._peaks.get(optimizer, [])
        peaks = peaks + [_peak(group) for group in groups[len(peaks):]]
        update = self._updates.get(optimizer, 0)
        self._updates[optimizer] = update + applied
        rates = self._schedule.rates(update, peaks)
        return None if rates is None else [number(rate) for rate, group in zip(rates, groups) if group["params"]]


def _peak(group: Dict[str, Any]) -> float:
    # A scheduler that exists already has set `lr` to the first step's rate.
    return float(group.get("initial_lr", group["lr"]))
