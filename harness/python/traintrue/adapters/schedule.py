"""Counts that follow from a plan: micro-batches, updates, and the learning rate of each update."""

from __future__ import annotations

import math
from typing import Any, Dict


def micro_batches(plan: Dict[str, Any]) -> int:
    """Micro-batches per epoch on this rank."""
    data = plan["data"]
    samples, batch = len(data["samples"]), data["batch"]
    whole = samples // batch if data["drop_last"] else math.ceil(samples / batch)
    return whole // plan["train"].get("world", 1)


def updates(plan: Dict[str, Any], tail: str) -> int:
    """Updates in the whole run; `tail` says what happens to an epoch's last, open window."""
    given = plan["train"]["schedule"].get("updates")
    if given is not None:
        return given
    each, window, epochs = micro_batches(plan), plan["train"]["accumulation"], plan["data"]["epochs"]
    if tail == "carry":
        return each * epochs // window
    return epochs * (math.ceil(each / window) if tail == "flush" else each // window)


def multiplier(plan: Dict[str, Any], total: int, taken: int) -> float:
    """The learning rate as a share of its peak, after `taken` of `total` steps of the schedule."""
    schedule = plan["train"]["schedule"]
    warmup = schedule["warmup"]
    if taken < warmup:
        return taken / warmup
    progress = min((taken - warmup) / max(total - warmup, 1), 1.0)
    if schedule["name"] == "linear":
        return 1.0 - progress
    if schedule["name"] == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * progress))
    return 1.0
