"""Records a training between two events of its Trainer, and prints or raises the verdict."""

from __future__ import annotations

import os
import sys
from typing import IO, Any, Optional

from .. import command
from ..declared import checked
from ..recorder import Recording
from ..script import new_trace


class Verdict:
    """The part that all callbacks share.

    The trace is a new file in `folder`. With `strict`, a training that is broken, or of which nothing could be judged, raises
    `traintrue.NotHeld` when it ends. Facts are declared as for `traintrue.record`.
    """

    def __init__(self, folder: str = "traintrue-record", *, strict: bool = False, **declared: Any) -> None:
        # A wrong name is refused here and not after the model is loaded.
        checked(declared)
        self._folder, self._strict, self._declared = folder, strict, declared
        self._recording: Optional[Recording] = None
        self._trace: Optional[str] = None

    def begin(self) -> Recording:
        """The training begins."""
        self.give_up()
        try:
            command.find()
        except command.CommandError as error:
            if self._strict:
                raise
            print(f"traintrue: this training is recorded and not judged: {error}", file=sys.stderr)
        self._recording = Recording(self._open, self._declared)
        return self._recording

    def give_up(self, error: Optional[BaseException] = None) -> None:
        """The training ends with an error, or without an event: nothing is judged."""
        if self._recording is not None:
            self._recording.close(error)
        self._recording = self._trace = None

    def end(self) -> None:
        """The training is done."""
        trace = self._trace
        recorded = self._recording is not None
        self.give_up()
        if not recorded:
            return
        try:
            if trace is None:
                raise command.nothing("the training", "no optimizer of torch.optim made a step in this process")
            verdict = command.check(trace)
            if self._strict:
                verdict.hold("the training")
            print(f"\n{verdict.text()}")
        except (command.CommandError, command.NotHeld) as error:
            if self._strict:
                raise
            print(f"traintrue: {error}", file=sys.stderr)

    def _open(self) -> IO[str]:
        os.makedirs(self._folder, exist_ok=True)
        file = new_trace(self._folder)
        self._trace = file.name
        return file
