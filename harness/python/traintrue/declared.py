"""What a recorded loop is judged against: what its user declares, and what loader, optimizer and model show."""

from __future__ import annotations

import math
from typing import Any, Dict, Iterable, Mapping, Optional

from . import schedules

# PyTorch's usual conventions; a user's `contract` says where a loop has others.
CONTRACT = {
    "tail": "flush",
    "normaliser": "micro-batches",
    "gradients": "mean",
    "first_lr": "zero",
    "rows_per_sample": 1,
    "deterministic": False,
}


# What a user may declare, by kind.
COUNTS = ("epochs", "accumulation", "warmup", "updates")
NUMBERS = ("clip", "lr", "decay")
PATTERNS = ("trainable", "no_decay")


def contract_of(given: Optional[Mapping[str, Any]]) -> Dict[str, Any]:
    """The usual conventions, replaced by those given."""
    unknown = sorted(set(given or {}) - set(CONTRACT))
    if unknown:
        raise ValueError(f"contract: unknown {', '.join(unknown)}; expected some of {', '.join(CONTRACT)}")
    return {**CONTRACT, **(given or {})}


def checked(declared: Mapping[str, Any]) -> Dict[str, Any]:
    """What the user declares, in the form of the `recorded` field. A wrong value is refused here, before any training."""
    given = {name: value for name, value in declared.items() if value is not None}
    unknown = sorted(set(given) - {*COUNTS, *NUMBERS, *PATTERNS, "schedule", "contract"})
    if unknown:
        raise ValueError(f"unknown {', '.join(unknown)}; expected some of {', '.join([*COUNTS, *NUMBERS, *PATTERNS])}, schedule")
    for name in COUNTS:
        if name in given:
            given[name] = _count(name, given[name])
    for name in NUMBERS:
        # JSON has no infinity.
        if name in given and not math.isfinite(float(given[name])):
            raise ValueError(f"{name}: {given[name]}, expected a finite number; leave {name} out if the loop has none")
    warmup, updates = given.pop("warmup", 0), given.pop("updates", None)
    if isinstance(given.get("schedule"), str):
        given["schedule"] = {"name": given["schedule"], "warmup": warmup, "updates": updates}
    elif "schedule" in given:
        given["rates"] = schedules.declared(given.pop("schedule"))
    return given


def _count(name: str, value: Any) -> int:
    # 3.0 is what a division gives; 3.5 is a mistake.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value or int(value) != value or value < 0:
        raise ValueError(f"{name}: {value!r}, expected a whole number")
    return int(value)


def recorded_facts(
    declared: Mapping[str, Any], loader: Optional[Any], optimizer: Any, parameters: Iterable[Any], tensors: Any
) -> Dict[str, Any]:
    """The `recorded` field of the run's first line. A fact that is not known is left out, and not judged."""
    groups = optimizer.param_groups
    size = {} if loader is None else loader.facts
    seen = {**size, "lr": _peak_lr(groups), "eps": _adam_eps(groups), "dtype": _dtype(parameters, tensors)}
    return {name: value for name, value in {**seen, **declared}.items() if value is not None}


def _peak_lr(groups: Iterable[Mapping[str, Any]]) -> Optional[float]:
    """The rate that a scheduler multiplies; none where the groups have different rates."""
    # A scheduler that exists already has set `lr` to the first step's rate and keeps the peak in `initial_lr`.
    rates = {float(group.get("initial_lr", group["lr"])) for group in groups}
    rate = rates.pop() if len(rates) == 1 else None
    # A loop that sets its rates by hand may begin with 0, which is no peak.
    return rate if rate is not None and 0.0 < rate < math.inf else None


def _adam_eps(groups: Iterable[Mapping[str, Any]]) -> Optional[float]:
    """Adam's epsilon: the judge needs it to say how far an update must move a parameter."""
    found = [float(group["eps"]) for group in groups if "betas" in group and "eps" in group]
    # The largest bounds every group from below.
    return max(found) if found and 0.0 < max(found) < math.inf else None


def _dtype(parameters: Iterable[Any], tensors: Any) -> str:
    """The coarsest number format among the parameters: the judge's tolerance follows from it."""
    found = {tensors.dtype(it) for it in parameters}
    return next((coarse for coarse in ("bf16", "f16") if coarse in found), "f32")
