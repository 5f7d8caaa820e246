"""Writes `update` events: watches the steps of an optimizer and measures each of them."""

from __future__ import annotations

import math
from typing import Any, Callable, Dict, List, Mapping, Optional, Protocol, Sequence

from . import scalers
from .gradients import Gradients
from .parameters import Parameters
from .tensor_steps import TensorSteps
from .trace import Writer, number


class Listener(Protocol):
    """The owner of the trace, which is told about each update."""

    def update_begins(self) -> Dict[str, Any]:
        """Writes whatever belongs before the update. Returns further fields of its event."""

    def update_ends(self, applied: bool, checksums: Optional[Mapping[str, str]]) -> None:
        """The event is written; `checksums` are the parameters' where this update has a digest."""


class Updates:
    """The updates of one optimizer. All adapters share it, so that they measure the same."""

    def __init__(
        self,
        parameters: Parameters,
        optimizer: Any,
        tensors: Any,
        writer: Writer,
        listener: Listener,
        *,
        digest_every: int = 1,
    ) -> None:
        self._parameters, self._optimizer, self._tensors = parameters, optimizer, tensors
        self._writer, self._listener = writer, listener
        self._digest_every = digest_every
        self._steps = TensorSteps(parameters.named, optimizer, tensors)
        self.gradients = Gradients(parameters.named, optimizer, tensors, self._arrives, self._arrived)
        self._releases: List[Callable[[], None]] = [self.gradients.release]
        # Whether a clip has been called since the last backward pass: only the first finds what it is to clip.
        self._is_clipped = False
        self.step = 0
        self.norms: Dict[str, float] = {}

    def watch(self) -> None:
        """Listens to the optimizer, until `release`."""
        before = self._optimizer.register_step_pre_hook(lambda _optimizer, *given: self._step_begins(*given))
        self._releases.append(before.remove)
        after = self._optimizer.register_step_post_hook(lambda _optimizer, *given: self._step_ends(*given))
        self._releases.append(after.remove)
        self._releases.append(self._tensors.before_clips(self._before_clip))

    def release(self) -> None:
        """Takes all hooks off."""
        while self._releases:
            self._releases.pop()()

    # A step with a closure computes its gradients inside the step: they can only be read when the step is done. Without a
    # closure they are read before the step, because a fused optimizer unscales them in place.

    def _step_begins(self, args: Sequence[Any], named: Mapping[str, Any]) -> None:
        self._steps.begins(self.step)
        if not has_closure(args, named):
            self._measure()

    def _step_ends(self, args: Sequence[Any], named: Mapping[str, Any]) -> None:
        if has_closure(args, named):
            self._measure()
        self._write(applied=not self._overflowed)

    def _measure(self) -> None:
        self._fields = self._listener.update_begins()
        # A framework may step before it reports its last micro-batch: that micro-batch's gradients are in this update.
        self.next_micro_batch()
        self.norms = self.gradients.norms()
        there = [it.grad for it in self._parameters.named.values() if it.grad is not None]
        # Only a fused optimizer unscales its gradients in its step, and is told the scale.
        left = scalers.left_scaled(self._optimizer, self._tensors)
        self._clipped = scalers.unscaled(self._tensors.total_norm(there), left)
        self._overflowed = scalers.overflowed(self._optimizer, self._tensors)
        self._steps.given()

    def _before_clip(self) -> None:
        if not self._is_clipped:
            self.gradients.measure()
        self._is_clipped = True

    def next_micro_batch(self) -> None:
        """Counts all backward passes since the last call as one micro-batch."""
        if self.gradients.next_micro_batch():
            self._steps.next_micro_batch()

    def _arrives(self, name: str, gradient: Any) -> None:
        self._steps.arrives(name, gradient, self.step)

    def _arrived(self, name: str, gradient: Any) -> None:
        self._is_clipped = False
        self._steps.arrived(name, gradient, self.step)

    def _write(self, applied: bool) -> None:
        self.step += 1
        checksums = self._parameters.checksums() if self.step % self._digest_every == 0 else None
        self._writer.event(
            "update",
            step=self.step,
            micro_batches=self.gradients.held(),
            # A group without parameters updates nothing, and no schedule needs to keep its rate.
            lr=[number(float(group["lr"])) for group in self._optimizer.param_groups if group["params"]],
            # No norms: a parameter was unfrozen a moment ago, and its gradient was not watched.
            grad_norm=number(math.hypot(*self.norms.values())) if self.norms else None,
            clipped_norm=number(self._clipped) if self.norms else None,
            applied=applied,
            digest=None if checksums is None else self._parameters.digest(checksums),
            tensors=self._steps.ends(),
            **self._fields,
        )
        self.gradients.applied()
        self._listener.update_ends(applied, checksums)


def has_closure(args: Sequence[Any], named: Mapping[str, Any]) -> bool:
    """Whether an optimizer's `step` was given a closure."""
    # The first argument is the optimizer itself.
    return callable(args[1] if len(args) > 1 else named.get("closure"))
