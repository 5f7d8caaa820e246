"""`Trainer(..., callbacks=[TraintrueCallback()])`: records and judges a fit of Lightning's Trainer."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from .verdict import Verdict

# Lightning has two names, each with classes of its own.
if "pytorch_lightning" in sys.modules and "lightning.pytorch" not in sys.modules and not TYPE_CHECKING:
    from pytorch_lightning import Callback
else:
    from lightning.pytorch import Callback


class TraintrueCallback(Callback):
    """Takes the parameters of `verdict.Verdict`."""

    def __init__(self, *given: Any, **named: Any) -> None:
        self._verdict = Verdict(*given, **named)

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        # Before the optimizers are made, and before a checkpoint is loaded.
        if stage == "fit":
            self._verdict.begin()

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        self._verdict.end()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self._verdict.give_up(exception)
