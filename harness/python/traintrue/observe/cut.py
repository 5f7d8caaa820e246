"""Ends a run at a place that `traintrue cut` chooses."""

from __future__ import annotations

import os
import signal
from typing import Optional

EXIT = "exit"


class Cut:
    """A run that is compared with another: all of its states are recorded, and it may be ended after a micro-batch."""

    def __init__(self, after: Optional[int] = None, how: str = EXIT) -> None:
        """`after` counts the micro-batches of the process; None: the run comes to its own end. `how`: exit, or a signal."""
        if how != EXIT and how not in signal.Signals.__members__:
            raise ValueError(f"how: {how!r}, expected {EXIT}, SIGTERM or SIGKILL")
        self.after, self._how, self._done = after, how, False
        # Whether the process is over as far as the comparison goes: what the script still does was not done in time.
        self.over = False

    def is_here(self, done: int) -> bool:
        """Whether so many micro-batches are all that the run may make."""
        return not self._done and done == self.after

    def end(self) -> None:
        """Ends the process. After a SIGTERM the script has as long as it needs."""
        self._done = True
        if self._how == EXIT:
            self.over = True
            raise SystemExit(0)
        os.kill(os.getpid(), signal.Signals[self._how])
