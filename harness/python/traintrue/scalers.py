"""Watches a GradScaler: a step that it skips never reaches the optimizer's hooks.

As with loaders, the scaler is made an instance of a subclass of its own class for as long as it is watched.
"""

from __future__ import annotations

from typing import Any, Callable


def watch(scaler: Any, optimizer: Any, steps: Callable[[], int], skipped: Callable[[], None]) -> Callable[[], None]:
    """Calls `skipped` after each step of the scaler that `steps` does not count. What it returns ends the watch."""
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


def left_scaled(optimizer: Any, tensors: Any) -> float:
    """What the gradients are still multiplied by: a fused optimizer divides them while it steps, and is told by what."""
    scale = getattr(optimizer, "grad_scale", None)
    return 1.0 if scale is None else tensors.number(scale)


def overflowed(optimizer: Any, tensors: Any) -> bool:
    """Whether the optimizer is told to pass over this step, which a fused one does by itself."""
    found = getattr(optimizer, "found_inf", None)
    return found is not None and tensors.number(found) != 0.0
