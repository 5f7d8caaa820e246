"""What an update does to each tensor, at a few places: for the judge, which makes the step again."""

from __future__ import annotations

from typing import Any, Dict, List, Optional

from .trace import number

# Places of a tensor.
PLACES = 8
# The first updates are told; then those at the powers of two, over which a schedule moves far.
FIRST = 4
# Adam's moments, by the names that torch gives them.
MOMENTS = {"first": "exp_avg", "second": "exp_avg_sq"}


class TensorSteps:
    """The steps of one optimizer: values, gradients and moments before an update, and values and moments after it."""

    def __init__(self, parameters: Dict[str, Any], optimizer: Any, tensors: Any) -> None:
        self._parameters, self._optimizer, self._tensors = parameters, optimizer, tensors
        self._unclipped: Dict[str, List[Any]] = {}
        self._steps: Dict[str, Dict[str, Any]] = {}
        # What the open micro-batch adds to each gradient, and what each of the window's added, where ranks are averaged.
        self._adds: Dict[str, List[float]] = {}
        self._added: List[Dict[str, List[float]]] = []
        # Updates of each tensor, where the optimizer does not count them.
        self._updates: Dict[str, int] = {}

    def arrived(self, name: str, gradient: Any, done: int) -> None:
        """A gradient was added to, after `done` updates: as it is now, it is not clipped yet."""
        if is_told(done + 1):
            self._unclipped[name] = self._places(gradient)

    def arrives(self, name: str, gradient: Any, done: int) -> None:
        """A gradient is about to be added, after `done` updates: this rank's own, before ranks are averaged."""
        if is_told(done + 1) and self._tensors.world() > 1:
            values = self._tensors.at(gradient, places_of(int(gradient.numel())))
            self._adds[name] = plus(self._adds.get(name), values)

    def next_micro_batch(self) -> None:
        """All that arrived since the last call is of one micro-batch."""
        if self._adds:
            self._added.append(self._adds)
            self._adds = {}

    def begins(self, done: int) -> None:
        """The optimizer is about to step, after `done` updates. A closure may compute the gradients in the step."""
        self._steps = {}
        groups = self._groups() if is_told(done + 1) else {}
        for name, it in self._parameters.items():
            if id(it) in groups:
                moments = {kind: self._moment(it, key) for kind, key in MOMENTS.items()}
                shape = [int(extent) for extent in it.shape]
                self._steps[name] = {"name": name, "shape": shape, "group": groups[id(it)], "before": self._places(it), **moments}

    def given(self) -> None:
        """The gradients are those of the step."""
        for name, it in self._parameters.items():
            if it.grad is None:
                self._steps.pop(name, None)
                continue
            self._updates[name] = self._updates.get(name, 0) + 1
            if name in self._steps:
                added = [[number(value) for value in one[name]] for one in self._added if name in one]
                self._steps[name].update(unclipped=self._unclipped.get(name), gradient=self._places(it.grad), added=added or None)

    def ends(self) -> Optional[List[Dict[str, Any]]]:
        """The optimizer has stepped: what each tensor was before, and is now."""
        steps, self._steps = self._steps, {}
        self._unclipped.clear()
        self._added = []
        return [self._ended(name, it) for name, it in steps.items()] or None

    def _ended(self, name: str, step: Dict[str, Any]) -> Dict[str, Any]:
        parameter = self._parameters[name]
        state = self._optimizer.state.get(parameter) or {}
        moments = {}
        for kind, key in MOMENTS.items():
            before, after = step.pop(kind), self._moment(parameter, key)
            if after is not None:
                # Before a tensor's first update the optimizer has none: it begins at 0.
                before = before or [0.0] * len(after)
                moments[kind] = [list(pair) for pair in zip(before, after)]
        counted = state.get("step")
        updates = self._updates[name] if counted is None else int(self._tensors.number(counted))
        told = {**step, "updates": updates, "after": self._places(parameter), **moments}
        return {field: value for field, value in told.items() if value is not None}

    def _groups(self) -> Dict[int, int]:
        # As the update's rates are: a group without parameters has none.
        groups = [group for group in self._optimizer.param_groups if group["params"]]
        return {id(it): place for place, group in enumerate(groups) for it in group["params"]}

    def _moment(self, parameter: Any, key: str) -> Optional[List[Any]]:
        held = (self._optimizer.state.get(parameter) or {}).get(key)
        return None if held is None else self._places(held)

    def _places(self, tensor: Any) -> List[Any]:
        """The values at the same places of every tensor with as many elements, from its first to its last."""
        return [number(value) for value in self._tensors.at(tensor, places_of(int(tensor.numel())))]


def places_of(elements: int) -> List[int]:
    """The places that are told of a tensor with so many elements."""
    count = min(PLACES, elements)
    return [at * (elements - 1) // max(count - 1, 1) for at in range(count)]


def plus(before: Optional[List[float]], values: List[float]) -> List[float]:
    """The sums, place by place, of what was added before, if anything, and these values."""
    return values if before is None else [one + other for one, other in zip(before, values)]


def is_told(step: int) -> bool:
    """Whether the update with this number is told."""
    return step <= FIRST or step & (step - 1) == 0
