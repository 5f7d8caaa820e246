"""Holds a part of a training in anybody's test."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import warnings
from types import TracebackType
from typing import Any, Callable, List, Optional, Type

from . import command
from .recorder import Recorder, Recording, record

# pytest leaves the frames of this file out of a failure's traceback.
__tracebackhide__ = True


class NotJudgedWarning(UserWarning):
    """A part of a training was not judged."""


class Trial:
    """Records a part of a program into a temporary folder, and has the command judge the recording."""

    def __init__(self, what: str, part: str, record: Callable[[str], Recording], judge: Callable[[str], command.Verdict]) -> None:
        """`what` is judged of the program's `part`; `record` and `judge` are given the path of the trace."""
        self._what, self._part, self._record, self._judge = what, part, record, judge

    def begin(self) -> Any:
        """Begins the recording, and returns it."""
        # Before the training, which may be long.
        command.find()
        self._folder = tempfile.mkdtemp(prefix="traintrue-")
        self._trace = os.path.join(self._folder, "run.jsonl")
        try:
            self._recording = self._record(self._trace)
        except BaseException:
            shutil.rmtree(self._folder)
            raise
        return self._recording

    def give_up(self, error: BaseException) -> None:
        """Ends the recording of a part that raised: nothing is judged."""
        self._recording.close(error)
        shutil.rmtree(self._folder)

    def judge(self) -> List[str]:
        """Ends the recording. Raises `NotHeld` if the part is not held; returns what was not judged."""
        self._recording.close()
        if self._recording.updates == 0:
            shutil.rmtree(self._folder)
            raise command.nothing(self._what, f"no optimizer of torch.optim made a step {self._part}, in this process")
        verdict = self._judge(self._trace)
        verdict.hold(self._what)
        # A trace that is not held stays: the finding names its lines.
        shutil.rmtree(self._folder)
        return verdict.notes


class Held:
    """The context manager that `held` returns. `as` gives the recorder."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial

    def __enter__(self) -> Recorder:
        return self._trial.begin()

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException], _traceback: Optional[TracebackType]) -> None:
        if error is not None:
            self._trial.give_up(error)
        else:
            tell(self._trial.judge(), lambda it: warnings.warn(it, stacklevel=4))


def held(model: Any, optimizer: Any, loader: Any = None, **declared: Any) -> Held:
    """Records the training in a `with` block, has `traintrue` judge the recording, and raises `NotHeld` with its findings.

    The parameters are those of `record`, without the path. A training of which nothing can be judged is not held either.
    `NotJudgedWarning` says which part was not judged. An exception of the block goes through unchanged.
    """
    return Held(
        Trial("the training", "in the block", lambda trace: record(trace, model, optimizer, loader, **declared), command.check)
    )


def tell(notes: List[str], warn: Callable[[Warning], None]) -> None:
    """Warns of what was not judged."""
    if not notes:
        return
    warning = NotJudgedWarning("\n".join(notes))
    try:
        warn(warning)
    except NotJudgedWarning:
        # Where warnings are errors: a training that is held must not fail.
        print(f"traintrue: {warning}", file=sys.stderr)
