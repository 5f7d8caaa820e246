"""What a GradScaler tells an optimizer that unscales its gradients itself."""

from __future__ import annotations

import math
from typing import Any, Iterable, Optional


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


def only(scalers: Iterable[Any]) -> Optional[Any]:
    """The one that scales; nothing where there is none, or several."""
    enabled = [it for it in scalers if it.is_enabled()]
    return enabled[0] if len(enabled) == 1 else None
