"""Batches that loaders give, and the forwards that consume them.

A loop may fetch batches long before it trains on them: a whole window (transformers' Trainer), one ahead (accelerate,
Lightning), or the next one before the backward pass. A batch belongs to the forward that is given its tensors; if the
tensors were copied to another device, to the batch that looks the same, or to the oldest that was not trained on.
"""

from __future__ import annotations

import copyreg
import weakref
from collections import deque
from typing import Any, Callable, Deque, Dict, Iterator, List, Optional, Set, Tuple

from .. import batches

# More batches than this are never fetched ahead. Older ones are forgotten.
AHEAD_MOST = 1024

# The sampler that a DataLoader gives to an iterable dataset.
STREAM = "_InfiniteConstantSampler"

# The descriptor of `object`: accelerate's loaders define a read-only `__class__` of their own.
CLASS = object.__dict__["__class__"]


# The addresses of a tensor's values: the first, and the one after the last.
Place = Tuple[int, int]
# How many values a tensor has, and a few of them, centred and scaled.
Look = Tuple[int, List[float]]
# Values look the same that differ by less: a copy may be in half precision.
SAME = 0.02


class Draw:
    """A batch that a loader gave. The batch itself is not kept: it must be free when the script drops it."""

    def __init__(self, loader: "Loader", epoch: int, index: int, samples: Optional[List[int]], sizes: Dict[str, int], places: List[Place]) -> None:
        self.loader, self.epoch, self.index = loader, epoch, index
        self.samples, self.sizes, self.places = samples, sizes, places
        # Ids by what is in the rows, where they are asked for; and how the values of each tensor look.
        self.content: Optional[List[int]] = None
        self.looks: List[Look] = []
        self.trained = self.evaluated = False


class Loader:
    """One loader of the script, over all of its epochs."""

    def __init__(self, loader: Any) -> None:
        self.number: Optional[int] = None
        self.epoch = -1
        self.indices: Deque[List[int]] = deque()
        self.waiting: Deque[Draw] = deque(maxlen=AHEAD_MOST)
        self.given, self.trained, self.exhausted, self.last = 0, 0, False, None
        # Epochs that came to their end, and trained on every batch.
        self.complete: Set[int] = set()
        self.adopt(loader)

    def adopt(self, loader: Any) -> None:
        """The loader's object from now on: a script may make a new one for each epoch."""
        # Weakly, and its facts at once: the object may be gone when the first batch is trained on.
        self._object = weakref.ref(loader)
        self._data = (id(getattr(loader, "dataset", loader)), getattr(loader, "batch_size", None))
        self.facts, self.length = _facts(loader), _length(loader)

    def object(self) -> Any:
        """The script's loader; None when the script has dropped it."""
        return self._object()

    def is_followed_by(self, loader: Any) -> bool:
        """Whether that loader has taken the place of this one, which is gone: over the same data, in the same order."""
        data = (id(getattr(loader, "dataset", loader)), getattr(loader, "batch_size", None))
        return self._object() is None and self._data == data and self.facts.get("order") == _facts(loader).get("order")

    def begins(self) -> None:
        """A new epoch."""
        self.settle()
        self.epoch += 1
        self.given, self.trained, self.exhausted, self.last = 0, 0, False, None
        # Before the loader begins: its first act may be to fetch ahead, which fills `indices`.
        self.indices.clear()
        self.waiting.clear()

    def settle(self) -> None:
        """Notes whether the epoch is complete by now."""
        if self.given > 0 and self.trained == self.given and (self.exhausted or self.given == self.length):
            self.complete.add(self.epoch)

    def over(self) -> bool:
        """Whether the epoch has no more batches, and its last was trained on."""
        return (self.exhausted or self.given == self.length) and self.last is not None and self.last.trained


def _length(loader: Any) -> Optional[int]:
    """Batches per epoch; None for a stream."""
    try:
        return len(loader)
    except (TypeError, NotImplementedError):
        return None


def _facts(loader: Any) -> Dict[str, Any]:
    """What a loader shows of itself, for the `recorded` field of the run's first line."""
    grouped = getattr(loader, "batch_sampler", None)
    sampler, batch = getattr(grouped, "sampler", None), getattr(grouped, "batch_size", None)
    facts: Dict[str, Any] = {"order": order(sampler), "workers": getattr(loader, "num_workers", None)}
    facts["stream"] = grouped is None or type(sampler).__name__ == STREAM
    if isinstance(batch, int) and not facts["stream"]:
        samples = _length(sampler)
        facts.update(samples=samples, batch=batch, drop_last=None if samples is None else bool(getattr(grouped, "drop_last", False)))
    return {name: value for name, value in facts.items() if value is not None}


def order(sampler: Any) -> Optional[str]:
    """`shuffled` and `sequential` samplers give each index once per epoch; from another, nothing is known."""
    if sampler is None:
        return None
    names = {kind.__name__ for kind in type(sampler).__mro__}
    if "SequentialSampler" in names:
        return "sequential"
    if "RandomSampler" in names and not getattr(sampler, "replacement", False):
        whole = len(sampler) == len(sampler.data_source)
        return "shuffled" if whole else "other"
    if "DistributedSampler" in names:
        return "shuffled" if getattr(sampler, "shuffle", True) else "sequential"
    return "other"


class Draws:
    """All loaders of a script."""

    def __init__(self, tensors: Any, guard: Callable[..., Any], contents: bool) -> None:
        """`contents`: whether batches get ids by what is in them, too."""
        self._tensors, self._guard, self._contents = tensors, guard, contents
        self._loaders: List[Loader] = []
        self._recent: List[Loader] = []
        self._restore: List[Callable[[], None]] = []
        self.trained_with = 0

    def begins(self, loader: Any) -> Loader:
        """An epoch of a loader begins: before its iterator is made."""
        known = self._known(loader)
        known.begins()
        return known

    def observed(self, loader: Any) -> bool:
        """Observes a loader that is no DataLoader; false if its class cannot be changed, like that of a list."""

        def iterate(begin: Callable[[], Iterator[Any]]) -> Iterator[Any]:
            known = self._guard(self.begins, loader)
            return begin() if known is None else Iteration(begin(), known, self)

        return self._watch(loader, iterate)

    def match(self, given: Any, *, training: bool, first: bool) -> Optional[Draw]:
        """The batch that a forward with these inputs consumes; None for a forward on the batch of the one before.

        `first`: no forward of this micro-batch was matched yet. Without that, a second forward on a copy of one batch would
        take the next batch that was fetched ahead.
        """
        found = self._by_place(given)
        if first and (found is None or found.trained or found.evaluated):
            # The memory of a batch that was consumed may be another's by now.
            waiting = self._waiting(training)
            found = self._by_look(given, waiting) or found or next(iter(waiting), None)
        if found is None:
            return None
        if not training:
            found.evaluated = True
            return found
        if found.loader.number is None:
            found.loader.number, self.trained_with = self.trained_with, self.trained_with + 1
        found.loader.trained += not found.trained
        found.trained = True
        if found in found.loader.waiting:
            found.loader.waiting.remove(found)
        return found

    def any(self) -> bool:
        """Whether a loader has given a batch."""
        return bool(self._recent)

    def release(self) -> None:
        """Gives batch samplers and loaders their own classes back."""
        while self._restore:
            self._restore.pop()()

    def _known(self, loader: Any) -> Loader:
        known = next((it for it in self._loaders if it.object() is loader), None)
        if known is not None:
            return known
        known = next((it for it in self._loaders if it.is_followed_by(loader)), None)
        if known is None:
            known = Loader(loader)
            self._loaders.append(known)
        else:
            known.adopt(loader)
        self._watch_sampler(loader, known)
        return known

    def _watch_sampler(self, loader: Any, known: Loader) -> None:
        grouped = getattr(loader, "batch_sampler", None)
        if getattr(grouped, "sampler", None) is None or type(grouped.sampler).__name__ == STREAM:
            return

        def sampled(begin: Callable[[], Iterator[Any]]) -> Iterator[Any]:
            for indices in begin():
                # Workers fetch ahead, but in order: the first indices here belong to the next batch that is given.
                known.indices.append(indices)
                yield indices

        self._watch(grouped, sampled)

    def _watch(self, thing: Any, iterate: Callable[[Callable[[], Iterator[Any]]], Iterator[Any]]) -> bool:
        """Observes the iterations of one object. `for` looks `__iter__` up on the class: the object gets a subclass of its own."""
        kind = type(thing)
        try:
            CLASS.__set__(thing, type(kind.__name__, (kind,), {"__iter__": lambda it: iterate(lambda: kind.__iter__(it)), "__reduce_ex__": _as_before(kind)}))
        except (TypeError, AttributeError):
            return False
        self._restore.append(lambda: CLASS.__set__(thing, kind))
        return True

    def tell(self, known: Loader, batch: Any) -> None:
        """A loader gives a batch to the loop."""
        self._guard(self._given, known, batch)

    def _given(self, known: Loader, batch: Any) -> None:
        samples = known.indices.popleft() if known.indices else None
        try:
            samples = None if samples is None else [int(index) for index in samples]
        except (TypeError, ValueError):
            samples = None
        content = batches.content_ids(batch, self._tensors) if self._contents or samples is None else None
        if samples is None and not self._contents:
            samples = content
        tensors = batches.tensors_of(batch, self._tensors)
        places = self._tensors.places(tensors)
        known.last = Draw(known, known.epoch, known.given, samples, batches.describe(batch, self._tensors), places)
        known.last.content, known.last.looks = content, self._looks(tensors)
        known.waiting.append(known.last)
        known.given += 1
        if known in self._recent:
            self._recent.remove(known)
        self._recent.append(known)

    def _by_place(self, given: Any) -> Optional[Draw]:
        places = self._tensors.places(batches.tensors_of(given, self._tensors))
        # The newest first: memory that was freed may be another batch's by now.
        for loader in reversed(self._recent):
            for draw in reversed([*loader.waiting, *([loader.last] if loader.last else [])]):
                if any(begin < other_end and other < end for begin, end in places for other, other_end in draw.places):
                    return draw
        return None

    def _looks(self, tensors: List[Any]) -> List[Look]:
        return [look for look in map(self._tensors.shape_of_values, tensors) if look is not None]

    def _by_look(self, given: Any, waiting: List[Draw]) -> Optional[Draw]:
        """Of several batches that wait, the one that these inputs are a copy of: a loop may have skipped some."""
        looks = self._looks(batches.tensors_of(given, self._tensors))
        return next((draw for draw in waiting if any(_same(one, other) for one in looks for other in draw.looks)), None)

    def _waiting(self, training: bool) -> List[Draw]:
        """The batches that no such forward has consumed, the likeliest first: the oldest of the loader that gave one last."""
        loaders = list(reversed(self._recent))
        if training:
            untrained = [draw for it in loaders for draw in it.waiting if not draw.trained]
            # A teacher may have seen the batch first; the batches of a real evaluation come last.
            return sorted(untrained, key=lambda it: (it.loader.number is None, it.evaluated))
        return [draw for it in loaders[:1] for draw in it.waiting if not draw.evaluated and not draw.trained]


def _same(one: Look, other: Look) -> bool:
    return one[0] == other[0] and all(abs(a - b) < SAME for a, b in zip(one[1], other[1]))


class Iteration:
    """The iterator of a loader's epoch. Everything else that an iterator may have is the original's."""

    def __init__(self, inner: Iterator[Any], loader: Loader, draws: Draws) -> None:
        self._inner, self._loader, self._draws = inner, loader, draws
        # A loader that was made for this epoch alone stays the one it is until the epoch is over.
        self._keep = loader.object()

    def __iter__(self) -> "Iteration":
        return self

    def __next__(self) -> Any:
        try:
            batch = next(self._inner)
        except StopIteration:
            self._loader.exhausted = True
            raise
        self._draws.tell(self._loader, batch)
        return batch

    def __len__(self) -> int:
        return len(self._inner)  # type: ignore[arg-type]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def _as_before(kind: type) -> Callable[..., Any]:
    # A checkpoint may hold the loader, and a spawned worker gets a copy: of its own class, which they can import.
    def reduce(it: Any, protocol: int) -> Any:
        function, arguments, *rest = kind.__reduce_ex__(it, protocol)
        arguments = tuple(kind if given is type(it) else given for given in arguments)
        if function is copyreg.__newobj__ and len(arguments) == 1:
            # pickle refuses another class than the object's here; this is how it makes objects in its first protocol.
            function, arguments = copyreg._reconstructor, (kind, object, None)
        return (function, arguments, *rest)

    return reduce
