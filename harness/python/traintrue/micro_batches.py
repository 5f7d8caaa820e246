"""Writes `epoch` and `micro_batch` events of a recorded loop, from what its loader and its model do."""

from __future__ import annotations

from typing import Any, Dict, List, Optional

from . import batches
from .gradients import Gradients
from .trace import Writer, loss


class MicroBatches:
    """The epochs of a loop, and the batch that the loader yielded last.

    A batch becomes a micro-batch only when the model trains on it: a loop may also iterate over its loader to look at a
    batch, or to evaluate on its training data.
    """

    def __init__(self, gradients: Gradients, tensors: Any, writer: Writer) -> None:
        self._gradients, self._tensors, self._writer = gradients, tensors, writer
        self._batch: Optional[Dict[str, Any]] = None
        self._epoch, self._index = -1, 0
        # The loader has begun, and nothing has been trained on since; its epoch is written with the first micro-batch.
        self._begins = False
        # The loader has ended; the event waits, because a loop may apply its last window after the last batch.
        self._over = False

    def epoch_begins(self) -> None:
        self.end_epoch()
        self._index, self._begins = 0, True

    def epoch_ends(self) -> None:
        self._over = not self._begins

    def end_epoch(self) -> None:
        """Writes the end of the last epoch, if it is over and not written."""
        if self._over:
            self._over = False
            self._writer.event("epoch", epoch=self._epoch, edge="end")

    def yielded(self, batch: Any, samples: Optional[List[int]]) -> None:
        """The loader yields a batch. `samples` are its ids."""
        seen = batches.describe(batch, self._tensors)
        self._batch = {"index": self._index, "samples": samples, "losses": [], "forwards": 0, **seen}
        self._index += 1

    def is_new(self) -> bool:
        """Whether the model has not trained on the last batch yet."""
        return self._batch is not None and self._batch["forwards"] == 0

    def forward(self) -> None:
        """The model has made a training forward."""
        if self._batch is not None:
            self._batch["forwards"] += 1

    def loss(self, value: Any) -> None:
        """A mean loss of the last batch; it stays a tensor for now, so that no hook waits for the device."""
        if self._batch is not None:
            self._batch["losses"].append(value)

    def settle(self) -> None:
        """Writes the last batch if it was trained on; nothing more can happen to it."""
        batch, self._batch = self._batch, None
        had_backward = self._gradients.next_micro_batch()
        # A loop may call a method of the model, not the model itself: no forward hook runs, but gradients arrive.
        if batch is None or (batch.pop("forwards") == 0 and not had_backward):
            return
        if self._begins:
            self._begins = False
            self._epoch += 1
            self._writer.event("epoch", epoch=self._epoch, edge="begin")
        losses = [loss("loss", self._tensors.number(value), 1) for value in batch.pop("losses")]
        self._writer.event("micro_batch", epoch=self._epoch, losses=losses, **batch)

    def place(self) -> Dict[str, int]:
        """Epoch and micro-batches done, for a checkpoint. The end of an epoch is the start of the next."""
        between = self._over or self._begins or self._epoch < 0
        return {"epoch": self._epoch + int(between), "micro_batches": 0 if between else self._index}
