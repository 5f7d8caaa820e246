"""Learning-rate schedules that a user declares: which rate each update must have, as a function of the updates before it.

    traintrue.record("run.jsonl", model, optimizer, schedule=schedules.cosine(updates=600, warmup=100, minimum=0.1))
    traintrue.record("run.jsonl", model, optimizer, schedule=lambda update: 3e-4 if update < 500 else 3e-5)

A form multiplies each parameter group's own rate, the one that its optimizer was made with. A function gives the rate
itself, or one rate per group.
"""

from __future__ import annotations

import copy
import importlib.util
import math
import os
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

# What the warm-up's update u, from 0, multiplies the rate by, over W updates.
WARMUPS: Dict[str, Callable[[int, int], float]] = {
    "u/W": lambda u, warmup: u / warmup,
    "(u+1)/W": lambda u, warmup: (u + 1) / warmup,
    "(u+1)/(W+1)": lambda u, warmup: (u + 1) / (warmup + 1),
}


class Form:
    """A named form: the multiplier of an update, counted from 0."""

    def __init__(self, words: str, multiplier: Callable[[int], float]) -> None:
        self.words, self._multiplier = words, multiplier

    def rates(self, update: int, peaks: Sequence[float]) -> Optional[List[float]]:
        """The rate of each group; `peaks` are the rates that the optimizer was made with."""
        return [peak * self._multiplier(update) for peak in peaks]


def constant(warmup: int = 0, rising: str = "u/W") -> Form:
    """The peak, after the warm-up."""
    return _form("constant", lambda _: 1.0, warmup, rising)


def linear(updates: int, warmup: int = 0, rising: str = "u/W", minimum: float = 0.0) -> Form:
    """From the peak to `minimum` times the peak, in a line that ends after `updates` updates, warm-up included."""
    falls = _progress(updates, warmup)
    return _form("linear", lambda u: 1.0 - (1.0 - minimum) * falls(u), warmup, rising, updates)


def polynomial(updates: int, warmup: int = 0, rising: str = "u/W", minimum: float = 0.0, power: float = 1.0) -> Form:
    """From the peak to `minimum` times the peak, as a power of what is left."""
    falls = _progress(updates, warmup)
    return _form("polynomial", lambda u: minimum + (1.0 - minimum) * (1.0 - falls(u)) ** power, warmup, rising, updates)


def cosine(updates: int, warmup: int = 0, rising: str = "u/W", minimum: float = 0.0) -> Form:
    """From the peak to `minimum` times the peak, in half a period of the cosine; then it stays there."""
    falls = _progress(updates, warmup)
    half = lambda u: (1.0 + math.cos(math.pi * falls(u))) / 2.0  # noqa: E731: a function of one line, used once
    return _form("cosine", lambda u: minimum + (1.0 - minimum) * half(u), warmup, rising, updates)


def inverse_sqrt(warmup: int, rising: str = "u/W", timescale: Optional[int] = None) -> Form:
    """The peak times the root of `timescale / (update - warmup + timescale)`; `timescale` is the warm-up by default."""
    scale = timescale or warmup
    _refuse(scale < 1, "timescale", scale, "at least 1")
    return _form("inverse_sqrt", lambda u: math.sqrt(scale / (u - warmup + scale)), warmup, rising)


def wsd(updates: int, decay: int, warmup: int = 0, rising: str = "u/W", minimum: float = 0.0) -> Form:
    """Warm-up, stable at the peak, and a line down to `minimum` times the peak over the last `decay` of `updates` updates."""
    _refuse(not 0 < decay <= updates - warmup, "decay", decay, f"1 to {updates - warmup}: updates less warm-up")
    falls = _progress(updates, updates - decay)
    return _form("wsd", lambda u: 1.0 - (1.0 - minimum) * falls(u), warmup, rising, updates)


FORMS: Dict[str, Callable[..., Form]] = {it.__name__: it for it in (constant, linear, polynomial, cosine, inverse_sqrt, wsd)}


def declared(schedule: Any) -> Any:
    """What has `words` and `rates(update, peaks)`, from whatever a user may declare as a schedule."""
    if hasattr(schedule, "rates"):
        return schedule
    if isinstance(schedule, dict):
        return _function(schedule["file"], schedule["function"]) if "file" in schedule else _named(**schedule)
    if hasattr(schedule, "get_last_lr") and hasattr(schedule, "optimizer"):
        return _Scheduler(schedule)
    if callable(schedule):
        return _Function(getattr(schedule, "__name__", type(schedule).__name__), schedule)
    if hasattr(schedule, "__len__") and hasattr(schedule, "__getitem__") and not isinstance(schedule, str):
        return _Listed(schedule)
    raise ValueError(f"schedule: {schedule!r}, expected a name, a function of the update, a list of rates or a scheduler of torch")


class _Function:
    def __init__(self, words: str, function: Callable[[int], Any]) -> None:
        self.words, self._function = words, function

    def rates(self, update: int, peaks: Sequence[float]) -> Optional[List[float]]:
        return _of_groups(self._function(update), len(peaks))


class _Listed:
    def __init__(self, rates: Sequence[Any]) -> None:
        self.words, self._rates = f"a list of {len(rates)} rates", rates

    def rates(self, update: int, peaks: Sequence[float]) -> Optional[List[float]]:
        return _of_groups(self._rates[update], len(peaks)) if update < len(self._rates) else None


class _Scheduler:
    """A scheduler of torch, stepped once per update, on rates of its own: the script's optimizer is not touched."""

    def __init__(self, scheduler: Any) -> None:
        self.words, self._update = f"{type(scheduler).__name__}, stepped once per update", 0
        # accelerate's wrapper has the optimizer inside.
        theirs = getattr(scheduler.optimizer, "optimizer", scheduler.optimizer)
        self._groups = [{name: value for name, value in group.items() if name != "params"} for group in theirs.param_groups]
        own = _Stepped(self._groups)
        self._scheduler = copy.deepcopy(scheduler, {id(it): own for it in (theirs, scheduler.optimizer)})

    def rates(self, update: int, peaks: Sequence[float]) -> Optional[List[float]]:
        while self._update < update:
            self._scheduler.step()
            self._update += 1
        return [float(group["lr"]) for group in self._groups]


class _Stepped:
    """What a scheduler asks of its optimizer: rates to set, and that it has stepped."""

    _opt_called = True

    def __init__(self, groups: List[Dict[str, Any]]) -> None:
        self.param_groups = groups

    def step(self) -> None:
        """Nothing: torch looks for the mark below on it."""

    step._wrapped_by_lr_sched = True  # type: ignore[attr-defined]


def _form(
    name: str, after: Callable[[int], float], warmup: int, rising: str, updates: Optional[int] = None
) -> Form:
    _refuse(rising not in WARMUPS, "rising", rising, f"one of {', '.join(WARMUPS)}")
    _refuse(warmup < 0, "warmup", warmup, "at least 0")
    _refuse(updates is not None and updates <= warmup, "updates", updates, f"more than the warm-up of {warmup}")
    told = [f"{warmup} warm-up updates by {rising}"] * (warmup > 0) + [f"{updates} updates"] * (updates is not None)
    rise = WARMUPS[rising]
    return Form(", ".join([name, *told]), lambda u: rise(u, warmup) if u < warmup else after(u))


def _progress(updates: int, begins: int) -> Callable[[int], float]:
    """How much of the decay is done before an update: 0 until it begins, 1 from its end on."""
    return lambda u: min(max((u - begins) / max(updates - begins, 1), 0.0), 1.0)


def _named(name: str, **parameters: Any) -> Form:
    _refuse(name not in FORMS, "schedule", name, f"one of {', '.join(FORMS)}")
    try:
        return FORMS[name](**parameters)
    except TypeError as error:
        raise ValueError(f"schedule {name}: {error}") from None


def _function(path: str, name: str) -> _Function:
    spec = importlib.util.spec_from_file_location("traintrue_declared_schedule", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return _Function(f"{os.path.basename(path)}:{name}", getattr(module, name))


def _of_groups(value: Any, groups: int) -> List[float]:
    rates: Tuple[float, ...] = tuple(map(float, value)) if hasattr(value, "__iter__") else (float(value),) * groups
    _refuse(len(rates) != groups, "schedule", f"{len(rates)} rates", f"one, or {groups}: one per parameter group")
    return list(rates)


def _refuse(wrong: bool, name: str, found: Any, expected: str) -> None:
    if wrong:
        raise ValueError(f"{name}: {found}, expected {expected}")
