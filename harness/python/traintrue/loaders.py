"""Watches a loader while the recorded loop iterates over it.

`for batch in loader` looks `__iter__` up on the class, not on the object. The loader's `__class__` is therefore set to a
subclass of its own class while it is watched. The same is done to its batch sampler, which yields the samples' indices.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Callable, Deque, Dict, Iterator, List, Optional, Protocol

# Samplers that yield each index once per epoch. From another sampler an index does not say which sample of the epoch it is.
EACH_ONCE = ("SequentialSampler", "RandomSampler")

# The descriptor of `object`: accelerate's loaders wrap a loader and define a read-only `__class__` of their own.
CLASS = object.__dict__["__class__"]


class Listener(Protocol):
    """The object that is told what a loader does."""

    def epoch_begins(self) -> None: ...

    def epoch_ends(self) -> None: ...

    def batch_yielded(self, batch: Any, samples: Optional[List[int]]) -> None: ...


class WatchedLoader:
    """A loader that tells a listener about its epochs and batches, until `release`."""

    def __init__(self, loader: Any, listener: Listener) -> None:
        self._listener = listener
        self._indices: Deque[List[int]] = deque()
        self._restore: List[Callable[[], None]] = []
        self._loader = loader
        self.knows_samples = _each_once(_sampler(loader)) and self._watch(loader.batch_sampler, self._sampled)
        if not self._watch(loader, self._batches):
            self.release()
            raise TypeError(
                f"loader: a {type(loader).__name__} cannot be watched; expected a torch DataLoader, or an object of a "
                "class of your own that has __iter__"
            )

    def release(self) -> None:
        """Gives the loader its own class back."""
        while self._restore:
            self._restore.pop()()

    def size(self) -> Dict[str, Any]:
        """`samples`, `batch` and `drop_last` of the recorded facts; empty where the loader does not show its length."""
        sampler = _sampler(self._loader)
        grouped = getattr(self._loader, "batch_sampler", None)
        batch = getattr(grouped, "batch_size", None)
        if sampler is None or not isinstance(batch, int):
            return {}
        try:
            samples = len(sampler)
        except TypeError:
            return {}
        return {"samples": samples, "batch": batch, "drop_last": bool(getattr(grouped, "drop_last", False))}

    def _watch(self, thing: Any, iterate: Callable[[Callable[[], Iterator[Any]]], Iterator[Any]]) -> bool:
        kind = type(thing)
        try:
            watched = type(kind.__name__, (kind,), {"__iter__": lambda it: iterate(lambda: kind.__iter__(it))})
            CLASS.__set__(thing, watched)
        except (TypeError, AttributeError):
            return False  # the class of a list, a generator or another builtin cannot be changed
        self._restore.append(lambda: CLASS.__set__(thing, kind))
        return True

    def _sampled(self, begin: Callable[[], Iterator[Any]]) -> Iterator[Any]:
        for indices in begin():
            # Workers fetch ahead, but in order: the first indices here belong to the next batch that is yielded.
            self._indices.append([int(index) for index in indices])
            yield indices

    def _batches(self, begin: Callable[[], Iterator[Any]]) -> Iterator[Any]:
        # Before the loader begins: its first act may be to fetch ahead, which fills `_indices`.
        self._indices.clear()
        self._listener.epoch_begins()
        for batch in begin():
            samples = self._indices.popleft() if self.knows_samples and self._indices else None
            self._listener.batch_yielded(batch, samples)
            yield batch
        self._listener.epoch_ends()


def _sampler(loader: Any) -> Any:
    return getattr(getattr(loader, "batch_sampler", None), "sampler", None)


def _each_once(sampler: Any) -> bool:
    if type(sampler).__name__ not in EACH_ONCE or getattr(sampler, "replacement", False):
        return False
    return len(sampler) == len(sampler.data_source)
