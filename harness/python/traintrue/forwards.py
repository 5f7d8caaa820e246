"""Watches the forwards of a recorded model, and tells those of training from those of an evaluation."""

from __future__ import annotations

import math
from typing import Any, Callable, List, Mapping, Optional

from .evaluation import Evaluation
from .hooks import Hook
from .micro_batches import MicroBatches
from .parameters import Parameters
from .trace import loss

# What writes an evaluation that is over, with its losses.
Evaluated = Callable[[Evaluation, List[dict]], None]


class Forwards:
    """The forwards of a model. A training forward belongs to the last batch; others make an evaluation."""

    def __init__(
        self, model: Any, parameters: Parameters, micro_batches: MicroBatches, tensors: Any, evaluated: Evaluated
    ) -> None:
        self._model, self._parameters, self._micro_batches = model, parameters, micro_batches
        self._tensors, self._evaluated = tensors, evaluated
        self._releases: List[Callable[[], None]] = []
        self._evaluation: Optional[Evaluation] = None
        self._losses: List[Any] = []

    def watch(self, criterion: Optional[Any]) -> None:
        """Listens to the model, and to the module that computes its loss, until `release`."""
        before = self._model.register_forward_pre_hook(Hook(lambda *_: self._begins()))
        self._releases.append(before.remove)
        after = self._model.register_forward_hook(Hook(lambda _module, _inputs, output: self._ends(output)))
        self._releases.append(after.remove)
        if criterion is not None:
            handle = criterion.register_forward_hook(Hook(lambda _module, _inputs, output: self._criterion(output)))
            self._releases.append(handle.remove)

    def release(self) -> None:
        """Takes all hooks off."""
        while self._releases:
            self._releases.pop()()

    def loss(self, value: Any) -> None:
        """A mean loss of the micro-batch, computed outside the model."""
        if self._tensors.is_tensor(value):
            if math.prod(value.shape) != 1:
                raise ValueError(f"loss: shape {tuple(value.shape)}, expected one number, the mean of the micro-batch")
            value = value.detach()
        if self._tensors.grad_enabled():
            self._micro_batches.loss(value)

    def end_evaluation(self) -> None:
        """No more forwards belong to the evaluation, if there is one."""
        evaluation, self._evaluation = self._evaluation, None
        values, self._losses = self._losses, []
        if evaluation is not None:
            self._evaluated(evaluation, [loss("loss", self._tensors.number(value), 1) for value in values])

    def _begins(self) -> None:
        new, training = self._micro_batches.is_new(), self._model.training
        if self._tensors.grad_enabled() and (training or new):
            # A loop that leaves its model in evaluation mode trains nevertheless, if the batch is new.
            return self.end_evaluation()
        if new and training:
            # Without gradients, in training mode, and the batch is not trained on yet: this model serves as its own teacher
            # or reference. It may draw dropout, which an evaluation may not.
            return
        if self._evaluation is not None:
            return self._evaluation.forward_begins()
        if not new:
            self._micro_batches.settle()
        self._evaluation = Evaluation(self._parameters, self._tensors)

    def _ends(self, output: Any) -> None:
        value = _loss_of(output, self._tensors)
        if self._evaluation is not None:
            if value is not None:
                self._losses.append(value)
            self._evaluation.forward_ends()
        elif self._tensors.grad_enabled():
            self._micro_batches.forward()
            if value is not None:
                self._micro_batches.loss(value)

    def _criterion(self, output: Any) -> None:
        value = _loss_of(output, self._tensors)
        if value is not None:
            self.loss(value)


def _loss_of(output: Any, tensors: Any) -> Optional[Any]:
    """The loss in a model's output: `output.loss`, `output["loss"]`, or the output itself if it is one number."""
    found = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
    if found is None and tensors.is_tensor(output) and len(output.shape) == 0:
        found = output
    if not tensors.is_tensor(found) or math.prod(found.shape) != 1:
        return None
    # Without its graph: otherwise the recorder would keep the activations of the step alive.
    return found.detach()
