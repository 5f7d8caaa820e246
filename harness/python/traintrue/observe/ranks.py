"""What this rank of a data-parallel training adds to its gradients, and what comes of it: the judge compares the ranks.

Only where every parameter that trains is in a DistributedDataParallel over all ranks are they copies of one model. Other ways to
share a training out, such as sharded parameters or a pipeline, have no such rule, and nothing is told.
"""

from __future__ import annotations

import functools
import weakref
from typing import Any, Callable, Dict, List, Optional, Set

from ..tensor_steps import is_told, places_of, plus
from ..trace import number
from .patches import Guard, Patches
from .windows import MicroBatch, Window


class Ranks:
    """The ranks that this process trains with."""

    def __init__(self, tensors: Any, guard: Guard) -> None:
        self._tensors, self._guard = tensors, guard
        self._wrappers: "weakref.WeakSet[Any]" = weakref.WeakSet()
        # Why the ranks may differ, where the script has asked for it.
        self._differ: Optional[str] = None
        self._tells = False
        self._hooks: Dict[int, Any] = {}
        # Of the backward pass that runs: what it adds, by parameter; none where nobody asks.
        self._adds: Optional[Dict[int, List[float]]] = None

    def watch(self, patches: Patches, module: Any) -> None:
        """Takes note of each model that is wrapped. `module` is `torch.nn.parallel.distributed`."""
        wrapper = module.DistributedDataParallel
        patches.wrap(wrapper, "__init__", self._made)
        patches.wrap(wrapper, "register_comm_hook", functools.partial(self._unlike, "a communication hook changes what is averaged"))
        patches.wrap(wrapper, "join", functools.partial(self._unlike, "join() lets ranks have unequally many micro-batches"))

    def _made(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def init(wrapper: Any, *args: Any, **named: Any) -> None:
            original(wrapper, *args, **named)
            self._wrappers.add(wrapper)

        return init

    def _unlike(self, why: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def method(*args: Any, **named: Any) -> Any:
            self._differ = why
            return original(*args, **named)

        return method

    def facts(self, training: Dict[str, Any]) -> Dict[str, Any]:
        """What the first line says: rank and number of ranks; or why they are not compared. `training` is what trains, by name."""
        alone = self._tensors.world() < 2
        why = None if alone else self._differ or self._not_copies(list(training.values()))
        self._tells = not alone and why is None
        if alone:
            return {}
        rank = {"rank": self._tensors.rank(), "world": self._tensors.world()}
        return rank if why is None else {**rank, "apart": why}

    def _not_copies(self, training: List[Any]) -> Optional[str]:
        copied: Set[int] = set()
        for wrapper in self._wrappers:
            if wrapper.process_group.size() != self._tensors.world():
                return "a DistributedDataParallel is over some of the ranks only"
            ignored = set(getattr(wrapper, "parameters_to_ignore", ()))
            copied |= {id(it) for name, it in wrapper.module.named_parameters() if name not in ignored}
        left = sum(id(it) not in copied for it in training)
        return f"{left} of {len(training)} tensors that train are in no DistributedDataParallel" if left else None

    # Gradients.

    def follow(self, held: List[Any]) -> None:
        """Listens to what arrives at these parameters."""
        if not self._tells:
            return
        for parameter in held:
            if parameter.requires_grad and id(parameter) not in self._hooks:
                # On the parameter itself, and not on its gradient: what arrives there is this rank's own.
                self._hooks[id(parameter)] = parameter.register_hook(functools.partial(self._arrives, id(parameter)))

    def tells(self, step: int) -> bool:
        """Whether the ranks are compared by what belongs to the update after so many."""
        return self._tells and is_told(step + 1)

    def hooks(self) -> Set[int]:
        """The numbers of our hooks on parameters."""
        return {handle.id for handle in self._hooks.values()}

    def backward_begins(self, micro_batch: MicroBatch, step: int) -> None:
        """A backward pass begins, after so many updates."""
        self._adds = micro_batch.added if self.tells(step) else None

    def _arrives(self, parameter: int, gradient: Any) -> None:
        # An exception here would end the script's own backward pass.
        self._guard(self._arrived, parameter, gradient)

    def _arrived(self, parameter: int, gradient: Any) -> None:
        # A sparse gradient has no value at most places.
        if self._adds is not None and self._tensors.is_dense(gradient):
            values = self._at_places(gradient)
            # Checkpointed segments arrive one by one.
            self._adds[parameter] = plus(self._adds.get(parameter), values)

    def backward_ends(self, reached: List[Window], scale: float) -> None:
        """The backward pass is over, has reached these windows, and the wrapper has averaged what it averages."""
        if self._adds is None:
            return
        for it in self._adds:
            self._adds[it] = [value / scale for value in self._adds[it]]
        for window in reached:
            window.averaged = self._gradients(window, scale)
        self._adds = None

    def step_begins(self, window: Window, step: int) -> None:
        """The window's optimizer is about to step, after so many updates. A loop may have averaged by hand since the backward pass."""
        if self.tells(step):
            window.given = self._gradients(window, 1.0)

    def _gradients(self, window: Window, scale: float) -> Dict[int, List[float]]:
        dense = [it for it in window.parameters() if id(it) in self._hooks and it.grad is not None and self._tensors.is_dense(it.grad)]
        return {id(it): [value / scale for value in self._at_places(it.grad)] for it in dense}

    def told(self, window: Window, members: List[MicroBatch], named: Dict[str, Any], step: int) -> Optional[List[Dict[str, Any]]]:
        """The `tensors` of the window's update, after so many others."""
        averaged, window.averaged = window.averaged, {}
        given, window.given = window.given, {}
        if not self.tells(step):
            # What is there is of another optimizer's backward pass, which has reached this one's parameters.
            return None
        if any(it["by_value"] or not it["whole"] for it in window.clips):
            # What each of several clips left is no multiple of what was averaged.
            given = {}
        held = {id(it) for it in window.parameters()}
        return [
            {
                "name": name,
                "shape": [int(extent) for extent in it.shape],
                "added": [_numbers(one.added.get(id(it), [0.0] * len(averaged[id(it)]))) for one in members],
                "unclipped": _numbers(averaged[id(it)]),
                "gradient": _numbers(given.get(id(it), averaged[id(it)])),
            }
            for name, it in named.items()
            if id(it) in held and id(it) in averaged
        ] or None

    def _at_places(self, tensor: Any) -> List[float]:
        return self._tensors.at(tensor, places_of(int(tensor.numel())))

    def release(self) -> None:
        """Takes the hooks off."""
        while self._hooks:
            self._hooks.popitem()[1].remove()


def _numbers(values: List[float]) -> List[Any]:
    return [number(value) for value in values]
