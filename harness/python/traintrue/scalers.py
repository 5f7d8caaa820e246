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
