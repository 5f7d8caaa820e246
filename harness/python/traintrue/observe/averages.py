"""Averages of the weights (EMA) that a script keeps beside its model: whether one moves without an update."""

from __future__ import annotations

import gc
import weakref
from typing import Any, Callable, Dict, Iterator, List, Optional

from .models import modules

# Fewer tensors than this may look like a model's by chance.
FEWEST = 2
# More copies of a model than this are not looked at.
MOST = 4


class Averages:
    """What has the names and shapes of the parameters that train, and is in no optimizer: a copy of the model, or tensors by name."""

    def __init__(self, tensors: Any) -> None:
        self._tensors = tensors
        self._found: List[Copy] = []
        self._last: Optional[str] = None
        # Moves since the last update that no update came before.
        self._moves = 0

    def look_up(self, trained: Dict[str, Any]) -> None:
        """Looks for averages of these parameters. They are made before training begins, or not at all."""
        wanted = {name: tuple(it.shape) for name, it in trained.items()}
        if len(wanted) < FEWEST:
            return
        mine = {id(it) for it in trained.values()}
        copies = [*self._models(wanted, mine), *self._shadows(wanted, mine)]
        self._found = copies[:MOST]

    def micro_batch(self, first: bool) -> None:
        """A backward pass begins: `first`, of its window."""
        held = [it for copy in self._found for it in copy.tensors().values()]
        if not held:
            return
        now = self._tensors.fingerprint(held)
        self._moves += self._last is not None and now != self._last and not first
        self._last = now

    def take(self) -> Optional[int]:
        """Moves within the window; nothing where there is no average."""
        moves, self._moves = self._moves, 0
        return moves if self._found else None

    def digests(self) -> Dict[str, str]:
        """One digest for all copies of a kind: which is which of several is not known from one process to the next."""
        kinds: Dict[str, List[str]] = {}
        for copy in self._found:
            kinds.setdefault(copy.kind, []).append(self._tensors.digest_of(copy.tensors()))
        return {f"{kind} ({len(found)})" if len(found) > 1 else kind: "+".join(sorted(found)) for kind, found in kinds.items()}

    def _models(self, wanted: Dict[str, Any], mine: set) -> Iterator["Copy"]:
        for module in modules(self._tensors):
            held = dict(module.named_parameters())
            if _alike(held, wanted) and not any(id(it) in mine for it in held.values()):
                # With its buffers: the count of updates is one.
                yield Copy(module, lambda it: {**dict(it.named_parameters()), **dict(it.named_buffers())})

    def _shadows(self, wanted: Dict[str, Any], mine: set) -> Iterator["Copy"]:
        for owner in gc.get_objects():
            fields = getattr(owner, "__dict__", None) if _is_users(type(owner)) else None
            for name, held in list(fields.items()) if type(fields) is dict else []:
                # state_dict() of a model is no copy: its tensors are the parameters themselves.
                if type(held) is dict and _alike(held, wanted) and not any(id(it) in mine for it in held.values()):
                    yield Copy(owner, lambda it, name=name: getattr(it, name, None) or {})


class Copy:
    """One copy of a model: a module, or tensors by name that an object keeps."""

    def __init__(self, owner: Any, tensors: Callable[[Any], Dict[str, Any]]) -> None:
        self.kind = type(owner).__name__
        self._owner, self._tensors = weakref.ref(owner), tensors

    def tensors(self) -> Dict[str, Any]:
        """Its tensors by name; none when it is gone."""
        owner = self._owner()
        return {} if owner is None else self._tensors(owner)


# Packages with hundreds of thousands of objects, none of which keeps a script's averages in a dictionary.
OTHERS = ("torch", "builtins", "functools", "typing", "importlib", "weakref", "re", "enum", "inspect", "sympy")


def _is_users(kind: type) -> bool:
    """Whether a script may have made the class, and its objects can be referred to weakly."""
    module = kind.__dict__.get("__module__")
    return isinstance(module, str) and module.split(".")[0] not in OTHERS and kind.__weakrefoffset__ != 0


def _alike(held: Dict[Any, Any], wanted: Dict[str, Any]) -> bool:
    """Whether each wanted tensor is there, by its name, also in a wrapper's `module`, and by its shape."""
    if len(held) < len(wanted):
        return False
    shapes = {name: tuple(getattr(it, "shape", ())) for name, it in held.items() if isinstance(name, str)}
    for name, shape in wanted.items():
        if shapes.get(name) != shape and shapes.get(f"module.{name}") != shape:
            return False
    return True
