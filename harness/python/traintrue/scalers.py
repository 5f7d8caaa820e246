"""Watches a GradScaler: a step that the scaler skips never reaches the optimizer's hooks.

The scaler's `__class__` is set to a subclass of its own class while it is watched, as a loader's is (see loaders.py).
"""

from __future__ import annotations

import math
from typing import Any, Callable


def watch(scaler: Any, optimizer: Any, steps: Callable[[], int], skipped: Callable[[], None]) -> Callable[[], None]:
    """Calls `skipped` after each `scaler.step(optimizer)` that left the count `steps` unchanged. Returns the release."""
    kind = type(scaler)

    def step(it: Any, stepped: Any, *args: Any, **more: Any) -> Any:
        before = steps()
        result = kind.step(it, stepped, *args, **more)
        if stepped is optimizer and steps() == before:
            skipped()
        return result

    scaler.__class__ = type(kind.__name__, (kind,), {"step": step})

    def release() -> None:
        scaler.__class__ = kind

    return release


def unscaled(norm: float, scale: float) -> float:
    """A norm without the loss scale. After many overflows in a row the scale is 0, and the norm is unknown."""
    return norm / scale if scale else math.nan


def left_scaled(optimizer: Any, tensors: Any) -> float:
    """The scale that the gradients still have when the optimizer steps: a fused optimizer divides by it in its step."""
    scale = getattr(optimizer, "grad_scale", None)
    return 1.0 if scale is None else tensors.number(scale)


def overflowed(optimizer: Any, tensors: Any) -> bool:
    """Whether a fused optimizer skips this step: the scaler calls its `step` all the same, and tells it of the overflow."""
    found = getattr(optimizer, "found_inf", None)
    return found is not None and tensors.number(found) != 0.0
