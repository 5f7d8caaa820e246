"""Averages of the weights (EMA) that a script keeps beside its model: whether one moves without an update."""

from __future__ import annotations

import gc
import os
import sys
import weakref
from collections import OrderedDict
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from .models import modules

# Fewer tensors than this may look like a model's by chance.
FEWEST = 2
# More copies of a model than this are not looked at.
MOST = 4
# Tensors of a copy, and places of each, whose values tell whether it moved.
TENSORS, PLACES = 4, 64
# What a script keeps tensors in.
CONTAINERS = (dict, OrderedDict, list)
# How alike the places of an average move: each by the same share of its distance to the weights.
ALIKE = 0.02


class Averages:
    """What has the names and shapes of the parameters that train, and is in no optimizer: a copy of the model, or its tensors."""

    def __init__(self, tensors: Any) -> None:
        self._tensors = tensors
        self._found: List[Copy] = []
        self._trained: Dict[str, Any] = {}
        # Of each copy, its values at the last micro-batch, and where they were far from the weights.
        self._last: Dict[int, Tuple[List[float], List[int]]] = {}
        # Moves since the last update that no update came before; and whether the copies moved at that update.
        self._moves, self._at_update = 0, True
        # Of each copy, the updates after which it was evaluated, and its values then while they are the same.
        self._evaluated: Dict[int, Tuple[List[int], Optional[List[float]]]] = {}
        self.model_evaluated = False

    def look_up(self, trained: Dict[str, Any]) -> None:
        """Looks for averages of these parameters. They are made before training begins, or not at all."""
        if len(trained) < FEWEST:
            return
        self._trained, self._last = trained, {}
        mine = {self._place(it) for it in trained.values()}
        wanted = _Wanted(trained, self._tensors, lambda it: self._place(it) in mine)
        self._found = [*_models(wanted, self._tensors), *_shadows(wanted)][:MOST]

    def micro_batch(self, first: bool) -> None:
        """A backward pass begins: `first`, of its window."""
        read = [(copy, copy.tensors()) for copy in self._found]
        self._found = [copy for copy, held in read if held is not None]
        moved = [self._moved(copy, held, within=not first) for copy, held in read if held is not None]
        if not first:
            self._moves += any(moved)
        elif None not in moved:
            self._at_update = any(moved)

    def take(self) -> Optional[int]:
        """Moves within the window; nothing where there is no average. One that moves within the window alone, and not after
        its update, is averaged once per update all the same."""
        moves, self._moves = self._moves if self._at_update else 0, 0
        return moves if self._found else None

    def digests(self) -> Dict[str, str]:
        """One digest for all copies of a kind: which is which of several is not known from one process to the next."""
        kinds: Dict[str, List[str]] = {}
        # One that is gone has no values: at the end of a run it may have gone out of scope with the function that made it.
        for copy, whole in [(copy, copy.whole()) for copy in self._found]:
            if whole:
                kinds.setdefault(copy.kind, []).append(self._tensors.digest_of(whole))
        return {f"{kind} ({len(found)})" if len(found) > 1 else kind: "+".join(sorted(found)) for kind, found in kinds.items()}

    def evaluated(self, module: Any, step: int) -> None:
        """A module outside of the model runs without gradients, after so many updates."""
        copy = next((it for it in self._found if it.is_of(module)), None)
        if copy is None:
            return
        steps, before = self._evaluated.get(id(copy), ([], None))
        if steps[-1:] != [step]:
            now = [value for tensor in self._few(list((copy.tensors() or {}).values())) for value in self._sample(tensor)]
            self._evaluated[id(copy)] = ([*steps, step], now if not steps or now == before else None)

    def unmoved(self, updates: int) -> Optional[int]:
        """After how many updates a copy was evaluated that had one set of values at all of them, and the model never was. A
        teacher is no such copy: it runs at every micro-batch."""
        most = max((len(steps) for steps, values in self._evaluated.values() if values), default=0)
        return most if most > 1 and 2 * most <= updates and not self.model_evaluated else None

    def _moved(self, copy: "Copy", held: Dict[str, Any], within: bool) -> Optional[bool]:
        """Whether a copy has moved since the last micro-batch; None where it had the values of the weights and could not show it.
        `within` a window the weights stand still: each place of an average then moves by one share of its distance to them."""
        pairs = [(it, self._trained[name]) for name, it in held.items() if name in self._trained]
        pairs = self._few([pair for pair in pairs if _is_held(pair[0])])
        now, weights = ([value for pair in pairs for value in self._sample(pair[at])] for at in (0, 1))
        before, self._last[id(copy)] = self._last.get(id(copy)), (now, _far(now, weights))
        if before is None or len(before[0]) != len(now) or not before[1]:
            return None
        if before[0] == now or not within:
            return before[0] != now
        kept = sorted((now[at] - weights[at]) / (before[0][at] - weights[at]) for at in _far(before[0], weights))
        middle = kept[len(kept) // 2] if kept else 1.0
        return 0.0 < middle < 1.0 and 4 * sum(abs(it - middle) <= ALIKE for it in kept) >= 3 * len(kept)

    def _few(self, them: List[Any]) -> List[Any]:
        return them[:: max(1, len(them) // TENSORS)][:TENSORS]

    def _sample(self, tensor: Any) -> List[float]:
        count = min(PLACES, int(tensor.numel()))
        return self._tensors.at(tensor, [at * int(tensor.numel()) // count for at in range(count)]) if count else []

    def _place(self, tensor: Any) -> Any:
        # state_dict() gives other objects with the memory of the parameters.
        pointer = tensor.data_ptr() if _is_held(tensor) else 0
        return (pointer, str(tensor.device)) if pointer else id(tensor)


def _far(values: List[float], weights: List[float]) -> List[int]:
    """The places at which values are further from the weights than rounding moves them."""
    return [at for at, (value, weight) in enumerate(zip(values, weights)) if abs(value - weight) > 1e-5 * (1 + abs(weight))]


class _Wanted:
    """The parameters that train: by name, by name without a wrapper's prefix, and in their order."""

    def __init__(self, trained: Dict[str, Any], tensors: Any, is_mine: Callable[[Any], bool]) -> None:
        self.is_mine, self._tensors = is_mine, tensors
        self.shapes = [tuple(it.shape) for it in trained.values()]
        names = list(trained)
        prefix = os.path.commonprefix([f"{name.split('.')[0]}." for name in names])
        bare = [name[len(prefix) :] for name in names] if prefix.endswith(".") else names
        # The same tensors under other names, in a copy that a wrapper holds, or a copy of what a wrapper holds.
        self._keys = [names, [f"module.{name}" for name in names], bare, [f"module.{name}" for name in bare]]
        self.names = names

    def found_in(self, held: Any) -> Optional[List[Any]]:
        """The names by which a mapping has each tensor; or their places in a list of them all. None where it has not."""
        if type(held) is list:
            keys = [list(range(len(held)))] if len(held) == len(self.shapes) else []
        else:
            keys = [them for them in self._keys if len(held) >= len(them) and them[0] in held]
        return next((them for them in keys if self._fits(held, them)), None)

    def _fits(self, held: Any, keys: List[Any]) -> bool:
        values = [held[key] if type(held) is list else held.get(key) for key in keys]
        if not all(self._tensors.is_tensor(it) and tuple(it.shape) == shape for it, shape in zip(values, self.shapes)):
            return False
        return all(_is_held(it) for it in values) and not any(self.is_mine(it) for it in values)


class Copy:
    """One copy of a model: a module, or tensors that a script keeps in a dictionary or a list."""

    def __init__(self, kind: str, get: Callable[[], Any], keys: List[Any], names: List[str], module: Optional[Any] = None) -> None:
        """`get` gives what is held, or None once it is gone; each of `keys` in it is the tensor of one of `names`. `module` refers
        to the module, if it is one."""
        self.kind, self._module = kind, module
        self._get, self._keys, self._names = get, keys, names

    def is_of(self, module: Any) -> bool:
        """Whether it is this module, or one of the two only wraps the other."""
        mine = None if self._module is None else self._module()
        return mine is not None and (module in (mine, *mine.children()) or mine in module.children())

    def whole(self) -> Dict[str, Any]:
        """All that it holds, its count of updates too, where that is a buffer."""
        held = self._get()
        return {} if held is None else {str(at): it for at, it in (enumerate(held) if type(held) is list else held.items())}

    def tensors(self) -> Optional[Dict[str, Any]]:
        """Its tensors, by the names of the parameters; None when it is gone."""
        held = self._get()
        if type(held) is list:
            return dict(zip(self._names, held)) if len(held) == len(self._names) else {}
        return None if held is None else {name: held[key] for name, key in zip(self._names, self._keys) if key in held}


def _models(wanted: _Wanted, tensors: Any) -> Iterator[Copy]:
    found = []
    for module in modules(tensors):
        if not any(wanted.is_mine(it) for it in module.parameters()):
            keys = wanted.found_in(dict(module.named_parameters()))
            found.extend([] if keys is None else [(module, keys)])
    inner = {id(child) for module, _ in found for child in module.modules() if child is not module}
    for module, keys in found:
        if id(module) not in inner:
            reference = weakref.ref(module)
            yield Copy(type(module).__name__, _of_module(reference), keys, wanted.names, reference)


def _of_module(reference: Any) -> Callable[[], Any]:
    def get() -> Any:
        module = reference()
        # With its buffers: the count of updates is one.
        return None if module is None else {**dict(module.named_parameters()), **dict(module.named_buffers())}

    return get


def _shadows(wanted: _Wanted) -> Iterator[Copy]:
    for held in gc.get_objects():
        if type(held) in CONTAINERS and len(held) >= FEWEST:
            keys = wanted.found_in(held)
            if keys is not None:
                yield Copy(type(held).__name__, _field_of(held) or _Kept(held), keys, wanted.names)


def _field_of(held: Any) -> Optional[Callable[[], Any]]:
    """The field of an object that holds this: the object may put another dictionary there at each update."""
    for referrer in gc.get_referrers(held):
        # The fields themselves where they are a dictionary, or else the object.
        owners = [it for it in gc.get_referrers(referrer) if getattr(it, "__dict__", None) is referrer] if type(referrer) is dict else [referrer]
        for owner in owners:
            names = [name for name, value in list(getattr(owner, "__dict__", {}).items()) if value is held]
            if names and type(owner).__weakrefoffset__ != 0:
                return _Field(weakref.ref(owner), names[0])
    return None


class _Field:
    """What is in one field of an object."""

    def __init__(self, owner: Any, name: str) -> None:
        self._owner, self._name = owner, name

    def __call__(self) -> Optional[Any]:
        held = getattr(self._owner(), self._name, None)
        return held if type(held) in CONTAINERS else None


class _Kept:
    """A container that no weak reference can point to, until nobody else holds it."""

    def __init__(self, held: Any) -> None:
        self._held: Optional[Any] = held

    def __call__(self) -> Optional[Any]:
        # Two references are ours: the field, and the argument of the call.
        if self._held is not None and sys.getrefcount(self._held) <= 2:
            self._held = None
        return self._held


def _is_held(tensor: Any) -> bool:
    """Whether a tensor has values of its own: it is not on the meta device, and no result of training's graph."""
    return hasattr(tensor, "grad_fn") and tensor.grad_fn is None and not tensor.is_meta
