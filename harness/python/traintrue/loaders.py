"""Watches a loader while somebody else iterates over it.

`for batch in loader` looks `__iter__` up on the class, so the loader is made an instance of a subclass of its own class
for as long as it is watched. The same is done to its batch sampler, which knows the samples' indices.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Callable, Deque, Dict, Iterator, List, Optional, Protocol

# Samplers that go through all samples once, by index; of others, indices are not the ids of an epoch's samples.
EACH_ONCE = ("SequentialSampler", "RandomSampler")

# The attribute itself: a loader that stands for another, as accelerate's do, has a `__class__` that is read only.
CLASS = object.__dict__["__class__"]


class Watcher(Protocol):
    """Who is told what a loader does."""

    def epoch_begins(self) -> None: ...

    def epoch_ends(self) -> None: ...

    def drawn(self, batch: Any, samples: Optional[List[int]]) -> None: ...


class Watched:
    """A loader that tells a watcher about its epochs and batches, until it is released."""

    def __init__(self, loader: Any, watcher: Watcher) -> None:
        self._watcher = watcher
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
        """Makes the loader what it was."""
        while self._restore:
            self._restore.pop()()

    def size(self) -> Dict[str, Any]:
        """Samples, batch and drop_last, as a recorded run has them; empty where the loader does not tell."""
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
            return False  # a list, a generator and other builtins are of no other class than their own
        self._restore.append(lambda: CLASS.__set__(thing, kind))
        return True

    def _sampled(self, begin: Callable[[], Iterator[Any]]) -> Iterator[Any]:
        for indices in begin():
            # Workers fetch ahead, in order.
            self._indices.append([int(index) for index in indices])
            yield indices

    def _batches(self, begin: Callable[[], Iterator[Any]]) -> Iterator[Any]:
        # Before the loader begins: it may fetch ahead at once.
        self._indices.clear()
        self._watcher.epoch_begins()
        for batch in begin():
            samples = self._indices.popleft() if self.knows_samples and self._indices else None
            self._watcher.drawn(batch, samples)
            yield batch
        self._watcher.epoch_ends()


def _sampler(loader: Any) -> Any:
    return getattr(getattr(loader, "batch_sampler", None), "sampler", None)


def _each_once(sampler: Any) -> bool:
    if type(sampler).__name__ not in EACH_ONCE or getattr(sampler, "replacement", False):
        return False
    return len(sampler) == len(sampler.data_source)
