"""`Trainer(..., callbacks=[TraintrueCallback()])`: records and judges a training of transformers' Trainer."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback

from .verdict import Verdict


class TraintrueCallback(TrainerCallback):
    """Takes the parameters of `verdict.Verdict`."""

    def __init__(self, *given: Any, **named: Any) -> None:
        self._verdict = Verdict(*given, **named)

    def on_train_begin(self, args: Any, state: Any, control: Any, optimizer: Any = None, lr_scheduler: Any = None, **_: Any) -> None:
        recording = self._verdict.begin()
        # The Trainer has made both, and loaded its checkpoint, before this event.
        if optimizer is not None:
            recording.made(optimizer, lr_scheduler)
        if state.global_step > 0:
            recording.loaded()

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._verdict.end()
