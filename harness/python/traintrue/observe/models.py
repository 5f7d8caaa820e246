"""The outermost module calls of a script whose parameters an optimizer holds, and the modes of their modules."""

from __future__ import annotations

import gc
import inspect
import weakref
from typing import Any, Callable, Dict, Iterator, List, Optional, Set, Tuple

from .patches import Patches

# Modules that are counted anew after so many forwards: a loop may add some, or freeze a batch norm.
RECOUNT = 64


class Owner:
    """A module that was called from outside any other module, and holds parameters that train."""

    def __init__(self, module: Any, tensors: Any) -> None:
        self._module, self._tensors = weakref.ref(module), tensors
        self._forwards, self._acting, self._trained = 0, [], []

    def modes(self, frozen: Any) -> Dict[str, int]:
        """Of the modules that act only in training, how many are in which mode. `frozen` are modules that the script has put
        into evaluation mode by themselves: `drifting` are those that are in training mode again, though nothing in them trains."""
        if self._forwards % RECOUNT == 0:
            self._acting = [weakref.ref(it) for it in self._tensors.acting_in_training(self._module())]
            # A GAN freezes its discriminator for half of each step: a count that falls there keeps the one before.
            self._trained = [weakref.ref(it) for it in self._module().modules() if _trains(it)] or self._trained
        self._forwards += 1
        acting = [it for it in (ref() for ref in self._acting) if it is not None]
        training = sum(it.training for it in acting)
        # Not the flag of the module that was called: it may be a wrapper, whose flag nobody sets.
        model = any(it.training for it in (ref() for ref in self._trained) if it is not None)
        modes = {"training": training, "evaluation": len(acting) - training, "model": model}
        drifting = sum(it.training and not _trains(it) for it in self._module().modules() if it in frozen) if frozen else 0
        return {**modes, "drifting": drifting} if drifting else modes


def _trains(module: Any) -> bool:
    return any(it.requires_grad for it in module.parameters(recurse=False))


class Models:
    """Tells a listener about forwards. Everything here runs for each module call of the script: it must be cheap."""

    def __init__(
        self, tensors: Any, guard: Callable[..., Any], begins: Callable[..., None], ends: Callable[..., None], others: Callable[..., None]
    ) -> None:
        """`others` hears of forwards of modules that hold nothing that trains."""
        self._tensors, self._guard, self._begins, self._ends, self._others = tensors, guard, begins, ends, others
        self._depth = 0
        # While a backward pass runs: checkpointing of activations repeats forwards in it.
        self.paused = False
        self._held: Set[int] = set()
        # By identity; the reference tells whether the identity is still that module's.
        self._owners: Dict[int, Tuple[Any, Optional[Owner]]] = {}
        # Batch norms that the script has put into evaluation mode by themselves, or with a module of which nothing trains.
        # Each with the identity of what was put into that mode.
        self.frozen: "weakref.WeakKeyDictionary[Any, int]" = weakref.WeakKeyDictionary()
        self._changes_mode = False
        # The modules that ran, by identity, while somebody asks for them.
        self.ran: Optional[Set[int]] = set()

    def watch(self, patches: Patches, module: Any) -> None:
        """Registers torch's hooks for all modules. `module` is `torch.nn.modules.module`."""
        patches.hook(module.register_module_forward_pre_hook(self._enter))
        # With keywords: transformers' models are called with nothing else. Older versions of torch hide them.
        keywords = "with_kwargs" in inspect.signature(module.register_module_forward_hook).parameters
        leave = self._leave
        how = {"with_kwargs": True, "always_call": True} if keywords else {}
        patches.hook(module.register_module_forward_hook(leave, **how))

        patches.wrap(module.Module, "train", self._trained)

    def _trained(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def train(module: Any, mode: bool = True) -> Any:
            # A module passes its mode on to those in it: only what the script itself calls counts.
            outer, self._changes_mode = not self._changes_mode, True
            try:
                return original(module, mode)
            finally:
                if outer:
                    self._changes_mode = False
                    self._guard(self._changed_mode, module, mode)

        return train

    def _changed_mode(self, module: Any, mode: bool) -> None:
        norms = self._tensors.batch_norms(module)
        if mode:
            # What was evaluated as a whole, and trains as a whole again, was never frozen.
            for norm in [norm for norm in norms if self.frozen.get(norm) == id(module)]:
                del self.frozen[norm]
        elif norms == [module] or not any(it.requires_grad for it in module.parameters()):
            self.frozen.update({norm: id(module) for norm in norms})

    def hold(self, parameters: List[Any]) -> bool:
        """These parameters train. Returns whether they are others than before: their owners are then looked up anew."""
        held = {id(it) for it in parameters}
        if held == self._held:
            return False
        self._held = held
        self._owners.clear()
        return True

    def outside(self) -> None:
        """The script is in no module's call: an exception may have left one without its hook."""
        self._depth = 0

    def _enter(self, module: Any, _inputs: Any) -> None:
        if self._tensors.is_transformed():
            return
        self._depth += 1
        if self.ran is not None:
            self.ran.add(id(module))
        if self._depth == 1 and not self.paused:
            owner = self._guard(self._owner, module)
            if owner is not None:
                self._guard(self._begins, owner)
            else:
                self._guard(self._others, module)

    def _leave(self, module: Any, args: Any, *rest: Any) -> None:
        if self._tensors.is_transformed():
            return
        self._depth = max(0, self._depth - 1)
        # With keywords: the keywords and the output. After an exception torch leaves the keywords out, and there is no output.
        named, output = rest if len(rest) == 2 else ({}, rest[0] if rest else None)
        if self._depth == 0 and output is not None and not self.paused:
            owner = self._guard(self._owner, module)
            if owner is not None:
                self._guard(self._ends, owner, [args, named], output)

    def _owner(self, module: Any) -> Optional[Owner]:
        known = self._owners.get(id(module))
        if known is None or known[0]() is not module:
            owns = any(id(it) in self._held for it in module.parameters())
            known = self._owners[id(module)] = (weakref.ref(module), Owner(module, self._tensors) if owns else None)
        return known[1]


def names(parameters: List[Any], tensors: Any, given: List[Any]) -> Tuple[Dict[str, Any], Dict[str, Any]]:
    """The parameters of all models that hold some of `parameters`, by name, with those that no model holds; and the buffers.

    `given` are models that the user named. Two models of one class get a number: `Linear.weight`, `Linear-2.weight`; the parameters of an only model have its names.
    """
    held = {id(it) for it in parameters}
    roots = _roots(held, tensors, given)
    found: Dict[str, Any] = {}
    buffers: Dict[str, Any] = {}
    seen: Set[int] = set()
    used: Dict[str, int] = {}
    for root in roots:
        kind = type(root).__name__
        used[kind] = used.get(kind, 0) + 1
        prefix = "" if len(roots) == 1 else f"{kind}." if used[kind] == 1 else f"{kind}-{used[kind]}."
        for name, it in root.named_parameters():
            if id(it) not in seen:
                seen.add(id(it))
                found[prefix + name] = it
        buffers.update({prefix + name: it for name, it in root.named_buffers()})
    for number, it in enumerate(parameters):
        if id(it) not in seen:
            seen.add(id(it))
            found[f"parameter-{number}"] = it
    return found, buffers


def _roots(held: Set[int], tensors: Any, given: List[Any]) -> List[Any]:
    """The modules that own some of the parameters and are in no other such module, in the order they were made."""
    owners = [it for it in modules(tensors) if any(id(parameter) in held for parameter in it.parameters())]
    inner = {id(child) for it in [*owners, *given] for child in it.modules() if child is not it}
    found = [it for it in owners if id(it) not in inner]
    return [*found, *(it for it in given if not any(it is other for other in found))]


def modules(tensors: Any) -> Iterator[Any]:
    """All modules that the process holds."""
    kind = tensors.module_kind()
    # By type, not by isinstance: `__class__` of a lazy proxy is a property that may import a whole library.
    return (it for it in gc.get_objects() if issubclass(type(it), kind) and hasattr(it, "_parameters"))
