"""Activation checkpointing: whether a segment does the same when it is computed again."""

from __future__ import annotations

from typing import Any, Callable

from .patches import Patches

# So many segments are looked at: each comparison waits for the device.
MOST = 256


class Recomputed:
    """Compares each segment with its repetition in the backward pass: the random state that it begins with, and a few values of its output."""

    def __init__(self, tensors: Any, guard: Callable[..., Any]) -> None:
        self._tensors, self._guard = tensors, guard
        self._left = MOST
        # Segments that were repeated, and those of them that did something else.
        self.repeated = self.differ = 0

    def told(self) -> Any:
        """Of the segments that were repeated, how many did something else; nothing where none was repeated."""
        return {"repeated": self.repeated, "differ": self.differ} if self.repeated else None

    def watch(self, patches: Patches, module: Any) -> None:
        """Wraps `torch.utils.checkpoint.checkpoint`."""
        patches.wrap(module, "checkpoint", self._watched)

    def _watched(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def checkpoint(function: Any, *args: Any, **named: Any) -> Any:
            # Without gradients nothing is computed again: an evaluation.
            if self._left <= 0 or not self._tensors.grad_enabled() or self._tensors.is_transformed():
                return original(function, *args, **named)
            self._left -= 1
            return original(self._segment(function), *args, **named)

        return checkpoint

    def _segment(self, function: Callable[..., Any]) -> Callable[..., Any]:
        # Of the first time: the random state before it, whether it draws, and what it gives.
        random: Any = None
        draws = False
        output: Any = None
        times = 0

        def segment(*args: Any, **named: Any) -> Any:
            nonlocal random, draws, output, times
            times += 1
            if times > 2:
                # A further repetition is of another backward pass over the same graph.
                return function(*args, **named)
            now = self._guard(self._tensors.rng)
            # Where the repetition ends early there is no output to compare, and its beginning decides.
            begins_otherwise = times == 2 and bool(draws) and now != random
            if times == 2:
                self.repeated += 1
                self.differ += begins_otherwise
            result = function(*args, **named)
            few = self._guard(self._tensors.few_of, result)
            if times == 1:
                random, draws, output = now, self._guard(self._tensors.rng) != now, few
            else:
                self.differ += int(self._guard(self._tensors.near, output, few) is False) - begins_otherwise
            return result

        return segment
