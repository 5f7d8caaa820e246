"""Learning-rate schedulers: how long they are, and how often they were stepped."""

from __future__ import annotations

import weakref
from typing import Any, Callable, Dict, List, Optional, Tuple

from ..tensors import with_subclasses
from .patches import Patches

# The argument of each of torch's schedulers that says after how many steps the schedule ends.
LENGTHS = {"CosineAnnealingLR": "T_max", "OneCycleLR": "total_steps", "PolynomialLR": "total_iters"}
# Schedules that are functions of the step have these arguments bound: by keyword (transformers), or in a closure (torchtune).
LENGTH, WARMUP = "num_training_steps", "num_warmup_steps"


class Scheduler:
    """One scheduler, and the calls of its `step` after its constructor's own."""

    def __init__(self, scheduler: Any) -> None:
        self.of = weakref.ref(scheduler)
        self.steps = 0

    def describe(self) -> Optional[Dict[str, Any]]:
        """The entry of `schedules`; None when the script has dropped the scheduler."""
        scheduler = self.of()
        if scheduler is None:
            return None
        length, argument, warmup = _length(scheduler)
        told = {"name": type(scheduler).__name__, "steps": self.steps, "length": length, "argument": argument, "warmup": warmup}
        return {name: value for name, value in told.items() if value is not None}


class Schedules:
    """All schedulers of a script."""

    def __init__(self, guard: Callable[..., Any]) -> None:
        self._guard = guard
        self._made: List[Scheduler] = []
        self._depth = 0

    def watch(self, patches: Patches, module: Any) -> None:
        """Wraps the schedulers of `torch.optim.lr_scheduler`: the base class and each class with a `step` of its own."""
        base = getattr(module, "LRScheduler", None) or module._LRScheduler
        patches.wrap(base, "__init__", self._making)
        for kind in with_subclasses(base):
            patches.wrap(kind, "step", self._stepping)
            if kind is not base and kind.__name__ in ("SequentialLR", "ChainedScheduler", "ReduceLROnPlateau"):
                # These do not call the constructor of the base class.
                patches.wrap(kind, "__init__", self._making)

    def on(self, optimizer: Any) -> List[Dict[str, Any]]:
        """What is known of the schedulers of an optimizer; not of those that another scheduler steps."""
        alive = [it for it in self._made if it.of() is not None]
        self._made = alive
        inner = {id(child) for it in alive for child in getattr(it.of(), "_schedulers", [])}
        mine = [it for it in alive if _optimizer(it.of()) is optimizer and id(it.of()) not in inner]
        return [told for told in (it.describe() for it in mine) if told is not None]

    def made(self, scheduler: Any) -> None:
        """A script has made a scheduler."""
        if not any(it.of() is scheduler for it in self._made):
            self._made.append(Scheduler(scheduler))

    def _making(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def made(it: Any, *args: Any, **named: Any) -> Any:
            # A constructor steps once, or more: those steps set the first rate.
            self._depth += 1
            try:
                return original(it, *args, **named)
            finally:
                self._depth -= 1
                self._guard(self.made, it)

        return made

    def _stepping(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def stepped(it: Any, *args: Any, **named: Any) -> Any:
            self._depth += 1
            try:
                return original(it, *args, **named)
            finally:
                self._depth -= 1
                if self._depth == 0:
                    self._guard(self._count, it)

        return stepped

    def _count(self, scheduler: Any) -> None:
        for it in self._made:
            if it.of() is scheduler:
                it.steps += 1


def _optimizer(scheduler: Any) -> Any:
    # accelerate's wrapper has the optimizer inside.
    optimizer = getattr(scheduler, "optimizer", None)
    return getattr(optimizer, "optimizer", optimizer)


def _length(scheduler: Any) -> Tuple[Optional[int], Optional[str], Optional[int]]:
    """The steps of a scheduler, the argument that says so, and those of its warm-up; None where it does not say."""
    # One after the other: the last is as long as it says, from its milestone on.
    parts, milestones = getattr(scheduler, "_schedulers", None), getattr(scheduler, "_milestones", None)
    if parts and milestones:
        last = _length(parts[-1])[0]
        return (None if last is None else int(milestones[-1]) + last), None, None
    argument = LENGTHS.get(type(scheduler).__name__)
    if argument is not None:
        return _whole(getattr(scheduler, argument, None)), argument, None
    functions = getattr(scheduler, "lr_lambdas", None) or []
    bound = _bound(functions[0]) if functions else {}
    if LENGTH in bound:
        return _whole(bound[LENGTH]), LENGTH, _whole(bound.get(WARMUP))
    return None, None, None


def _bound(function: Any) -> Dict[str, Any]:
    """The values that a function keeps for its arguments, by name."""
    names = getattr(getattr(function, "__code__", None), "co_freevars", ())
    # A cell is empty while the variable has no value yet.
    cells = [(name, cell) for name, cell in zip(names, getattr(function, "__closure__", None) or ()) if name in (LENGTH, WARMUP)]
    return getattr(function, "keywords", None) or {name: cell.cell_contents for name, cell in cells}


def _whole(value: Any) -> Optional[int]:
    return int(value) if isinstance(value, (int, float)) and value == value and abs(value) < 2**53 else None
