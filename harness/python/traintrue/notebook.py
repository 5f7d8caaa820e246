"""`%load_ext traintrue` records what a notebook trains from there on; `%traintrue` prints the verdict, and begins anew."""

from __future__ import annotations

import gc
from typing import Any

from .callbacks.verdict import Verdict

MAGIC = "traintrue"


class Notebook:
    """The recording of one notebook."""

    def __init__(self, shell: Any) -> None:
        self._verdict = Verdict()
        self._begin()
        shell.register_magic_function(self.judge, "line", MAGIC)

    def judge(self, _line: str = "") -> None:
        """Judges what was recorded since the last time."""
        self._verdict.end()
        self._begin()

    def close(self) -> None:
        """Ends the recording without a verdict."""
        self._verdict.give_up()

    def _begin(self) -> None:
        from torch.optim import Optimizer

        recording = self._verdict.begin()
        # A cell may train with an optimizer of an earlier cell.
        for it in gc.get_objects():
            if issubclass(type(it), Optimizer):
                recording.made(it)
